"""From keyword arguments to a family: each option checked against its type and its range."""

import dataclasses
import difflib
import math
import numbers
import typing
from collections.abc import Iterable
from typing import Any


def build(kind: Any, options: dict[str, Any]) -> Any:
    """`kind(**options)`. Raises ValueError, with the nearest name or the range, for what is wrong.

    A `Literal` field takes its choices; `kind.limits` gives the least and greatest value of a
    number; any other whole number is 1 or more.
    """
    fields = {field.name for field in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    clean = {}
    for option, value in options.items():
        if option not in fields:
            raise ValueError(
                f"{kind.name} has no option {option!r}{nearest(option, fields)}; "
                f"it has {', '.join(sorted(fields))}"
            )
        clean[option] = _plain(value)
        _check(kind, option, clean[option], hints[option])
    return kind(**clean)


def whole(name: str, value: Any) -> int:
    """`value` as an int; ValueError where it is no whole number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}={value!r}: give a whole number")
    return int(value)


def _plain(value: Any) -> Any:
    """Lists as tuples, NumPy's numbers as Python's."""
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    return value


def nearest(word: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)', or nothing when no known word is near."""
    close = difflib.get_close_matches(word.lower(), list(known), 3)
    return f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""


def _check(kind: Any, option: str, value: Any, hint: Any) -> None:
    said = f"{option}={value!r}"
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{said}: {kind.name} has {', '.join(map(repr, choices))}")
        return
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        if not isinstance(value, tuple) or len(value) != len(parts):
            raise ValueError(f"{said}: give {len(parts)} values")
    else:
        parts, value = (hint,), (value,)
    for part, number in zip(parts, value, strict=True):
        if part is bool:
            if not isinstance(number, bool):
                raise ValueError(f"{said}: give True or False")
            continue
        if isinstance(number, bool) or not isinstance(number, (int, part)):
            raise ValueError(f"{said}: its type is {part.__name__}")
        least, most = getattr(kind, "limits", {}).get(
            option, (1 if part is int else -math.inf, math.inf)
        )
        if not least <= number <= most or not math.isfinite(number):
            raise ValueError(f"{said}: {_range(least, most)}")
    if len(parts) > 1 and value[0] > value[1]:
        raise ValueError(f"{said}: give the smaller number first")


def _range(least: int | float, most: int | float) -> str:
    if math.isinf(most):
        return "give a finite number" if math.isinf(least) else f"give {least:g} or more"
    return f"give {least:g} to {most:g}"
