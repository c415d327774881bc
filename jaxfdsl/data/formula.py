"""Images that are drawn from formulas: a row is a recipe of two integers."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jaxfdsl import generators
from jaxfdsl.config import ConfigError
from jaxfdsl.data.shuffle import hash64, permute, sample_order
from jaxfdsl.data.sources import Rows, Source

HELD_OUT = 2**31  # instances from here on are never trained on, in finite and endless sets alike


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FormulaSource(Source):
    """A `generators.Dataset` as a source; `from_dataset` makes it.

    A finite set is a permutation of its index range each epoch. An endless one goes in rounds: each
    shows one new instance of every category, in an order of its own. Instances are taken in a
    permuted order too, as neighbours are alike (40 in a row share FractalDB's weight row).
    """

    dataset: Any = dataclasses.field(repr=False)
    seed: int
    train: bool
    held_out: bool = False
    shuffle_labels: bool = False

    @property
    def fingerprint(self) -> str:
        flags = {"held_out": self.held_out, "shuffle_labels": self.shuffle_labels}
        text = json.dumps([self.dataset.identity(), flags], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self, positions: Int64[np.ndarray, " n"]) -> Rows:
        """`recipe` uint32[n, 2], and `label` int32[n] when the labels are shuffled."""
        recipe = self._recipes(np.asarray(positions, np.int64))
        if not self.shuffle_labels:
            return {"recipe": recipe}
        chance = hash64(self.seed, recipe[:, 0], recipe[:, 1]) % np.uint64(self.num_classes)
        return {"recipe": recipe, "label": chance.astype(np.int32)}

    def rows_of(self, category: int, count: int) -> Rows:
        """Instances of one category, spread over all that a finite set has."""
        if self.num_examples is None:
            instance = self._scattered(np.arange(count), np.full(count, category))
        else:
            instances = self.dataset.instances
            instance = np.arange(min(count, instances)) * max(1, instances // count)
        recipe = np.stack([np.full_like(instance, category), instance], 1)
        return {"recipe": recipe.astype(np.uint32)}

    def _recipes(self, positions: np.ndarray) -> np.ndarray:
        if self.num_examples is not None:
            if self.train:
                positions = sample_order(positions, self.num_examples, self.seed)
            return self.dataset.recipes(positions)
        rounds, category = np.divmod(positions, self.num_classes)
        if self.train:
            category = permute(category, self.num_classes, hash64(self.seed, rounds))
        instance = self._scattered(rounds, category)
        return np.stack([category, instance], axis=1).astype(np.uint32)

    def _scattered(self, rounds: np.ndarray, category: np.ndarray) -> np.ndarray:
        """The instance that each category shows in each round; none comes twice."""
        seed = self.seed if self.train else 0  # held-out images are the same for every run
        return permute(rounds, HELD_OUT, hash64(seed, category)) + HELD_OUT * self.held_out

    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """The drawn images and what the family says about them; device side, jittable."""
        drawn = dict(self.dataset.fields(rows["recipe"], table))
        drawn["label"] = rows.get("label", drawn["label"])
        drawn["valid"] = rows.get("valid", jnp.ones(drawn["label"].shape[:1], jnp.float32))
        return drawn


def from_dataset(
    dataset: Any,
    *,
    seed: int = 0,
    train: bool = True,
    held_out: bool = False,
    shuffle_labels: bool = False,
) -> FormulaSource:
    """The source of a data set; `held_out` takes instances from 2**31 on, without end."""
    endless = held_out or dataset.instances is None
    return FormulaSource(
        name=dataset.name,
        num_classes=dataset.num_classes,
        size=dataset.size,
        channels=dataset.channels,
        num_examples=None if endless else dataset.num_classes * dataset.instances,
        table=dataset.table,
        dataset=dataset,
        seed=seed,
        train=train,
        held_out=held_out,
        shuffle_labels=shuffle_labels,
    )


def load(entry: ConfigDict, *, seed: int, train: bool, field: str) -> FormulaSource:
    """The source of a `kind: "formula"` entry; raises `ConfigError` for what cannot be loaded."""
    if train and entry.held_out:
        raise ConfigError(
            f"{field}.held_out=True keeps these images out of training: "
            f"type --config.{field}.held_out=False, or use the entry in config.evals."
        )
    options = entry.options.to_dict()
    if entry.table:
        options["table"] = entry.table
    # A table is the user's file; a shipped one that cannot be read is our fault.
    refused = (ValueError, OSError) if entry.table else (ValueError,)
    try:
        dataset = generators.load(
            entry.name,
            instances=entry.instances or None,
            num_classes=entry.num_classes or None,
            size=entry.size or None,
            search_seed=entry.search_seed,
            **options,
        )
    except refused as error:
        raise ConfigError(f"{field}: {error}") from error
    return from_dataset(
        dataset,
        seed=seed,
        train=train,
        held_out=entry.held_out,
        shuffle_labels=train and entry.shuffle_labels,
    )
