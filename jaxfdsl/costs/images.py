"""How many images and classes a config's sources have, where the data itself may be absent."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from jaxfdsl.data import batches, condition, latent_column
from jaxfdsl.data import sources as sources_lib
from jaxfdsl.data.batches import Batches
from jaxfdsl.data.condition import Condition
from jaxfdsl.data.sources import Rows, Source
from jaxfdsl.generators import catalog

RECIPE = 8.0  # bytes of what a drawn image is made from
COLUMN, CLUSTERS = 768, 1000  # assumed of columns that are not there: numbers, clusters

REAL = {  # images of the training split and classes, as TFDS or the set's authors count them
    "cifar10": (50_000, 10),
    "cifar100": (50_000, 100),
    "cars196": (8_144, 196),
    "oxford_flowers102": (2_040, 102),
    "voc/2012": (5_717, 20),
    "imagenet2012": (1_281_167, 1000),
    "places365_small": (1_803_460, 365),
}


class Images(NamedTuple):
    """What one source holds."""

    name: str
    number: int  # 0: without end, -1: not known
    classes: int

    def __str__(self) -> str:
        if self.number < 0:
            return self.name
        return f"{self.name}, {self.number:,}" if self.number else f"{self.name}, endless"


def images_of(entry: ConfigDict) -> Images:
    """Images and classes of one source's entry; nothing is loaded."""
    if entry.kind == "diffusion":
        run = entry.path.rstrip("/").rpartition("/")[2]
        return Images(f"samples of the run {run}", entry.images, 0)
    if entry.kind == "store":  # its number is known where it lies
        return Images(f"the store {entry.path.rpartition('/')[2]}", -1, 0)
    if entry.kind != "formula":
        number, classes = REAL[entry.name]
        if not entry.classes:
            return Images(entry.name, number, classes)
        kept = int(re.sub(r"[^0-9]", "", entry.classes))  # imagenet100.txt: which is up to the user
        return Images(
            f"{kept} of {entry.name}'s classes", number * kept // classes // 1000 * 1000, kept
        )
    base, _, size = entry.name.rpartition("-")
    known = catalog.DATASETS.get(entry.name) or catalog.DATASETS.get(base)
    if known is None:  # a bare family, as the demo has it
        return Images(entry.name, max(entry.instances, 0) * entry.num_classes, entry.num_classes)
    instances = known.instances if entry.instances < 0 else entry.instances
    classes = entry.num_classes or catalog.SIZES.get(size, known.num_classes)
    scenes = hasattr(catalog.FAMILIES[known.family], "compose")  # an image has several classes
    return Images(entry.name, instances if scenes else classes * instances, classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Counted(Source):
    """Real pictures that are counted by the table above and need not be here."""

    several: bool = False

    def with_latents(self, wanted: latent_column.Wanted, field: str) -> Source:
        raise latent_column.Absent(f"{field} ({self.name}) is counted, not read")

    def own_condition(self, kind: str, classes: int, field: str) -> Condition:
        column = condition.column_of(kind)
        if not column:
            return super().own_condition(kind, classes, field)
        if column.startswith("cluster:"):
            return condition.of_labels(kind, CLUSTERS)
        numbers = np.zeros(COLUMN, np.float32)
        told = Condition(kind, COLUMN, 0, numbers, numbers + 1)
        return condition.of_labels(kind, classes, told) if kind.endswith("+label") else told

    @property
    def several_labels(self) -> bool:
        return self.several

    @property
    def fingerprint(self) -> str:
        return self.name

    def rows(self, positions: Any, samples: Any = None) -> Rows:
        raise NotImplementedError(f"{self.name} is counted, not read")

    def rows_of(self, category: int, count: int) -> Rows:
        raise NotImplementedError(f"{self.name} is counted, not read")

    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        raise NotImplementedError(f"{self.name} is counted, not read")


def batches_of(config: ConfigDict) -> Batches:
    """The training batches of a config, its real sets counted by the table where it has them.

    Raises ConfigError for what cannot be loaded, and for real data that is neither there nor known.
    """
    entries = config.data.sources
    tokenizer = batches.tokenizer_of(config)
    made = {name: _source(name, entries[name], config) for name in entries}
    if tokenizer is not None:
        made = {k: v.with_tokenizer(tokenizer, f"data.sources.{k}") for k, v in made.items()}
    told = None
    if config.objective.denoise.weight:
        told, made = batches.conditioned(config.data.condition, made, config.data.label_space)
    if wanted := latent_column.wanted(config):
        made = {k: _latents(one, wanted, f"data.sources.{k}") for k, one in made.items()}
    return Batches(
        made,
        {name: entries[name].share for name in entries},
        config.batch_size,
        phase_starts=tuple(config.data.phase_starts),
        repeats=config.data.repeats,
        pairs=bool(config.augment.mixup or config.augment.cutmix),
        max_corrupt=config.data.max_corrupt,
        group=_group(config),
        tokenizer=tokenizer,
        condition=told,
        label_space=config.data.label_space,
    )


def _latents(source: Source, wanted: latent_column.Wanted, field: str) -> Source:
    """A column that is there must fit; a dry run may be made before it is written."""
    try:
        return source.with_latents(wanted, field)
    except latent_column.Absent:
        return source


def column_rows(source: Source, entry: ConfigDict) -> int:
    """Rows of a sidecar column of a source: of all images of the store or split."""
    records = getattr(source, "records", None)
    if records is None:
        return REAL[entry.name][0]
    return len(getattr(records, "store", records))


def _group(config: ConfigDict) -> sources_lib.Group:
    return sources_lib.Group(config.data.group_size, config.data.group_by)


def _source(name: str, entry: ConfigDict, config: ConfigDict) -> Source:
    if entry.kind != "tfds" or entry.name not in REAL:
        return sources_lib.build(
            entry, seed=0, train=True, field=f"data.sources.{name}", group=_group(config)
        )
    found = images_of(entry)
    number = max(found.number - entry.skip_examples, 0)
    return Counted(
        name=found.name,
        num_classes=found.classes,
        size=entry.size or config.model.image_size,
        channels=3,
        num_examples=min(number, entry.num_examples or number),
        decodes=True,
        cropped=not entry.size,
        several=entry.name.startswith("voc/"),
    )


def from_host(source: Source) -> bool:
    """Whether the host makes the images: it draws them, decodes them, or has them in memory."""
    return source.decodes or getattr(source, "on_host", False) or hasattr(source, "records")


def row_bytes(source: Source) -> float:
    """Bytes of one image that travel to the device: eight of a recipe, or the decoded picture."""
    return RECIPE if not from_host(source) else source.size**2 * source.channels + 8.0
