"""Dead leaves with labels: discs and polygons of one colour each that cover one another (Baradad et
al., NeurIPS 2021, whose sets have no labels; a comparison set of Kataoka et al., CVPR 2022).

As the published script: shapes are inscribed in a circle (a disc, a square, a turned square, a
rectangle, a triangle, a quadrilateral, or any of them at random, "mixed"); 200 radii, evenly spaced
from .03 of the canvas's side to 1, of probability r**-3 less that of the largest; centres uniform
in the frame, colours in 0..254 a channel; each leaf lies **on top** of the earlier ones, and the
picture is done when no pixel is bare, or after 5,000 leaves; canvas 256. Not kept: a black leaf
leaves its pixels bare in the script.

The labels are ours: a category is the shape, the smallest and the largest radius and the exponent,
spread evenly over their ranges.

For `render` the ink is every second leaf, by chance: "filled" shows those, "outline" the rims of
what is seen of them, "points" their centres where those are seen.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from ..drawing import colour, convex, noise, raster, silhouette
from ..drawing.raster import Backend
from ..drawing.spread import check_ranges, fingerprint, ranged

DISC, SQUARE, TURNED, RECTANGLE, TRIANGLE, QUADRILATERAL, MIXED = range(7)
LEAST = (DISC, 1966, 16384, 0)  # of the fields of Foliage, in its units
MOST = (MIXED, 3932, 65536, 15)
PUBLISHED = (MIXED, 1966, 65536, 8)  # mixed, .03, 1, 3
RADII = 200
RATIOS = 32  # of the largest to the smallest radius, as the law of radii knows it
MOST_LEAVES = 5000
BLOCK = 255  # leaves between two looks whether the canvas is covered, and keys that fit in a byte
BLOCKS = -(-MOST_LEAVES // BLOCK)
TURN, TURN_BITS = 4096, 15
TINT, CENTRE, RADIUS, SHAPE, ANGLES = range(5)  # the words of a leaf; two hold its angles


class Foliage(NamedTuple):
    """One category, or a table of them with a leading axis."""

    shape: Int32[Array, "*n"]
    smallest: Int32[Array, "*n"]  # radius over the canvas's side, Q16
    largest: Int32[Array, "*n"]
    exponent: Int32[Array, "*n"]  # 2 and so many eighths


def ratios() -> np.ndarray:
    """float64[32]: largest over smallest radius, from 4 1/6 to the published 1 / .03."""
    return 8 ** (np.arange(RATIOS) / (RATIOS - 1) - 1) / 0.03


def ratio_bounds() -> np.ndarray:
    """int32[32], Q8: from which ratio on each of `ratios` is the nearest."""
    return np.round(256 * ratios() * 8 ** (-0.5 / (RATIOS - 1))).astype(np.int32)


@functools.cache
def radius_steps() -> np.ndarray:
    """uint32[16, 32, 199], for each exponent and ratio: so many steps below a random word, so many
    radii smaller than the leaf's. The script takes the radius whose cumulative share is nearest to
    a uniform number.
    """
    exponent = (2 + np.arange(MOST[3] + 1) / 8)[:, None, None]
    ratio = ratios()[:, None]
    radius = 1 + (ratio - 1) * np.arange(RADII) / (RADII - 1)
    share = np.cumsum(radius**-exponent - ratio**-exponent, -1)
    share = share / share[..., -1:]
    middle = (share[..., 1:] + share[..., :-1]) / 2
    return np.round(middle * (2**32 - 1)).astype(np.uint32)


@functools.cache
def turns() -> np.ndarray:
    """int32[4096, 2]: cosines and sines of a turn, Q15."""
    angle = 2 * np.pi * np.arange(TURN) / TURN
    return np.round(np.stack([np.cos(angle), np.sin(angle)], 1) * 2**TURN_BITS).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class DeadLeaves:
    """The family with its options. varying: how many of `VARYING` differ between categories; what
    does not is as published: mixed shapes, radii from .03 to 1, exponent 3.
    """

    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = 4

    name: ClassVar[str] = "dead_leaves"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = 256
    channels: ClassVar[int] = 3
    Category: ClassVar[type] = Foliage
    VARYING: ClassVar[tuple[str, ...]] = Foliage._fields
    limits: ClassVar[dict[str, tuple[int, int]]] = {"varying": (0, 4)}

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its category; they travel with the table."""
        return {"radii": radius_steps(), "ratios": ratio_bounds(), "turns": turns()}

    def check(self, table: Foliage, size: int) -> None:
        """Refuses numbers outside the ranges."""
        check_ranges(table, LEAST, MOST)

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> Foliage:
        """Candidate `number` -> its category."""
        return Foliage(*ranged(number, LEAST, MOST, PUBLISHED, self.varying, xp))

    def draw(
        self,
        params: Foliage,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, UInt8[Array, "..."]]:
        """Instance `seed` of one category: image uint8[size, size, 3]."""
        key = noise.mix(seed, fingerprint(params))
        leaf = visible(params, key, size, constants, backend)
        if self.render == "published":
            palette = _by_leaf(functools.partial(_tint, key))
            return {"image": colour.unpack(palette[leaf])}
        ink = _by_leaf(lambda number: _word(key, number, TINT) >> np.uint32(31) > 0)[leaf]
        if self.render == "outline":
            ink = ink & silhouette.edges(leaf)
        elif self.render == "points":
            number = lax.iota(jnp.int32, MOST_LEAVES)
            x, y = _centre(key, number, size)
            rows = jnp.where(leaf[y, x] == number + 1, y, -1)
            ink = ink & (raster.raster(rows, x, size, op="occupied", backend=backend) > 0)
        shown = ink[..., None].astype(jnp.uint8) * np.uint8(255)
        return {"image": jnp.broadcast_to(shown, (size, size, 3))}


def visible(
    params: Foliage,
    key: UInt32[Array, ""],
    size: int,
    constants: dict[str, Array],
    backend: Backend = "scatter",
) -> Int32[Array, "S S"]:
    """1 + the number of the leaf seen on each pixel, 0 where none is.

    First leaves fall until all is covered, which tells the last one; then the canvas is looked at
    from above, from the last leaf down, until no pixel is unseen.
    """
    place = lax.iota(jnp.int32, BLOCK)
    law = (params.largest >= (params.smallest * constants["ratios"] >> 8)).sum(dtype=jnp.int32)
    steps = constants["radii"][params.exponent, jnp.maximum(law - 1, 0)]

    def cover(block, keys):
        leaves = _leaves(params, key, block * BLOCK + place, steps, constants["turns"], size)
        return convex.paint(leaves, keys, size, backend)

    def fall(state):
        block, bare, _ = state
        live = block * BLOCK + place < MOST_LEAVES
        first = cover(block, jnp.where(live, BLOCK - place, 0))  # the earlier, the greater
        latest = BLOCK - jnp.where(bare, first, BLOCK).min()
        bare = bare & (first == 0)
        return block + 1, bare, jnp.where(bare.any(), MOST_LEAVES - 1, block * BLOCK + latest)

    def look(state):
        block, seen = state
        keys = jnp.where(block * BLOCK + place <= last, place + 1, 0)
        top = cover(block, keys)
        return block - 1, jnp.where((seen == 0) & (top > 0), block * BLOCK + top, seen)

    def unfinished(state):
        return (state[0] < BLOCKS) & state[1].any()

    def unseen(state):
        return (state[0] >= 0) & (state[1] == 0).any()

    bare = (jnp.int32(0), jnp.ones(size * size, bool), jnp.int32(0))
    last = lax.while_loop(unfinished, fall, bare)[2]
    blank = (last // BLOCK, jnp.zeros(size * size, jnp.int32))
    return lax.while_loop(unseen, look, blank)[1].reshape(size, size)


def _by_leaf(look_up) -> Array:
    """`look_up` of every leaf's number, after 0 for the bare canvas. A loop, or XLA:CPU would look
    up anew at every pixel.
    """
    number = lax.iota(jnp.int32, BLOCKS * BLOCK).reshape(BLOCKS, BLOCK)
    values = lax.map(look_up, number).reshape(-1)
    return jnp.pad(values, (1, 0))


def _word(key, number, which: int):
    return noise.mix(key, number.astype(jnp.uint32) * np.uint32(8) + np.uint32(which))


def _tint(key, number):
    word = _word(key, number, TINT)
    tint = jnp.zeros_like(word)
    for channel in range(3):
        ten = word >> np.uint32(10 * channel) & np.uint32(1023)
        tint = tint | (ten * np.uint32(255) >> np.uint32(10)) << np.uint32(8 * channel)
    return tint


def _centre(key, number, size: int):
    word = _word(key, number, CENTRE)
    halves = (word >> np.uint32(16), word & np.uint32(0xFFFF))
    return tuple((half * np.uint32(size) >> np.uint32(16)).astype(jnp.int32) for half in halves)


def _leaves(params, key, number, steps, turns, size: int) -> convex.Shapes:
    step = jnp.searchsorted(steps, _word(key, number, RADIUS)).astype(jnp.int32)
    radius = params.smallest + (params.largest - params.smallest) * step // (RADII - 1)
    radius = jnp.maximum(radius * size >> 16, 1)
    any_shape = noise.below(_word(key, number, SHAPE), MIXED).astype(jnp.int32)
    shape = jnp.where(params.shape == MIXED, any_shape, params.shape)
    words = [_word(key, number, ANGLES + i) for i in range(2)]
    corners = _corners(shape, radius, words, turns)
    disc = jnp.where(shape == DISC, radius, 0)
    return convex.shapes(_centre(key, number, size), disc, corners, size)


def _corners(shape, radius, words, turns):
    """x and y of the four corners of leaves, from their centre; those of a triangle end alike."""
    a, b, c, d = (
        (word >> np.uint32(shift) & np.uint32(TURN - 1)).astype(jnp.int32)
        for word in words
        for shift in (20, 8)
    )

    def on_circle(angle):
        cosine, sine = turns[angle, 0], turns[angle, 1]
        return radius * cosine >> TURN_BITS, radius * sine >> TURN_BITS

    first, last = jnp.minimum(a, b), jnp.maximum(a, b)
    low, high = jnp.minimum(c, d), jnp.maximum(c, d)
    inner = jnp.maximum(first, low), jnp.minimum(last, high)
    outer = jnp.minimum(first, low), jnp.maximum(last, high)
    ordered = outer[0], jnp.minimum(*inner), jnp.maximum(*inner), outer[1]
    triangle = shape == TRIANGLE
    picked = [jnp.where(triangle, *pair) for pair in zip((a, b, c, c), ordered, strict=True)]
    round_x, round_y = on_circle(jnp.stack(picked))
    # Half sides: of a square 46341 / 2**16 = sqrt(1/2) of the radius, of a rectangle any.
    wide, tall = on_circle(a >> 2)
    half = radius * 46341 >> 16
    rectangle = shape == RECTANGLE
    wide, tall = jnp.where(rectangle, wide, half), jnp.where(rectangle, tall, half)
    box_x, box_y = jnp.stack([wide, wide, -wide, -wide]), jnp.stack([tall, -tall, -tall, tall])
    cosine, sine = turns[a, 0], turns[a, 1]
    turned_x = cosine * box_x - sine * box_y >> TURN_BITS
    turned_y = sine * box_x + cosine * box_y >> TURN_BITS
    box_x = jnp.where(shape == TURNED, turned_x, box_x)
    box_y = jnp.where(shape == TURNED, turned_y, box_y)
    inscribed = shape >= TRIANGLE
    return jnp.where(inscribed, round_x, box_x), jnp.where(inscribed, round_y, box_y)
