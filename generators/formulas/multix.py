"""MultiX: several fractals on one plasma, and the labels of all of them (Anderson and Farrell,
"Improving Fractal Pre-training", WACV 2022).

As published (multifractal.yaml of fractal-pretraining): one to five fractals of 100,000 points,
each drawn in its own box at half of the canvas under one random mask, flipped, coloured by density,
resized to U(.15, .6) of the canvas and pasted with its middle on the canvas, over those before it;
blur; no jitter. The script keeps the last 512 fractals and backgrounds and draws one new
fractal for every second image; here every fractal of every scene is new, and its category is
uniform. The resizing is OpenCV's bilinear one with weights in 256ths instead of 2048ths.

Not kept: the script's label is its image index // number of classes, which is the category only
where there are as many images a class as classes; here it is the category.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, Shaped, UInt32

from ..drawing import colour, noise, raster, stages
from ..drawing.resample import paste
from . import systems
from .contractive import VARYING
from .svd_fractal import (
    DENSITIES,
    DRAWS,
    HUES,
    SCENERY,
    SCENERY_START,
    Draws,
    Scenery,
    SVDFractal,
    blurred,
    deal,
    look_up,
    plasma,
)
from .systems import fingerprint

SCENES = 0x4D583130  # apart from the keys of single fractals
NONE = 2**30  # above any category
OBJECTS_START, OBJECT_WORDS = 128, 8  # of a scene for each object: category, key, size, row, column


@dataclasses.dataclass(frozen=True)
class MultiX:
    """The family with its options; each default is the published script's value.

    objects: least and most fractals of a scene. sizes: their least and most side, in canvases.
    The other fields are those of `SVDFractal`.
    """

    objects: tuple[int, int] = (1, 5)
    sizes: tuple[float, float] = (0.15, 0.6)
    patch: bool = True
    jitter: Literal["scale", "svd", "none"] = "none"
    flips: bool = True
    blur: bool = True
    hue: Literal["opencv", "full"] = "opencv"
    num_points: int = 100_000
    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = len(VARYING)

    name: ClassVar[str] = "multix"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = 224
    channels: ClassVar[int] = 3
    Category: ClassVar[type] = systems.Category
    VARYING: ClassVar[tuple[str, ...]] = VARYING
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "objects": (1, 32),
        "num_points": (1, 2**24),
        "sizes": (0.02, 1.0),
        "varying": (1, len(VARYING)),
    }

    @property
    def single(self) -> SVDFractal:
        """The family of one of its fractals."""
        shared = ("patch", "jitter", "flips", "hue", "num_points", "render", "varying")
        return SVDFractal(region="box", **{name: getattr(self, name) for name in shared})

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside the table."""
        return self.single.constants()

    def check(self, table: systems.Category, size: int) -> None:
        """Refuses what could not be drawn."""
        self.single.check(table, size)
        if len(table.num_maps) >= 2**16:
            raise ValueError(f"{len(table.num_maps)} categories: a scene picks from at most 65,535")

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> systems.Category:
        """Candidate `number` -> its system, the same as that of `SVDFractal`."""
        return self.single.propose(number, xp)

    def compose(
        self,
        table: systems.Category,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: raster.Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, Shaped[Array, "..."]]:
        """Scene `seed`: image uint8[size, size, 3] and label int32[objects[1]], the categories on
        it in rising order, then -1.
        """
        key = noise.mix(seed, jnp.uint32(SCENES))
        scenery = deal(key, Scenery, SCENERY, SCENERY_START)
        settle = stages.settler(table.num_maps[0] < 0 if branch else None)
        level, ground = plasma(scenery, size, constants, HUES[self.hue], settle)
        canvas = look_up(ground, level, settle, backend, branch)
        least, most = self.objects
        count = least + noise.below(noise.mix(key, np.uint32(0)), most - least + 1).astype(
            jnp.int32
        )
        categories = self._categories(key, table.num_maps.shape[0])

        def add(i, canvas):
            params = jax.tree.map(lambda v: v[categories[i]], table)
            return self._add(canvas, params, key, i, settle, backend, branch)

        if branch:
            canvas = lax.fori_loop(0, count, add, canvas)
        else:
            canvas = lax.fori_loop(0, most, lambda i, c: jnp.where(i < count, add(i, c), c), canvas)
        if self.blur:
            canvas = blurred(canvas, scenery, constants, settle, branch)
        return {"image": colour.unpack(canvas), "label": _labels(categories, count)}

    def _categories(self, key, num_classes: int) -> Int32[Array, " k"]:
        place = OBJECTS_START + OBJECT_WORDS * lax.iota(jnp.uint32, self.objects[1])
        return noise.pick(noise.mix(key, place), num_classes).astype(jnp.int32)

    def _add(self, canvas, params, key, i, settle, backend, branch):
        """One more object on the canvas."""
        size = canvas.shape[0]
        words = noise.mix(
            key,
            OBJECTS_START
            + OBJECT_WORDS * i.astype(jnp.uint32)
            + lax.iota(jnp.uint32, OBJECT_WORDS),
        )
        bits = deal(noise.mix(words[1], fingerprint(params)), Draws, DRAWS, 0)
        single, source = self.single, max(size // 2, 1)
        density = single.density(params, bits, source, settle, backend=backend, branch=branch)
        place, ink = single.paint(density, bits)
        picture = look_up(
            jnp.append(ink, np.uint32(0)), jnp.minimum(place, DENSITIES), settle, backend, branch
        )
        low, high = (round(share * 2**16) for share in self.sizes)
        share = low + (noise.below(words[2], 1 << 15).astype(jnp.int32) * (high - low) >> 15)
        side = jnp.maximum(share * size >> 16, 1)
        row, col = (noise.below(words[j], size).astype(jnp.int32) - (side >> 1) for j in (3, 4))
        window = max(high * size >> 16, 1) if branch else size
        return paste(canvas, picture, row, col, side, window, settle)


def _labels(categories, count) -> Int32[Array, " k"]:
    """Each category once, in rising order, then -1."""
    live = lax.iota(jnp.int32, categories.shape[0]) < count
    ordered = jnp.sort(jnp.where(live, categories, NONE))
    again = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] == ordered[:-1]])
    ordered = jnp.sort(jnp.where(again, NONE, ordered))
    return jnp.where(ordered == NONE, -1, ordered)
