"""Filled discs and convex polygons of up to four corners, many at once, in exact integers.

A shape is turned into runs of pixels, row by row. As OpenCV's, a polygon holds the pixels of
Bresenham's lines along its edges and all between them: on an edge that is steeper than a diagonal
the nearest pixel of each row, on a flatter one those for which this row is the nearest. A disc of
radius r has floor(sqrt(r**2 - dy**2)) pixels on both sides of its centre's column.
"""

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32

from . import spans
from .ragged import fold
from .raster import Backend

SLOPE_BITS = 16
ROWS = 2048  # made together
CHUNKS = 2
HALF = 1 << SLOPE_BITS  # pixel, in the unit of a place: 2**-17
SLACK = 1 << 12  # of a place, for slopes are rounded down
FAR = 2**30
X, Y, LOW, ROW_COUNT, RADIUS, FIRST_EDGE = range(6)  # columns of the shapes
EDGE = 4  # columns an edge: x and y of its upper end, rows, slope


Shapes = tuple[Int32[Array, " B"], ...]  # the columns below, one entry a shape


def shapes(
    centre: tuple[Int32[Array, " B"], Int32[Array, " B"]],
    radius: Int32[Array, " B"],
    corners: tuple[Int32[Array, "4 B"], Int32[Array, "4 B"]],
    size: int,
) -> Shapes:
    """Shapes to paint: discs where radius > 0, else polygons whose corners, from the centre, go
    round. Whole pixels; centres in the frame, corners and radii of at most 4096 pixels.
    """
    disc = radius > 0
    low = jnp.maximum(jnp.where(disc, -radius, corners[1].min(0)), -centre[1])
    high = jnp.minimum(jnp.where(disc, radius, corners[1].max(0)), size - 1 - centre[1])
    # A polygon need not hold its centre: all of it may lie beyond the frame.
    columns = [*centre, low, jnp.maximum(high - low + 1, 0), radius]
    for x0, y0, x1, y1 in zip(*corners, *(jnp.roll(v, -1, 0) for v in corners), strict=True):
        up, rows = y1 < y0, jnp.abs(y1 - y0)
        run = jnp.where(up, x0 - x1, x1 - x0) << SLOPE_BITS
        slope = run // jnp.maximum(rows, 1)
        columns += [jnp.where(up, x1, x0), jnp.minimum(y0, y1), rows, slope]
    return tuple(columns)


def paint(
    shapes: Shapes, key: Int32[Array, " B"], size: int, backend: Backend = "scatter"
) -> Int32[Array, " P"]:
    """The greatest key on each pixel, 0 for none. key: 1 to 255, 0 for what is not drawn."""
    if backend == "matmul":
        return _paint_each(shapes, key, size)

    def visit(planes, item, offset, live):
        def runs(part):
            item, offset, live = part
            columns = [column[item] for column in shapes]
            y = columns[LOW] + offset
            left, right = _extent(columns, y)
            row = jnp.where(live, columns[Y] + y, -1)
            return row, columns[X] + left, columns[X] + right, key[item]

        # A loop, or XLA:CPU would work the runs out one by one within the scatter.
        parts = (v.reshape(CHUNKS, -1) for v in (item, offset, live))
        row, left, right, keys = (v.reshape(-1) for v in lax.map(runs, tuple(parts)))
        return spans.lay(planes, row, left, right, keys, size)

    lengths = jnp.where(key > 0, shapes[ROW_COUNT], 0)
    planes = fold(lengths, visit, spans.planes(size, jnp.uint8), block=ROWS)
    return spans.settle(planes, size).astype(jnp.int32)


def _paint_each(shapes, key, size: int):
    """The same one shape after the other, without a scatter: about ten operations a pixel of the
    canvas and shape.
    """
    place = lax.iota(jnp.int32, size)

    def one(canvas, each):
        columns, key = each
        x, y = place - columns[X], place - columns[Y]
        left, right = _extent(columns, y)
        rows = (y >= columns[LOW]) & (y < columns[LOW] + columns[ROW_COUNT])
        inside = rows[:, None] & (x >= left[:, None]) & (x <= right[:, None])
        return jnp.where(inside, jnp.maximum(canvas, key), canvas), None

    canvas, _ = lax.scan(one, jnp.zeros((size, size), jnp.int32), (shapes, key))
    return canvas.reshape(-1)


def _extent(columns: Sequence[Array], y: Array) -> tuple[Array, Array]:
    """The first and last pixel of each shape in the row `y`, both from its centre."""
    low, high = [], []
    for first in range(FIRST_EDGE, FIRST_EDGE + 4 * EDGE, EDGE):
        x0, top, rows, slope = (columns[first + i] for i in range(EDGE))
        flat = jnp.abs(slope) > 1 << SLOPE_BITS
        reach = flat.astype(jnp.int32)
        steps = (jnp.clip(2 * (y - top) + side, 0, 2 * rows) for side in (-reach, reach))
        ends = [(x0 << SLOPE_BITS + 1) + slope * step for step in steps]
        meets = (y >= top) & (y <= top + rows)
        begin = jnp.minimum(*ends) + jnp.where(flat, 2 * HALF - SLACK, HALF)
        end = jnp.maximum(*ends) + jnp.where(flat, SLACK, HALF)
        low.append(jnp.where(meets, begin, FAR))
        high.append(jnp.where(meets, end, -FAR))
    left = functools.reduce(jnp.minimum, low) >> SLOPE_BITS + 1
    right = functools.reduce(jnp.maximum, high) >> SLOPE_BITS + 1
    radius = columns[RADIUS]
    reach = _root(jnp.maximum(radius * radius - y * y, 0))
    return jnp.where(radius > 0, -reach, left), jnp.where(radius > 0, reach, right)


def _root(value):
    """floor(sqrt(v)) for 0 <= v < 2**25: a float guess, at most one off, mended."""
    guess = jnp.sqrt(value.astype(jnp.float32)).astype(jnp.int32)
    guess = guess - (guess * guess > value)
    return guess + ((guess + 1) * (guess + 1) <= value)
