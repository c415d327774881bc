"""Real pictures of any stored kind as a source: which rows, decoded how, with which labels.

A kind of storage (`tfds`, `folder`, `parquet`, `store`) gives `Records`; everything else is here.
Worker processes load this module: nothing in it touches a device.
"""

import dataclasses
import functools
import hashlib
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import class_list, latent_column
from jaxfdsl.data import condition as conditions
from jaxfdsl.data.class_list import Kept
from jaxfdsl.data.condition import Condition
from jaxfdsl.data.decode import View, box_draws, canvas, centre_crop, decode_all, random_crop
from jaxfdsl.data.records import Labels, Records, check_labels
from jaxfdsl.data.shuffle import hash64, permute, sample_order
from jaxfdsl.data.sources import Rows, Source
from jaxfdsl.data.store import columns

CACHE_BYTES = 2**30  # decoded sets up to this size are kept in memory, 5 times CIFAR-10
MOST_LABELS = 64  # labels of one picture that a multi-label row has room for
_SEARCHED = 2000  # pictures looked through for those of one class where each must be read for that
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredSource(Source):
    """Part of one split of stored pictures: decoded to a square canvas, or cut as the model sees.

    Holds numbers and names alone, so that it travels to worker processes as it is; files are
    opened where rows are read.
    """

    num_examples: int
    records: Records
    kept: Kept | None  # the classes of a list, None for all
    total: int  # pictures of the split that have one of those classes
    skip: int  # pictures of a fixed shuffle of those that come before this part
    seed: int
    train: bool
    view: View | None  # None: a canvas of `size`

    @property
    def fingerprint(self) -> str:
        names = list(self.records.identity) + ([self.kept.digest] if self.kept else [])
        numbers = [0 if self.view else self.size, self.num_examples, self.total, self.skip]
        return hashlib.sha256(json.dumps(names + numbers).encode()).hexdigest()

    def rows(
        self, positions: Int64[np.ndarray, " n"], samples: Int64[np.ndarray, " n"] | None = None
    ) -> Rows:
        """`image` uint8[n,S,S,3], `label` int32[n] or int32[n,L] padded with -1, `index` (row of
        the split) int32[n], `valid` float32[n]: 0 for a corrupt picture, which is black.

        With `latents` the image is a row of theirs, float16[n,v,s,s,c], and there is a label only
        where a denoiser is told of it.
        """
        positions = np.asarray(positions, np.int64)
        samples = positions if samples is None else np.asarray(samples, np.int64)
        places = self._places(positions)
        if self.latents:
            return self._told(self._encoded(self._select(places)))
        if self.decodes:
            return self._told(self._read(self._select(places), positions, samples))
        with _lock:
            cached = _decoded(dataclasses.replace(self, seed=0, train=False))
        return self._told({key: value[places] for key, value in cached.items()})

    def with_latents(self, wanted: latent_column.Wanted, field: str) -> Source:
        """As of every source: where the column is there and fits."""
        canvas = 0 if self.view else self.size
        made = latent_column.of_records(self.records, wanted, canvas, field)
        # Labels that are in memory alone are no work; records are read for others.
        labels = self.condition is not None and self.condition.by_label
        decodes = labels and self.records.label_cost > 0
        return dataclasses.replace(self, latents=made, decodes=decodes, cropped=True)

    def with_pictures(self) -> Source:
        """As of every source; those asked for are decoded, whatever the set's size."""
        if not self.latents:
            return self
        cropped = self.view is not None
        return dataclasses.replace(self, latents=None, decodes=True, cropped=cropped)

    def _encoded(self, rows: np.ndarray) -> Rows:
        """The rows of the column in place of pictures."""
        assert self.latents is not None
        images, valid = self.latents.read(self.records, rows)
        made = {"image": images, "index": rows.astype(np.int32), "valid": valid}
        if self.condition is None or not self.condition.by_label:
            return made
        return {**made, "label": self._numbered(self.records.labels(rows), rows)}

    def own_condition(self, kind: str, classes: int, field: str) -> Condition:
        """As of every source; or a column of the pictures, with or without their class."""
        name = conditions.column_of(kind)
        if not name:
            return super().own_condition(kind, classes, field)
        if kind.endswith("+label"):
            super().own_condition("label", classes, field)
        _column.cache_clear()  # it may have been written again since
        try:
            file = self.records.sidecar(name)
            values = self.records.column(name)
            assert file is not None
            made_by = columns.described(file).get("made_by", {})
            each, digest = columns.standardisation(file), columns.digest(file)
            made = conditions.of_column(kind, values, each, made_by, digest)
            self._check_known(kind, values, columns.described(file))
        except ConfigError as error:
            raise ConfigError(f"{field}: {error}") from error
        return conditions.of_labels(kind, classes, made) if kind.endswith("+label") else made

    def _check_known(self, kind: str, values: np.ndarray, said: Mapping[str, Any]) -> None:
        """Raises ConfigError where the column says nothing of a picture that can be read: now, and
        not when it comes."""
        made_by, vectors = said.get("made_by", {}), values.ndim == 2
        if vectors and not said.get("statistics", {}).get("not_finite", 1):
            return
        of = self.records.sidecar(made_by["of"]) if "of" in made_by else None  # of a cluster
        if of is not None and of.with_suffix(".json").is_file():
            made_by = columns.described(of).get("made_by", {})
        known = np.isfinite(values).all(axis=1) if vectors else np.asarray(values) >= 0
        rows = self._select(np.arange(self.num_examples))
        odd = self.records.in_store(np.intersect1d(np.flatnonzero(~known), rows))
        odd = np.setdiff1d(odd, made_by.get("unreadable", []))
        if len(odd):
            column = said.get("made_by", {}).get("of", conditions.column_of(kind))
            raise ConfigError(
                f"data.condition={kind!r} has nothing of image {odd[0]}, as of {len(odd)} of "
                f"{len(rows)}: write {column} again (jaxfdsl embed --replace), or type an index "
                f"without them, such as {column.partition(':')[2]}-readable."
            )

    def _told(self, rows: Rows) -> Rows:
        """The rows with `cond` float32[n, K] where a denoiser is told of them."""
        if self.condition is None:
            return rows
        labels = rows["label"] + self.first_class if self.condition.by_label else None
        name, mean = self.condition.column, self.condition.mean
        column = np.asarray(_column(self.records, name)[rows["index"]]) if name else None
        if column is not None:
            # A picture that cannot be read has no vector either, and no weight in the loss.
            there = rows["valid"].reshape(-1, *(1,) * (column.ndim - 1)) > 0
            column = np.where(there, column, 0 if mean is None else mean)
        given = rows["index"] if labels is None and column is None else labels
        return {**rows, "cond": self.condition.vectors(given, column)}

    @property
    def several_labels(self) -> bool:
        """Whether a picture has a list of labels."""
        return self.records.multi_label

    def rows_of(self, category: int, count: int) -> Rows:
        """Pictures of a class; among the first few thousand where every label must be read."""
        searched = _SEARCHED if self.records.label_cost else self.num_examples
        rows = self._select(np.arange(min(self.num_examples, searched)))
        labels = self._numbered(self.records.labels(rows), rows)
        places = np.flatnonzero((labels.reshape(len(rows), -1) == category).any(1))[:count]
        return dataclasses.replace(self, train=False)._read(rows[places], places, places)

    def labelled(self) -> tuple[Int64[np.ndarray, " n"], Int32[np.ndarray, "n ..."]]:
        """The rows of the split that this part has, in a fixed order, and their labels."""
        rows = self._select(np.arange(self.num_examples))
        return rows, self._numbered(self.records.labels(rows), rows)

    def where(self, row: int) -> str:
        """A row's data set, split and file, for messages."""
        return self.records.where(row)

    def _places(self, positions: np.ndarray) -> np.ndarray:
        """Pictures of this part, by their place in it, at positions of the stream."""
        if self.train:
            return sample_order(positions, self.num_examples, self.seed)
        return positions % self.num_examples

    def _select(self, places: np.ndarray) -> np.ndarray:
        """Rows of the split; parts are cut from one fixed order, so that they can be disjoint."""
        if self.num_examples != self.total or not self.records.shuffled:
            places = permute(places + self.skip, self.total, hash64(0))
        return self.kept.rows[places] if self.kept else places

    def _read(self, rows: np.ndarray, positions: np.ndarray, samples: np.ndarray) -> Rows:
        encoded, labels = self.records.read(rows)
        view = self.view
        if view is None:
            images, valid = decode_all(encoded, lambda _, data: canvas(data, self.size), self.size)
        elif self.train and view.crop == "random_resized":
            draws = box_draws(self.seed, positions, samples)
            images, valid = decode_all(
                encoded, lambda i, data: random_crop(data, view, draws[i]), view.size
            )
        else:
            images, valid = decode_all(encoded, lambda _, data: centre_crop(data, view), view.size)
        label = self._numbered(labels, rows)
        return {"image": images, "label": label, "index": rows.astype(np.int32), "valid": valid}

    def _numbered(self, labels: Labels, rows: np.ndarray) -> Int32[np.ndarray, "n ..."]:
        """Labels as the source numbers its classes, those of a multi-label row padded with -1."""
        numbers = self.kept.numbers if self.kept else np.arange(self.num_classes, dtype=np.int32)
        several = labels if self.records.multi_label else [[label] for label in labels]
        check_labels(self.records, several, rows, len(numbers))
        if not self.records.multi_label:
            return numbers[np.asarray(labels, np.int64)]
        width = min(self.num_classes, MOST_LABELS)
        numbered = np.full((len(rows), width), -1, np.int32)
        for place, given in enumerate(several):
            found = sorted({int(numbers[label]) for label in given} - {-1})
            if len(found) > width:
                raise ConfigError(
                    f"{self.where(int(rows[place]))} has {len(found)} labels, {width} is the most "
                    "that a row holds: type a `classes` file with fewer classes."
                )
            numbered[place, : len(found)] = found
        return numbered

    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """The rows themselves: decoding is host work."""
        return dict(rows)


@functools.lru_cache(maxsize=8)
def _column(records: Records, name: str) -> np.ndarray:
    return records.column(name)


@functools.lru_cache(maxsize=8)
def _decoded(source: StoredSource) -> Rows:
    places = np.arange(source.num_examples)
    return source._read(source._select(places), places, places)


def load(
    entry: ConfigDict,
    records: Records,
    class_names: Sequence[str] | None,
    *,
    name: str,
    num_classes: int,
    seed: int,
    train: bool,
    field: str,
    view: View | None,
    kind: type[StoredSource] = StoredSource,
) -> StoredSource:
    """The source of an entry whose records are open, a `kind` of stored source; raises
    `ConfigError` for its class list or for a part that is not there.
    """
    kept = None
    if entry.classes:
        kept = class_list.select(records, class_names, entry.classes, field)
        class_names, num_classes = kept.names, len(kept.names)
    total = len(kept.rows) if kept else len(records)
    skip, count = _part(entry, total, field)
    view = None if entry.size else view or View()
    return kind(
        name=name,
        num_classes=num_classes,
        class_names=tuple(class_names) if class_names else None,
        size=view.size if view else entry.size,
        channels=3,
        num_examples=count,
        decodes=view is not None or count * entry.size**2 * 3 > CACHE_BYTES,
        cropped=view is not None,
        records=records,
        kept=kept,
        total=total,
        skip=skip,
        seed=seed,
        train=train,
        view=view,
    )


def _part(entry: ConfigDict, total: int, field: str) -> tuple[int, int]:
    skip = entry.skip_examples
    count = entry.num_examples or total - skip
    if skip < 0 or count <= 0 or skip + count > total:
        raise ConfigError(
            f"{field}.skip_examples={skip} with {field}.num_examples={count} asks for images "
            f"{skip} to {skip + count - 1} of {total}: type numbers whose sum is at most {total}."
        )
    return skip, count
