"""Parquet files with an image column, as the Hugging Face hub keeps image data sets.

A Parquet file is read a row group at a time, so that a shuffled pass over a set that is larger than
the cache reads every group once for almost each of its pictures: such sets train faster from small
row groups (100 pictures or fewer), or as array_record. Worker processes load this module: nothing
in it touches a device.
"""

import bisect
import collections
import contextlib
import dataclasses
import difflib
import functools
import glob
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import stored
from jaxfdsl.data.decode import View
from jaxfdsl.data.records import Labels, Records, check_labels

CACHE_BYTES = 2**29  # row groups that a process keeps in memory
_LARGE_GROUP = 2**25  # bytes of a row group that are too many to read for one picture


@dataclasses.dataclass(frozen=True)
class ParquetRecords(Records):
    """The files of one split."""

    name: str
    files: tuple[str, ...]
    split: str
    image: str
    label: str
    digest: str  # of the labels and the number of rows of each file

    @property
    def identity(self) -> tuple[str, ...]:
        """Split, columns and labels; where the files lie does not matter."""
        return ("parquet", self.split, self.image, self.label, self.digest)

    def __len__(self) -> int:
        return _starts(self.files)[-1]

    def read(self, rows: Int64[np.ndarray, " n"]) -> tuple[list[bytes | None], Labels]:
        """The pictures' bytes; None where a row has none."""
        images: list[bytes | None] = [None] * len(rows)
        labels: list[Any] = [None] * len(rows)
        starts = _starts(self.files)
        for place in np.argsort(rows, kind="stable").tolist():  # rows of one group together
            group = bisect.bisect_right(starts, int(rows[place])) - 1
            images_of, labels_of = _groups.get(self.files, group, self.image, self.label)
            inside = int(rows[place]) - starts[group]
            images[place] = images_of[inside].as_py()
            labels[place] = labels_of[inside].as_py()
        return images, labels if self.multi_label else np.array(labels, np.int64)

    def labels(self, rows: Int64[np.ndarray, " n"]) -> Labels:
        """The labels, from memory."""
        known = _labels(self.files, self.label)
        return [known[row] for row in rows.tolist()]

    def where(self, row: int) -> str:
        """The row's file and place in it."""
        file, inside = _file_of(self.files, row)
        return f"row {inside} of {file} (image {row} of split {self.split!r})"


@functools.lru_cache(maxsize=8)
def _row_groups(files: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """File, number in it and rows of each row group."""
    found = []
    for file in files:
        metadata = _open(file).metadata
        for group in range(metadata.num_row_groups):
            found.append((file, group, metadata.row_group(group).num_rows))
    return found


@functools.lru_cache(maxsize=8)
def _starts(files: tuple[str, ...]) -> list[int]:
    """The first row of each row group, and the number of all rows."""
    return [0, *np.cumsum([rows for *_, rows in _row_groups(files)], dtype=np.int64).tolist()]


def _file_of(files: tuple[str, ...], row: int) -> tuple[str, int]:
    groups, starts = _row_groups(files), _starts(files)
    file = groups[bisect.bisect_right(starts, row) - 1][0]
    first = next(start for start, group in zip(starts, groups, strict=False) if group[0] == file)
    return file, row - first


@functools.lru_cache(maxsize=512)
def _open(file: str) -> Any:
    import pyarrow.parquet

    with _told(file):
        return pyarrow.parquet.ParquetFile(file, memory_map=True)


@contextlib.contextmanager
def _told(file: str) -> Iterator[None]:
    """Raises ConfigError for whatever Arrow says of a damaged file, which may be a page."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(
            f"{file} cannot be read as Parquet ({reason}): copy it again, or leave it out."
        ) from error


@functools.lru_cache(maxsize=8)
def _labels(files: tuple[str, ...], label: str) -> list[Any]:
    """The label column of all files."""
    labels: list[Any] = []
    for file in files:
        with _told(file):
            labels += _open(file).read(columns=[label]).column(label).to_pylist()
    return labels


class _Groups:
    """The row groups used last, by this process."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[tuple, tuple[Any, Any, int]] = collections.OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()  # a reader serves one thread at a time

    def get(self, files: tuple[str, ...], group: int, image: str, label: str) -> tuple[Any, Any]:
        """The encoded pictures and the labels of a row group, as Arrow arrays."""
        file, number, _ = _row_groups(files)[group]
        key = (file, number, image, label)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._read(file, number, image, label)
                self._bytes += self._kept[key][2]
            self._kept.move_to_end(key)
            images, labels, _ = self._kept[key]
            while len(self._kept) > 1 and self._bytes > CACHE_BYTES:
                _, (*_, dropped) = self._kept.popitem(last=False)
                self._bytes -= dropped
        return images, labels

    def _read(self, file: str, number: int, image: str, label: str) -> tuple[Any, Any, int]:
        import pyarrow

        with _told(file):
            table = _open(file).read_row_group(number, columns=[image, label]).combine_chunks()
        images, labels = table.column(image).chunk(0), table.column(label).chunk(0)
        if pyarrow.types.is_struct(images.type):
            images = images.field("bytes")
        return images, labels, table.nbytes


_groups = _Groups()


def load(
    entry: ConfigDict, *, seed: int, train: bool, field: str, view: View | None = None
) -> stored.StoredSource:
    """The source of a `kind: "parquet"` entry; raises `ConfigError` for what is not there."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f'{field}.kind="parquet" needs pyarrow: pip install "jaxfdsl[data]".'
        ) from error
    splits = _splits(entry, field)
    files = splits[entry.split]
    multi_label = _check_columns(entry, files[0], field)
    names = class_names(_open(files[0]).schema_arrow.metadata, entry.label)
    num_classes = len(names) if names else _count_classes(splits, entry.label)
    labels = _labels(files, entry.label)
    digest = hashlib.sha256(json.dumps([names, _starts(files), labels]).encode()).hexdigest()
    path = os.path.abspath(os.path.expanduser(entry.path))
    records = ParquetRecords(
        name=os.path.basename(path),
        files=files,
        split=entry.split,
        image=entry.image,
        label=entry.label,
        digest=digest,
        multi_label=multi_label,
    )
    several = labels if multi_label else [[label] for label in labels]
    check_labels(
        records,
        [[None] if one is None else one for one in several],
        range(len(labels)),
        num_classes,
    )
    _tell_large_groups(files)
    return stored.load(
        entry,
        records,
        names,
        name=records.name,
        num_classes=num_classes,
        seed=seed,
        train=train,
        field=field,
        view=view,
    )


def _splits(entry: ConfigDict, field: str) -> dict[str, tuple[str, ...]]:
    """The files of each split; that of the entry is one of them."""
    path = os.path.abspath(os.path.expanduser(entry.path))
    if entry.path and os.path.isfile(path):
        return {entry.split: (path,)}
    if not entry.path or not os.path.isdir(path):
        raise ConfigError(
            f"{field}.path={entry['path']!r} is not there: type the path of a Parquet file, or of "
            "a folder with <split>-*.parquet."
        )
    splits: dict[str, tuple[str, ...]] = {}
    for place in (path, os.path.join(path, "data")):
        found = collections.defaultdict(list)
        for file in sorted(glob.glob(os.path.join(glob.escape(place), "*.parquet"))):
            found[os.path.basename(file).removesuffix(".parquet").partition("-")[0]].append(file)
        splits = {**{name: tuple(files) for name, files in found.items()}, **splits}
    for file in sorted(glob.glob(os.path.join(glob.escape(path), "*", "*.parquet"))):
        name = os.path.basename(os.path.dirname(file))
        if name != "data":
            splits[name] = (*splits.get(name, ()), file)
    if entry.split not in splits:
        known = f"type one of {sorted(splits)}" if splits else "it holds no Parquet file"
        raise ConfigError(f"{field}.split={entry['split']!r} is not in {path}: {known}.")
    return splits


def _check_columns(entry: ConfigDict, file: str, field: str) -> bool:
    """Whether the label is a list; raises `ConfigError` for columns that are not what they must."""
    import pyarrow as pa

    schema = _open(file).schema_arrow
    for key in ("image", "label"):
        if entry[key] not in schema.names:
            near = difflib.get_close_matches(entry[key], schema.names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"type one of {schema.names}."
            raise ConfigError(f"{field}.{key}={entry[key]!r} is not a column of {file}: {hint}")
    image, label = schema.field(entry.image).type, schema.field(entry.label).type
    if pa.types.is_struct(image) and image.get_field_index("bytes") >= 0:
        image = image.field("bytes").type
    if not (pa.types.is_binary(image) or pa.types.is_large_binary(image)):
        raise ConfigError(
            f"{field}.image={entry['image']!r} of {file} holds {image}: type the name of a column "
            "of encoded pictures, bytes or a struct with `bytes`."
        )
    multi_label = pa.types.is_list(label) or pa.types.is_large_list(label)
    if not pa.types.is_integer(label.value_type if multi_label else label):
        raise ConfigError(
            f"{field}.label={entry['label']!r} of {file} holds {label}: type the name of a column "
            "of class numbers."
        )
    return multi_label


def class_names(metadata: Any, label: str) -> list[str] | None:
    """Names of the label's classes as Hugging Face's `datasets` keeps them in a file's schema."""
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][label]
        while not (isinstance(feature, dict) and feature.get("_type") == "ClassLabel"):
            feature = feature[0] if isinstance(feature, list) else feature["feature"]
        names = feature["names"]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    if isinstance(names, dict):  # as older versions wrote them: {"0": "cat", ...}
        names = [names[key] for key in sorted(names, key=int)]
    return list(map(str, names)) or None


def _count_classes(splits: dict[str, tuple[str, ...]], label: str) -> int:
    """One more than the greatest label of all splits, so that all number their classes alike."""
    greatest = 0
    for files in splits.values():
        if all(label in _open(file).schema_arrow.names for file in files):
            for given in _labels(files, label):
                several = given if isinstance(given, list) else [given]
                greatest = max([greatest, *(one for one in several if one is not None)])
    return greatest + 1


@functools.cache
def _tell_large_groups(files: tuple[str, ...]) -> None:
    """Says once that reading at random will be slow, where the cache cannot hold the set."""
    groups = [
        _open(file).metadata.row_group(group).total_byte_size
        for file, group, _ in _row_groups(files)
    ]
    if sum(groups) > CACHE_BYTES and max(groups) > _LARGE_GROUP:
        logging.warning(
            "%s: each picture costs reading its row group of %.0f MB, as the files exceed the "
            "cache of %.0f MB: write them with a smaller row_group_size",
            os.path.dirname(files[0]),
            max(groups) / 1e6,
            CACHE_BYTES / 1e6,
        )
