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
from jaxfdsl.data.decode import View

Rows = dict[str, np.ndarray]
STORED = ("tfds", "folder", "parquet")  # kinds of real pictures, each a module of this package


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
    """Samples 0, 1, 2, ... of one kind; the stream is already shuffled and never ends."""

    name: str
    num_classes: int
    size: int  # side of the square canvas, or of the crop where `cropped`, pixels
    channels: int  # 1 or 3
    num_examples: int | None  # images of one epoch; None when none ever comes twice
    targets: tuple[str, ...] = ("label",)  # what `fields` says of an image: "label", "mask"
    scenes: bool = False  # an image holds several categories, so that none has images of its own
    # Pytree of NumPy arrays that `fields` needs on the device.
    table: Any = dataclasses.field(default_factory=dict, hash=False, repr=False)
    decodes: bool = False  # True when `rows` is work for threads and worker processes
    cropped: bool = False  # True when `rows` holds what the model sees, cut on the host
    class_names: tuple[str, ...] | None = dataclasses.field(default=None, hash=False, repr=False)

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

    @abc.abstractmethod
    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """`image` uint8[n,S,S,C], `valid` float32[n]; what `targets` names: `label` int32[n], or
        int32[n,k] padded with -1, and `mask` int32[n,S,S], 0 background and class + 1 else; and
        more. Jittable.
        """


def build(
    entry: ConfigDict, *, seed: int, train: bool, field: str = "", view: View | None = None
) -> Source:
    """The source that a config entry describes; `field` is the entry's own name, for errors.

    With `train` the stream is a new permutation every epoch; without, it has one fixed order.
    `view` is what the model sees, for pictures that the host cuts (`size` 0). Raises `ConfigError`
    for an unknown kind, name or option, and for data that is not there.
    """
    field = field or "data.sources.<name>"
    if entry.kind == "formula":
        from jaxfdsl.data import formula

        return formula.load(entry, seed=seed, train=train, field=field)
    if entry.kind not in STORED:
        kinds = ", ".join(map(repr, ["formula", *STORED]))
        raise ConfigError(f"{field}.kind={entry['kind']!r} is unknown: type one of {kinds}.")
    module = importlib.import_module(f"jaxfdsl.data.{entry.kind}")
    return module.load(entry, seed=seed, train=train, field=field, view=view)
