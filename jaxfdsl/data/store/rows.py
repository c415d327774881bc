"""A row of a store as other formats have it: what an importer finds and an exporter writes."""

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxfdsl.config import ConfigError
from jaxfdsl.data.folder import EXTENSIONS
from jaxfdsl.data.store.reader import Store

ENDINGS = (*(ending[1:] for ending in EXTENSIONS), "img")
NUMBERS = ("label", "group", "seed")
CAPTION_NAMES = ("caption", "captions", "text", "txt")
_AT_ONCE = 256  # pictures read together
_SIGNS = {
    b"\x89PNG": "png",
    b"\xff\xd8\xff": "jpg",
    b"BM": "bmp",
    b"P6": "ppm",
    b"P5": "pgm",
    b"II*\0": "tif",
    b"MM\0*": "tif",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """An encoded picture and what is known of it: -1 and "" where nothing is."""

    image: bytes
    label: int = -1
    group: int = -1
    seed: int = -1
    caption: str = ""
    source: str = ""

    @property
    def ending(self) -> str:
        """png, jpg, ...; img for bytes of another kind."""
        if self.image[:4] == b"RIFF" and self.image[8:12] == b"WEBP":
            return "webp"
        return next((end for sign, end in _SIGNS.items() if self.image.startswith(sign)), "img")


def stored(opened: Store, start: int, stop: int) -> Iterator[Row]:
    """The rows of a store from `start` to `stop`."""
    names = opened.sources
    for first in range(start, stop, _AT_ONCE):
        rows = np.arange(first, min(first + _AT_ONCE, stop))
        numbers = zip(*(opened.column(name)[rows].tolist() for name in NUMBERS), strict=True)
        source = (names[number] for number in opened.column("source")[rows].tolist())
        found = zip(opened.read(rows), numbers, opened.captions(rows), source, strict=True)
        for image, (label, group, seed), caption, own in found:
            yield Row(image, label, group, seed, caption, own)


class Notes:
    """What an importer met that someone should know: how often, and where first."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.first: dict[str, str] = {}

    def note(self, what: str, where: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1
        self.first.setdefault(what, where)

    def lines(self) -> list[str]:
        return [f"{what}: {n:,}, first {self.first[what]}" for what, n in self.counts.items()]


class Captions:
    """Captions as they come from files, and the group of each."""

    def __init__(self, notes: Notes, merge: bool):
        self._notes, self.merges = notes, merge
        self._groups: dict[bytes, int] = {}

    def text(self, raw: bytes, where: str) -> str:
        """UTF-8, with U+FFFD for what is none."""
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            self._notes.note("captions that are not UTF-8, mended with U+FFFD", where)
            text = raw.decode("utf-8", "replace")
        if not text.strip():
            self._notes.note("empty captions, left out", where)
            return ""
        return text

    def group(self, caption: str, own: int) -> int:
        """The group of an image whose caption is its recipe: `own`, or that of the same caption
        before it where captions are merged; -1 without a caption.
        """
        if not caption:
            return -1
        if not self.merges:
            return own
        key = hashlib.blake2b(caption.encode(), digest_size=16).digest()
        return self._groups.setdefault(key, own)

    def row(self, image: bytes, given: Mapping[str, Any], own: int, where: str) -> Row:
        """A row of what a file says of an image; `own` is its group where it names none."""
        numbers = {name: _number(given.get(name), name, where) for name in NUMBERS}
        raw = next((given[name] for name in CAPTION_NAMES if given.get(name) is not None), None)
        if isinstance(raw, list):  # several captions of one image: the first
            raw = raw[0] if raw else None
        if isinstance(raw, str):
            raw = raw.encode("utf-8", "surrogateescape")
        caption = "" if raw is None else self.text(bytes(raw), where)
        if (self.merges and caption) or given.get("group") is None:
            numbers["group"] = self.group(caption, own)
        return Row(image, caption=caption, source=str(given.get("source") or ""), **numbers)


def _number(value: Any, name: str, where: str) -> int:
    if value is None or value == "":
        return -1
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigError(f"{where} has the {name} {value!r}: write a number.") from None
