"""Pictures that need no drawing and no decoding, for evaluations: noise round a colour a class."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxfdsl import config as c
from jaxfdsl import evaluators, sharding
from jaxfdsl.data.sources import Source
from jaxfdsl.models import vit
from jaxfdsl.objectives.classify import Classify

CLASSES, SIZE = 6, 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed(Source):
    """`count` pictures; those numbered in `broken` are corrupt. The seed is the name's length."""

    num_classes: int = CLASSES
    size: int = SIZE
    channels: int = 3
    broken: tuple[int, ...] = ()

    @property
    def fingerprint(self) -> str:
        return self.name

    def rows(self, positions, samples=None):
        chance = np.random.default_rng(len(self.name))
        count = self.num_examples or 1000
        labels = chance.permutation(count) % self.num_classes
        colours = np.random.default_rng(0).integers(60, 200, (self.num_classes, 1, 1, 3))
        noise = chance.normal(0, 60, (count, SIZE, SIZE, 3))
        images = np.clip(colours[labels] + noise, 0, 255).astype(np.uint8)
        valid = np.isin(np.arange(count), self.broken, invert=True).astype(np.float32)
        images = images * valid[:, None, None, None].astype(np.uint8)
        places = np.asarray(positions)
        label = labels.astype(np.int32)[places]
        return {"image": images[places], "label": label, "valid": valid[places]}

    def rows_of(self, category, count):
        return self.rows(np.arange(category, category + count))

    def fields(self, rows: Mapping[str, Any], table: Any):
        return dict(rows)


def config(**evals):
    """A small model's config; evaluations name their sources as TFDS sets."""
    made = c.default_config()
    made.update(batch_size=16, dtype="float32")
    made.model.update(image_size=SIZE, patch_size=8, width=32, depth=1, num_heads=2)
    made.evals.update(evals)
    return made


def build(made, monkeypatch, listed, devices=None):
    """The config's evaluations and its model; `listed` are the sources by name."""
    monkeypatch.setattr(evaluators.sources, "build", lambda entry, **options: listed[entry["name"]])
    model = vit.build(made.model, {"head": CLASSES}, np.float32)
    built = evaluators.build(
        made,
        model=model,
        objectives={"classify": (1.0, Classify())},
        mesh=sharding.make_mesh(made.mesh, devices),
        trained={},
    )
    return built, model
