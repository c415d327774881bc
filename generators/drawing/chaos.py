"""The chaos game in int32 block floating point: the same orbit, bit for bit, on every processor.

An orbit that differs once has left for good, and compilers contract float products differently, so
there is no float here. Coordinates have `COORDINATE_BITS` bits, coefficients are Q14, and all
chains of one image share one exponent that only grows: before each step, if any coordinate needs
more bits than there are, every coordinate is halved until none does. So nothing is clamped and
nothing wraps: an orbit that runs to 1e6 or for ever away is drawn at the scale that it reached, as
the published float64 scripts do up to their overflow.

Systems are `maps: int32[n, d*d + d]` (rows of the matrix in Q14, then the translation in Q20) and
`thresholds: uint32[n]` (map j is taken when the hash is below thresholds[j] and not below an
earlier one).
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt32

from .noise import GOLDEN, STEP, hash32

LINEAR_BITS = 14
TRANSLATION_BITS = 20
COORDINATE_BITS = {2: 15, 3: 14}
MAX_MAPS = 7
BURN_IN = 32
BRANCHES = (2, 3, 5, MAX_MAPS)  # systems are padded to the next of these, see `branch` below


def orbit(
    maps: Int32[Array, "n k"],
    thresholds: UInt32[Array, " n"],
    count: Int32[Array, ""],
    key: UInt32[Array | np.generic, ""],
    *,
    num_points: int,
    chains: int,
    mixing: int = 0,
    branch: bool = False,
) -> tuple[Int32[Array, "steps chains"], ...]:
    """One array of coordinates for each dimension, in one common unit of no meaning: pictures
    normalise them.

    `chains` independent orbits start at the origin, take `BURN_IN` steps unseen, then
    ceil(num_points / chains) recorded ones. `branch=True` runs only as many maps as `count` needs:
    faster where images are drawn one after another (CPU), slower under vmap. The points are the
    same. `mixing` more steps come first, unseen and under equal chances: where one map is nearly an
    isometry and taken nearly always, they bring the chains onto the attractor and apart.
    """
    steps = -(-num_points // chains)

    def play(n: int) -> Callable:
        return lambda: _play(maps[:n], thresholds[:n], count, key, chains, steps, mixing)

    if not branch:
        packed, late = play(maps.shape[0])()
    else:
        sizes = [n for n in BRANCHES if n <= maps.shape[0]]
        chosen = sum((count > n).astype(jnp.int32) for n in sizes[:-1])
        packed, late = lax.switch(chosen, [play(n) for n in sizes])
    return tuple(p >> late[:, None] for p in _unpack(packed))


def _play(maps, thresholds, count, key, chains: int, steps: int, mixing: int):
    dims = 2 if maps.shape[-1] == 6 else 3
    bits = COORDINATE_BITS[dims]
    matrix = maps[:, : dims * dims].reshape(-1, dims, dims)
    translation = maps[:, dims * dims :]
    # The first frame: the largest translation fills all but one of the coordinate bits.
    used = 32 - lax.clz(jnp.max(jnp.abs(translation)))
    translation = translation << (bits - 1 + LINEAR_BITS - used)
    lanes = lax.iota(jnp.uint32, chains) * GOLDEN
    half = 1 << (LINEAR_BITS - 1)

    def step(carry, t, limits=thresholds):
        exponent, *point = carry
        spread = point[0] ^ (point[0] >> 31)
        for p in point[1:]:
            spread = spread | (p ^ (p >> 31))
        spread = lax.reduce(spread, np.int32(0), lax.bitwise_or, (0,))
        shift = jnp.maximum(32 - lax.clz(spread) - bits, 0)
        exponent = exponent + shift
        point = [p >> shift for p in point]
        choice = hash32(lanes + hash32(key + t * STEP))
        image: list[Array] = []
        for j in reversed(range(maps.shape[0])):
            mapped = [
                sum(matrix[j, row, col] * point[col] for col in range(dims))
                + ((translation[j, row] >> exponent) + half)
                >> LINEAR_BITS
                for row in range(dims)
            ]
            if not image:
                image = mapped
            else:
                taken = choice < limits[j]
                image = [jnp.where(taken, a, b) for a, b in zip(mapped, image, strict=True)]
        return (exponent, *image), (exponent, _pack(point))

    origin = jnp.zeros(chains, jnp.int32)
    carry = (jnp.int32(0), *(origin,) * dims)
    times, unseen = lax.iota(jnp.uint32, mixing + BURN_IN + steps), mixing + BURN_IN

    def hidden(carry, t):
        if not mixing:
            return step(carry, t)[0], None
        share = np.uint32(2**32 - 1) // count.astype(jnp.uint32)
        equal = share * (1 + lax.iota(jnp.uint32, thresholds.shape[0]))
        return step(carry, t, jnp.where(t < mixing, equal, thresholds))[0], None

    carry, _ = lax.scan(hidden, carry, times[:unseen])
    _, (exponents, packed) = lax.scan(step, carry, times[unseen:])
    return packed, jnp.minimum(exponents[-1] - exponents, 31)


def _pack(point):
    """Two 16-bit coordinates in one int32 halve the memory traffic of the orbit, which is what it
    costs.
    """
    head = (point[0] & 0xFFFF) | (point[1] << 16)
    return (head,) if len(point) == 2 else (head, point[2].astype(jnp.int16))


def _unpack(packed):
    head = packed[0]
    return ((head << 16) >> 16, head >> 16, *(z.astype(jnp.int32) for z in packed[1:]))


def bounds(values: Int32[Array, "steps chains"]) -> tuple[Int32[Array, ""], Int32[Array, ""]]:
    """Exact least and greatest value. Two stages with a barrier: XLA:CPU vectorises only the first
    kind of reduction.
    """
    low, high = lax.optimization_barrier((values.min(0), values.max(0)))
    return low.min(), high.max()
