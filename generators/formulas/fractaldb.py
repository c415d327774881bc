"""FractalDB: two-dimensional iterated function systems (Kataoka et al., ACCV 2020, IJCV 2022).

Defaults are what the published script makes (exe.sh of FractalDB-Pretrained-ResNet-PyTorch): canvas
362, 200,000 points, 3x3 patches, gray 127 on black, weights_0.4, four flips. Kept on purpose: all
categories and instances share one sequence of random choices (the script reseeds with 100), the box
includes the origin (the script's orbit starts there), patches hang one pixel right of and below
their point, weights apply to one coefficient of all maps while probabilities stay. Not kept: the
first steps from the origin are not drawn; parallel chains replace the one long orbit; the patch
bits, which the script leaves unseeded, are a hash. An orbit that grows for ever is drawn at the
scale it reached; the script draws it at the scale it had 100 steps before float64 overflowed. Both
are a few bright pixels, 4 % of the instances under weights_0.4.

2D-OFDB (Nakamura et al., ICCV 2023) is this family with one instance a category and flips=False:
weights="none" draws the paper's identity instance, weights="ofdb" the one row that its script takes
(the first of weights_0.4: a times .2).
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int32, UInt8, UInt32

from ..drawing import chaos, colour, noise, patch, raster, silhouette, stages
from . import systems
from .systems import apply_weight, check_headroom, fingerprint, propose_system

WEIGHT_UNIT = 400  # every published multiplier is a multiple of 1/400
MULTIPLIERS = {  # weights_<name>.csv: the four levels beside 1
    "0.0125": (0.975, 0.9875, 1.0125, 1.025),
    "0.025": (0.95, 0.975, 1.025, 1.05),
    "0.05": (0.9, 0.95, 1.05, 1.1),
    "0.1": (0.8, 0.9, 1.1, 1.2),
    "0.2": (0.6, 0.8, 1.2, 1.4),
    "0.3": (0.4, 0.7, 1.3, 1.6),
    "0.4": (0.2, 0.6, 1.4, 1.8),
    "0.5": (0.01, 0.5, 1.5, 2.0),
}
UNIFORM_SPREAD = 0.2
GRAY = np.uint8(127)
PATCHES_PER_WEIGHT, FLIPS = 10, 4
# The script pastes the 3x3 patch with its corner one pixel right of and below the point.
PATCH_OFFSET = 2
VARYING = ("a", "b", "c", "d", "e", "f", "num_maps")
REFERENCE = 22  # the first candidate that the search accepts


@functools.cache
def weight_rows(name: str) -> np.ndarray:
    """int32[25, 6] in units of 1/400: the published rows in the published order; row 2 is the
    identity. "ofdb": the first row of "0.4" alone.
    """
    if name == "ofdb":
        return weight_rows("0.4")[:1]
    rows = []
    for coefficient in range(6):
        for level in MULTIPLIERS[name]:
            row = np.ones(6)
            row[coefficient] = level
            rows.append(row)
    rows.insert(2, np.ones(6))
    return np.round(np.array(rows) * WEIGHT_UNIT).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class FractalDB:
    """The family with its options; each default is the published script's value.

    weights="uniform" is ours: each of the six coefficients, of all maps, times its own number in
    [.8, 1.2] from the instance's seed, so that every instance (but for its flips) has a new shape.
    Instances differ in weight row, patch or colour, and flip. Gray points have neither patch nor
    colour: beside weights="uniform" that is 100 different pictures a category (4 unweighted), which
    come again and again, held out or not.

    pattern="solid" pastes full 3x3 patches. render: "points" are single pixels; "outline" and
    "filled" are the silhouette of the published picture in its gray, colours aside. varying: how
    many of `VARYING`, in that order, differ between categories; the others stand as in candidate
    22, the first that the search accepts.
    """

    pattern: Literal["patch", "solid", "point"] = "patch"
    color: Literal["gray", "hue", "density"] = "gray"
    weights: Literal[
        "none", "uniform", "ofdb", "0.0125", "0.025", "0.05", "0.1", "0.2", "0.3", "0.4", "0.5"
    ] = "0.4"
    flips: bool = True
    num_points: int = 200_000
    pad: int = 6
    min_fill: float = 0.2
    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = len(VARYING)

    name: ClassVar[str] = "fractaldb"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = 362
    chains: ClassVar[int] = 512
    orbit_seed: ClassVar[int] = 100
    mixing: ClassVar[int] = 0
    search_size: ClassVar[int] = 512
    search_pad: ClassVar[int] = 6
    search_points: ClassVar[int] = 100_000
    Category: ClassVar[type] = systems.Category
    VARYING: ClassVar[tuple[str, ...]] = VARYING
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "num_points": (1, 2**24),
        "pad": (0, 2048),
        "min_fill": (0.0, 1.0),
        "varying": (1, len(VARYING)),
    }

    @property
    def channels(self) -> int:
        return 1 if self.color == "gray" else 3

    @property
    def threshold(self) -> float:
        """`score` at or above which a candidate becomes a category."""
        return self.min_fill

    @property
    def search_settings(self) -> str:
        """What the accepted candidates hang on beside the version, for the cache's file name."""
        canvas = f"{self.search_size}px-pad{self.search_pad}"
        own = "" if self.varying == len(VARYING) else f"-varying{self.varying}"
        return f"{self.search_points}points-{canvas}-fill{self.min_fill:g}{own}"

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its category; they travel with the table."""
        if self.weights == "ofdb" or self.weights in MULTIPLIERS:
            return {"weights": weight_rows(self.weights)}
        return {"weights": np.full((1, 6), WEIGHT_UNIT, np.int32)}

    def check(self, table: systems.Category, size: int) -> None:
        """Refuses what could not be drawn: sums beyond int32 under the weights, a pad without
        room.
        """
        if size <= 2 * self.pad:
            raise ValueError(f"pad={self.pad} leaves nothing of {size} pixels: give a smaller pad")
        if self._patched and self.pad <= PATCH_OFFSET:
            raise ValueError(
                f"pad={self.pad}: patches reach {PATCH_OFFSET + 1} pixels, give 3 or more"
            )
        if self.weights == "uniform":
            most = [1 + UNIFORM_SPREAD] * 6
        else:
            most = [int(self.constants()["weights"].max()) / WEIGHT_UNIT]
        check_headroom(table, most, WEIGHT_UNIT, f"weights={self.weights!r}")

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> systems.Category:
        """Candidate `number` -> its system: n ~ U{2..7}, coefficients ~ U[-1, 1), p proportional to
        |det|.
        """
        return systems.Category(*propose_system(number, 2, xp, self.varying, REFERENCE))

    def score(self, params: systems.Category, branch: bool = False) -> Float[Array, ""]:
        """Share of occupied pixels of the unweighted system at 512 x 512 with 100,000 points,
        padding included.
        """
        rows, cols = self.pixels(
            params, params.maps, self.search_size, self.search_points, self.search_pad, branch
        )
        filled = raster.raster(rows, cols, self.search_size, op="occupied")
        return filled.sum(dtype=jnp.int32) / np.float32(self.search_size**2)

    def draw(
        self,
        params: systems.Category,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: raster.Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, UInt8[Array, "..."]]:
        """Instance `seed` of one category: image uint8[size, size, channels].

        Instance i is the published file {i // 40 % 25}_count_{i // 4 % 10}_flip{i % 4}; from 1,000
        on, new patch draws.
        """
        maps = apply_weight(params.maps, self._weight(seed, constants["weights"]), WEIGHT_UNIT)
        rows, cols = self.pixels(params, maps, size, self.num_points, self.pad, branch)
        key = noise.mix(seed // self._flips, fingerprint(params))
        flip = seed % self._flips
        # The script turns every picture upside down before it makes the flips. Mirroring
        # coordinates is free; pixels, not.
        upside_down, mirrored = (flip & 1) == 0, flip >= 2
        offset = PATCH_OFFSET if self._patched else 0
        rows, cols = (
            _mirror(rows + offset, upside_down, size),
            _mirror(cols + offset, mirrored, size),
        )
        pixel = lax.iota(jnp.uint32, size)
        pixel_row, pixel_col = _mirror(pixel, upside_down, size), _mirror(pixel, mirrored, size)
        pixels = pixel_row[:, None] * np.uint32(size) + pixel_col
        settle = stages.settler(params.num_maps < 0 if branch else None)
        return {"image": self._paint(rows, cols, pixels, key, size, backend, settle)}

    @property
    def _flips(self) -> np.uint32:
        return np.uint32(FLIPS if self.flips else 1)

    @property
    def _patched(self) -> bool:
        return self.pattern != "point" and self.render != "points"

    def _weight(self, seed, rows) -> Int32[Array, " 6"]:
        if self.weights == "uniform":
            reach = round(UNIFORM_SPREAD * WEIGHT_UNIT)
            draws = noise.mix(seed // self._flips, lax.iota(jnp.uint32, 6))
            step = noise.below(draws, 2 * reach + 1).astype(jnp.int32)
            return WEIGHT_UNIT - reach + step
        row = seed // (np.uint32(PATCHES_PER_WEIGHT) * self._flips)
        return rows[row % np.uint32(rows.shape[0])]

    def pixels(self, params, maps, size: int, num_points: int, pad: int, branch: bool):
        """Rows and columns of the points, int32[steps, chains]."""
        key = noise.host_key(self.orbit_seed)
        x, y = chaos.orbit(
            maps,
            params.thresholds,
            params.num_maps,
            key,
            num_points=num_points,
            chains=self.chains,
            mixing=self.mixing,
            branch=branch,
        )
        cols, rows = (_fit(v, size, pad) for v in (x, y))
        return rows, cols

    def _paint(
        self, rows, cols, pixels, key, size: int, backend, settle
    ) -> UInt8[Array, "size size c"]:
        patched = self._patched
        if self.render in ("outline", "filled"):
            return self._shape(rows, cols, pixels, key, size, backend)
        if self.color == "density":
            counts = raster.raster(rows, cols, size, backend=backend)
            counts = patch.stamp(counts, key) if patched else counts
            return colour.paint(counts, colour.density_palette(key))
        occupied = raster.raster(rows, cols, size, op="occupied", backend=backend)
        coin = self._coin(pixels, key)
        if self.color == "gray":
            seen = (patch.dilate(occupied) if patched else occupied) & coin
            return (seen * GRAY)[..., None]
        rank = patch.last_writer(occupied, pixels, key, patched, settle)
        palette = jnp.asarray(colour.pack(colour.hsi_palette()))
        chosen = jnp.where((rank > 0) & (coin > 0), palette[rank & 127], np.uint32(0))
        return colour.unpack(settle(chosen))

    def _coin(self, pixels, key):
        return patch.coin(pixels, key) if self._patched and self.pattern == "patch" else np.uint8(1)

    def _shape(self, rows, cols, pixels, key, size: int, backend) -> UInt8[Array, "size size c"]:
        occupied = raster.raster(rows, cols, size, op="occupied", backend=backend)
        if self._patched:
            occupied = patch.dilate(occupied) & self._coin(pixels, key)
        shape = silhouette.outline if self.render == "outline" else silhouette.filled
        drawn = (shape(occupied > 0).astype(jnp.uint8) * GRAY)[..., None]
        return jnp.broadcast_to(drawn, (size, size, self.channels))


def _fit(values, size: int, pad: int):
    low, high = chaos.bounds(values)
    span = size - 2 * pad
    return raster.fit(values, jnp.minimum(low, 0), jnp.maximum(high, 0), span) + pad


def _mirror(values, mirrored, size: int):
    return jnp.where(mirrored, values.dtype.type(size - 1) - values, values)
