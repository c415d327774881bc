"""HTML put together from Python: whatever is not markup already is escaped."""

import html
import re
from collections.abc import Iterable
from typing import Any

_VOID = (
    "br",
    "col",
    "img",
    "link",
    "meta",
    "circle",
    "line",
    "path",
    "rect",
    "wbr",
)  # nothing inside
_UNPRINTABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Markup(str):
    """Text that is HTML, and stays as it is."""


Inside = str | float | int | Iterable[Any] | None  # and iterables of these inside


def tag(name: str, /, *inside: Inside, **attributes: str | float | int | None) -> Markup:
    """`<name attribute="value">inside</name>`, well-formed as XML too.

    `class_` is `class` and `data_x` is `data-x`; an attribute that is None is left out.
    """
    given = [(k.rstrip("_").replace("_", "-"), v) for k, v in attributes.items() if v is not None]
    opened = name + "".join(f' {key}="{escaped(value)}"' for key, value in given)
    if name in _VOID:
        return Markup(f"<{opened}/>")
    return Markup(f"<{opened}>{joined(inside)}</{name}>")


def joined(inside: Inside) -> Markup:
    """All of it, one after the other; None is nothing."""
    if inside is None:
        return Markup()
    if isinstance(inside, Markup):
        return inside
    if isinstance(inside, str | float | int):
        return Markup(escaped(inside))
    return Markup("".join(map(joined, inside)))


def escaped(value: str | float | int) -> str:
    """Any text as it may stand in HTML; characters that HTML cannot hold are replaced."""
    return html.escape(_UNPRINTABLE.sub("\ufffd", str(value)))
