"""Images that are drawn from formulas: a row is a recipe of two integers."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int32, Int64
from ml_collections import ConfigDict

from jaxfdsl import generators
from jaxfdsl.config import ConfigError
from jaxfdsl.data import captions
from jaxfdsl.data import condition as conditions
from jaxfdsl.data.condition import Condition
from jaxfdsl.data.shuffle import hash64, permute, sample_order
from jaxfdsl.data.sources import ALONE, Group, Rows, Source
from jaxfdsl.data.tokens import Tokenizer

HELD_OUT = 2**31  # instances from here on are never trained on, in finite and endless sets alike


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FormulaSource(Source):
    """A `generators.Dataset` as a source; `from_dataset` makes it.

    A finite set is a permutation of its index range each epoch. An endless one goes in rounds: each
    shows one new instance of every category, in an order of its own. Instances are taken in a
    permuted order too, as neighbours are alike (40 in a row share FractalDB's weight row). Scenes
    hold several categories and count as one.

    In groups, category takes the place of image: an epoch of a finite set cuts each category's
    instances, in an order that is new each time, into groups of different ones (what is left of
    them is not shown in it), and a round of an endless one shows a group of each category.
    """

    dataset: Any = dataclasses.field(repr=False)
    num_recipes: int  # categories that recipes tell apart: 1 for scenes
    seed: int
    train: bool
    held_out: bool = False
    shuffle_labels: bool = False
    group: Group = ALONE
    tokens: Int32[np.ndarray, "K L"] | None = dataclasses.field(default=None, repr=False)
    # Drawn by the host's cores, in `rows`, instead of by the device, in `fields`: the same bytes.
    on_host: bool = False

    @property
    def fingerprint(self) -> str:
        flags = {"held_out": self.held_out, "shuffle_labels": self.shuffle_labels}
        text = json.dumps([self.dataset.identity(), flags], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(
        self, positions: Int64[np.ndarray, " n"], samples: Int64[np.ndarray, " n"] | None = None
    ) -> Rows:
        """`recipe` uint32[n, 2]; `label` int32[n] when the labels are shuffled; with `on_host` what
        was drawn.
        """
        recipe = self._recipes(np.asarray(positions, np.int64))
        rows = {"recipe": recipe, **(self.dataset.draw_on_host(recipe) if self.on_host else {})}
        if self.tokens is not None:
            rows["tokens"] = self.tokens[recipe[:, 0]]
        if self.condition is not None:
            rows["cond"] = self._conditions_of(recipe[:, 0])
        if self.shuffle_labels:
            chance = hash64(self.seed, recipe[:, 0], recipe[:, 1]) % np.uint64(self.num_classes)
            rows["label"] = chance.astype(np.int32)
        return rows

    def with_tokenizer(self, tokenizer: Tokenizer, field: str) -> "FormulaSource":
        """The same images with `tokens`: the caption of a category says its parameters."""
        if self.scenes:
            return super().with_tokenizer(tokenizer, field)  # type: ignore[return-value]
        made = tokenizer(captions.of_categories(self.dataset))
        targets = tuple(dict.fromkeys((*self.targets, "tokens")))
        return dataclasses.replace(self, tokens=made, targets=targets)

    def own_condition(self, kind: str, classes: int, field: str) -> Condition:
        """As of every source; or the parameters of the image's category."""
        if kind == "label" and self.shuffle_labels:
            raise ConfigError(
                f"{field}.shuffle_labels=True gives labels that say nothing of the images, which "
                "data.condition='label' would tell a denoiser: type "
                f"--config.{field}.shuffle_labels=False."
            )
        if kind != "recipe" or self.scenes:
            return super().own_condition(kind, classes, field)
        family = self.dataset.name.split("-")[0]
        return conditions.of_parameters(captions.parameters(self.dataset), family)

    def _conditions(self) -> str:
        return "none" if self.scenes else "label, recipe or none"

    @functools.cached_property
    def _parameters(self) -> np.ndarray:
        return captions.parameters(self.dataset)

    def _conditions_of(self, category: np.ndarray) -> np.ndarray:
        assert self.condition is not None
        known = self.condition.kind == "recipe"
        column = self._parameters[category] if known else None
        return self.condition.vectors(category.astype(np.int64) + self.first_class, column)

    def rows_of(self, category: int, count: int) -> Rows:
        """Instances of one category, spread over all that a finite set has; of scenes the next."""
        instances = self.dataset.instances
        rounds, spread = np.arange(count), max(1, (instances or 1) // count)
        if self.scenes:
            rounds, spread, category = rounds + category * count, 1, 0
        if self.num_examples is None:
            instance = self._scattered(rounds, np.full(count, category))
        else:
            instance = rounds[rounds < instances] * spread
        recipe = np.stack([np.full_like(instance, category), instance], 1)
        return {"recipe": recipe.astype(np.uint32)}

    def _recipes(self, positions: np.ndarray) -> np.ndarray:
        if self.group.size > 1:
            return self._grouped(*np.divmod(positions, self.group.size))
        if self.num_examples is not None:
            if self.train:
                positions = sample_order(positions, self.num_examples, self.seed)
            return self.dataset.recipes(positions)
        rounds, category = np.divmod(positions, self.num_recipes)
        if self.train:
            category = permute(category, self.num_recipes, hash64(self.seed, rounds))
        instance = self._scattered(rounds, category)
        return np.stack([category, instance], axis=1).astype(np.uint32)

    def _grouped(self, groups: np.ndarray, view: np.ndarray) -> np.ndarray:
        """The recipe of a view of each group: instances of one category, none twice in a group."""
        size, instances = self.group.size, self.dataset.instances
        if self.num_examples is None:
            rounds, place = np.divmod(groups, self.num_recipes)
            category = permute(place, self.num_recipes, hash64(self.seed, rounds))
            instance = self._scattered(rounds * size + view, category)
        else:
            each = instances // size  # groups of a category in an epoch
            epoch, place = np.divmod(groups, each * self.num_recipes)
            place = permute(place, each * self.num_recipes, hash64(self.seed, epoch))
            category, nth = place // each, place % each
            instance = permute(nth * size + view, instances, hash64(self.seed, epoch, category))
        return np.stack([category, instance], axis=1).astype(np.uint32)

    def _scattered(self, rounds: np.ndarray, category: np.ndarray) -> np.ndarray:
        """The instance that each category shows in each round; none comes twice."""
        seed = self.seed if self.train else 0  # held-out images are the same for every run
        return permute(rounds, HELD_OUT, hash64(seed, category)) + HELD_OUT * self.held_out

    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """The drawn images and what the family says about them; device side, jittable."""
        ready = "image" in rows
        drawn = dict(rows) if ready else dict(self.dataset.fields(rows["recipe"], table))
        drawn.pop("recipe", None)
        drawn |= {name: rows[name] for name in ("label", "tokens", "cond") if name in rows}
        drawn["valid"] = rows.get("valid", jnp.ones(drawn["image"].shape[:1], jnp.float32))
        return drawn


def from_dataset(
    dataset: Any,
    *,
    seed: int = 0,
    train: bool = True,
    held_out: bool = False,
    shuffle_labels: bool = False,
    on_host: bool = False,
    group: Group = ALONE,
) -> FormulaSource:
    """The source of a data set; `held_out` takes instances from 2**31 on, without end."""
    endless = held_out or dataset.instances is None
    return FormulaSource(
        name=dataset.name,
        num_classes=dataset.num_classes,
        size=dataset.size,
        channels=dataset.channels,
        num_examples=None if endless else dataset.num_recipes * dataset.instances,
        scenes=dataset.scenes,
        targets=("label", "mask") if dataset.has_mask else ("label",),
        table=dataset.table,
        dataset=dataset,
        num_recipes=dataset.num_recipes,
        seed=seed,
        train=train,
        held_out=held_out,
        shuffle_labels=shuffle_labels,
        on_host=on_host,
        group=group,
        decodes=on_host,
    )


def load(
    entry: ConfigDict,
    *,
    seed: int,
    train: bool,
    field: str,
    group: Group = ALONE,
) -> FormulaSource:
    """The source of a `kind: "formula"` entry; raises `ConfigError` for what cannot be loaded."""
    if train and entry.held_out:
        raise ConfigError(
            f"{field}.held_out=True keeps these images out of training: "
            f"type --config.{field}.held_out=False, or use the entry in config.evals."
        )
    if entry.draw_on not in ("device", "host"):
        raise ConfigError(
            f"{field}.draw_on={entry.draw_on!r}: type --config.{field}.draw_on=device or host."
        )
    options = entry.options.to_dict()
    if entry.table:
        options["table"] = entry.table
    # A table is the user's file; a shipped one that cannot be read is our fault.
    refused = (ValueError, OSError) if entry.table else (ValueError,)
    try:
        dataset = generators.load(
            entry.name,
            instances={-1: "published", 0: None}.get(entry.instances, entry.instances),
            num_classes=entry.num_classes or None,
            size=entry.size or None,
            search_seed=entry.search_seed,
            **options,
        )
    except refused as error:
        raise ConfigError(f"{field}: {error}") from error
    source = from_dataset(
        dataset,
        seed=seed,
        train=train,
        held_out=entry.held_out,
        shuffle_labels=train and entry.shuffle_labels,
        on_host=entry.draw_on == "host",
        group=group,
    )
    _check_group(source, group, field)
    if source.shuffle_labels and source.scenes:
        raise ConfigError(
            f"{field}.shuffle_labels=True: the pictures of {dataset.name} hold several categories "
            f"and have no label to shuffle: type --config.{field}.shuffle_labels=False."
        )
    return source


def _check_group(source: FormulaSource, group: Group, field: str) -> None:
    if group.size > 1 and source.scenes:
        raise ConfigError(
            f"data.group_by='recipe' groups images of one category, and the pictures of "
            f"{source.name} hold several: type --config.data.group_by=image."
        )
    if source.num_examples is not None and source.dataset.instances < group.size:
        raise ConfigError(
            f"{field}.instances={source.dataset.instances} are fewer than the data.group_size="
            f"{group.size} images of one category: type --config.{field}.instances={group.size} or "
            "more (0: without end), or --config.data.group_by=image."
        )
