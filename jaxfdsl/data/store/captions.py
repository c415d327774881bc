"""Captions, each kept once: the number of every different text, while a store is written."""

import os
import pathlib
from array import array

import numpy as np
from jaxtyping import Int64

from jaxfdsl.data.store import columns
from jaxfdsl.data.store.layout import ENDS, TEXT, Layout

NONE = -1  # the number of no caption


class Captions:
    """Texts in the order in which they first came; about 150 bytes of memory each.

    Those of the open shard are `pending`, until `append` puts them behind the others.
    """

    def __init__(self, layout: Layout):
        self._file = layout.root / TEXT
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._opened = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o644)
        self._ends = layout.root / ENDS
        self.pending: list[bytes] = []
        self.bytes = layout.caption_bytes
        ends = columns.mapped(self._ends, "<i8", layout.captions)
        self._known = array("q", ends.tobytes())
        self._numbers: dict[int, int] = {}
        self._last: tuple[bytes, int] = (b"", NONE)
        for number in range(layout.captions):
            self._place(self._text(number), number)

    def number(self, text: bytes) -> int:
        """The number of a caption, a new one for a new text; NONE of an empty one."""
        if not text:
            return NONE
        if text == self._last[0]:
            return self._last[1]
        new = len(self._known) + len(self.pending)
        number = self._place(text, new)
        if number == new:
            self.pending.append(text)
        self._last = text, number
        return number

    def append(self) -> tuple[Int64[np.ndarray, " n"], bytes]:
        """Puts what is pending on the disk; the ends and the text that were added."""
        text = b"".join(self.pending)
        lengths = np.array([len(one) for one in self.pending], np.int64)
        ends = self.bytes + np.cumsum(lengths)
        os.ftruncate(self._opened, self.bytes)
        written = 0
        while written < len(text):
            written += os.pwrite(self._opened, text[written:], self.bytes + written)
        os.fsync(self._opened)
        columns.append(self._ends, "<i8", len(self._known), ends)
        self._known.frombytes(ends.astype("<i8").tobytes())
        self.bytes += len(text)
        self.pending.clear()
        return ends, text

    def close(self) -> None:
        os.close(self._opened)

    def _place(self, text: bytes, number: int) -> int:
        """The number that `text` has already, or `number`, entered."""
        key = hash(text)
        while (there := self._numbers.setdefault(key, number)) != number:
            if self._text(there) == text:
                return there
            key += 1  # two texts of one hash
        return number

    def _text(self, number: int) -> bytes:
        if number >= len(self._known):
            return self.pending[number - len(self._known)]
        start = self._known[number - 1] if number else 0
        return os.pread(self._opened, self._known[number] - start, start)


def texts(numbers: Int64[np.ndarray, " n"], ends: np.ndarray, text: np.ndarray | None) -> list[str]:
    """The captions of these numbers, "" of NONE; `ends` and `text` are memory-mapped."""
    found = {NONE: ""}
    for number in np.unique(numbers).tolist():
        if number != NONE and text is not None:
            start = int(ends[number - 1]) if number else 0
            found[number] = text[start : int(ends[number])].tobytes().decode("utf-8")
    return [found[number] for number in numbers.tolist()]


def mapped_text(root: pathlib.Path, size: int) -> np.ndarray | None:
    """All texts as bytes, in memory only where they are looked at."""
    return np.memmap(root / TEXT, np.uint8, "r", shape=(size,)) if size else None
