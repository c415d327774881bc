"""How instances of a contractive system differ in shape (Anderson and Farrell, WACV 2022)."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Int32, UInt32

from ..drawing import noise
from ..drawing.chaos import LINEAR_BITS, TRANSLATION_BITS
from .systems import Category, det_thresholds

TRIES = 4
GREATEST = 1.25  # coefficient for which `contracts` is right of every scaled map
SCALE_UNIT = 1024
SCALES = (819, 1126)  # .8 to 1.1
TURNS, TURN_REACH = 1024, 0.5  # angles, radians


@functools.cache
def _turns() -> np.ndarray:
    """int32[1024, 2]: cosine and sine in Q14 of angles from -.5 to .5."""
    angle = ((np.arange(TURNS) + 0.5) / TURNS * 2 - 1) * TURN_REACH
    return np.round(np.stack([np.cos(angle), np.sin(angle)], 1) * 2**LINEAR_BITS).astype(np.int32)


def scaled(params: Category, bits: UInt32[Array, " 8"]) -> Category:
    """One random map times U(.8, 1.1), the first of four tries that leaves it a contraction, or
    none of them. Probabilities follow the new determinants, as published.
    """
    which = noise.below(bits[:TRIES], 1 << 8).astype(jnp.int32) * params.num_maps >> 8
    factor = noise.below(bits[TRIES:], SCALES[1] - SCALES[0] + 1).astype(jnp.int32) + SCALES[0]
    tried = params.maps[which] * factor[:, None] + SCALE_UNIT // 2 >> 10
    accepted = contracts(tried[:, :4])
    first = jnp.argmax(accepted)
    return _replaced(params, which[first], tried[first], accepted.any())


def turned(params: Category, bits: UInt32[Array, " 8"]) -> Category:
    """One random map with U or V turned by U(-.5, .5) radians, or moved by U(-.5, .5) in x and in
    y: the published `svd` jitter.
    """
    number = (noise.below(bits[0], 1 << 8).astype(jnp.int32) * (3 * params.num_maps)) >> 8
    which, how = number // 3, number % 3
    cos, sin = jnp.asarray(_turns())[noise.below(bits[1], TURNS).astype(jnp.int32)]
    a, b, c, d, *move = params.maps[which]
    half = 1 << (LINEAR_BITS - 1)

    def turn(x, y):
        return (cos * x - sin * y + half) >> LINEAR_BITS, (sin * x + cos * y + half) >> LINEAR_BITS

    (la, lc), (lb, ld) = turn(a, c), turn(b, d)  # R A
    # V turns from inside: U S R V is A R or A R^-1, as V is; the angle has no preferred sign.
    (ra, rb), (rc, rd) = turn(a, b), turn(c, d)
    left, right = jnp.stack([la, lb, lc, ld]), jnp.stack([ra, rb, rc, rd])
    linear = jnp.where(how == 0, left, jnp.where(how == 1, right, jnp.stack([a, b, c, d])))
    step = (bits[2:4] >> np.uint32(32 - TRANSLATION_BITS)).astype(jnp.int32)
    step = step - (1 << (TRANSLATION_BITS - 1))
    moved = jnp.stack(move) + jnp.where(how == 2, step, 0)
    return _replaced(params, which, jnp.concatenate([linear, moved]), jnp.bool_(True))


def contracts(matrix: Int32[Array, "N 4"]) -> Bool[Array, " N"]:
    """Whether the greater singular value of a b c d in Q14 is at most 1, for entries below 1.4:
    |det| <= 1 and (s1 + s2)**2 <= (1 + |det|)**2, where (s1 + s2)**2 is the squared norm and twice
    |det|. Exact but for the last bit of |det| in Q14.
    """
    a, b, c, d = (matrix[:, i] for i in range(4))
    one = 1 << LINEAR_BITS
    det = (jnp.abs(a * d - b * c) + one // 2) >> LINEAR_BITS
    both = jnp.maximum(_square(a + d) + _square(b - c), _square(a - d) + _square(b + c))
    return (det <= one) & (both <= _square(one + det))


def _square(x) -> UInt32[Array, " N"]:
    wide = jnp.abs(x).astype(jnp.uint32)
    return wide * wide


def _replaced(params: Category, which, row, accepted) -> Category:
    place = jnp.minimum(lax.iota(jnp.int32, params.maps.shape[0]), params.num_maps - 1)
    hit = (place == which) & accepted
    maps = jnp.where(hit[:, None], row, params.maps)
    anew = det_thresholds(maps[:, :4], params.num_maps, jnp)
    return Category(maps, jnp.where(accepted, anew, params.thresholds), params.num_maps)
