"""Bezier curves with labels: a category is how many curves of how many control points fill which
box (the comparison set of Kataoka et al., ACCV 2020 and CVPR 2022).

The papers give no script; this is the plainest reading. A picture holds 1 to 64 curves of 3 to 18
control points each (1,024 pairs, the size of the ACCV paper's larger set), in a box of a quarter to
the whole of the canvas in width and in height apart; candidates are spread evenly over the four. An
instance places the box, within the frame, and draws every control point anew, uniform in it. Curves
are open and white on black, lines of one pixel through 65 points evenly spaced in the parameter;
canvas 512, as for the other contours.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from ..drawing import noise, polyline, raster, silhouette
from ..drawing.raster import Backend
from ..drawing.spread import check_ranges, fingerprint, ranged

STEPS = 64  # lines a curve
LEAST = (3, 1, 64, 64)  # of the fields of Strokes, in its units
MOST = (18, 64, 256, 256)
MIDDLE = (10, 32, 160, 160)
PLACE_BITS, WEIGHT_BITS = 4, 14


class Strokes(NamedTuple):
    """One category, or a table of them with a leading axis."""

    control_points: Int32[Array, "*n"]
    curves: Int32[Array, "*n"]
    width: Int32[Array, "*n"]  # of the box, over the canvas's, Q8
    height: Int32[Array, "*n"]


@functools.cache
def weights() -> np.ndarray:
    """int32[16, 65, 18], Q14: what each control point counts at each step (Bernstein), for 3 to 18
    of them; every row sums to 1.
    """
    table = np.zeros((MOST[0] - LEAST[0] + 1, STEPS + 1, MOST[0]), np.int32)
    t = np.arange(STEPS + 1)[:, None] / STEPS
    for index in range(len(table)):
        degree = LEAST[0] + index - 1
        k = np.arange(degree + 1)
        binomial = np.array([math.comb(degree, i) for i in k])
        exact = binomial * t**k * (1 - t) ** (degree - k) * 2**WEIGHT_BITS
        rounded = np.diff(np.round(np.cumsum(exact, 1)), axis=1, prepend=0)
        table[index, :, : degree + 1] = rounded
    return table


@dataclasses.dataclass(frozen=True)
class Bezier:
    """The family with its options. varying: how many of `VARYING` differ between categories; what
    does not is 10 control points, 32 curves, 5/8 of the canvas.
    """

    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = 4

    name: ClassVar[str] = "bezier"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = 512
    channels: ClassVar[int] = 1
    Category: ClassVar[type] = Strokes
    VARYING: ClassVar[tuple[str, ...]] = Strokes._fields
    limits: ClassVar[dict[str, tuple[int, int]]] = {"varying": (0, 4)}

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its category; they travel with the table."""
        return {"weights": weights()}

    def check(self, table: Strokes, size: int) -> None:
        """Refuses numbers outside the ranges."""
        check_ranges(table, LEAST, MOST)

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> Strokes:
        """Candidate `number` -> its category."""
        return Strokes(*ranged(number, LEAST, MOST, MIDDLE, self.varying, xp))

    def draw(
        self,
        params: Strokes,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, UInt8[Array, "..."]]:
        """Instance `seed` of one category: image uint8[size, size, 1], 255 on the curves."""
        key = noise.mix(seed, fingerprint(params))
        x, y = curves(params, key, size, constants["weights"])
        drawn = lax.iota(jnp.int32, MOST[1]) < params.curves
        if self.render == "points":
            rows = jnp.where(drawn[:, None], y, -1)
            ink = raster.raster(rows, x, size, op="occupied", backend=backend) > 0
        else:
            canvas = jnp.zeros(size * size, jnp.int32)
            x0, y0, x1, y1 = (v.reshape(-1) for v in (x[:, :-1], y[:, :-1], x[:, 1:], y[:, 1:]))
            keys = jnp.repeat(drawn.astype(jnp.int32), STEPS)
            canvas = polyline.segments(canvas, x0, y0, x1, y1, keys, size, backend=backend)
            ink = canvas.reshape(size, size) > 0
        if self.render in ("outline", "filled"):
            ink = getattr(silhouette, self.render)(ink)
        return {"image": (ink.astype(jnp.uint8) * np.uint8(255))[..., None]}


def curves(
    params: Strokes, key: UInt32[Array, ""], size: int, weights: Int32[Array, "n t k"]
) -> tuple[Int32[Array, "64 65"], Int32[Array, "64 65"]]:
    """The points of every curve in whole pixels, x and y; those beyond `params.curves` too."""
    number = lax.iota(jnp.uint32, MOST[1])[:, None] * np.uint32(32)
    words = noise.mix(key, 1 + number + lax.iota(jnp.uint32, MOST[0]))
    place = noise.mix(key, np.uint32(0))
    weight = weights[params.control_points - LEAST[0]]
    side = size << PLACE_BITS
    traced = []
    for shift, extent in ((0, params.width), (16, params.height)):
        box = side * extent >> 8
        low = _part(place << np.uint32(shift), side - box)
        control = low + _part(words << np.uint32(shift), box)
        control = lax.optimization_barrier(control)
        point = (control[:, None] * weight).sum(-1, dtype=jnp.int32)
        traced.append(point >> PLACE_BITS + WEIGHT_BITS)
    return traced[0], traced[1]


def _part(word, span):
    """A random share of `span` < 2**16 + 1, by the word's first 16 bits."""
    return ((word >> np.uint32(16)) * span.astype(jnp.uint32) >> np.uint32(16)).astype(jnp.int32)
