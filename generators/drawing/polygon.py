"""Insides of polygons with corners on pixels, as PIL's `ImageDraw.polygon` fills them.

Even-odd: along each row of pixels the sides are crossed, and every second stretch is inside. A
stretch begins and ends on the pixel that is nearest to the crossing, so sides, level ones and
corners are drawn too. A crossing switches the pixels to its right; the switches of a pixel are
counted, their parity is passed along the row, for eight polygons at once as the bits of a byte.
Planes lie column by column, so that what is passed on is whole rows of memory.

PIL finds crossings in float32, this in integers. PIL differs where a crossing lies halfway between
two pixels or nearly so, and where two sides that lean the same way meet in a corner, whose row it
lengthens to join that of the next row.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8

from .ragged import fold
from .raster import Backend, raster
from .stages import settler

TOGETHER = 8  # polygons: the bits of a byte
BLOCK = 2048  # crossings made together


def filled(
    x: Int32[Array, "8 V"],
    y: Int32[Array, "8 V"],
    count: Int32[Array, "8"],
    size: int,
    *,
    backend: Backend = "scatter",
    branch: bool = False,
) -> UInt8[Array, " P"]:
    """Which pixels each of eight closed polygons covers: uint8[size * size], row by row, bit b for
    polygon b.

    Polygon b has corners 0 .. count[b] - 1; with a count of 0 it covers nothing. Corners: pixels,
    |v| < 2**15, column x and row y, inside or outside of the frame. branch: images are drawn one
    by one.
    """
    sides, lengths = _sides(x, y, count, size)
    pixels = size * size

    def visit(planes, item, offset, live):
        polygon, row, column, switches, touches = _crossing(sides[item], offset)
        inside = live & (row >= 0) & (row < size) & (column < size)
        switches, touches = switches & inside, touches & inside & (column >= 0)
        column = jnp.maximum(column, 0)  # what is switched left of the frame stays so on it
        if backend == "matmul":
            return _switch_by_matmul(planes, polygon, row, column, switches, touches, size)
        place = polygon * pixels + column * size + row
        # Of the count only the parity matters, so that it may run over.
        switched = planes[0].at[jnp.where(switches, place, planes[0].size)]
        touched = planes[1].at[jnp.where(touches, place, planes[1].size)]
        one = np.uint8(1)
        return switched.add(one, mode="drop"), touched.max(one, mode="drop")

    none = jnp.zeros(TOGETHER * pixels, jnp.uint8)
    switched, touched = fold(lengths, visit, (none, none), block=BLOCK, search=backend == "matmul")
    settle = settler(count[0] < 0 if branch else None)
    switched, touched = settle((_packed(switched & np.uint8(1)), _packed(touched)))
    passed = lax.associative_scan(jnp.bitwise_xor, switched.reshape(size, size))
    return settle(passed.reshape(-1) | touched).reshape(size, size).T.reshape(-1)


def _sides(x, y, count, size: int):
    """int32[8 V, 6] of polygon, column, row, width, height and first row on the frame, from the
    upper end down, or from the left end of a level side; and how many pixels each asks for.
    """
    corner = lax.iota(jnp.int32, x.shape[1])
    last = corner == count[:, None] - 1
    to_x, to_y = (jnp.where(last, v[:, :1], jnp.roll(v, -1, 1)) for v in (x, y))
    swap = (to_y < y) | ((to_y == y) & (to_x < x))
    left, top = jnp.where(swap, to_x, x), jnp.where(swap, to_y, y)
    width, height = jnp.where(swap, x, to_x) - left, jnp.abs(to_y - y)
    level = height == 0
    start, extent = jnp.where(level, left, top), jnp.where(level, width, height)
    first = jnp.maximum(-start, 0)
    stop = jnp.minimum(extent + 1, size - start)
    outside = level & ((top < 0) | (top >= size)) | (corner >= count[:, None])
    lengths = jnp.where(outside, 0, jnp.maximum(stop - first, 0))
    polygon = jnp.broadcast_to(lax.iota(jnp.int32, x.shape[0])[:, None], x.shape)
    parts = (polygon, left, top, width, height, first)
    return jnp.stack([part.reshape(-1) for part in parts], 1), lengths.reshape(-1)


def _crossing(side, offset):
    """Polygon, row and column of a side's pixel, whether the side switches the pixels from there on
    and whether the pixel itself is covered whatever they are.
    """
    polygon, left, top, width, height, first = (side[:, i] for i in range(6))
    step = first + offset
    level = height == 0
    tall = jnp.maximum(height, 1).astype(jnp.uint32)
    along = step.astype(jnp.uint32) * jnp.abs(width).astype(jnp.uint32)  # two extents below 2**16
    whole, rest = (along // tall).astype(jnp.int32), 2 * (along % tall)
    # The nearest column; a crossing halfway between two is of the right one, which it leaves out
    # when the inside ends there.
    right = left + whole + (rest >= tall)
    column = jnp.where(width < 0, left - whole - (rest > tall), right)
    column = jnp.where(level, left + step, column)
    touches = level | (rest != tall) | (column == 0)  # PIL rounds -1/2 up to the first column
    return polygon, jnp.where(level, top, top + step), column, step < height, touches


def _switch_by_matmul(planes, polygon, row, column, switches, touches, size: int):
    def counts(b, chosen, op):
        chosen = chosen & (polygon == b)
        columns = jnp.where(chosen, column, -1)
        return raster(columns, row, size, op=op, backend="matmul").reshape(-1).astype(jnp.uint8)

    switched, touched = (plane.reshape(TOGETHER, -1) for plane in planes)
    each = range(TOGETHER)
    switched = switched + jnp.stack([counts(b, switches, "count") for b in each])
    touched = touched | jnp.stack([counts(b, touches, "occupied") for b in each])
    return switched.reshape(-1), touched.reshape(-1)


def _packed(planes: UInt8[Array, " Q"]) -> UInt8[Array, " P"]:
    """Eight planes of 0 and 1 as the bits of one byte a pixel."""
    planes = planes.reshape(TOGETHER, -1)
    word = planes[0]
    for bit in range(1, TOGETHER):
        word = word | planes[bit] << np.uint8(bit)
    return word
