"""What a denoiser is told of an image, as one vector: its class, a representation, a cluster.

All kinds of conditioning are the same model with another vector (`data.condition`):

    none            one 0: unconditional
    label           one-hot, of the classes of all sources
    rep:NAME        the column of that name, standardised number by number
    rep:NAME+label  the column and then the class
    cluster:NAME    one-hot, of the column's whole numbers
    recipe          a formula's parameters, standardised over its categories: the oracle

Worker processes load this module: nothing in it touches a device.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Shaped

from jaxfdsl.config import ConfigError

_PLAIN = ("none", "label", "recipe")
_COLUMNS = ("rep", "cluster")
# What a column's card says of the encoder, and of how it was shown an image.
ENCODER, SHOWN = ("encoder", "weights"), ("layer", "image_size", "preparation", "flip")
ASKED = "rep:asked"  # of a made set: the vectors its images were asked to have, in their own units
ROOM = 2**14  # numbers of a condition, at most: 64 kB an image


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """How vectors of `size` numbers are made; `mean` and `deviation` are those of the column, in
    its own units.

    `made_by` is what made the column, `fingerprint` the hex digest of what it says of which image.
    """

    kind: str
    size: int
    classes: int = 0  # of the one-hot part
    mean: Float32[np.ndarray, " D"] | None = None
    deviation: Float32[np.ndarray, " D"] | None = None
    made_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    fingerprint: str = ""

    @property
    def column(self) -> str:
        """The column that it reads, "" where it reads none: "rep:dino" of "rep:dino+label"."""
        return column_of(self.kind)

    @property
    def by_label(self) -> bool:
        """Whether it says the class."""
        return self.kind == "label" or self.kind.endswith("+label")

    def vectors(
        self,
        labels: Int[np.ndarray, " n"] | None = None,
        column: Shaped[np.ndarray, "n ..."] | None = None,
    ) -> Float32[np.ndarray, "n size"]:
        """The vectors of images with these classes and these rows of the column (of `recipe`: of
        the parameters), which are needed where the kind reads them.

        Raises ConfigError for rows of another width, for values that are not finite, and for
        classes that are none.
        """
        if self.kind == "none":
            given = labels if labels is not None else column
            return np.zeros((0 if given is None else len(given), 1), np.float32)
        parts = []
        if self.column.startswith("cluster:"):
            parts.append(self._one_hot(np.asarray(column), "clusters"))
        elif self.column or self.kind == "recipe":
            parts.append(self._standardised(np.asarray(column, np.float32)))
        if self.by_label:
            parts.append(self._one_hot(np.asarray(labels), "classes"))
        return np.concatenate(parts, axis=1)

    def _standardised(self, column: np.ndarray) -> np.ndarray:
        assert self.mean is not None and self.deviation is not None
        if column.shape[1:] != self.mean.shape:
            raise ConfigError(
                f"data.condition={self.kind!r} was made of {len(self.mean)} numbers an image, and "
                f"these vectors have {'x'.join(map(str, column.shape[1:])) or 'one'}: type the "
                "name of a column of the same encoder."
            )
        odd = np.flatnonzero(~np.isfinite(column).all(axis=1))
        if len(odd):
            raise ConfigError(
                f"data.condition={self.kind!r}: {len(odd)} of {len(column)} vectors are not finite,"
                f" the first is number {odd[0]}: write the column again (jaxfdsl embed --replace), "
                f"or type an index without them, such as {self.column.partition(':')[2]}-readable."
            )
        return (column - self.mean) / self.deviation

    def _one_hot(self, numbers: np.ndarray, what: str) -> np.ndarray:
        if numbers.ndim != 1 or (numbers < 0).any() or (numbers >= self.classes).any():
            raise ConfigError(
                f"data.condition={self.kind!r} knows {self.classes} {what}, one an image, and "
                f"these have numbers from {numbers.min()} to {numbers.max()}: type a set with the "
                f"same {what}."
            )
        return (numbers[:, None] == np.arange(self.classes)).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """As JSON keeps it: `from_json` gives it back."""
        numbers = {
            name: None if value is None else [float(x) for x in value]
            for name, value in (("mean", self.mean), ("deviation", self.deviation))
        }
        own = {name: getattr(self, name) for name in ("kind", "size", "classes", "fingerprint")}
        return {**own, **numbers, "made_by": dict(self.made_by)}


def from_json(said: Mapping[str, Any]) -> Condition:
    """The condition that `describe` told of."""
    numbers = {
        name: None if said[name] is None else np.asarray(said[name], np.float32)
        for name in ("mean", "deviation")
    }
    return Condition(**{**said, **numbers})


def column_of(kind: str) -> str:
    """The column that a kind of condition reads, "" where it reads none."""
    column = kind.removesuffix("+label")
    return column if column.partition(":")[0] in _COLUMNS and ":" in column else ""


def check(kind: str) -> None:
    """Raises ConfigError for a kind that is not known."""
    head, _, name = column_of(kind).partition(":")
    if kind in _PLAIN or (name and not (head == "cluster" and kind.endswith("+label"))):
        return
    raise ConfigError(
        f"data.condition={kind!r} is not known: type label, rep:NAME, rep:NAME+label, "
        "cluster:NAME, recipe or none."
    )


def of_labels(kind: str, classes: int, column: Condition | None = None) -> Condition:
    """The class, behind the part `column` where there is one."""
    if column is None:
        return _sized(Condition(kind, classes, classes))
    return _sized(dataclasses.replace(column, size=column.size + classes, classes=classes))


def of_column(
    kind: str,
    values: Shaped[np.ndarray, "n ..."],
    standardisation: tuple[np.ndarray, np.ndarray] | None,
    made_by: Mapping[str, Any],
    digest: str,
) -> Condition:
    """The column of one set, which lends its statistics to all; raises ConfigError for a shape
    that is no condition."""
    if column_of(kind).startswith("cluster:"):
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise ConfigError(
                f"data.condition={kind!r} reads one whole number an image, and the column has "
                f"{values.dtype}{list(values.shape[1:])}: write it by jaxfdsl embed --clusters."
            )
        # A part of a set may have none of the last clusters.
        clusters = max(int(np.max(values)) + 1, int(made_by.get("clusters", 0)))
        return _sized(Condition(kind, clusters, clusters, made_by=made_by, fingerprint=digest))
    if values.ndim != 2 or values.dtype.kind != "f" or standardisation is None:
        raise ConfigError(
            f"data.condition={kind!r} reads a vector an image, and the column has "
            f"{values.dtype}{list(values.shape[1:])}: write it by jaxfdsl embed."
        )
    mean, deviation = standardisation
    size = values.shape[1]
    return _sized(Condition(kind, size, 0, mean, deviation, made_by, digest))


def of_parameters(parameters: Float32[np.ndarray, "K D"], family: str) -> Condition:
    """A formula's own parameters."""
    mean, deviation = parameters.mean(axis=0), parameters.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1).astype(np.float32)
    digest = hashlib.sha256(np.ascontiguousarray(parameters).tobytes()).hexdigest()
    size = parameters.shape[1]
    return _sized(Condition("recipe", size, 0, mean, deviation, {"encoder": family}, digest))


def unconditional() -> Condition:
    """One number that is always 0."""
    return Condition("none", 1)


def same(one: Condition, other: Condition) -> bool:
    """Whether vectors of both mean the same: kind, sizes, and what made the column.

    A number of a cluster means nothing beside those of another clustering.
    """
    clustered = one.column.startswith("cluster:")
    maker = (*ENCODER, *(("column", "clusters", "seed") if clustered else ()))
    sides = [
        (c.kind, c.size, c.classes, json.dumps([c.made_by.get(key) for key in maker]))
        for c in (one, other)
    ]
    shown = [(one.made_by.get(key), other.made_by.get(key)) for key in SHOWN]
    return sides[0] == sides[1] and all(None in told or told[0] == told[1] for told in shown)


def _sized(made: Condition) -> Condition:
    if made.size > ROOM:
        raise ConfigError(
            f"data.condition={made.kind!r} would be {made.size} numbers an image, and {ROOM} is "
            "the most: type a column with fewer."
        )
    return made
