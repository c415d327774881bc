"""Coloured fractals of systems with constrained singular values, on plasma (Anderson and Farrell,
"Improving Fractal Pre-training", WACV 2022).

Defaults are those of the published script and its config (frac.yaml of fractal-pretraining):
canvas 224, 100,000 points, two to four maps, one random 3x3 mask an image, hue by density, a
diamond-square background, a random window (the extent times U(.5, 2) an axis, moved by U(-.2, .2)
of it; `region="box"` is the orbit's own box), one map jittered by U(.8, 1.1), flips and
transposition, blur. Kept on purpose: the mask may be empty, and then there is no fractal; hues of
180 to 255 go round OpenCV's circle of 180 once more (`hue="full"` gives each of the 256 its place);
places are truncated towards zero, so that row and column 0 gather what lies up to a pixel outside.
Not kept: parallel chains with 64 unseen steps replace the one orbit that starts on the attractor;
scale factors are 1/1024 apart, and so are the heights that the plasma has colours for.

Every candidate is a category: nothing is searched, so "svd_fractal-1k" are candidates 0 to 999.
"""

import dataclasses
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from ..drawing import background, chaos, colour, noise, patch, raster, silhouette, stages
from ..drawing.blur import blur, side_weights
from . import jitter, systems
from .contractive import MIXING, VARYING, propose_contractive
from .systems import check_headroom, fingerprint

DENSITIES = 256
SCENERY_START = 64  # of an image's words
SCALE_BITS = 12
HUES = {"opencv": 180, "full": 256}
GRAY, WHITE = np.uint32(0x7F7F7F), np.uint32(0xFFFFFF)


class Draws(NamedTuple):
    """The random words of a fractal by what they decide."""

    orbit: UInt32[Array, ""]
    mask: UInt32[Array, ""]
    flips: UInt32[Array, ""]
    window: UInt32[Array, " 4"]
    jitter: UInt32[Array, " 8"]
    ink: UInt32[Array, " 3"]


DRAWS = (0, 0, 0, 4, 8, 3)


class Scenery(NamedTuple):
    """The random words of what is around it."""

    plasma: UInt32[Array, ""]
    decay: UInt32[Array, ""]
    colours: UInt32[Array, " 6"]
    blur: UInt32[Array, " 2"]


SCENERY = (0, 0, 6, 2)


@dataclasses.dataclass(frozen=True)
class SVDFractal:
    """The family with its options; each default is the published script's value.

    color=False draws gray 127 wherever a patch falls. varying: how many of `VARYING`, in that
    order, differ between categories; the others stand as in candidate 0.
    """

    color: bool = True
    background: bool = True
    patch: bool = True
    region: Literal["random", "box"] = "random"
    jitter: Literal["scale", "svd", "none"] = "scale"
    flips: bool = True
    blur: bool = True
    hue: Literal["opencv", "full"] = "opencv"
    num_points: int = 100_000
    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = len(VARYING)

    name: ClassVar[str] = "svd_fractal"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = 224
    channels: ClassVar[int] = 3
    chains: ClassVar[int] = 512
    mixing: ClassVar[int] = MIXING
    Category: ClassVar[type] = systems.Category
    VARYING: ClassVar[tuple[str, ...]] = VARYING
    limits: ClassVar[dict[str, tuple[int, int]]] = {
        "num_points": (1, 2**24),
        "varying": (1, len(VARYING)),
    }

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its category; they travel with the table."""
        return {"reaches": background.reaches(), "side_weights": side_weights()}

    def check(self, table: systems.Category, size: int) -> None:
        """Refuses what could not be drawn: sums that could leave int32."""
        options = f"jitter={self.jitter!r}"
        check_headroom(table, [1.1, 1.1], jitter.SCALE_UNIT, options)
        greatest = np.abs(table.maps[..., :4]).max((1, 2)) / 2**chaos.LINEAR_BITS
        if self.jitter != "none" and greatest.max() > jitter.GREATEST:
            bad = int(np.argmax(greatest))
            raise ValueError(
                f"category {bad}: {options} wants coefficients of at most {jitter.GREATEST} in "
                f"magnitude, not {greatest[bad]:.2f}: give smaller ones or jitter='none'"
            )

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> systems.Category:
        """Candidate `number` -> its system of two to four contractions."""
        return propose_contractive(number, xp, varying=self.varying)

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
        """Instance `seed` of one category: image uint8[size, size, 3]."""
        key = noise.mix(seed, fingerprint(params))
        bits, scenery = deal(key, Draws, DRAWS, 0), deal(key, Scenery, SCENERY, SCENERY_START)
        settle = stages.settler(params.num_maps < 0 if branch else None)
        density = self.density(params, bits, size, settle, backend=backend, branch=branch)
        place, ink = self.paint(density, bits)
        ground = jnp.zeros(1, jnp.uint32)
        if self.background:
            level, ground = plasma(scenery, size, constants, HUES[self.hue], settle)
            place = jnp.where(place < DENSITIES, place, DENSITIES + level)
        packed = look_up(jnp.concatenate([ink, ground]), place, settle, backend, branch)
        if self.blur:
            packed = blurred(packed, scenery, constants, settle, branch)
        return {"image": colour.unpack(packed)}

    def density(
        self,
        params: systems.Category,
        bits: Draws,
        size: int,
        settle: stages.Settle,
        *,
        backend: raster.Backend,
        branch: bool,
    ) -> Int32[Array, "size size"]:
        """How many points reach each pixel, under the patch's mask if there is one."""
        if self.jitter != "none":
            change = {"scale": jitter.scaled, "svd": jitter.turned}[self.jitter]
            params = change(params, bits.jitter)
        points = chaos.orbit(
            params.maps,
            params.thresholds,
            params.num_maps,
            bits.orbit,
            num_points=self.num_points,
            chains=self.chains,
            mixing=self.mixing,
            branch=branch,
        )
        rows, cols = (self._place(v, bits.window[2 * i :], size) for i, v in enumerate(points))
        if self.flips:
            flip = (bits.flips & np.array([1, 2, 4], np.uint32)) > 0
            rows, cols = jnp.where(flip[0], cols, rows), jnp.where(flip[0], rows, cols)
            rows = jnp.where(flip[1], size - 1 - rows, rows)
            cols = jnp.where(flip[2], size - 1 - cols, cols)
        # A margin of one pixel, from which patches reach into the frame.
        counts = raster.raster(rows + 1, cols + 1, size + 2, backend=backend)
        if not self.patch or self.render == "points":
            return counts[1:-1, 1:-1]
        return settle(patch.masked_sum(counts, bits.mask))

    def _place(self, values, bits, size: int):
        low, high = chaos.bounds(values)
        if self.region == "box":
            return raster.fit(values, low, high, size - 1)
        reach, move = (noise.below(bits[i], 1 << 15).astype(jnp.int32) for i in (0, 1))
        scale = (1 << (SCALE_BITS - 1)) + (reach * (3 << (SCALE_BITS - 1)) >> 15)
        shift = (move - (1 << 14)) * 4 // 5  # +-.2 extents, doubled, in 2**15ths
        return raster.window(values, low, high, scale, shift, size)

    def paint(
        self, density: Int32[Array, "size size"], bits: Draws
    ) -> tuple[Int32[Array, "size size"], UInt32[Array, " 256"]]:
        """Each pixel's place in the palette of densities, DENSITIES where there is no ink, and that
        palette.
        """
        ink = density > 0
        if self.render in ("outline", "filled"):
            shape = silhouette.outline if self.render == "outline" else silhouette.filled
            return jnp.where(shape(ink), 0, DENSITIES), jnp.full(DENSITIES, WHITE)
        if not self.color:
            return jnp.where(ink, 0, DENSITIES), jnp.full(DENSITIES, GRAY)
        shift = noise.below(bits.ink[0], 255 << 8).astype(jnp.int32)
        level = colour.graded(density, shift & 255)
        hue = (lax.iota(jnp.int32, DENSITIES) + (shift >> 8)) & 255
        saturation = (19584 + noise.below(bits.ink[1], 45696).astype(jnp.int32)) >> 8
        value = (32640 + noise.below(bits.ink[2], 32640).astype(jnp.int32)) >> 8
        palette = colour.hsv(hue, saturation[None], value[None], HUES[self.hue])
        return jnp.where(ink, level, DENSITIES), palette


def deal(
    key: UInt32[Array, ""], kind: type[Draws] | type[Scenery], sizes: tuple[int, ...], start: int
) -> Any:
    """The words of one image, a `kind`, from its key: those from `start` on."""
    words = noise.mix(key, start + lax.iota(jnp.uint32, sum(max(n, 1) for n in sizes)))
    found, at = [], 0
    for n in sizes:
        found.append(words[at : at + n] if n else words[at])
        at += max(n, 1)
    return kind(*found)


def plasma(
    scenery: Scenery, size: int, constants: dict[str, Array], turn: int, settle: stages.Settle
) -> tuple[Int32[Array, "size size"], UInt32[Array, " G"]]:
    """The background: each pixel's place in a palette, and the palette."""
    reach = constants["reaches"][scenery.decay >> np.uint32(24)]
    heights = background.plasma(scenery.plasma, reach, size, settle)
    return background.level(heights), background.palette(scenery.colours, turn)


def look_up(palette, place, settle: stages.Settle, backend: raster.Backend, branch: bool):
    """Colours of the places. The palette is computed once, not at every pixel: see `stages` and
    `colour.density_palette`.
    """
    if branch:
        palette, place = settle((palette, place))
    elif backend == "scatter":
        palette = jnp.zeros_like(palette).at[lax.iota(jnp.int32, palette.shape[0])].set(palette)
    return settle(palette[place])


def blurred(packed, scenery: Scenery, constants, settle: stages.Settle, branch: bool):
    """The picture, blurred in one of two cases."""
    weight = constants["side_weights"][scenery.blur[0] >> np.uint32(24)]
    wanted = scenery.blur[1] < np.uint32(1 << 31)
    if branch:
        return lax.cond(wanted, lambda p: blur(p, weight, settle), lambda p: p, packed)
    return jnp.where(wanted, blur(packed, weight, settle), packed)
