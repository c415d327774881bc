"""What the families of iterated function systems share: the table's row, candidates, rounding,
weights.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt32

from ..drawing import noise
from ..drawing.chaos import COORDINATE_BITS, LINEAR_BITS, MAX_MAPS, TRANSLATION_BITS


class Category(NamedTuple):
    """One system, or a table of them with a leading axis. See `drawing.chaos` for the fixed-point
    formats.
    """

    # 2-D: a b c d in Q14, e f in Q20, x' = a x + b y + e, y' = c x + d y + f. 3-D: 9 and 3.
    maps: Int32[Array, "*n 7 k"]
    thresholds: UInt32[Array, "*n 7"]
    num_maps: Int32[Array, "*n"]  # 2 to 7; the rest of `maps` repeats the last


def check_headroom(table: Category, most: Sequence[float], unit: int, options: str) -> None:
    """ValueError if a step of the chaos game could leave int32 under the instance weights.

    `most` are the greatest factors that the coefficients of one matrix row can have together, the
    others being 1: [1.8] when one coefficient is weighted at a time. On the host. A matrix row of
    magnitude r adds r * 2**(coordinate bits + 14), the translation at most half of the frame.
    """
    dims = 2 if table.maps.shape[-1] == 6 else 3
    matrix = np.abs(table.maps[..., : dims * dims].astype(np.int64))
    rows = matrix.reshape(*matrix.shape[:-1], dims, dims)
    factors = np.resize(np.append(most, np.ones(dims)), dims)
    worst = (np.sort(rows)[..., ::-1] @ factors).max((-1, -2)) / 2**LINEAR_BITS
    bits = COORDINATE_BITS[dims] + LINEAR_BITS
    limit = (2**31 - 2 ** (bits - 1)) / 2**bits
    shift = np.abs(table.maps[..., dims * dims :].astype(np.int64)).max((-1, -2))
    reach = 2**31 / (max(most) * unit * 2**TRANSLATION_BITS)  # of `apply_weight`'s product
    if (shift * max(most) * unit + unit >= 2**31).any():
        bad = int(np.argmax(shift))
        raise ValueError(
            f"category {bad}: a translation of {shift[bad] / 2**TRANSLATION_BITS:.2f} with "
            f"{options}; int32 holds less than {reach:.2f}: scale the system down, which changes "
            "no picture"
        )
    if (worst >= limit).any():
        bad = int(np.argmax(worst))
        raise ValueError(
            f"category {bad}: with {options} a matrix row sums to {worst[bad]:.2f} in magnitude; "
            f"int32 holds less than {limit}: use smaller coefficients or weights='none'"
        )


def quantise_system(matrix: np.ndarray, translation: np.ndarray, probability: np.ndarray):
    """float64 (n, d, d), (n, d), (n,) -> maps int32[MAX_MAPS, d*d + d], thresholds
    uint32[MAX_MAPS], count int32.
    """
    n, dims = translation.shape
    if not (np.abs(matrix) < 128).all() or not (np.abs(translation) < 128).all():
        raise ValueError("coefficients of 128 and more in magnitude do not fit int32 fixed point")
    linear = np.round(matrix.reshape(n, dims * dims) * 2**LINEAR_BITS)
    shift = np.round(translation * 2**TRANSLATION_BITS)
    maps = np.concatenate([linear, shift], 1).astype(np.int64)
    cumulative = np.minimum(np.round(np.cumsum(probability) * 2.0**32), 2.0**32 - 1)
    thresholds = cumulative.astype(np.uint64).astype(np.uint32)
    return pad_system(maps, thresholds)


def pad_system(maps: np.ndarray, thresholds: np.ndarray):
    """maps [n, k], thresholds [n] -> int32[MAX_MAPS, k], uint32[MAX_MAPS], count int32.

    The last map is repeated; it is reached by every hash that no earlier map took.
    """
    n = len(maps)
    index = np.minimum(np.arange(MAX_MAPS), n - 1)
    thresholds = np.where(np.arange(MAX_MAPS) < n - 1, thresholds[index], np.uint32(2**32 - 1))
    return maps[index].astype(np.int32), thresholds.astype(np.uint32), np.int32(n)


def apply_weight(
    maps: Int32[Array, "n k"], weight: Int32[Array, " k"], unit: int
) -> Int32[Array, "n k"]:
    """maps * weight / unit, rounded half up; the published instance weights are multiples of
    1/unit.
    """
    return (maps * weight[None] + unit // 2) // unit


def propose_system(number, dims: int, xp: Any, varying: int, reference: int):
    """uint32[*n] candidate numbers -> maps, thresholds, count: integers only, the same from NumPy
    and from XLA.

    Only the first `varying` coefficients are the candidate's own, and the number of maps when it is
    one more than there are; the others are those of the candidate `reference`.
    """
    columns = dims * (dims + 1)
    counter = np.arange(1 + MAX_MAPS * columns, dtype=np.uint32)
    bits = noise.mix(number[..., None], xp.asarray(counter))
    if varying <= columns:
        own = np.append(False, np.tile(np.arange(columns) < varying, MAX_MAPS))
        bits = xp.where(own, bits, noise.mix(np.full(1, reference, np.uint32), counter))
    count = 2 + noise.below(bits[..., 0], 6).astype(xp.int32)
    words = bits[..., 1:].reshape(*number.shape, MAX_MAPS, dims * (dims + 1))
    linear = (words[..., : dims * dims] >> np.uint32(31 - LINEAR_BITS)).astype(xp.int32)
    shift = (words[..., dims * dims :] >> np.uint32(31 - TRANSLATION_BITS)).astype(xp.int32)
    linear, shift = linear - (1 << LINEAR_BITS), shift - (1 << TRANSLATION_BITS)
    live = xp.arange(MAX_MAPS, dtype=xp.int32) < count[..., None]
    thresholds = det_thresholds(linear, count, xp)
    maps = xp.concatenate([linear, shift], -1)
    final = xp.take_along_axis(maps, (count - 1)[..., None, None], -2)
    return xp.where(live[..., None], maps, final), thresholds, count


def det_thresholds(linear, count, xp: Any):
    """int32[*n, MAX_MAPS, d*d] in Q14 -> thresholds uint32[*n, MAX_MAPS] for probabilities
    proportional to |det| of the first `count` maps.
    """
    dims = 2 if linear.shape[-1] == 4 else 3
    place = xp.arange(MAX_MAPS, dtype=xp.int32)
    live = place < count[..., None]
    share = xp.where(live, _determinant(linear, dims, xp), 0).astype(xp.uint32)
    return xp.where(
        place >= count[..., None] - 1, np.uint32(2**32 - 1), _cumulative_share(share, xp)
    )


def _determinant(linear, dims: int, xp: Any):
    """|det| of Q14 matrices, scaled so that seven of them sum to less than 2**31; never 0."""
    m = [linear[..., i] for i in range(dims * dims)]
    if dims == 2:
        size = abs(m[0] * m[3] - m[1] * m[2]) >> 1
    else:
        minors = [
            (m[4] * m[8] - m[5] * m[7]) >> LINEAR_BITS,
            (m[3] * m[8] - m[5] * m[6]) >> LINEAR_BITS,
            (m[3] * m[7] - m[4] * m[6]) >> LINEAR_BITS,
        ]
        size = abs(m[0] * minors[0] - m[1] * minors[1] + m[2] * minors[2]) >> 3
    return xp.maximum(size, 1)


def _cumulative_share(share, xp: Any):
    """uint32[..., n] -> floor(2**24 * cumulative / total) << 8, by long division, for totals below
    2**31.
    """
    cumulative = share[..., 0:1]
    parts = [cumulative]
    for j in range(1, share.shape[-1]):
        cumulative = cumulative + share[..., j : j + 1]
        parts.append(cumulative)
    total, rest = cumulative, xp.concatenate(parts, -1)
    quotient = xp.zeros_like(rest)
    for _ in range(24):
        rest = rest << np.uint32(1)
        fits = rest >= total
        rest = xp.where(fits, rest - total, rest)
        quotient = (quotient << np.uint32(1)) | fits.astype(xp.uint32)
    return quotient << np.uint32(8)


def fingerprint(params) -> UInt32[Array, ""]:
    """A hash of one category's numbers, so that its noise is its own whatever its place in a
    table.
    """
    words = params.maps.reshape(-1).astype(jnp.uint32)
    mixed = noise.hash32(words + noise.hash32(lax.iota(jnp.uint32, words.shape[0])))
    return lax.reduce(mixed, np.uint32(0), lax.bitwise_xor, (0,))
