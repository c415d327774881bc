"""Points to pixels: one call, one backend a platform, equal to the last bit."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32

Backend = Literal["scatter", "matmul"]
MATMUL_CHUNK = 8192  # points a matmul at most: one-hot matrices of 2 * 8192 * size bfloat16


def raster(
    rows: Int32[Array, "..."],
    cols: Int32[Array, "..."],
    size: int,
    *,
    op: Literal["count", "occupied"] = "count",
    backend: Backend = "scatter",
) -> Array:
    """How many points fall on each pixel, int32[size, size], or whether any does, uint8[size, size]
    of 0 and 1.

    Points whose row or column is outside [0, size) are not on the picture and are dropped.
    `scatter` suits CPU and GPU; `matmul` multiplies one-hot rows by one-hot columns (0 and 1 are
    exact in bfloat16, sums are exact in float32 up to 2**24 points a pixel) and suits TPU, whose
    scatter is serial.
    """
    rows, cols = rows.reshape(-1), cols.reshape(-1)
    if backend == "matmul":
        counts = _matmul_counts(rows, cols, size)
        return counts if op == "count" else (counts > 0).astype(jnp.uint8)
    inside = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
    index = jnp.where(inside, rows * size + cols, size * size)
    if op == "count":
        flat = jnp.zeros(size * size, jnp.int32).at[index].add(1, mode="drop")
    else:
        flat = jnp.zeros(size * size, jnp.uint8).at[index].max(np.uint8(1), mode="drop")
    return flat.reshape(size, size)


def _matmul_counts(rows, cols, size: int):
    chunk = min(rows.shape[0], MATMUL_CHUNK)
    missing = -rows.shape[0] % chunk
    rows, cols = (
        jnp.pad(v, (0, missing), constant_values=-1).reshape(-1, chunk) for v in (rows, cols)
    )
    pixels = lax.iota(jnp.int32, size)

    def add(total, chunk):
        row, col = ((v[:, None] == pixels).astype(jnp.bfloat16) for v in chunk)
        part = lax.dot_general(
            row, col, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32
        )
        return total + part.astype(jnp.int32), None

    total, _ = lax.scan(add, jnp.zeros((size, size), jnp.int32), (rows, cols))
    return total


def fit(
    values: Int32[Array, "..."], low: Int32[Array, ""], high: Int32[Array, ""], span: int
) -> Int32[Array, "..."]:
    """Maps [low, high] on [0, span] by one integer reciprocal: floor((v - low) * (span << s) //
    (high - low) >> s).

    `span` < 2**15; `high` itself maps to at most `span`. high - low must stay below 2**16.
    """
    shift = 30 - span.bit_length()
    scale = (span << shift) // jnp.maximum(high - low, 1)
    return ((values - low) * scale) >> shift


def window(
    values: Int32[Array, "..."],
    low: Int32[Array, ""],
    high: Int32[Array, ""],
    scale: Int32[Array, ""],
    shift: Int32[Array, ""],
    size: int,
) -> Int32[Array, "..."]:
    """Pixels of [low, high] seen through a window whose extent is theirs times scale / 2**12 and
    whose middle is theirs plus shift / 2**16 extents; its ends are the middles of pixels 0 and
    size - 1. Truncated towards zero. high - low < 2**16, scale of 2**11 to 2**13, |shift| < 2**14,
    size <= 2**12.
    """
    extent = jnp.maximum(high - low, 1)
    bits = 30 - size.bit_length()
    rate = ((size - 1) << bits) // jnp.maximum((extent * scale) >> 11, 1)
    middle = low + high + ((extent * shift) >> 15)
    place = (2 * values - middle) * rate + ((size - 1) << (bits - 1))
    return (place + ((place >> 31) & ((1 << bits) - 1))) >> bits
