"""A picture made smaller or larger and pasted on another, in integers."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int32, UInt32

from .stages import Settle

WEIGHT_BITS = 8


def paste(
    canvas: UInt32[Array, "H H"],
    picture: UInt32[Array, "S S"],
    row: Int32[Array, ""],
    col: Int32[Array, ""],
    side: Int32[Array, ""],
    most: int,
    settle: Settle,
) -> UInt32[Array, "H H"]:
    """`picture` resized to `side` <= `most` <= H pixels, its upper left at (row, col), over
    `canvas` wherever it is not black. What lies outside of the canvas is lost. Packed colours.

    Bilinear between the four nearest pixels as OpenCV's INTER_LINEAR, down and then across, with
    weights in 256ths and rounded half up each time. Only a window of `most` pixels is worked on:
    most = H where pictures are drawn side by side, whose windows would have to be scattered.
    """
    size = canvas.shape[0]
    rows, cols = (_axis(start, side, picture.shape[0], size, most) for start in (row, col))
    tall = settle(_lerp(picture[rows.low], picture[rows.high], rows.weight[:, None]))
    wide = settle(_lerp(tall[:, cols.low], tall[:, cols.high], cols.weight))
    seen = (wide > 0) & rows.inside[:, None] & cols.inside
    if most == size:
        return jnp.where(seen, wide, canvas)
    corner = (rows.first, cols.first)
    under = lax.dynamic_slice(canvas, corner, (most, most))
    return lax.dynamic_update_slice(canvas, jnp.where(seen, wide, under), corner)


class _Axis(NamedTuple):
    """The pixels of a window of `most` that lies on the canvas and holds all of the picture that
    does, and what each one shows.
    """

    first: Int32[Array, ""]
    low: Int32[Array, " W"]
    high: Int32[Array, " W"]
    weight: UInt32[Array, " W"]
    inside: Bool[Array, " W"]


def _axis(start, side, source: int, size: int, most: int) -> _Axis:
    first = jnp.clip(start, 0, size - most)
    place = lax.iota(jnp.int32, most) + first - start
    inside = (place >= 0) & (place < side)
    # Pixel i of the picture is at (i + 1/2) source / side - 1/2, in units of 1 / (2 side).
    along = jnp.clip((2 * place + 1) * source - side, 0, (source - 1) * 2 * side)
    low, rest = along // (2 * side), along % (2 * side)
    weight = ((rest << WEIGHT_BITS) + side) // (2 * side)
    high = jnp.minimum(low + 1, source - 1)
    return _Axis(first, low, high, weight.astype(jnp.uint32), inside)


def _lerp(low, high, weight):
    """Two channels a word, as in `blur`."""
    pair, single = np.uint32(0x00FF00FF), np.uint32(0x0000FF00)
    other = np.uint32(1 << WEIGHT_BITS) - weight
    red_blue = (low & pair) * other + (high & pair) * weight + np.uint32(0x00800080)
    green = ((low & single) >> np.uint32(8)) * other + ((high & single) >> np.uint32(8)) * weight
    return ((red_blue >> np.uint32(8)) & pair) | ((green + np.uint32(0x80)) & single)
