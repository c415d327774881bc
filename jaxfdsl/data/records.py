"""What a kind of storage gives: the encoded pictures and labels of one split."""

import abc
import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.store import columns

Labels = Sequence[Any] | np.ndarray  # one class number a picture, or a list of them
_AT_ONCE = 256  # rows whose labels are read together
_SLOW = 10.0  # seconds from which on reading labels is worth a word


@dataclasses.dataclass(frozen=True)
class Records(abc.ABC):
    """The encoded pictures of one split; hashable, small when pickled, opened where it is read."""

    multi_label: bool = dataclasses.field(default=False, kw_only=True)  # a list of labels each
    shuffled = False  # True where the stored order is by chance: else it may be sorted by class
    label_cost = 0.0  # seconds that reading one label takes; 0 where all are in memory

    @property
    @abc.abstractmethod
    def identity(self) -> tuple[str, ...]:
        """What decides the pictures and labels, for a fingerprint; not the place where they lie."""

    @abc.abstractmethod
    def __len__(self) -> int: ...

    @abc.abstractmethod
    def read(self, rows: Int64[np.ndarray, " n"]) -> tuple[list[bytes | None], Labels]:
        """The encoded pictures, None where a file is gone, and their labels."""

    @abc.abstractmethod
    def labels(self, rows: Int64[np.ndarray, " n"]) -> Labels:
        """The labels alone, without decoding."""

    @abc.abstractmethod
    def where(self, row: int) -> str:
        """A row's data set, split and file, to begin a sentence with."""

    def sidecar(self, name: str) -> pathlib.Path | None:
        """The file of a sidecar column such as "rep:dino", whether it is there or not; None where
        this kind of storage has no place for one."""
        return None

    def in_store(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Rows of a sidecar's file, where these pictures are a list of some of its."""
        return rows

    @property
    def pictures(self) -> str:
        """The hex digest by which a column's card names the pictures that it is of."""
        return hashlib.sha256(json.dumps([*self.identity, len(self)]).encode()).hexdigest()

    @property
    def typed(self) -> str:
        """What one types for these pictures behind `jaxfdsl embed`."""
        return "STORE"

    def column(self, name: str) -> Shaped[np.ndarray, "N ..."]:
        """A sidecar column, a row an image. Raises ConfigError where it is not there."""
        return self.mapped(name)

    def mapped(self, name: str) -> Shaped[np.ndarray, "N ..."]:
        """The same memory-mapped, a row each of `in_store`."""
        file = self.sidecar(name)
        if file is None:
            raise ConfigError(
                f"{self.where(0)} is of a kind that has no columns such as {name!r}: import the "
                "pictures into a store (jaxfdsl store import)."
            )
        values = columns.read(file, f"the column {name!r}")
        if len(values) != len(self):
            raise ConfigError(
                f"the column {name!r} ({file}) has {len(values)} rows, and there are {len(self)} "
                "images: make it again."
            )
        return values


@functools.lru_cache(maxsize=4)
def all_labels(records: Records) -> list[Any]:
    """The label or labels of every row of a split; kept in memory, told when it takes long."""
    seconds = records.label_cost * len(records)
    if seconds > _SLOW:
        logging.info("reading the labels of %d images once: %.0f s", len(records), seconds)
    labels: list[Any] = []
    starts = range(0, len(records), _AT_ONCE)
    with terminal.progress(len(records), desc="labels", unit="images") as bar:
        for start in starts:
            rows = np.arange(start, min(start + _AT_ONCE, len(records)))
            labels += list(records.labels(rows))
            bar.update(len(rows))
    return labels


def check_labels(records: Records, labels: Labels, rows: Iterable[Any], num_classes: int) -> None:
    """Raises `ConfigError` for the first row with a label that is no class."""
    for row, given in zip(rows, labels, strict=True):
        for label in given:
            if label is None or not 0 <= label < num_classes:
                raise ConfigError(
                    f"{records.where(int(row))} has the label {label}, which is not one of the "
                    f"{num_classes} classes 0 to {num_classes - 1}: mend the data set, or name "
                    "another column or feature as `label`."
                )
