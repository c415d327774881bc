"""Batches as a pure function of the step: how many samples of which source, and which ones.

Worker processes load this module: `fields` alone touches a device.
"""

import dataclasses
import math
import zlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import sources as sources_lib
from jaxfdsl.data.join import join
from jaxfdsl.data.prefetch import ahead
from jaxfdsl.data.shuffle import hash64
from jaxfdsl.data.sources import Rows, Source


def split_batch(
    shares: Mapping[str, float | int], batch_size: int, shards: int = 1
) -> dict[str, int]:
    """How many samples each source gives to every batch, in proportion to the shares, exactly.

    Each count is a multiple of `shards`; raises `ConfigError` when that cannot be met.
    """
    exact = {name: Fraction(share).limit_denominator(10_000) for name, share in shares.items()}
    if not exact or min(exact.values()) <= 0:
        raise ConfigError(f"data.sources has the shares {dict(shares)}: type shares above 0.")
    total = sum(exact.values())
    counts = {name: share / total * batch_size for name, share in exact.items()}
    unit = shards * math.lcm(*((share / total).denominator for share in exact.values()))
    if batch_size <= 0 or batch_size % unit:
        nearest = max(unit, round(batch_size / unit) * unit)
        raise ConfigError(
            f"batch_size={batch_size} cannot be split into whole samples by the shares "
            f"{dict(shares)} over {shards} shard{'s' * (shards > 1)}: "
            f"type --config.batch_size={nearest} (any multiple of {unit})."
        )
    return {name: int(count) for name, count in counts.items()}


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a run, as this process sees them: its contiguous part of each source's rows.

    Sources are ordered by name, in which order their classes are numbered too.
    """

    sources: Mapping[str, Source]
    shares: Mapping[str, float | int]
    batch_size: int  # over all processes
    shard_index: int = 0
    shard_count: int = 1

    def __post_init__(self):
        object.__setattr__(self, "sources", dict(sorted(self.sources.items())))
        split_batch(self.shares, self.batch_size, self.shard_count)
        sizes = {name: source.size for name, source in self.sources.items()}
        if len(set(sizes.values())) > 1:
            raise ConfigError(
                f"data.sources have images of different sizes, {sizes} pixels: type one size for "
                "all, --config.data.sources.<name>.size=N."
            )

    @property
    def counts(self) -> dict[str, int]:
        """Samples of each source in a global batch."""
        counts = split_batch(self.shares, self.batch_size, self.shard_count)
        return {name: counts[name] for name in self.sources}

    @property
    def tables(self) -> dict[str, Any]:
        """What the device needs to make images, by source."""
        return {name: source.table for name, source in self.sources.items()}

    @property
    def num_classes(self) -> int:
        """Classes of all sources together."""
        return sum(source.num_classes for source in self.sources.values())

    @property
    def num_examples(self) -> int | None:
        """Images in the batches of one epoch: until the longest source has been seen once."""
        epochs = []
        for name, source in self.sources.items():
            if source.num_examples is None:
                return None
            epochs.append(math.ceil(source.num_examples * self.batch_size / self.counts[name]))
        return max(epochs)

    def rows(self, step: int) -> dict[str, Rows]:
        """This process's rows of the batch of `step`, by source."""
        return {name: source.rows(self._places(name, step)) for name, source in self._all()}

    def _all(self) -> list[tuple[str, Source]]:
        return list(self.sources.items())

    def _places(self, name: str, step: int) -> np.ndarray:
        count = self.counts[name]
        own = count // self.shard_count
        return np.arange(own, dtype=np.int64) + (step * count + self.shard_index * own)

    def fields(self, rows: Mapping[str, Any], tables: Mapping[str, Any]) -> dict[str, Any]:
        """`image`, `label`, `valid` and more of a batch, drawn and joined on the device; jittable.

        Works on a whole batch and, inside `shard_map`, on any shard of one: `join` says how.
        """
        parts = [source.fields(rows[name], tables[name]) for name, source in self._all()]
        return join(parts, [source.num_classes for _, source in self._all()])

    def iterator(
        self, start_step: int, stop_step: int, num_workers: int = 0, prefetch: int = 2
    ) -> Iterator[tuple[int, dict[str, Rows]]]:
        """`(step, rows(step))` of each step, made ahead of time by threads or worker processes."""
        decoding = {name: source for name, source in self._all() if source.decodes}
        if not decoding or not num_workers:
            yield from ahead(self.rows, start_step, stop_step, prefetch=prefetch)
            return
        # Only what decodes goes to the workers: recipes are arithmetic.
        shares = {name: count for name, count in self.counts.items() if name in decoding}
        slow = dataclasses.replace(
            self, sources=decoding, shares=shares, batch_size=sum(shares.values())
        )
        quick = [name for name in self.sources if name not in decoding]
        for step, rows in ahead(slow.rows, start_step, stop_step, num_workers, prefetch):
            own = {name: self.sources[name].rows(self._places(name, step)) for name in quick}
            yield step, {name: {**own, **rows}[name] for name in self.sources}


def eval_batches(
    source: Source,
    num_examples: int,
    batch_size: int,
    *,
    shard_index: int = 0,
    shard_count: int = 1,
    num_workers: int = 0,
    prefetch: int = 2,
    field: str = "evals.<name>",
) -> Iterator[Rows]:
    """Rows of the first `num_examples` samples (0: all), each exactly once.

    Every batch has `batch_size / shard_count` rows; those that fill up the last one have `valid` 0.
    """
    total = check_eval(source, num_examples, batch_size, shard_count=shard_count, field=field)
    function = _EvalRows(source, total, batch_size, shard_index, shard_count)
    workers = num_workers if source.decodes else 0
    for _, rows in ahead(function, 0, -(-total // batch_size), workers, prefetch):
        yield rows


def check_eval(
    source: Source,
    num_examples: int,
    batch_size: int,
    *,
    shard_count: int = 1,
    field: str = "evals.<name>",
) -> int:
    """How many samples such an evaluation sees; raises `ConfigError` where it cannot be made."""
    total = num_examples or source.num_examples
    if total is None:
        raise ConfigError(
            f"{field}.num_examples=0 means all, and {source.name} has no end: "
            f"type --config.{field}.num_examples=10000."
        )
    if source.num_examples is not None and total > source.num_examples:
        raise ConfigError(
            f"{field}.num_examples={total} is more than {source.name}'s {source.num_examples}: "
            f"type --config.{field}.num_examples=0 for all."
        )
    if batch_size % shard_count:
        raise ConfigError(
            f"{field}.batch_size={batch_size} cannot be split over {shard_count} processes: "
            f"type a multiple of {shard_count}."
        )
    return total


@dataclasses.dataclass(frozen=True)
class _EvalRows:
    source: Source
    total: int
    batch_size: int
    shard_index: int
    shard_count: int

    def __call__(self, batch: int) -> Rows:
        own = self.batch_size // self.shard_count
        first = batch * self.batch_size + self.shard_index * own
        places = np.arange(own, dtype=np.int64) + first
        inside = places < self.total
        rows = self.source.rows(np.where(inside, places, 0))
        valid = rows.get("valid", np.float32(1)) * inside
        return {**rows, "valid": valid.astype(np.float32)}


def from_config(config: ConfigDict, *, shard_index: int = 0, shard_count: int = 1) -> Batches:
    """The training batches that a config asks for."""
    entries = config.data.sources
    built = {}
    for name in entries:
        # Sources of equal length must not walk in step, so that each has a seed of its own.
        seed = int(hash64(config.seed, zlib.crc32(name.encode()))[0])
        field = f"data.sources.{name}"
        built[name] = sources_lib.build(entries[name], seed=seed, train=True, field=field)
    shares = {name: entries[name].share for name in entries}
    return Batches(built, shares, config.batch_size, shard_index, shard_count)
