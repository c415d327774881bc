"""What the contour families share: categories, their candidates, and the walk of the polygons.

A picture is nested closed polygons. Vertex i stands on the ray of angle 2 pi i / vertices; from one
polygon to the next it moves by (noise + growth) along the cosine in x and, under a noise of its
own, along the sine in y. So a vertex of polygon l is start + l * growth - sum of l noises, each
times a constant of its ray, and only the sum is carried from block to block. A scene places an
object with `params._replace(centre=..., radius=..., oval=...)`.

All numbers are int32 fixed point, in pixels of the canvas that is drawn: positions Q14, of less
than 30,000 pixels (`check` proves it), truncated towards zero as PIL truncates.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt32

from ..drawing import noise, pnoise, polyline, turns
from ..drawing.raster import Backend

CANVAS = 512  # the published canvas: lengths of a category are its pixels
POSITION_BITS, START_BITS = 14, 8
MOST_POLYGONS = 256  # sums of noise stay below 2**20
REACH = 30_000  # pixels, of `drawing.polyline`
BUCKETS = (64, 128, 256, 512)
NARROW = 2048  # segments of a block where images are drawn one by one: they stay in the cache
WIDE = 32768  # where 64 images are drawn at once: 0.2 GB of vertices and noise


class Category(NamedTuple):
    """One category, or a table of them with a leading axis."""

    vertices: Int32[Array, "*n"]
    polygons: Int32[Array, "*n"]
    noise: Int32[Array, "*n"]  # lambda, Q12
    growth: Int32[Array, "*n"]  # pixels a polygon, Q14
    radius: Int32[Array, "*n"]  # pixels
    frequencies: Int32[Array, "*n 2"]  # of the two sine waves, 0 for none
    oval: Int32[Array, "*n 2"]  # factor of the radius in x and y, Q12
    centre: Int32[Array, "*n 2"]  # x and y in half pixels


class Rays(NamedTuple):
    """What stays the same from polygon to polygon, in x and in y: V lanes, of which the first are
    the vertices and the next is the first vertex again.
    """

    start: tuple[Int32[Array, " V"], ...]  # Q14
    growth: tuple[Int32[Array, " V"], ...]  # Q14
    swing: tuple[Int32[Array, " V"], ...]  # Q12


Sums = tuple[Int32[Array, " V"], Int32[Array, " V"]]  # of the noise so far, Q12
Ranges = Mapping[str, tuple[int, int]]  # least and greatest of each field, in the field's units


def tables() -> dict[str, np.ndarray]:
    """The constants that every image reads."""
    return {"noise": pnoise.quantiles(), "turns": turns.table()}


def uniform(word: UInt32[Array | np.ndarray, "*n"], span: tuple[int, int], xp: Any = jnp):
    """int32 in [span[0], span[1]], both included, less than 2**16 - 1 apart."""
    low, high = span
    return low + noise.below(word, high - low + 1).astype(xp.int32)


@functools.cache
def exponential_steps(mean: int, least: int, most: int) -> np.ndarray:
    """uint32[most - least]: a word at or above so many of them draws least + that many, the whole
    part of an exponential number redrawn until it lies in [least, most].
    """
    at = np.arange(least, most + 2)
    below = -np.expm1((least - at) / mean)
    return np.round(below[1:-1] / below[-1] * (2**32 - 1)).astype(np.uint32)


def propose(
    number: UInt32[Array | np.ndarray, "*n"],
    ranges: Ranges,
    *,
    fixed: Mapping[str, Any],
    mean_vertices: int | None = None,
    xp: Any = jnp,
) -> Category:
    """Candidate `number` -> its category: each field uniform in its range, but for the vertices
    with `mean_vertices`, which are exponential, and the second frequency, which is another one than
    the first unless both are 0. `fixed` overrules.
    """
    words = noise.mix(number[..., None], xp.arange(11, dtype=xp.uint32))
    if mean_vertices is None:
        vertices = uniform(words[..., 0], ranges["vertices"], xp)
    else:
        steps = exponential_steps(mean_vertices, *ranges["vertices"])
        passed = (words[..., :1] >= xp.asarray(steps)).sum(-1, dtype=xp.int32)
        vertices = ranges["vertices"][0] + passed
    least, most = ranges["frequencies"]
    first = uniform(words[..., 5], (least, most), xp)
    other = uniform(words[..., 6], (least, max(most - 1, least)), xp)
    other = other + ((other >= first) & (least < most)).astype(xp.int32)
    either = uniform(words[..., 6], (least, most), xp)
    drawn = Category(
        vertices=vertices,
        polygons=uniform(words[..., 1], ranges["polygons"], xp),
        noise=uniform(words[..., 2], ranges["noise"], xp),
        growth=uniform(words[..., 3], ranges["growth"], xp),
        radius=uniform(words[..., 4], ranges["radius"], xp),
        frequencies=xp.stack([first, xp.where(first == 0, either, other)], -1),
        oval=uniform(words[..., 7:9], ranges["oval"], xp),
        centre=uniform(words[..., 9:11], ranges["centre"], xp),
    )
    same = {
        name: xp.zeros_like(getattr(drawn, name)) + xp.asarray(value, xp.int32)
        for name, value in fixed.items()
    }
    return drawn._replace(**same)


def place(params: Category, key: UInt32[Array, ""], ranges: Ranges, *fields: str) -> Category:
    """`params` with `fields` (of radius, oval and centre) drawn anew."""
    words = noise.mix(key, lax.iota(jnp.uint32, 5))
    pick = {"radius": words[0], "oval": words[1:3], "centre": words[3:5]}
    return params._replace(**{name: uniform(pick[name], ranges[name]) for name in fields})


def fingerprint(params: Category) -> UInt32[Array, ""]:
    """A hash of one category's numbers, so that its noise is its own whatever its place in a
    table.
    """
    words = jnp.concatenate([field.reshape(-1) for field in params]).astype(jnp.uint32)
    mixed = noise.mix(words, lax.iota(jnp.uint32, words.shape[0]))
    return lax.reduce(mixed, np.uint32(0), lax.bitwise_xor, (0,))


def check(table: Category, ranges: Ranges, size: int, gain: int, most_vertices: int) -> None:
    """ValueError, on the host, for a table whose walk could leave int32 or the vertex list."""
    worst = {}
    for name, values in table._asdict().items():
        low, high = int(np.min(values)), int(np.max(values))
        least = {"vertices": 1, "polygons": 1, "centre": -(2**15)}.get(name, 0)
        if low < least:
            raise ValueError(f"{name}={low} in the table: give {least} or more")
        if name in ("vertices", "polygons") and high > ranges[name][1]:
            raise ValueError(
                f"{name}={high} in the table: load it with {name}=({ranges[name][0]}, {high})"
            )
        worst[name] = max(high, -low, ranges[name][1])
    if worst["polygons"] > MOST_POLYGONS:
        raise ValueError(f"polygons={worst['polygons']}: give at most {MOST_POLYGONS}")
    if worst["frequencies"] * most_vertices >= 2**24:
        raise ValueError(f"a frequency of {worst['frequencies']}: give a smaller one")
    swing, growth = gain * worst["noise"] / 2**12, (worst["noise"] / 2**12) + 1
    growth += worst["growth"] / 2**14
    start = worst["radius"] * worst["oval"] / 2**12
    reach = worst["centre"] / 2 + start + worst["polygons"] * (growth + swing)
    scale = size / CANVAS
    if max(reach, swing * 2**7, growth * 2**9, start * 2**3) * scale >= REACH:
        raise ValueError(
            f"size={size}: contours of this radius, noise and number would leave "
            f"{REACH} pixels; give a smaller canvas or narrower ranges"
        )


def rays(params: Category, size: int, gain: int, lanes: int, tables: Mapping[str, Array]) -> Rays:
    """The rays of one object on a canvas of `size`. gain: 2 where the noise is 2 lambda p - lambda
    (RCDB, SegRCDB), 1 where it is lambda p - lambda (VisualAtom).
    """
    vertex = _vertices(params, lanes)
    angle = functools.partial(turns.cosine_sine, parts=params.vertices, table=tables["turns"])
    waved = (turns.wrap(vertex * params.frequencies[i], params.vertices) for i in range(2))
    waves = sum(angle(v)[1] for v in waved)
    wave = waves >> (turns.COSINE_BITS + 1 - POSITION_BITS)  # half of each
    grown = (params.noise << 2) + params.growth + wave
    grown = grown * size // CANVAS
    swing = gain * params.noise * size // CANVAS
    start, growth, swings = [], [], []
    for axis, cosine in enumerate(angle(vertex)):
        stretched = params.radius * params.oval[axis] >> (12 - START_BITS)
        out = turns.product(stretched * size // CANVAS, cosine) << (POSITION_BITS - START_BITS)
        centre = params.centre[axis] * size << (POSITION_BITS - 10)
        start.append(centre + out)
        growth.append(turns.product(grown, cosine))
        swings.append(turns.product(swing, cosine))
    return Rays(tuple(start), tuple(growth), tuple(swings))


def rest(lanes: int) -> Sums:
    """The sums before the first polygon."""
    return (jnp.zeros(lanes, jnp.int32),) * 2


def walk(
    rays: Rays,
    params: Category,
    key: UInt32[Array, ""],
    first: Int32[Array, ""],
    sums: Sums,
    block: int,
    table: Int32[Array, " 4096"],
    *,
    branch: bool = False,
) -> tuple[Int32[Array, "B V"], Int32[Array, "B V"], Sums]:
    """x and y in whole pixels of polygons first .. first + block - 1, and the sums after them.

    One hash word a vertex: its first twelve bits choose the noise in x, the next twelve in y.
    branch=True goes from polygon to polygon, which XLA:CPU does faster than a sum over all.
    """
    number = first + lax.iota(jnp.int32, block)
    keys = noise.mix(key, number.astype(jnp.uint32))
    vertex = _vertices(params, sums[0].shape[0]).astype(jnp.uint32)

    def draw(key):
        word = noise.mix(key, vertex)
        quantiles = (word >> np.uint32(shift) & np.uint32(4095) for shift in (20, 8))
        return [table.at[q.astype(jnp.int32)].get(mode="promise_in_bounds") for q in quantiles]

    def pixels(number, sums):
        return tuple(_pixel(rays, axis, number + 1, sums[axis]) for axis in range(2))

    if branch:

        def step(sums, polygon):
            sums = tuple(s + n for s, n in zip(sums, draw(polygon[0]), strict=True))
            return sums, pixels(polygon[1], sums)

        sums, (x, y) = lax.scan(step, sums, (keys, number))
        return x, y, sums
    each = [
        s + jnp.cumsum(n, 0, dtype=jnp.int32)
        for s, n in zip(sums, draw(keys[:, None]), strict=True)
    ]
    return *pixels(number[:, None], each), (each[0][-1], each[1][-1])


def _vertices(params: Category, lanes: int) -> Int32[Array, " V"]:
    """The vertex of each lane: the lane after the last is the first vertex again, lanes further on
    are no vertex.
    """
    lane = lax.iota(jnp.int32, lanes)
    return jnp.where(lane < params.vertices, lane, 0)


def _pixel(rays: Rays, axis: int, number, total):
    moved = rays.swing[axis] * (total >> 10) + (rays.swing[axis] * (total & 1023) >> 10)
    position = rays.start[axis] + number * rays.growth[axis] - moved
    return position + (position >> 31 & (1 << POSITION_BITS) - 1) >> POSITION_BITS


def trace(
    canvas: Int32[Array, " P"],
    params: Category,
    key: UInt32[Array, ""],
    ink: Callable[[Int32[Array, " B"]], Int32[Array, " B"]],
    tables: Mapping[str, Array],
    size: int,
    *,
    gain: int,
    vertices: tuple[int, int],
    most_polygons: int,
    points: bool = False,
    backend: Backend = "scatter",
    branch: bool = False,
) -> Int32[Array, " P"]:
    """Draws all polygons of one object on a canvas of `drawing.polyline`.

    ink: polygon numbers -> keys, rising with the number. vertices: the least and the greatest
    number that a polygon can have. points: vertices instead of lines. branch=True takes as many
    steps as the object has polygons, elsewhere all objects take those of `most_polygons`.
    """
    if branch:
        return _one_by_one(canvas, params, key, ink, tables, size, gain, vertices, points)
    lanes = vertices[1] + 1
    steps = -(-most_polygons // max(WIDE // lanes, 1))
    block = -(-most_polygons // steps)
    here = rays(params, size, gain, lanes, tables)

    def some(step, state):
        canvas, sums = state
        x, y, sums = walk(here, params, key, step * block, sums, block, tables["noise"])
        number = step * block + lax.iota(jnp.int32, block)
        keys = jnp.where(number < params.polygons, ink(number), 0)
        draw = _dots if points else polyline.closed
        return draw(canvas, x, y, params.vertices, keys, size, backend=backend), sums

    # A fixed number of steps: a number that differs between the images of a batch would copy every
    # canvas in every step.
    return lax.fori_loop(0, steps, some, (canvas, rest(lanes)))[0]


def _one_by_one(canvas, params: Category, key, ink, tables, size: int, gain: int, vertices, points):
    """Blocks of `NARROW` lanes until the polygons are done: many polygons of few vertices or few of
    many, so that one program draws the lines of all.
    """
    least, most = vertices
    buckets = [v for v in BUCKETS if least < v <= most]
    buckets.append(1 << most.bit_length())  # lanes, one more than vertices or more
    chosen = sum((params.vertices >= v).astype(jnp.int32) for v in buckets[:-1])
    here = rays(params, size, gain, buckets[-1], tables)
    lines = max(NARROW, buckets[-1])

    def walked(first, sums, bucket: int):
        short, before = jax.tree.map(lambda v: v[:bucket], (here, sums))
        block = lines // bucket
        x, y, after = walk(short, params, key, first, before, block, tables["noise"], branch=True)
        number = first + lax.iota(jnp.int32, block)
        keys = jnp.where(number < params.polygons, ink(number), 0)[:, None]
        keys = jnp.where(lax.iota(jnp.int32, bucket) < params.vertices, keys, 0)
        sums = tuple(s.at[:bucket].set(v) for s, v in zip(sums, after, strict=True))
        return first + block, sums, tuple(v.reshape(-1) for v in (x, y, keys))

    def some(state):
        first, sums, canvas = state
        ways = [functools.partial(walked, bucket=bucket) for bucket in buckets]
        first, sums, (x, y, keys) = (
            lax.switch(chosen, ways, first, sums) if len(ways) > 1 else ways[0](first, sums)
        )
        to_x, to_y = (x, y) if points else (jnp.roll(x, -1), jnp.roll(y, -1))
        drawn = polyline.segments(canvas, x, y, to_x, to_y, keys, size, ends=points)
        return first, sums, drawn

    state = (jnp.int32(0), rest(buckets[-1]), canvas)
    return lax.while_loop(lambda state: state[0] < params.polygons, some, state)[2]


def _dots(canvas, x, y, count, key, size: int, *, backend: Backend):
    drawn = jnp.where(lax.iota(jnp.int32, x.shape[1]) < count, key[:, None], 0)
    if backend == "scatter":
        x, y, drawn = (v.reshape(-1) for v in (x, y, drawn))
        return polyline.segments(canvas, x, y, x, y, drawn, size)

    def one(canvas, row):
        x, y, drawn = row
        return polyline.segments(canvas, x, y, x, y, drawn, size, backend=backend), None

    return lax.scan(one, canvas, (x, y, drawn))[0]
