"""Reading a store: pictures by their rows, columns and captions memory-mapped."""

import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int64, Shaped

from jaxfdsl.config import ConfigError
from jaxfdsl.data.decode import in_threads
from jaxfdsl.data.store import captions, columns
from jaxfdsl.data.store.layout import COLUMNS, ENDS, TEXT, Layout, again, check_size, load
from jaxfdsl.data.store.shards import readers

_THREADED_BYTES = 8192  # smaller pictures are read faster than threads are told to


class Store:
    """A store that is there: `len`, `read`, `column`, `captions`, `index`.

    Small when pickled. `store[i]` is a row as a dict, so that it can be a Grain data source too.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path).expanduser().absolute()
        self.layout = load(self.path)
        check_there(self.layout)
        self._starts, count = self.layout.starts, self.layout.images
        self._bytes = sum(shard.bytes for shard in self.layout.shards)
        self._columns = {
            name: columns.mapped(self.layout.column_file(name), kind, count)
            for name, kind in COLUMNS.items()
        }
        self._ends = columns.mapped(self.path / ENDS, "<i8", self.layout.captions)
        self._text = captions.mapped_text(self.path, self.layout.caption_bytes)

    def __reduce__(self) -> tuple:
        return Store, (self.path,)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: Any) -> dict[str, Any]:
        """`image` as bytes, `label`, `group`, `seed`, `caption` and `source` of a row."""
        place = range(len(self))[row]
        where = np.array([place])
        numbers = {name: int(self._columns[name][place]) for name in ("label", "group", "seed")}
        source = self.layout.sources[int(self._columns["source"][place])]
        caption = self.captions(where)[0]
        return {"image": self.read(where)[0], **numbers, "caption": caption, "source": source}

    @property
    def card(self) -> dict[str, Any]:
        """What the images are, and where they come from."""
        return self.layout.card

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels; empty where they have none."""
        return self.layout.classes

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the numbers in the column `source`."""
        return self.layout.sources

    @property
    def files(self) -> list[str]:
        """The shards, whose records are the pictures in order; for Grain."""
        return [str(self.layout.shard_file(n)) for n in range(len(self.layout.shards))]

    def read(self, rows: Int[np.ndarray, " n"] | Sequence[int]) -> list[bytes]:
        """The encoded pictures of rows in any order; raises `ConfigError`, which names the shard,
        for one that cannot be read.
        """
        rows = self._checked(rows)
        shard = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(shard, kind="stable")
        numbers, first = np.unique(shard[order], return_index=True)
        parts = np.split(order, first[1:]) if len(rows) else []
        inside = [
            (rows[part] - self._starts[number]).tolist()
            for number, part in zip(numbers, parts, strict=True)
        ]
        small = self._bytes < _THREADED_BYTES * len(self)
        asked = zip(numbers.tolist(), inside, strict=True)
        found = in_threads(lambda one: self._read(*one), asked, few=small or len(parts) < 2)
        pictures: list[bytes] = [b""] * len(rows)
        for part, some in zip(parts, found, strict=True):
            for place, picture in zip(part.tolist(), some, strict=True):
                pictures[place] = picture
        return pictures

    def _read(self, number: int, places: list[int]) -> list[bytes]:
        path = str(self.layout.shard_file(number))
        try:
            return readers.read(path, places)
        except Exception as error:  # array_record raises several kinds, as its versions differ
            readers.forget(path)
            raise ConfigError(
                f"{path} is truncated or altered ({error}): {again(self.layout)}."
            ) from error

    def column(self, name: str) -> Shaped[np.ndarray, "N ..."]:
        """label, group, seed, source, caption (numbers), or a sidecar, memory-mapped."""
        if name in COLUMNS:
            return self._columns[name]
        values = columns.read(columns.sidecar_file(self.path, name), f"the column {name!r}")
        if len(values) != len(self):
            raise ConfigError(
                f"the column {name!r} of {self.path} has {len(values)} rows and the store "
                f"{len(self)}: make it again."
            )
        return values

    def captions(self, rows: Int[np.ndarray, " n"] | Sequence[int]) -> list[str]:
        """The captions of rows; "" where there is none."""
        numbers = np.asarray(self._columns["caption"][self._checked(rows)], np.int64)
        return captions.texts(numbers, self._ends, self._text)

    def index(self, name: str) -> Int64[np.ndarray, " n"]:
        """The rows of an index list, memory-mapped."""
        rows = columns.read(columns.index_file(self.path, name), f"the index {name!r}")
        if rows.max() >= len(self):
            raise ConfigError(f"the index {name!r} of {self.path} is of a larger store.")
        return rows

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns, sidecars included."""
        found = [
            f"{kind}:{file.stem}"
            for kind in columns.SIDECARS
            for file in sorted((self.path / kind).glob("*.npy"))
        ]
        return (*COLUMNS, *found)

    @property
    def indexes(self) -> tuple[str, ...]:
        """Names of the index lists."""
        return tuple(sorted(file.stem for file in (self.path / "index").glob("*.npy")))

    def verify(self) -> Iterator[str]:
        """Compares every checksum, and yields the name of each file that was right.

        Raises `ConfigError` for the first that is not.
        """
        segments = _segments(self)
        for number, (shard, said) in enumerate(zip(self.layout.shards, segments, strict=True)):
            path = self.layout.shard_file(number)
            if columns.digest(path) != shard.sha256:
                raise ConfigError(f"{path} is altered: {again(self.layout)}.")
            if rows_digest(*said) != shard.rows_sha256:
                first, last = self._starts[number : number + 2].tolist()
                raise ConfigError(
                    f"{self.path / 'columns'} or {self.path / 'captions'} is altered in the rows "
                    f"{first} to {last - 1}: {again(self.layout)}."
                )
            yield str(path)
        for file in [
            *(columns.sidecar_file(self.path, name) for name in self.columns if ":" in name),
            *(columns.index_file(self.path, name) for name in self.indexes),
        ]:
            if columns.digest(file) != columns.described(file).get("sha256"):
                raise ConfigError(f"{file} is altered: remove it, and make it again.")
            yield str(file)

    def _checked(self, rows: Any) -> Int64[np.ndarray, " n"]:
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows of {self.path} are 0 to {len(self) - 1}")
        return rows


def open_store(path: str | os.PathLike) -> Store:
    """The store in a folder; raises `ConfigError` for a folder that holds none, a format of another
    version, and files that are gone or truncated.
    """
    return Store(path)


def check_there(layout: Layout) -> None:
    """Raises `ConfigError` for a file that `store.json` counts and that is gone or too short."""
    for number, shard in enumerate(layout.shards):
        check_size(layout, layout.shard_file(number), shard.bytes, True)
    grown = {layout.column_file(name): (layout.images, kind) for name, kind in COLUMNS.items()}
    grown[layout.root / ENDS] = layout.captions, "<i8"
    for path, (count, kind) in grown.items():
        size = columns.HEADER + count * np.dtype(kind).itemsize if count else 0
        if size:
            check_size(layout, path, size, False)
    if layout.caption_bytes:
        check_size(layout, layout.root / TEXT, layout.caption_bytes, False)


def rows_digest(rows: Mapping[str, np.ndarray], ends: np.ndarray, text: bytes) -> str:
    """The sha256, in hex, of a shard's part of every column and of the captions that are new in it:
    int64 `ends`, each one's in the UTF-8 `text`."""
    total = hashlib.sha256()
    for name, kind in COLUMNS.items():
        total.update(np.ascontiguousarray(rows[name], kind).tobytes())
    total.update(np.ascontiguousarray(ends, "<i8").tobytes())
    total.update(text)
    return total.hexdigest()


def _segments(store: Store) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, bytes]]:
    """What `rows_digest` takes, of each shard."""
    row, number, byte = 0, 0, 0
    for shard in store.layout.shards:
        rows = {name: store.column(name)[row : row + shard.images] for name in COLUMNS}
        ends = store._ends[number : number + shard.captions]
        last = int(ends[-1]) if len(ends) else byte
        text = b"" if store._text is None else store._text[byte:last].tobytes()
        yield rows, ends, text
        row, number, byte = row + shard.images, number + shard.captions, last
