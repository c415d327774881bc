"""Lines of one pixel, equal to those of PIL's `ImageDraw.line`, to the last pixel.

Pixel j of a line of n = max(|dx|, |dy|) steps lies j steps along the longer axis and
floor((2 j m + n) / 2 n) along the shorter one, m its extent: Bresenham's line in closed form, so
that every pixel stands alone. Lines that miss the frame are dropped and long ones cut to it before
any pixel is made; then as many runs of `RUN` pixels as there are lines are made at a time. A pixel
keeps the greatest key that is drawn on it, so keys that rise with the order of painting paint as a
painter does, whatever order the device writes in.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32

from .ragged import fold
from .raster import Backend, raster

SEARCHED = 1024  # runs of a block that `fold` finds by comparison with all lines
RUN = 4  # pixels that a line makes together: few repeat its constants, many overshoot its end


class Lines(NamedTuple):
    """What the pixels of a line are made from, int32[N] each."""

    begin: Array  # along the longer axis, of the first pixel that can be on the frame
    across: Array  # along the other axis, of the line's first vertex
    carried: Array  # how far that pixel has climbed, in units of 1 / steps
    steps: Array
    rise: Array
    pixels: Array  # that lie on the frame along the longer axis, 0 for a line that is not drawn
    key: Array
    flags: Array  # 1: forward, 2: climbing, 4: rows are the longer axis


def closed(
    canvas: Int32[Array, " P"],
    x: Int32[Array, "B V"],
    y: Int32[Array, "B V"],
    count: Int32[Array, ""],
    key: Int32[Array, " B"],
    size: int,
    *,
    backend: Backend = "scatter",
) -> Int32[Array, " P"]:
    """Draws B closed polygons of `count` vertices each, the rest of V being padding.

    canvas: int32[size * size], row by row. x, y: pixels, |v| < 30,000. key 0: not drawn.
    """
    index = lax.iota(jnp.int32, x.shape[1])
    last = index == count - 1

    def sides(x, y, key):
        next_x, next_y = (jnp.where(last, v[0], jnp.roll(v, -1)) for v in (x, y))
        return _lines(x, y, next_x, next_y, jnp.where(index < count, key, 0), size, ends=False)

    polygons = (x, y, key)
    if backend == "matmul":  # one key a call
        return lax.scan(
            lambda canvas, p: (_draw(canvas, sides(*p), size, backend), None), canvas, polygons
        )[0]
    lines = jax.vmap(sides)(*polygons)
    return _draw(canvas, Lines(*(field.reshape(-1) for field in lines)), size, backend)


def segments(
    canvas: Int32[Array, " P"],
    x0: Int32[Array, " N"],
    y0: Int32[Array, " N"],
    x1: Int32[Array, " N"],
    y1: Int32[Array, " N"],
    key: Int32[Array, " N"],
    size: int,
    *,
    ends: bool = True,
    backend: Backend = "scatter",
) -> Int32[Array, " P"]:
    """Draws N lines from (x0, y0) to (x1, y1); `ends=False` leaves out the last pixel of each.

    canvas: int32[size * size], row by row. Coordinates in pixels, |v| < 30,000, column x and row y.
    key: int32 > 0, 0 for lines that are not drawn. On "matmul" all lines of a call must share one
    key, as a polygon's do.
    """
    return _draw(canvas, _lines(x0, y0, x1, y1, key, size, ends), size, backend)


def _lines(x0, y0, x1, y1, key, size: int, ends: bool) -> Lines:
    dx, dy = x1 - x0, y1 - y0
    steep = jnp.abs(dy) >= jnp.abs(dx)
    along, across = jnp.where(steep, y0, x0), jnp.where(steep, x0, y0)
    forward, side = jnp.where(steep, dy, dx), jnp.where(steep, dx, dy)
    steps, rise = jnp.abs(forward), jnp.abs(side)
    outside = (
        (jnp.maximum(x0, x1) < 0)
        | (jnp.minimum(x0, x1) >= size)
        | (jnp.maximum(y0, y1) < 0)
        | (jnp.minimum(y0, y1) >= size)
    )
    up = forward >= 0
    # Of the line's pixels 0, 1, ... those in [first, stop) are on the frame along the longer axis.
    # A line of no length shows its one pixel.
    first = jnp.maximum(jnp.where(up, -along, along - (size - 1)), 0)
    stop = jnp.minimum(
        jnp.maximum(steps + ends, 1), jnp.where(up, size - along, along + 1)
    )
    return Lines(
        begin=jnp.where(up, along + first, along - first),
        across=across,
        carried=first * rise + (steps >> 1),
        steps=jnp.maximum(steps, 1),
        rise=rise,
        pixels=jnp.where(outside | (key == 0), 0, jnp.maximum(stop - first, 0)),
        key=key,
        flags=up.astype(jnp.int32)
        | ((side >= 0).astype(jnp.int32) << 1)
        | (steep.astype(jnp.int32) << 2),
    )


def _draw(canvas, lines: Lines, size: int, backend: Backend):
    def pixel(of: Lines, j, live):
        j = jnp.minimum(j, of.pixels - 1)  # past the end: the last pixel again
        major = of.begin + jnp.where(of.flags & 1, j, -j)
        climbed = _quotient(of.carried + j * of.rise, of.steps)
        minor = of.across + jnp.where(of.flags & 2, climbed, -climbed)
        steep, inside = of.flags & 4, live & (minor >= 0) & (minor < size)
        row, col = jnp.where(steep, major, minor), jnp.where(steep, minor, major)
        return jnp.where(inside, row, -1), col

    def visit(canvas, item, run, live):
        of = Lines(*(field[item] for field in lines))
        pixels = [pixel(of, run * RUN + lane, live) for lane in range(RUN)]
        if backend == "matmul":
            rows, cols = (jnp.concatenate(v) for v in zip(*pixels, strict=True))
            hit = raster(rows, cols, size, op="occupied", backend=backend).reshape(-1)
            return jnp.maximum(canvas, jnp.where(hit > 0, jnp.max(lines.key), 0))
        # Each lane of the run apart: XLA:CPU makes two-dimensional indices of a scatter one by one.
        for row, col in pixels:
            index = jnp.where(row >= 0, row * size + col, size * size)
            canvas = canvas.at[index].max(of.key, mode="drop")
        return canvas

    runs = (lines.pixels + (RUN - 1)) // RUN
    one_hot = backend == "matmul"
    block = min(runs.shape[0], SEARCHED) if one_hot else runs.shape[0]
    return fold(runs, visit, canvas, block=block, search=one_hot)


def _quotient(numerator, denominator):
    """floor(n / d) for 0 <= n < 2**31 and n / d < 2**16: a float guess, mended by the remainder."""
    guess = (numerator.astype(jnp.float32) / denominator.astype(jnp.float32)).astype(jnp.int32)
    rest = numerator - guess * denominator
    return guess + (rest >= denominator).astype(jnp.int32) - (rest < 0).astype(jnp.int32)
