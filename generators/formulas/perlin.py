"""Perlin noise with labels: a category is the pair of its frequencies (the comparison set of
Kataoka et al., ACCV 2020 and CVPR 2022).

The papers give no script; this is the plainest reading. The frequency is the number of cells of the
gradient lattice that a side of the canvas holds, from 1 to 36 in x and in y apart (36 x 36 are the
1,296 categories of the ACCV paper's larger set); candidates are spread evenly over that square. An
instance draws new unit gradients and a new phase; one octave, Perlin's fade 6t^5 - 15t^4 + 10t^3;
gray 128 where the noise is 0, with the greatest possible noise, sqrt(1/2), at 255; canvas 256.

Noise has no ink of its own. For `render` it is where the noise is above 0: "filled" shows it,
"outline" its rim, "points" the local peaks in it.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from ..drawing import noise, silhouette
from ..drawing.raster import Backend
from ..drawing.spread import check_ranges, fingerprint, ranged

BITS = 12  # places within a cell and the fade are Q12
NOISE_BITS = 14
FREQUENCY_BITS = 8
LEAST, MOST = 1 << FREQUENCY_BITS, 36 << FREQUENCY_BITS
NODES = 38  # of the lattice, along a side: 36 cells, one more for the phase, and their ends
DIRECTIONS = 256
ROWS = 32  # pixel rows made together
GAIN = 181  # 2**7 * sqrt(2): gray levels a unit of noise


class Frequencies(NamedTuple):
    """One category, or a table of them with a leading axis."""

    frequency_x: Int32[Array, "*n"]  # cells a side, Q8
    frequency_y: Int32[Array, "*n"]


@functools.cache
def gradients() -> np.ndarray:
    """int32[256, 2]: unit vectors all round, Q14."""
    angle = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    return np.round(np.stack([np.cos(angle), np.sin(angle)], 1) * 2**NOISE_BITS).astype(np.int32)


@functools.cache
def fade() -> np.ndarray:
    """int32[4096]: Perlin's fade over a cell, Q12."""
    t = np.arange(2**BITS) / 2**BITS
    return np.round((t**3 * (t * (t * 6 - 15) + 10)) * 2**BITS).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Perlin:
    """The family with its options. varying: how many of `VARYING` differ between categories; a
    frequency that does not is 18.5 cells.
    """

    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = 2

    name: ClassVar[str] = "perlin"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = 256
    channels: ClassVar[int] = 1
    Category: ClassVar[type] = Frequencies
    VARYING: ClassVar[tuple[str, ...]] = Frequencies._fields
    limits: ClassVar[dict[str, tuple[int, int]]] = {"varying": (0, 2)}

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its category; they travel with the table."""
        return {"gradients": gradients(), "fade": fade()}

    def check(self, table: Frequencies, size: int) -> None:
        """Refuses frequencies for which there is no lattice."""
        check_ranges(table, (LEAST,) * 2, (MOST,) * 2)

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> Frequencies:
        """Candidate `number` -> its category."""
        spans = ((LEAST,) * 2, (MOST,) * 2, ((LEAST + MOST) // 2,) * 2)
        return Frequencies(*ranged(number, *spans, self.varying, xp))

    def draw(
        self,
        params: Frequencies,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, UInt8[Array, "..."]]:
        """Instance `seed` of one category: image uint8[size, size, 1]. Nothing is scattered, so all
        backends are one.
        """
        key = noise.mix(seed, fingerprint(params))
        height = noise_field(params, key, size, constants)
        return {"image": self._show(height)[..., None]}

    def _show(self, height) -> UInt8[Array, "S S"]:
        if self.render == "published":
            return jnp.clip(128 + (height * GAIN >> NOISE_BITS), 0, 255).astype(jnp.uint8)
        ink = height > 0
        if self.render == "outline":
            ink = ink & silhouette.edges(ink.astype(jnp.int8))
        elif self.render == "points":
            around = silhouette.around(height, -(2**NOISE_BITS))
            ink = ink & (height >= functools.reduce(jnp.maximum, around))
        return ink.astype(jnp.uint8) * np.uint8(255)


def noise_field(
    params: Frequencies, key: UInt32[Array, ""], size: int, constants: dict[str, Array]
) -> Int32[Array, "S S"]:
    """Gradient noise, Q14, of magnitude up to sqrt(1/2).

    The noise of a cell is bilinear in its four corners: what depends on the column is worked out
    once for each row of the lattice, and only the rest for each pixel.
    """
    phases = noise.mix(key, lax.iota(jnp.uint32, 2)) >> np.uint32(32 - BITS)
    (column, x), (row, y) = (
        _places(frequency, phase, size)
        for frequency, phase in zip(params, phases.astype(jnp.int32), strict=True)
    )
    node = lax.iota(jnp.uint32, NODES)
    chosen = noise.mix(key, 2 + node[:, None] * np.uint32(64) + node) >> np.uint32(24)
    chosen = constants["gradients"][chosen.astype(jnp.int32)]
    along, up = chosen[..., 0], chosen[..., 1]
    fade_x, fade_y = constants["fade"][x], constants["fade"][y]
    # Noise on the lines of the lattice, and how fast it changes across them.
    left, right = along[:, column] * x >> BITS, along[:, column + 1] * (x - 2**BITS) >> BITS
    level = left + ((right - left) * fade_x >> BITS)
    left, right = up[:, column], up[:, column + 1]
    slope = left + ((right - left) * fade_x >> BITS)

    def line(place):
        row, y, fade_y = place
        height, steep = (lax.dynamic_slice(v, (row, 0), (2, size)) for v in (level, slope))
        top = height[0] + (steep[0] * y >> BITS)
        bottom = height[1] + (steep[1] * (y - 2**BITS) >> BITS)
        return top + ((bottom - top) * fade_y >> BITS)

    # A loop, as XLA:CPU would else fuse the lattice into its look-ups and make it anew at every
    # pixel.
    return lax.map(line, (row, y, fade_y), batch_size=ROWS)


def _places(frequency, phase, size: int) -> tuple[Int32[Array, " S"], Int32[Array, " S"]]:
    """The cell of each pixel along an axis, and the place in it, Q12."""
    place = lax.iota(jnp.int32, size) * (frequency << BITS - FREQUENCY_BITS) // size + phase
    return place >> BITS, place & (2**BITS - 1)
