"""A denoiser as a source of training images: sampled on the device, inside the training step."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data.shuffle import hash64, permute, sample_order
from jaxfdsl.data.sources import ALONE, Group, Rows, Source
from jaxfdsl.diffusion import recipes as recipes_lib
from jaxfdsl.diffusion import sampling
from jaxfdsl.diffusion.recipes import Recipes
from jaxfdsl.diffusion.sampling import Sampler
from jaxfdsl.diffusion.settings import check_entry


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class DiffusionSource(Source):
    """Samples of recipes: those of `jaxfdsl materialise` with the same settings.

    A finite set of N images is image i of recipe i % R with seed i // R, permuted anew each epoch.
    An endless one goes in rounds: each shows one new image of every recipe, in an order of its own.
    In groups, `group.size` images of one recipe stand side by side: a round shows one group of
    each; of a finite set an epoch cuts each recipe's seeds into groups, in an order that is new
    each time (what is left of them is not shown in it).
    """

    sampler: Sampler = dataclasses.field(repr=False)
    recipes: Recipes = dataclasses.field(repr=False)
    seed: int
    train: bool
    group: Group = ALONE

    @property
    def fingerprint(self) -> str:
        said = {**self.sampler.identity, "recipes": self.recipes.digest}
        said["images"] = self.num_examples or 0
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def rows(
        self, positions: Int64[np.ndarray, " n"], samples: Int64[np.ndarray, " n"] | None = None
    ) -> Rows:
        """`cond` float32[n, K] and `seed` uint32[n, 2], what the sampler takes, and `label`
        int32[n]; `told` float32[n, k] where another denoiser learns from these images."""
        return self._rows(*self._places(np.asarray(positions, np.int64)))

    def _rows(self, recipe: np.ndarray, seed: np.ndarray) -> Rows:
        rows = {
            "cond": self.recipes.cond[recipe],
            "seed": recipes_lib.noise_seeds(recipe, seed),
            "label": self.recipes.label[recipe],
        }
        if self.condition is not None:
            rows["told"] = self.condition.vectors(rows["label"] + self.first_class)
        return rows

    def rows_of(self, category: int, count: int) -> Rows:
        """Of a class the first seed of each recipe, then the next one; without labels the first
        seeds of the `category`-th recipe."""
        own = np.array([category % len(self.recipes)])
        if "label" in self.targets:
            own = np.flatnonzero(self.recipes.label == category)
        most = count if self.num_examples is None else min(count, self._seeds() * len(own))
        if not len(own):
            return self._rows(np.zeros(0, np.int64), np.zeros(0, np.int64))
        seed, place = np.divmod(np.arange(most), len(own))
        return self._rows(own[place], seed)

    def _seeds(self) -> int:
        """Those that each recipe of a finite set has; the first recipes may have one more."""
        assert self.num_examples is not None
        return -(-self.num_examples // len(self.recipes))

    def _places(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The recipe and the seed at positions of the stream."""
        count = len(self.recipes)
        if self.group.size > 1:
            return self._grouped(*np.divmod(positions, self.group.size))
        if self.num_examples is not None:
            order = positions % self.num_examples
            if self.train:
                order = sample_order(positions, self.num_examples, self.seed)
            return self.recipes.of(order)
        seed, recipe = np.divmod(positions, count)
        if self.train:
            recipe = permute(recipe, count, hash64(self.seed, seed))
        return recipe, seed

    def _grouped(self, groups: np.ndarray, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """That of a view of each group: seeds of one recipe, none twice in a group."""
        size, count = self.group.size, len(self.recipes)
        if self.num_examples is None:
            rounds, place = np.divmod(groups, count)
            return permute(place, count, hash64(self.seed, rounds)), rounds * size + view
        seeds = self.num_examples // count
        each = seeds // size  # groups of a recipe in an epoch
        epoch, place = np.divmod(groups, each * count)
        place = permute(place, each * count, hash64(self.seed, epoch))
        recipe, nth = place // each, place % each
        return recipe, permute(nth * size + view, seeds, hash64(self.seed, epoch, recipe))

    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """The images, sampled from the weights in `table`; jittable."""
        images = self.sampler.draw(table, jnp.asarray(rows["cond"]), jnp.asarray(rows["seed"]))
        made = {"image": images, "label": jnp.asarray(rows["label"])}
        made["valid"] = rows.get("valid", jnp.ones(images.shape[:1], jnp.float32))
        return made | ({"cond": rows["told"]} if "told" in rows else {})


def load(
    entry: ConfigDict, *, seed: int, train: bool, field: str, group: Group = ALONE
) -> DiffusionSource:
    """The source of a `kind: "diffusion"` entry; raises `ConfigError` for what cannot be made."""
    check_entry(entry, field)
    sampler = sampling.load(
        entry.path,
        guidance=entry.guidance,
        steps=entry.steps,
        method=entry.method,
        weaker=entry.weaker,
        field=lambda name: f"{field}.{name}",
    )
    recipes = recipes_lib.load(
        entry.recipes, sampler.condition, sampler.config, field=f"{field}.recipes"
    )
    return of(
        sampler,
        recipes,
        images=entry.images,
        seed=seed,
        train=train,
        group=group,
        field=field,
    )


def of(
    sampler: Sampler,
    recipes: Recipes,
    *,
    images: int = 0,
    seed: int = 0,
    train: bool = True,
    group: Group = ALONE,
    field: str = "data.sources.<name>",
) -> DiffusionSource:
    """The source of a sampler's images of some recipes; `images` 0 is without end. Raises
    `ConfigError` for fewer images of a recipe than a group has."""
    labels = recipes.label
    known = bool(labels.min() >= 0)
    if images and images // len(recipes) < group.size > 1:
        raise ConfigError(
            f"{field}.images={images} are {images // len(recipes)} of each of {len(recipes)} "
            f"recipes, fewer than data.group_size={group.size}: type --config.{field}.images="
            f"{group.size * len(recipes)} or more, or 0 for no end."
        )
    classes = max(int(labels.max()) + 1, len(recipes.class_names))
    if sampler.condition.by_label:
        classes = max(classes, sampler.condition.classes)
    return DiffusionSource(
        name=sampler.name,
        num_classes=classes if known else 0,
        size=sampler.image_size,
        channels=3,
        num_examples=images or None,
        targets=("label",) if known else (),
        table=sampler.params,
        class_names=recipes.class_names or None,
        sampler=sampler,
        recipes=recipes,
        seed=seed,
        train=train,
        group=group,
    )
