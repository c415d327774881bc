"""Shapes of a picture's ink: what it encloses, and the rim of that.

A pixel is inside when ink lies to its left and right in its row and above and below in its column:
between the first and the last ink of both, so four reductions tell it, without any flood. Places
are int16 (a canvas has at most 4096 rows), which is four times as fast as int32 on a CPU.
"""

import functools
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int, Int16

STAGE = 16  # XLA:CPU vectorises a reduction over a middle axis, not one over the last


class Ends(NamedTuple):
    """First and last ink of every line; S and -1 where there is none."""

    first: Int16[Array, " S"]
    last: Int16[Array, " S"]


def filled(ink: Bool[Array, "S S"]) -> Bool[Array, "S S"]:
    """The ink and all pixels that it encloses in both directions."""
    rows, cols = _ends(ink)
    return _inside(rows, cols, 0, 0)


def outline(ink: Bool[Array, "S S"]) -> Bool[Array, "S S"]:
    """The pixels of `filled` that touch one outside of it; beyond the frame is outside."""
    rows, cols = _ends(ink)
    around = [_inside(rows, cols, *step) for step in ((-1, 0), (1, 0), (0, -1), (0, 1))]
    return _inside(rows, cols, 0, 0) & ~functools.reduce(jnp.logical_and, around)


def edges(labels: Int[Array, "S S"]) -> Bool[Array, "S S"]:
    """The pixels of which a neighbour has another label (labels are 0 and more); beyond the frame
    is another.
    """
    return functools.reduce(jnp.logical_or, [side != labels for side in around(labels, -1)])


def around(image: Int[Array, "S S"], edge: int) -> list[Int[Array, "S S"]]:
    """The four neighbours of each pixel, `edge` beyond the frame."""
    size = image.shape[0]
    padded = lax.optimization_barrier(jnp.pad(image, 1, constant_values=edge))
    windows = ((0, 1), (2, 1), (1, 0), (1, 2))
    return [lax.slice(padded, at, (at[0] + size, at[1] + size)) for at in windows]


def _ends(ink) -> tuple[Ends, Ends]:
    """Of the rows and of the columns."""
    size = ink.shape[0]
    place = lax.iota(jnp.int16, size)[:, None]
    cols = Ends(jnp.where(ink, place, size).min(0), jnp.where(ink, place, -1).max(0))
    missing = -size % STAGE
    parts = jnp.pad(ink, ((0, 0), (0, missing))).reshape(size, -1, STAGE)
    place = lax.iota(jnp.int16, size + missing).reshape(-1, STAGE)
    first, last = lax.optimization_barrier(
        (jnp.where(parts, place, size).min(1), jnp.where(parts, place, -1).max(1))
    )
    return Ends(first.min(1), last.max(1)), cols


def _inside(rows: Ends, cols: Ends, down: int, right: int):
    """Whether the pixel `down` and `right` of each one lies between the ends of its lines."""
    place = lax.iota(jnp.int16, rows.first.shape[0])
    row, col = (place + np.int16(down))[:, None], place + np.int16(right)
    rows, cols = _moved(rows, down), _moved(cols, right)
    across = (col >= rows.first[:, None]) & (col <= rows.last[:, None])
    return across & (row >= cols.first) & (row <= cols.last)


def _moved(ends: Ends, by: int) -> Ends:
    """Line i gets the ends of line i + by; lines beyond the frame hold no ink."""
    size = ends.first.shape[0]

    def move(values, empty: int):
        return jnp.pad(values, 1, constant_values=empty)[1 + by : 1 + by + size]

    return Ends(move(ends.first, size), move(ends.last, -1))
