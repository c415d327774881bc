"""Batches as a pure function of the step: how many samples of which source, and which ones.

Worker processes load this module: `fields` alone touches a device.
"""

import dataclasses
import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import condition as conditions
from jaxfdsl.data import latent_column, numbering, tokens
from jaxfdsl.data import sources as sources_lib
from jaxfdsl.data.condition import Condition
from jaxfdsl.data.corrupt import Corrupt
from jaxfdsl.data.decode import View
from jaxfdsl.data.join import join
from jaxfdsl.data.plan import Plan, Shares, in_groups, phase_counts
from jaxfdsl.data.prefetch import ahead, resolve
from jaxfdsl.data.shuffle import hash64
from jaxfdsl.data.sources import ALONE, Group, Rows, Source
from jaxfdsl.data.tokens import Tokenizer

Crop = Callable[[int, Mapping[str, Any]], Mapping[str, Any]]  # of a source's number and its part


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a run, as this process sees them: its contiguous part of each source's rows.

    Sources are ordered by name, in which order their classes are numbered too. A share is the part
    of each batch that a source fills, one number or one for each phase; `phase_starts` are the
    steps at which phases begin.

    With a `group` the batch is n groups of m images, row r being view r % m of group r // m; the
    images of a group by "image" are one image, sampled m times.
    """

    sources: Mapping[str, Source]
    shares: Shares
    batch_size: int  # over all processes
    shard_index: int = 0
    shard_count: int = 1
    phase_starts: tuple[int, ...] = (0,)
    repeats: int = 1
    pairs: bool = False  # rows 2i and 2i + 1 are of one source, for mixup and cutmix
    max_corrupt: float = 0.01
    group: Group = ALONE
    tokenizer: Tokenizer | None = None  # of the captions, where an objective reads them
    condition: Condition | None = None  # what a denoiser is told of an image
    label_space: str = "joined"  # or "separate", "shared": `numbering`

    def __post_init__(self):
        object.__setattr__(self, "sources", dict(sorted(self.sources.items())))
        _ = self.plan, self.offsets  # refuse shares and classes that do not fit

    @property
    def plan(self) -> Plan:
        """Which samples stand in which batch."""
        cut = self.cut(self.shard_count)
        counts = phase_counts(self.shares, self.phase_starts, self.batch_size, *cut)
        starts, shard = tuple(self.phase_starts), (self.shard_index, self.shard_count)
        return Plan(counts, starts, self.repeats, *shard)

    @property
    def unit(self) -> int:
        """Rows of one source that stay neighbours when sources are joined."""
        return self.group.size if self.group.size > 1 else 2 if self.pairs else 1

    def cut(self, shards: int) -> tuple[int, str]:
        """What each source's count has to be a multiple of on so many shards, and words for it."""
        return in_groups(shards, self.group.size, len(self.sources))

    @property
    def tables(self) -> dict[str, Any]:
        """What the device needs to make images, by source."""
        return {name: source.table for name, source in self.sources.items()}

    @property
    def num_classes(self) -> int:
        """Classes of all sources together."""
        return numbering.number(self.sources, self.label_space).total

    @property
    def offsets(self) -> dict[str, int]:
        """Where each source's classes begin among those of all."""
        return numbering.number(self.sources, self.label_space).first

    @property
    def num_examples(self) -> int | None:
        """Images in the batches of one epoch: until the longest source has been seen once."""
        epochs = []
        for name, source in self.sources.items():
            if source.num_examples is None:
                return None
            count = self.plan.counts_at(0).get(name, 0)
            epochs.append(math.ceil(source.num_examples * self.batch_size / count) if count else 0)
        return max(epochs)

    def rows(self, step: int) -> dict[str, Rows]:
        """This process's rows of the batch of `step`, by source."""
        return self._part(self.sources)(step)

    def _part(self, sources: Mapping[str, Source]) -> "_Rows":
        return _Rows(sources, self.plan, self.group.size if self.group.by == "image" else 1)

    def fields(
        self, rows: Mapping[str, Any], tables: Mapping[str, Any], crop: Crop = lambda i, part: part
    ) -> dict[str, Any]:
        """`image`, `label`, `valid` and more of a batch, drawn and joined on the device; jittable.

        `crop(number of the source, part)` brings the images of one source to the size that all
        have. Works on a whole batch and, inside `shard_map`, on any shard of one: `join` says how.
        """
        parts = []
        names = [name for name in self.sources if name in rows]
        for name in names:
            with jax.named_scope("draw"):
                part = self.sources[name].fields(rows[name], tables[name])
            cropped = self.sources[name].cropped
            parts.append(part if cropped else crop(list(self.sources).index(name), part))
        return join(parts, [self.offsets[name] for name in names], self.unit)

    def iterator(
        self, start_step: int, stop_step: int, num_workers: int = 0, prefetch: int = 2
    ) -> Iterator[tuple[int, dict[str, Rows]]]:
        """`(step, rows(step))` of each step, made ahead of time by threads or worker processes."""
        # Only what decodes goes to the workers: recipes are arithmetic.
        decoding = {name: source for name, source in self.sources.items() if source.decodes}
        quick = {name: source for name, source in self.sources.items() if not source.decodes}
        workers = resolve(num_workers) if decoding else 0
        watch = Corrupt(self.max_corrupt)
        slow, own = self._part(decoding), self._part(quick)
        made = slow if workers else self._part(self.sources)
        for step, rows in ahead(made, start_step, stop_step, workers, prefetch):
            rows = {**rows, **own(step)} if workers else rows
            for name, part in rows.items():
                watch.see(name, self.sources[name], part)
            yield step, {name: rows[name] for name in self.sources if name in rows}


@dataclasses.dataclass(frozen=True)
class _Rows:
    """What travels to worker processes: some sources, and where their samples stand."""

    sources: Mapping[str, Source]
    plan: Plan
    views: int  # of each image of a source's stream

    def __call__(self, step: int) -> dict[str, Rows]:
        made = {}
        for name, source in self.sources.items():
            if name in self.plan.counts_at(step):
                positions, samples = self.plan.places(name, step)
                made[name] = source.rows(positions // self.views, samples)
        return made


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
    max_corrupt: float = 0.01,
) -> Iterator[Rows]:
    """Rows of the first `num_examples` samples (0: all), each exactly once.

    Every batch has `batch_size / shard_count` rows; those that fill up the last one have `valid` 0
    and, of stored images, `index` -1. Raises `ConfigError` past `max_corrupt`, as training does.
    """
    total = check_eval(source, num_examples, batch_size, shard_count=shard_count, field=field)
    function = _EvalRows(source, total, batch_size, shard_index, shard_count)
    workers = num_workers if source.decodes else 0
    watch = Corrupt(max_corrupt)
    for _, rows in ahead(function, 0, -(-total // batch_size), workers, prefetch):
        watch.see(f"{field}.source", source, rows)
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
        rows["valid"] = (rows.get("valid", np.float32(1)) * inside).astype(np.float32)
        if "index" in rows:  # what fills up the last batch is no image of the set
            rows["index"] = np.where(inside, rows["index"], -1)
        return rows


def from_config(config: ConfigDict, *, shard_index: int = 0, shard_count: int = 1) -> Batches:
    """The training batches that a config asks for."""
    entries = config.data.sources
    augment, size = config.augment, config.model.image_size
    view = View(
        size=size,
        crop="random_resized" if augment.crop == "random_resized" else "none",
        scale=tuple(augment.crop_scale),
        ratio=tuple(augment.crop_ratio),
        interpolation=augment.interpolation,
    )
    group = Group(config.data.group_size, config.data.group_by)
    built = {}
    for name in entries:
        # Sources of equal length must not walk in step, so that each has a seed of its own.
        seed = int(hash64(config.seed, zlib.crc32(name.encode()))[0])
        built[name] = sources_lib.build(
            entries[name],
            seed=seed,
            train=True,
            field=f"data.sources.{name}",
            view=view,
            group=group,
        )
    tokenizer = tokenizer_of(config)
    if tokenizer is not None:
        built = {
            name: source.with_tokenizer(tokenizer, f"data.sources.{name}")
            for name, source in built.items()
        }
    condition, label_space = None, config.data.label_space
    if config.objective.denoise.weight:
        condition, built = conditioned(config.data.condition, built, label_space)
    if wanted := latent_column.wanted(config):
        built = {k: one.with_latents(wanted, f"data.sources.{k}") for k, one in built.items()}
    return Batches(
        built,
        {name: entries[name].share for name in entries},
        config.batch_size,
        shard_index,
        shard_count,
        phase_starts=tuple(config.data.phase_starts),
        repeats=config.data.repeats,
        pairs=bool(augment.mixup or augment.cutmix),
        max_corrupt=config.data.max_corrupt,
        group=group,
        tokenizer=tokenizer,
        condition=condition,
        label_space=label_space,
    )


def conditioned(
    kind: str, built: Mapping[str, Source], label_space: str, field: str = "data.sources"
) -> tuple[Condition, dict[str, Source]]:
    """What a denoiser is told, and the sources that say it; the first one's column lends its
    statistics to all. Raises `ConfigError` for sources whose columns are of different makes."""
    built = dict(sorted(built.items()))
    firsts, classes = numbering.number(built, label_space)
    found = {
        name: source.own_condition(kind, classes, f"{field}.{name}")
        for name, source in built.items()
    }
    first, condition = next(iter(found.items()))
    for name, other in found.items():
        if not conditions.same(condition, other):
            raise ConfigError(
                f"data.condition={kind!r}: the columns of {field}.{first} and {field}.{name} were "
                "not made by the same encoder: write one of them again (jaxfdsl embed)."
            )
    told = {
        name: dataclasses.replace(
            source, condition=condition, first_class=firsts[name],
            targets=tuple(dict.fromkeys((*source.targets, "cond"))),
        )
        for name, source in built.items()
    }  # fmt: skip
    digest = hashlib.sha256("".join(one.fingerprint for one in found.values()).encode())
    return dataclasses.replace(condition, fingerprint=digest.hexdigest()), told


def tokenizer_of(config: ConfigDict) -> Tokenizer | None:
    """The tokenizer of `objective.align`, None where that is off; raises `ConfigError` for a file
    that cannot be read."""
    cfg = config.objective.align
    if not cfg.weight:
        return None
    return tokens.build(cfg.tokenizer, config.model.text.context, tokens.FIELD)
