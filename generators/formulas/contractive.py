"""Systems with constrained singular values (Anderson and Farrell, "Improving Fractal Pre-training",
WACV 2022), drawn in integers from the counter hash.

A map is A = U diag(s1, s2) V with uniformly random rotations and signs, 1 >= s1 >= s2 >= 0, and
sum(s1 + 2 s2) over the maps is the system's sigma factor: contractions that spread well, so nearly
every one is a good category and nothing is searched. The sampler is the paper's sequential one,
which takes each value uniformly from what the sum still allows. Singular values are Q15.
"""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from ..drawing import noise
from ..drawing.chaos import LINEAR_BITS, MAX_MAPS, TRANSLATION_BITS
from .systems import Category, det_thresholds

ONE_BITS = 15
ONE = 1 << ONE_BITS
MAPS = (2, 4)  # least and most maps of a system
MIXING = 32  # steps of `chaos.orbit` under equal chances: many systems are slow spirals
ANGLE_BITS = 12
WORDS = 6  # of the hash for a map: s1, s2, U, V, e, f
VARYING = ("singular_values", "left_rotations", "right_rotations", "translations", "num_maps")
REFERENCE = 0  # candidate whose numbers stand where a parameter does not vary


@functools.cache
def _cosines() -> np.ndarray:
    """int32[4096]: cosines of a full turn in Q15."""
    angle = 2 * np.pi * np.arange(1 << ANGLE_BITS) / (1 << ANGLE_BITS)
    return np.round(np.cos(angle) * ONE).astype(np.int32)


def propose_contractive(
    number: UInt32[Array | np.ndarray, "*n"],
    xp: Any = jnp,
    *,
    maps: tuple[int, int] = MAPS,
    factor: tuple[float, float] | None = None,
    varying: int = len(VARYING),
) -> Category:
    """Candidate `number` -> its system, the same from NumPy and from XLA: as many maps as `maps`
    says, at most 4, p proportional to |det|.

    factor: least and most sigma factor; by default N maps have U((5 + N) / 2, (6 + N) / 2).
    varying: the first so many of `VARYING` are the candidate's, the others candidate 0's.
    """
    bits = noise.mix(number[..., None], xp.arange(2 + WORDS * MAPS[1], dtype=xp.uint32))
    fixed = noise.mix(
        np.full(1, REFERENCE, np.uint32), np.arange(2 + WORDS * MAPS[1], dtype=np.uint32)
    )
    group = np.array([4, 0, *([0, 0, 1, 2, 3, 3] * MAPS[1])])
    bits = xp.where(group < varying, bits, fixed)
    count = maps[0] + noise.below(bits[..., 0], maps[1] - maps[0] + 1).astype(xp.int32)
    if factor is None:
        least, width = (5 + count) * (ONE // 2), ONE // 2
    else:
        least, most = (round(f * ONE) for f in factor)
        least, width = xp.full_like(count, least), most - least
    total = least + noise.below(bits[..., 1], width).astype(xp.int32)
    words = bits[..., 2:].reshape(*number.shape, MAPS[1], WORDS)
    first, second = _singular_values(words[..., :2], count, total, xp)
    linear = _compose(words[..., 2], first, second, words[..., 3], xp)
    shift = (words[..., 4:] >> np.uint32(31 - TRANSLATION_BITS)).astype(xp.int32)
    rows = xp.concatenate([linear, shift - (1 << TRANSLATION_BITS)], -1)
    place = xp.minimum(xp.arange(MAX_MAPS, dtype=xp.int32), count[..., None] - 1)
    rows = xp.take_along_axis(rows, place[..., None], -2)
    return Category(rows, det_thresholds(rows[..., :4], count, xp), count)


def _singular_values(words, count, total, xp: Any):
    """(s1, s2) int32[*n, 4] in Q15 of the first `count` maps; the rest are of no use."""
    remaining, slack = total, total - 3 * ONE * (count - 1)
    found = []
    for j in range(MAPS[1]):
        bits1, bits2 = words[..., j, 0], words[..., j, 1]
        s1 = _between(bits1, (xp.maximum(slack, 0) + 2) // 3, xp.minimum(remaining, ONE), xp)
        low = (xp.maximum(slack - s1, 0) + 1) // 2
        s2 = _between(bits2, low, xp.minimum(s1, (remaining - s1) // 2), xp)
        low = (xp.maximum(remaining - ONE, 0) + 1) // 2
        last2 = _between(bits2, low, remaining // 3, xp)
        last = count == j + 1
        s1, s2 = xp.where(last, remaining - 2 * last2, s1), xp.where(last, last2, s2)
        slack, remaining = slack - s1 - 2 * s2 + 3 * ONE, remaining - s1 - 2 * s2
        found.append((s1, s2))
    return (xp.stack(values, -1) for values in zip(*found, strict=True))


def _between(bits, low, high, xp: Any):
    """Uniform in [low, high), or low where there is no room; high - low <= 2**15."""
    width = xp.clip(high - low, 0, ONE).astype(xp.uint32)
    return low + ((width * (bits >> np.uint32(16))) >> np.uint32(16)).astype(xp.int32)


def _compose(left, s1, s2, right, xp: Any):
    """U diag(s1, s2) V in Q14, row by row; a word is an angle in its high bits and two signs in its
    low ones.
    """
    u, v = _orthogonal(left, xp), _orthogonal(right, xp)
    half = ONE // 2
    cells = []
    for row in range(2):
        scaled = [(u[row][0] * s1 + half) >> ONE_BITS, (u[row][1] * s2 + half) >> ONE_BITS]
        for col in range(2):
            sum2 = scaled[0] * v[0][col] + scaled[1] * v[1][col]
            cells.append((sum2 + ONE) >> (2 * ONE_BITS - LINEAR_BITS))
    return xp.stack(cells, -1)


def _orthogonal(word, xp: Any):
    """A rotation whose columns have random signs: ((c, -s), (s, c)) diag(+-1, +-1) in Q15."""
    cosines = xp.asarray(_cosines())
    turn = (word >> np.uint32(32 - ANGLE_BITS)).astype(xp.int32)
    quarter, mask = 1 << (ANGLE_BITS - 2), (1 << ANGLE_BITS) - 1
    cos, sin = cosines[turn], cosines[(turn - quarter) & mask]
    one, two = (1 - 2 * ((word >> np.uint32(i)) & np.uint32(1)).astype(xp.int32) for i in (0, 1))
    return (cos * one, -sin * two), (sin * one, cos * two)
