"""What a source of samples is, and how an entry of `config.data.sources` becomes one.

A source is two pure functions. `rows` runs on the host and says, in NumPy arrays, which samples
stand at given positions of the source's endless stream; `fields` runs on the device, inside the
jitted step, and turns rows into images and labels. Worker processes load this module: nothing at
its top touches a device.
"""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError

Rows = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
    """Samples 0, 1, 2, ... of one kind; the stream is already shuffled and never ends."""

    name: str
    num_classes: int
    size: int  # side of the square canvas, pixels
    channels: int  # 1 or 3
    num_examples: int | None  # images of one epoch; None when none ever comes twice
    targets: tuple[str, ...] = ("label",)  # what `fields` says of an image: "label", "mask"
    scenes: bool = False  # an image holds several categories, so that none has images of its own
    # Pytree of NumPy arrays that `fields` needs on the device.
    table: Any = dataclasses.field(default_factory=dict, hash=False, repr=False)
    decodes: bool = False  # True when `rows` is work for threads and worker processes

    @property
    @abc.abstractmethod
    def fingerprint(self) -> str:
        """Hex digest of what decides this source's samples, its seed left out."""

    @abc.abstractmethod
    def rows(self, positions: Int64[np.ndarray, " n"]) -> Rows:
        """Arrays with one row a position: a pure function of the positions."""

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


def build(entry: ConfigDict, *, seed: int, train: bool, field: str = "") -> Source:
    """The source that a config entry describes; `field` is the entry's own name, for errors.

    With `train` the stream is a new permutation every epoch; without, it is the natural order.
    Raises `ConfigError` for an unknown kind, name or option, and for data that is not there.
    """
    field = field or "data.sources.<name>"
    if entry.kind == "formula":
        from jaxfdsl.data import formula

        return formula.load(entry, seed=seed, train=train, field=field)
    if entry.kind == "tfds":
        from jaxfdsl.data import tfds

        return tfds.load(entry, seed=seed, train=train, field=field)
    raise ConfigError(f"{field}.kind={entry['kind']!r} is unknown: type 'formula' or 'tfds'.")
