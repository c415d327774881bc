"""Runs of pixels in rows, painted at a price that does not grow with their length.

A run of n pixels is two runs of the greatest power of two within n, from its left end and to its
right end. One pixel of the plane of that power stands for each; when all runs are laid, each plane
passes its pixels on to the next smaller power, twice, down to single pixels. A pixel keeps the
greatest key, so keys that rise with the order of painting paint as a painter does.
"""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32, Integer


def planes(size: int, dtype: Any = jnp.int32) -> Integer[Array, " LP"]:
    """Empty planes for a canvas of `size`, flat: for each power of two, `size` zeros that stay and
    size * size keys. The smaller the keys' type, the faster.
    """
    return jnp.zeros(size.bit_length() * _stride(size), dtype)


def lay(
    planes: Integer[Array, " LP"],
    row: Int32[Array, " N"],
    left: Int32[Array, " N"],
    right: Int32[Array, " N"],
    key: Int32[Array, " N"],
    size: int,
) -> Integer[Array, " LP"]:
    """Adds the runs of columns left..right, both included, of a row; parts beyond the frame are cut
    off, and a run whose left is beyond its right is none. key: above 0.
    """
    left, right = jnp.maximum(left, 0), jnp.minimum(right, size - 1)
    shown = (left <= right) & (row >= 0) & (row < size)
    power = 31 - lax.clz(jnp.maximum(right - left + 1, 1))
    begin = power * _stride(size) + (row + 1) * size
    ends = (begin + left, begin + right + 1 - (1 << power))
    index = jnp.concatenate([jnp.where(shown, end, planes.size) for end in ends])
    return planes.at[index].max(jnp.tile(key.astype(planes.dtype), 2), mode="drop")


def settle(planes: Integer[Array, " LP"], size: int) -> Integer[Array, " P"]:
    """The greatest key on each pixel, 0 where there is none."""
    length = size * size

    def smaller(step, planes):
        # Runs end in the row that they begin in, so a move along the whole canvas moves them right;
        # what comes in at the front are the zeros.
        power = size.bit_length() - 2 - step
        here, above = power * _stride(size) + size, (power + 1) * _stride(size) + size
        parts = (
            lax.dynamic_slice(planes, (start,), (length,))
            for start in (here, above, above - (1 << power))
        )
        kept, low, high = parts
        settled = jnp.maximum(kept, jnp.maximum(low, high))
        return lax.dynamic_update_slice(planes, settled, (here,))

    planes = lax.fori_loop(0, size.bit_length() - 1, smaller, planes)
    return planes[size : size + length]


def _stride(size: int) -> int:
    return size * size + size
