"""Permutations of any length that need no memory, and the hash that keys them (NumPy alone).

`permute` gives the image of single positions in microseconds, so that any batch of an epoch can be
found without the batches before it.
"""

import numpy as np
from jaxtyping import Int64, UInt64

_C1, _C2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_GOLDEN = 0x9E3779B97F4A7C15


def hash64(*words) -> UInt64[np.ndarray, "*shape"]:
    """A 64-bit hash of integers or integer arrays, which broadcast: splitmix64 over the words."""
    state = np.zeros(1, np.uint64)
    for word in words:
        word = np.atleast_1d(np.asarray(word)).astype(np.uint64)
        state = _mix(state * np.uint64(3) + word + np.uint64(_GOLDEN))
    return state


def _mix(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * _C1
    x = (x ^ (x >> np.uint64(27))) * _C2
    return x ^ (x >> np.uint64(31))


def permute(
    positions: Int64[np.ndarray, " n"], length: int, key: UInt64[np.ndarray, "..."]
) -> Int64[np.ndarray, " n"]:
    """Where a permutation of `range(length)` sends `positions`; `key` picks the permutation.

    A Feistel network permutes the next power of two; results past the end walk on along their
    cycle until they are inside, fewer than two steps on average (Black and Rogaway, "Ciphers with
    Arbitrary Finite Domains", 2002). `key` is one key or one for each position.
    """
    positions = np.asarray(positions, np.int64)
    if positions.size and (positions.min() < 0 or positions.max() >= length):
        raise IndexError(f"positions of a permutation of {length} lie in [0, {length})")
    keys = np.broadcast_to(np.atleast_1d(np.asarray(key, np.uint64)), positions.shape)
    bits = max(2, (length - 1).bit_length())
    result = _feistel(positions.astype(np.uint64), bits, keys)
    outside = np.flatnonzero(result >= length)
    while outside.size:
        result[outside] = _feistel(result[outside], bits, keys[outside])
        outside = outside[result[outside] >= length]
    return result.astype(np.int64)


def _feistel(x: np.ndarray, bits: int, keys: np.ndarray) -> np.ndarray:
    """A keyed bijection of [0, 2**bits): halves take turns in being hashed into the other."""
    low_bits = np.uint64(bits - bits // 2)
    low_mask = np.uint64((1 << int(low_bits)) - 1)
    high_mask = np.uint64((1 << (bits // 2)) - 1)
    high, low = x >> low_bits, x & low_mask
    # Narrow halves mix slowly: with 4 rounds the 120 orders of 5 things are visibly unequal.
    for _ in range(4 if bits > 8 else 12):
        keys = keys + np.uint64(_GOLDEN)
        high = high ^ (_half_round(low, keys) & high_mask)
        low = low ^ (_half_round(high, ~keys) & low_mask)
    return (high << low_bits) | low


def _half_round(half: np.ndarray, keys: np.ndarray) -> np.ndarray:
    x = (half + keys) * _C1
    x = (x ^ (x >> np.uint64(32))) * _C2
    return x >> np.uint64(32)


def sample_order(
    positions: Int64[np.ndarray, " n"], length: int, seed: int
) -> Int64[np.ndarray, " n"]:
    """Indices of an endless stream that visits `range(length)` once an epoch, each time anew."""
    epoch, place = np.divmod(np.asarray(positions, np.int64), length)
    return permute(place, length, hash64(seed, epoch))
