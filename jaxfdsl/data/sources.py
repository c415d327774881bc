"""What a source of samples is, and how an entry of `config.data.sources` becomes one.

A source is two pure functions. `rows` runs on the host and says, in NumPy arrays, which samples
stand at given positions of the source's endless stream; `fields` runs on the device, inside the
jitted step, and turns rows into images and labels. Worker processes load this module: nothing at
its top touches a device.
"""

import abc
import dataclasses
import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import condition as conditions
from jaxfdsl.data.condition import Condition
from jaxfdsl.data.decode import View
from jaxfdsl.data.latent_column import Latents, Wanted
from jaxfdsl.data.tokens import Tokenizer

Rows = dict[str, np.ndarray]
STORED = ("tfds", "folder", "parquet", "store")  # kinds of stored pictures, each a module beside
RECIPES = ("formula", "store", "diffusion")  # that know which images were made from one recipe


@dataclasses.dataclass(frozen=True)
class Group:
    """Images of one stream that belong together: position p is view p % size of group p // size.

    `by` says what a group is of: "recipe", `size` different images of one recipe (a category of a
    formula, a caption of a store), or "image", the same image each time, to be augmented anew.
    """

    size: int = 1
    by: str = "recipe"


ALONE = Group()  # no groups


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
    """Samples 0, 1, 2, ... of one kind; the stream is already shuffled and never ends."""

    name: str
    num_classes: int
    size: int  # side of the square canvas, or of the crop where `cropped`, pixels
    channels: int  # 1 or 3
    num_examples: int | None  # images of one epoch; None when none ever comes twice
    targets: tuple[str, ...] = ("label",)  # what `fields` says of an image: "label", "mask", ...
    scenes: bool = False  # an image holds several categories, so that none has images of its own
    # Pytree of NumPy arrays that `fields` needs on the device.
    table: Any = dataclasses.field(default_factory=dict, hash=False, repr=False)
    decodes: bool = False  # True when `rows` is work for threads and worker processes
    cropped: bool = False  # True when `rows` holds what the model sees, cut on the host
    class_names: tuple[str, ...] | None = dataclasses.field(default=None, hash=False, repr=False)
    # What `rows` says of each image as `cond`, and where this source's classes begin in it.
    condition: Condition | None = dataclasses.field(
        default=None, hash=False, compare=False, repr=False
    )
    first_class: int = dataclasses.field(default=0, hash=False, compare=False)
    # The column whose rows stand for `image` in `rows`, None where images are what they are.
    latents: Latents | None = dataclasses.field(default=None, hash=False, compare=False, repr=False)

    @property
    def several_labels(self) -> bool:
        """Whether `label` is int32[n, k]."""
        return self.scenes

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of what decides this source's samples, its seed left out."""

    @abc.abstractmethod
    def rows(
        self, positions: Int64[np.ndarray, " n"], samples: Int64[np.ndarray, " n"] | None = None
    ) -> Rows:
        """Arrays with one row a position, a pure function of the positions and, where the host cuts
        random crops, of `samples` (`positions` where None): which crop of the image it is.
        """

    @abc.abstractmethod
    def rows_of(self, category: int, count: int) -> Rows:
        """Rows of the first samples of one category, at most `count`, for people to look at; of
        scenes, which have no category, the `category`-th `count` of them.
        """

    def with_tokenizer(self, tokenizer: Tokenizer, field: str) -> "Source":
        """The same images with `tokens` int32[n, L], their captions as the tokenizer reads them;
        raises `ConfigError`, which begins with `field`, where images have no captions.
        """
        raise ConfigError(
            f"{field} ({self.name}) has no captions, which objective.align learns from: type "
            f"--config.objective.align.weight=0, or name a store with captions or a formula."
        )

    def with_latents(self, wanted: Wanted, field: str) -> "Source":
        """The same images by rows of a column of latents (`data.latents`), of which nothing is
        decoded; raises `ConfigError`, which names `field`, where none fits."""
        raise ConfigError(
            f"data.latents={wanted.name!r}: {field} ({self.name}) makes its images anew and has no "
            "column of them: type --config.data.latents='', or train on a store of them (jaxfdsl "
            "materialise --to store)."
        )

    def with_pictures(self) -> "Source":
        """What `with_latents` was called on."""
        return self

    def own_condition(self, kind: str, classes: int, field: str) -> Condition:
        """The condition of that kind for this source's images among `classes` classes of all
        sources; raises `ConfigError`, which begins with `field`, where it has none."""
        conditions.check(kind)
        if kind == "none":
            return conditions.unconditional()
        if kind == "label" and "label" in self.targets and not self.several_labels:
            return conditions.of_labels(kind, classes)
        said = "class" if kind == "label" else "vector"
        raise ConfigError(
            f"{field} ({self.name}) does not say one {said} of each image, which data.condition="
            f"{kind!r} needs: type --config.data.condition={self._conditions()}."
        )

    def _conditions(self) -> str:
        """Words for the kinds that this source has."""
        return "label or none" if "label" in self.targets else "none"

    @abc.abstractmethod
    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """`image` uint8[n,S,S,C], `valid` float32[n]; what `targets` names: `label` int32[n], or
        int32[n,k] padded with -1, and `mask` int32[n,S,S], 0 background and class + 1 else; and
        more. Jittable.
        """


def build(
    entry: ConfigDict,
    *,
    seed: int,
    train: bool,
    field: str = "",
    view: View | None = None,
    group: Group = ALONE,
) -> Source:
    """The source that a config entry describes; `field` is the entry's own name, for errors.

    With `train` the stream is a new permutation every epoch; without, it has one fixed order.
    `view` is what the model sees, for pictures that the host cuts (`size` 0). With a `group` by
    recipe the stream comes in groups; by image it is that of the images, and whoever asks for rows
    asks for each image `group.size` times (`data.batches`). Raises `ConfigError` for an unknown
    kind, name or option, for data that is not there, and for groups that it cannot make.
    """
    field = field or "data.sources.<name>"
    recipes = group if group.by == "recipe" else ALONE
    if entry.kind == "formula":
        from jaxfdsl.data import formula

        return formula.load(entry, seed=seed, train=train, field=field, group=recipes)
    if entry.kind == "diffusion":  # samples of a model, which data know nothing of
        module = importlib.import_module("jaxfdsl.diffusion.source")
        return module.load(entry, seed=seed, train=train, field=field, group=recipes)
    if entry.kind not in STORED:
        kinds = ", ".join(map(repr, ["formula", *STORED, "diffusion"]))
        raise ConfigError(f"{field}.kind={entry['kind']!r} is unknown: type one of {kinds}.")
    module = importlib.import_module(f"jaxfdsl.data.{entry.kind}")
    if entry.kind in RECIPES:
        return module.load(entry, seed=seed, train=train, field=field, view=view, group=recipes)
    if recipes.size > 1:
        raise ConfigError(
            f"data.group_by='recipe' groups images of one recipe, and {field}.kind="
            f"{entry['kind']!r} does not say what its images were made from: type "
            "--config.data.group_by=image."
        )
    return module.load(entry, seed=seed, train=train, field=field, view=view)
