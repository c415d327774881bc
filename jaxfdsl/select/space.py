"""Representations of two stores that may be compared: of one encoder, of one width, all finite."""

import dataclasses
import hashlib
import os
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.condition import ASKED, ENCODER, SHOWN
from jaxfdsl.data.records import all_labels
from jaxfdsl.data.store import columns
from jaxfdsl.data.store.reader import Store


@dataclasses.dataclass(frozen=True)
class Vectors:
    """A column of representations, of some rows of a store, with what tells it from another."""

    path: str
    name: str
    values: Float32[np.ndarray, "N D"]
    labels: Int64[np.ndarray, " N"]
    rows: Int64[np.ndarray, " N"]  # of the store
    made_by: dict[str, Any]
    sha256: str  # of the column's file

    @property
    def identity(self) -> dict[str, Any]:
        """What a score made of them depends on, for its `made_by`."""
        told = [np.ascontiguousarray(part).tobytes() for part in (self.rows, self.labels)]
        rows = hashlib.sha256(b"".join(told)).hexdigest()
        return {"column": self.name, "sha256": self.sha256, "rows_and_labels": rows}


def read(
    place: Store | str | os.PathLike,
    name: str,
    index: str = "",
    *,
    rows: Int64[np.ndarray, " N"] | None = None,
    split: str = "train",
    data_dir: str = "",
) -> Vectors:
    """The column `rep:...` of a store, of the rows of an index list where one is named, or of some
    `rows`; or of a split of tfds:NAME.

    Raises ConfigError for a column that is not there or holds no vectors, for a vector that is not
    finite, and as `store.open` does.
    """
    if isinstance(place, str) and place.startswith("tfds:"):
        from jaxfdsl.representations.command import opened as opened_records

        if index:
            raise ConfigError(f"{place} has no index {index!r}: type a part, such as train[:80%].")
        records = opened_records(place, split, data_dir)
        labels = np.full(len(records), -1) if records.multi_label else all_labels(records)
        rows, where = np.arange(len(records)), f"{place} {split}"
        return _vectors(where, name, records.column(name), labels, rows, records.sidecar(name))
    opened = place if isinstance(place, Store) else store.open(place)
    if rows is None:
        rows = np.asarray(opened.index(index), np.int64) if index else np.arange(len(opened))
    column, file = opened.column(name), columns.sidecar_file(opened.path, name)
    return _vectors(str(opened.path), name, column, opened.column("label"), rows, file)


def _vectors(
    path: str, name: str, column: np.ndarray, labels: Any, rows: np.ndarray, file: Any
) -> Vectors:
    if column.ndim != 2 or column.dtype.kind != "f":
        raise ConfigError(
            f"{name} of {path} is {column.dtype}{list(column.shape[1:])} an image, no vector: type "
            "the name of a column that jaxfdsl embed wrote."
        )
    whole = np.array_equal(rows, np.arange(len(column)))  # a list of all may have another order
    values = np.asarray(column if whole else column[rows], np.float32)
    odd = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(odd):
        raise ConfigError(
            f"{name} of {path}: {len(odd)} of {len(values)} vectors are not finite, the first is "
            f"that of row {rows[odd[0]]}: write it again (jaxfdsl embed --replace), or type an "
            f"index without them, such as {name.partition(':')[2]}-readable."
        )
    said = columns.described(file)
    own = np.asarray(labels, np.int64)[rows]
    return Vectors(path, name, values, own, rows, said.get("made_by", {}), said.get("sha256", ""))


def check_same(one: Vectors, other: Vectors) -> None:
    """Raises ConfigError for vectors of another width, encoder or way to show it an image. Of
    `rep:asked`, which may be made by no encoder, what is not told is not compared."""
    wide = one.values.shape[1], other.values.shape[1]
    if wide[0] != wide[1]:
        raise ConfigError(
            f"{one.name} of {one.path} has {wide[0]} numbers an image, and {other.name} of "
            f"{other.path} has {wide[1]}: write both by the same encoder (jaxfdsl embed)."
        )
    asked = ASKED in (one.name, other.name)
    for key in (*ENCODER, *SHOWN):
        told = one.made_by.get(key), other.made_by.get(key)
        if told[0] != told[1] and not (None in told and (asked or key in SHOWN)):
            what = "encoders" if key in ENCODER else "settings of embed"
            raise ConfigError(
                f"{one.name} of {one.path} and {other.name} of {other.path} are of different "
                f"{what} ({key} {_short(told[0])} and {_short(told[1])}): write both by the same "
                "(jaxfdsl embed)."
            )


def check_labels(vectors: Vectors, what: str) -> None:
    """Raises ConfigError, which begins with `what` needs them, where an image has no label."""
    without = np.flatnonzero(vectors.labels < 0)
    if len(without):
        raise ConfigError(
            f"{what} needs labels, and image {vectors.rows[without[0]]} of {vectors.path} has "
            f"none, as {len(without)} of {len(vectors.labels)}: type a store with labels."
        )


def check_enough(vectors: Vectors, least: int, what: str) -> None:
    """Raises ConfigError where there are fewer than the `least` that the option `what` needs."""
    if len(vectors.values) < least:
        raise ConfigError(
            f"{what} needs {least} images or more, and {vectors.path} has {len(vectors.values)}: "
            f"type a smaller {what.partition('=')[0]}, or a larger set."
        )


def _short(told: Any) -> str:
    text = "not told" if told is None else str(told)
    return text if len(text) < 40 else f"{text[:12]}..."
