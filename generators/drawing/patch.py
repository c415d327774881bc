"""FractalDB's 3x3 patches without pasting a patch for each point.

The published script pastes on each point a new random 3x3 binary pattern, zeros included, and the
last one wins. As each bit is on in 256 of 511 patterns, independently of where the points are, the
picture is the support of the patches (a dilation of the occupied pixels) and a coin for each pixel:
the same distribution, in exact integers. All functions take patches as centred on their point; who
wants them elsewhere moves the points.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from .noise import GOLDEN, hash32
from .stages import Settle, at_once

ON = np.uint32(0x80402010)  # 256/511 of 2**32


def dilate(occupied: UInt8[Array, "H W"]) -> UInt8[Array, "H W"]:
    """1 where any patch pixel falls. Separable: three shifts down, then three across."""
    height, width = occupied.shape
    tall = lax.optimization_barrier(jnp.pad(occupied, 1))
    down = tall[:height] | tall[1 : height + 1] | tall[2:]
    down = lax.optimization_barrier(down)
    return down[:, :width] | down[:, 1 : width + 1] | down[:, 2:]


def coin(pixels: UInt32[Array, "H W"], key: UInt32[Array, ""]) -> UInt8[Array, "H W"]:
    """The patch bit of each pixel, 0 or 1."""
    return (hash32(pixels * GOLDEN + hash32(key)) < ON).astype(jnp.uint8)


def stamp(counts: Int32[Array, "H W"], key: UInt32[Array, ""]) -> Int32[Array, "H W"]:
    """Counts under one random mask for the whole image (Anderson and Farrell): a 3x3 sum over the
    mask's bits.
    """
    padded = lax.optimization_barrier(jnp.pad(counts, 1))
    return masked_sum(padded, hash32(key ^ np.uint32(3)))


def masked_sum(padded: Int32[Array, "P Q"], bits: UInt32[Array, ""]) -> Int32[Array, "P-2 Q-2"]:
    """The 3x3 sum under the mask in the low nine bits, of counts that have a margin of one pixel:
    points just outside of the frame reach into it.
    """
    mask = bits.astype(jnp.int32)
    windows = enumerate(_windows(padded))
    return functools.reduce(jnp.add, [window & -((mask >> i) & 1) for i, window in windows])


def last_writer(
    occupied: UInt8[Array, "H W"],
    pixels: UInt32[Array, "H W"],
    key: UInt32[Array, ""],
    patched: bool,
    settle: Settle = at_once,
) -> Int32[Array, "H W"]:
    """A number in [1, 2**31) naming the point that is uppermost on each pixel, 0 where there is
    none.

    Every occupied pixel draws its rank by hash; the published order of writing is as random, and
    lost to parallel chains.
    """
    rank = (hash32(pixels * GOLDEN + hash32(~key)) >> np.uint32(1)).astype(jnp.int32)
    rank = jnp.where(occupied > 0, jnp.maximum(rank, 1), 0)
    if not patched:
        return rank
    return functools.reduce(jnp.maximum, _windows(settle(jnp.pad(rank, 1))))


def _windows(padded: Array) -> list[Array]:
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    return [padded[r : r + height, c : c + width] for r in range(3) for c in range(3)]
