"""A store as a source of training images: one by one, or in groups that share a caption.

Worker processes load this module: nothing in it touches a device.
"""

import dataclasses
import functools
import os
import pathlib
import shlex

import numpy as np
from jaxtyping import Int32, Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import stored
from jaxfdsl.data.decode import View
from jaxfdsl.data.records import Labels, Records
from jaxfdsl.data.sources import ALONE, Group, Rows
from jaxfdsl.data.store import columns, groups
from jaxfdsl.data.store.reader import Store
from jaxfdsl.data.tokens import Tokenizer


@dataclasses.dataclass(frozen=True)
class StoreRecords(Records):
    """The images of a store, or those of an index list; their numbers here are places in it."""

    path: str
    digest: str  # of the pictures and columns
    index: str = ""
    index_digest: str = ""

    @property
    def identity(self) -> tuple[str, ...]:
        """The pictures, what is said of them, and the list; not where the store lies."""
        return ("store", self.digest, *([self.index_digest] if self.index else []))

    def __len__(self) -> int:
        return len(_index(self)) if self.index else len(_open(self.path, self.digest))

    def read(self, rows: Int64[np.ndarray, " n"]) -> tuple[list[bytes | None], Labels]:
        """The encoded pictures; labels are -1 where there is none."""
        pictures: list[bytes | None] = list(self.store.read(self.in_store(rows)))
        return pictures, self.labels(rows)

    def labels(self, rows: Int64[np.ndarray, " n"]) -> Labels:
        """The labels, from the memory-mapped column."""
        return np.asarray(self.store.column("label")[self.in_store(rows)], np.int64)

    def where(self, row: int) -> str:
        """The row of the store."""
        own = int(self.in_store(np.array([row]))[0])
        return f"image {own} of {self.path}" + (f" (index {self.index!r})" if self.index else "")

    @property
    def store(self) -> Store:
        """Opened once a process."""
        return _open(self.path, self.digest)

    def in_store(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Rows of the store."""
        return np.asarray(_index(self)[rows]) if self.index else rows

    def sidecar(self, name: str) -> pathlib.Path:
        """In the store; its rows are the store's."""
        return columns.sidecar_file(self.store.path, name)

    @property
    def pictures(self) -> str:
        """Those of the whole store, which columns are of."""
        return self.digest

    @property
    def typed(self) -> str:
        """The store's path."""
        return shlex.quote(self.path)

    def mapped(self, name: str) -> np.ndarray:
        """A column of the store."""
        return self.store.column(name)

    def column(self, name: str) -> np.ndarray:
        """A column of these images."""
        values = self.mapped(name)
        return np.asarray(values[np.asarray(_index(self))]) if self.index else values


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreSource(stored.StoredSource):
    """Images of a store; in groups of `group.size` images of one caption, if asked for.

    An epoch is as many images as the store has (or the index, or the classes of a list). With a
    `tokenizer` rows hold `tokens` int32[n, L], the captions as it reads them.
    """

    records: StoreRecords
    group: Group = ALONE
    tokenizer: Tokenizer | None = None

    def with_tokenizer(self, tokenizer: Tokenizer, field: str) -> "StoreSource":
        """The same images with `tokens`; raises `ConfigError` where one has no caption."""
        without = np.flatnonzero(np.asarray(self.records.column("caption")) < 0)
        if len(without):
            raise ConfigError(
                f"{field}: {self.records.where(int(without[0]))} has no caption, as {len(without)} "
                f"of {len(self.records)} images: type the path of a store with captions, or keep "
                f"those that have one: jaxfdsl store index {self.records.path} --captioned."
            )
        if self.group.size > 1:
            self._check_one_caption(field)
        targets = tuple(dict.fromkeys((*self.targets, "tokens")))
        return dataclasses.replace(self, tokenizer=tokenizer, targets=targets)

    def _check_one_caption(self, field: str) -> None:
        """The tower reads one caption a group: refuses groups whose images have several."""
        made, numbers = self._groups, np.asarray(self.records.column("caption"))
        own = numbers[self._select(made.places(np.arange(made.starts[-1])))]
        first = np.repeat(own[made.starts[:-1]], made.counts)
        odd = np.flatnonzero(own != first)
        if len(odd):
            rows = self._select(made.places(odd[:1]))
            raise ConfigError(
                f"{field}: {self.records.where(int(rows[0]))} has another caption than the first "
                "image of its group, and objective.align reads one caption a group: type "
                "--config.data.group_by=image, or make the store with one group a caption."
            )

    def rows(
        self, positions: Int64[np.ndarray, " n"], samples: Int64[np.ndarray, " n"] | None = None
    ) -> Rows:
        """As of every stored source, with `tokens` where there is a tokenizer."""
        rows = super().rows(positions, samples)
        if self.tokenizer is not None:
            rows["tokens"] = self.tokenizer(self.captions(positions))
        return rows

    def rows_of(self, category: int, count: int) -> Rows:
        """Images of a class; without labels those of the `category`-th group, or the next ones."""
        if "label" in self.targets:
            return super().rows_of(category, count)
        recipes, places = self._groups, np.arange(self.num_examples)
        if len(recipes) == 1:  # no groups
            places = places[category * count : (category + 1) * count]
        elif category < len(recipes):
            first, last = recipes.starts[category : category + 2].tolist()
            places = recipes.places(places[first:last][:count])
        else:
            places = places[:0]
        rows = self.kept.rows[places] if self.kept else places
        return dataclasses.replace(self, train=False)._read(rows, places, places)

    def captions(self, positions: Int64[np.ndarray, " n"]) -> list[str]:
        """The caption of the image at each position of the stream; "" where there is none."""
        rows = self._select(self._places(np.asarray(positions, np.int64)))
        return self.records.store.captions(self.records.in_store(rows))

    def _places(self, positions: np.ndarray) -> np.ndarray:
        if self.group.size == 1:
            return super()._places(positions)
        seed = self.seed if self.train else 0
        return groups.chosen(self._groups, positions, self.group.size, seed)

    def _select(self, places: np.ndarray) -> np.ndarray:
        if self.group.size == 1:
            return super()._select(places)
        return self.kept.rows[places] if self.kept else places

    @property
    def _groups(self) -> groups.Groups:
        return groups.of_records(self.records, self.kept)

    def _numbered(self, labels: Labels, rows: np.ndarray) -> Int32[np.ndarray, "n ..."]:
        given = np.asarray(labels, np.int64)
        numbers = np.full(len(given), -1, np.int32)
        named = np.flatnonzero(given >= 0)
        if len(named):
            numbers[named] = super()._numbered(given[named], rows[named])
        return numbers


@functools.lru_cache(maxsize=8)
def _open(path: str, digest: str) -> Store:
    """A store that grew under its name, or was replaced, is another one."""
    opened = Store(path)
    if opened.layout.fingerprint != digest:
        raise ConfigError(f"{path} was changed while it was in use: begin again.")
    return opened


@functools.lru_cache(maxsize=8)
def _index(records: StoreRecords) -> Int64[np.ndarray, " n"]:
    return records.store.index(records.index)


def load(
    entry: ConfigDict,
    *,
    seed: int,
    train: bool,
    field: str,
    view: View | None = None,
    group: Group = ALONE,
) -> StoreSource:
    """The source of a `kind: "store"` entry; raises `ConfigError` for what is not there, and for
    groups that the store cannot fill.
    """
    path = os.path.abspath(os.path.expanduser(entry.path))
    try:
        records = _records(path, entry.index)
    except ConfigError as error:
        raise ConfigError(f"{field}.path={entry['path']!r}: {error}") from error
    if not len(records):
        raise ConfigError(f"{field}.path={entry['path']!r} holds no image yet: write some.")
    labels = np.asarray(records.column("label"))
    names = records.store.classes or None
    source = stored.load(
        entry,
        records,
        names,
        name=os.path.basename(path),
        num_classes=max(int(labels.max()) + 1, len(names or ())),
        seed=seed,
        train=train,
        field=field,
        view=view,
        kind=StoreSource,
    )
    assert isinstance(source, StoreSource)
    targets = ("label",) if source.kept or labels.min() >= 0 else ()
    source = dataclasses.replace(source, group=group, targets=targets)
    if group.size > 1:
        _check_groups(source, entry, field)
    return source


def _records(path: str, index: str) -> StoreRecords:
    opened = Store(path)
    digest = ""
    if index:
        opened.index(index)  # is there, and of this store
        digest = columns.digest(columns.index_file(opened.path, index))
    return StoreRecords(path, opened.layout.fingerprint, index, digest)


def _check_groups(source: StoreSource, entry: ConfigDict, field: str) -> None:
    """Refuses what leaves a group without enough images, naming its caption."""
    size, records = source.group.size, source.records
    if entry.num_examples or entry.skip_examples:
        raise ConfigError(
            f"{field}.num_examples={entry.num_examples} with {field}.skip_examples="
            f"{entry.skip_examples} would cut groups apart (data.group_size={size}): type 0 for "
            f"both, and --config.{field}.index=NAME for a part of the store."
        )
    numbers = np.asarray(records.column("group"))
    alone = np.flatnonzero(numbers < 0)
    if len(alone):
        raise ConfigError(
            f"{records.where(int(alone[0]))} has no group, which data.group_by='recipe' needs: "
            "type --config.data.group_by=image, or an index of images that have one."
        )
    made = source._groups
    few = np.flatnonzero(made.counts < size)
    if len(few):
        first, least = int(few[0]), int(made.counts.min())
        rows = source._select(made.places(made.starts[first : first + 1]))
        row = records.in_store(rows)
        caption = records.store.captions(row)[0]
        named = f"the caption {caption!r}" if caption else f"the group {numbers[rows][0]}"
        raise ConfigError(
            f"{field}.path={entry['path']!r}: {named} has {made.counts[first]} images, fewer than "
            f"data.group_size={size} (so have {len(few)} of {len(made)}): type "
            f"--config.data.group_size={max(1, least)}, or write an index without them: jaxfdsl "
            f"store index {source.records.path} --group_size={size}."
        )
