"""Whether the values of a config are of the kind that their fields are, one sentence a refusal.

`ConfigDict` sees to that where a field is set, but not where a recipe or a `config.json` that
somebody edited brings whole groups. Fields that are not known are looked at in `validation`.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError

_LONGEST = 60  # letters of a value that a sentence shows
_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


def check(config: ConfigDict) -> None:
    """Raises ConfigError for the first field whose value is not like the default one."""
    _check_group(config, config_lib.default_config(), "")
    for name, entry in _named(config, "data.sources"):
        _check_source(entry, f"data.sources.{name}")
    for name, entry in _named(config, "evals"):
        maker = _maker(entry, f"evals.{name}", config_lib.EVALS)
        if maker is None:
            continue
        parts = _parts(maker)
        for part in parts:
            if part not in entry:
                raise ConfigError(f"evals.{name}.{part} is missing: give it a source.")
            _check_source(entry[part], f"evals.{name}.{part}")
        _check_group(entry, maker(*[ConfigDict() for _ in parts]), f"evals.{name}.")


def sources(config: ConfigDict) -> Iterator[ConfigDict]:
    """The entries that are sources, of the data and of evaluations, as far as they are groups."""
    yield from (entry for _, entry in _named(config, "data.sources") if _is_group(entry))
    for _, entry in _named(config, "evals"):
        parts = [entry.get(part) for part in ("source", "train")] if _is_group(entry) else []
        yield from filter(_is_group, parts)


def evaluations(config: ConfigDict) -> Iterator[tuple[ConfigDict, ConfigDict]]:
    """The entries that are evaluations of a known kind, each with the usual fields of its kind but
    for its sources."""
    for _, entry in _named(config, "evals"):
        maker = config_lib.EVALS.get(str(entry.get("kind"))) if _is_group(entry) else None
        if maker is not None:
            parts = {part: ConfigDict() for part in _parts(maker)}
            usual = maker(**parts).items()
            yield entry, ConfigDict({key: value for key, value in usual if key not in parts})


def _parts(maker: Callable[..., ConfigDict]) -> list[str]:
    """The sources that an evaluation needs."""
    needed = inspect.signature(maker).parameters.values()
    return [one.name for one in needed if one.default is inspect.Parameter.empty]


def _named(config: ConfigDict, name: str) -> list[tuple[str, Any]]:
    found: Any = config
    for key in name.split("."):
        found = found.get(key) if _is_group(found) else None
    return list(found.items()) if _is_group(found) else []


def _is_group(value: Any) -> bool:
    return isinstance(value, ConfigDict)


def _check_source(entry: Any, name: str) -> None:
    maker = _maker(entry, name, config_lib.SOURCES)
    if maker is None:
        return
    usual = maker()
    del usual["share"]  # one number or several
    _check_group(entry, usual, f"{name}.")
    shares = entry.get("share", 1.0)
    for share in shares if isinstance(shares, tuple | list) else [shares]:
        _check_value(share, 1.0, f"{name}.share")


def _maker(entry: Any, name: str, kinds: Any) -> Callable[..., ConfigDict] | None:
    """What makes such entries; None for a kind that is not known."""
    if not _is_group(entry):
        _refuse(entry, name, f"a group with a kind, which is one of {', '.join(kinds)}")
    kind = entry.get("kind", "")
    return kinds.get(kind) if isinstance(kind, str) else _refuse(kind, f"{name}.kind", "a text")


def _check_group(group: ConfigDict, usual: ConfigDict, prefix: str) -> None:
    for key, example in usual.items():
        if key in group:
            value, name = group[key], f"{prefix}{key}"
            if not _is_group(example):
                _check_value(value, example, name)
            elif not _is_group(value):
                first = f", such as {name}.{next(iter(example))}" if len(example) else ""
                _refuse(value, name, f"nothing, as this is a group: set its fields{first}")
            elif name not in config_lib.NAMED:
                _check_group(value, example, f"{name}.")


def _check_value(value: Any, example: Any, name: str) -> None:
    if isinstance(example, tuple | list):
        if not isinstance(value, tuple | list):
            _refuse(value, name, f"several values, such as {tuple(example)}")
        for one in value:
            if example:
                _check_value(one, example[0], name)
        return
    for kind, words in _WORDS.items():  # bool first, as True is an int
        if isinstance(example, kind):
            like = isinstance(value, (int, float) if kind is float else kind)
            if not like or isinstance(value, bool) != (kind is bool):
                _refuse(value, name, f"{words}, such as {example!r}")
            if kind is float and not abs(value) <= sys.float_info.max:  # NaN, or 400 digits
                _refuse(value, name, f"{words}, such as {example!r}")
            return


def _refuse(value: Any, name: str, wanted: str) -> NoReturn:
    shown = " ".join(repr(value).split())
    shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
    raise ConfigError(f"{name}={shown}: type {wanted}.")
