"""A picture of one radial contour: what RCDB and VisualAtom do with the walk of `radial`.

A family here is its ranges and its rules; the functions read them from its fields.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from ..drawing import noise, polyline, silhouette
from ..drawing.raster import Backend
from . import radial

NOISE_BITS, GROWTH_BITS, OVAL_BITS = 12, 14, 12
LIMITS: dict[str, tuple[float, float]] = {
    "vertices": (3, 1000),
    "polygons": (1, radial.MOST_POLYGONS),
    "noise": (0, 8),
    "growth": (0, 1),
    "radius": (0, 200),
    "frequencies": (0, 60),
    "oval": (1, 4),
    "centre_spread": (0, 1024),
    "gray": (0, 256),
    "broken_lines": (0, 10_000),
}


def ranges(family: Any) -> dict[str, tuple[int, int]]:
    """A family's ranges in the units of `radial.Category`."""

    def fixed_point(span, bits):
        return (round(span[0] * 2**bits), round(span[1] * 2**bits))

    return {
        "vertices": family.vertices,
        "polygons": family.polygons,
        "noise": fixed_point(family.noise, NOISE_BITS),
        "growth": fixed_point(family.growth, GROWTH_BITS),
        "radius": family.radius,
        "frequencies": getattr(family, "frequencies", (0, 0)),
        "oval": fixed_point(family.oval, OVAL_BITS),
        "centre": (
            radial.CANVAS - family.centre_spread,
            radial.CANVAS + family.centre_spread,
        ),
    }


def middle(spans: Mapping[str, tuple[int, int]], names: tuple[str, ...]) -> dict[str, Any]:
    """The middle of each named range; the second frequency is the next one."""
    fixed: dict[str, Any] = {name: (spans[name][0] + spans[name][1]) // 2 for name in names}
    if "frequencies" in fixed:
        first = fixed["frequencies"]
        fixed["frequencies"] = np.array([first, min(first + 1, spans["frequencies"][1])])
    return fixed


def draw(
    family: Any,
    params: radial.Category,
    seed: UInt32[Array, ""],
    size: int,
    tables: Mapping[str, Array],
    *,
    redrawn: tuple[str, ...],
    gain: int,
    backend: Backend,
    branch: bool,
) -> UInt8[Array, "size size 1"]:
    """Instance `seed`. The first instance stands where the category says, later ones have the
    fields `redrawn` of their own.
    """
    key = noise.mix(seed, radial.fingerprint(params))
    placed = radial.place(params, key, ranges(family), *redrawn)
    placed = params._replace(
        **{f: jnp.where(seed > 0, getattr(placed, f), getattr(params, f)) for f in redrawn}
    )
    walk, grays, breaks = noise.mix(key, lax.iota(jnp.uint32, 11))[8:]  # past `radial.place`'s

    def ink(number: Int32[Array, " B"]) -> Int32[Array, " B"]:
        gray = radial.uniform(noise.mix(grays, number.astype(jnp.uint32)), family.gray)
        return (number + 1) << 8 | jnp.minimum(gray, 255)

    canvas = radial.trace(
        jnp.zeros(size * size, jnp.int32),
        placed,
        walk,
        ink,
        tables,
        size,
        gain=gain,
        vertices=family.vertices,
        most_polygons=family.polygons[1],
        points=family.render == "points",
        backend=backend,
        branch=branch,
    )
    background = np.uint8(255 if family.background == "white" else 0)
    if family.render in ("published", "points"):
        image = jnp.where(canvas > 0, (canvas & 255).astype(jnp.uint8), background)
    else:
        shape = silhouette.filled if family.render == "filled" else silhouette.outline
        solid = shape((canvas > 0).reshape(size, size)).reshape(-1)
        image = jnp.where(solid, ~background, background)
    if family.broken_lines:
        erased = _random_lines(breaks, family.broken_lines, size, backend)
        image = jnp.where(erased, background, image)
    return image.reshape(size, size, 1)


def _random_lines(key, count: int, size: int, backend: Backend):
    words = noise.mix(key, lax.iota(jnp.uint32, 4 * count))
    x0, y0, x1, y1 = noise.below(words, size).astype(jnp.int32).reshape(4, count)
    canvas = jnp.zeros(size * size, jnp.int32)
    keys = jnp.ones(count, jnp.int32)
    return polyline.segments(canvas, x0, y0, x1, y1, keys, size, backend=backend) > 0
