"""NumPy's `.npz` from somebody else: nothing is run, and no more memory taken than was granted."""

import math
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class Bounded:
    """A file of which nobody gets more than is there: Python sets aside all that is asked for."""

    def __init__(self, stream: Any):
        self._stream, self.length = stream, stream.seek(0, 2)
        stream.seek(0)

    def read(self, count: int | None = -1) -> bytes:
        left = max(0, self.length - self._stream.tell())
        return self._stream.read(left if count is None or count < 0 else min(count, left))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def read(raw: BinaryIO, wanted: Callable[[str], bool], most: int) -> dict[str, np.ndarray]:
    """The arrays whose names are `wanted`, together at most `most` bytes.

    Raises ValueError for more; all sorts of errors for a damaged file. Objects are refused.
    """
    bounded: Any = Bounded(raw)
    with zipfile.ZipFile(bounded) as archive:
        parts = {part.filename.removesuffix(".npy"): part for part in archive.infolist()}
        if len(parts) < len(archive.infolist()):  # NumPy might read the one not looked at here
            raise ValueError("it has two arrays of one name")
        parts = {name: part for name, part in parts.items() if wanted(name)}
        if sum(part.file_size for part in parts.values()) > most:
            raise ValueError(f"its arrays take more than {most / 1e9:.1f} GB")
        for name, part in parts.items():
            with archive.open(part) as file:
                _check_header(name, file, part.file_size)
    bounded.seek(0)
    with np.load(bounded, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in parts}


def _check_header(name: str, file: Any, size: int) -> None:
    """An array as long as its header says would be made, whatever is in the file."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{name} is of version {version} of the format")
    shape, _, dtype = _HEADERS[version](file)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"{name} is longer in its header than in the file")
