"""Counter hash: the only source of randomness in a picture.

Stateless, so a number depends on its counter and never on the batch, the device or the order. The
mixer is "lowbias32" with the constants of the Prospecting-for-Hash-Functions search (bias 0.107).
It is five times cheaper than threefry for a point of the chaos game, and its bits are the same in
NumPy and in XLA.
"""

import numpy as np

GOLDEN = np.uint32(0x9E3779B9)
STEP = np.uint32(0x85EBCA6B)


def hash32(x):
    """uint32[...] -> uint32[...], a bijection that looks random. NumPy in, NumPy out; JAX in, JAX
    out.
    """
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x21F0AAAD)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x735A2D97)
    return x ^ (x >> np.uint32(15))


def mix(key, counter):
    """The `counter`-th number of the stream `key`; both uint32 and broadcast together."""
    return hash32(counter * GOLDEN + hash32(key))


def scatter(x, bits: int):
    """uint32[...] -> its low `bits` (12 to 32) in another order: a bijection of [0, 2**bits)."""
    mask, half = np.uint32((1 << bits) - 1), np.uint32(bits // 2 + 1)
    for odd in (np.uint32(0x9E3779B1), np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)):
        x = (x * odd) & mask
        x = x ^ (x >> half)
    return x


def below(bits, bound: int):
    """uint32[...] -> uint32[...] in [0, bound), bound < 2**16: the top 16 bits scaled, without a
    division.
    """
    return ((bits >> np.uint32(16)) * np.uint32(bound)) >> np.uint32(16)


def pick(bits, count: int):
    """uint32[...] -> uint32[...] in [0, count), count < 2**16: the product's top half, exact to the
    last of the 32 bits, where `below` has 16 and so a bias of count / 2**16.
    """
    low = (bits & np.uint32(0xFFFF)) * np.uint32(count)
    high = (bits >> np.uint32(16)) * np.uint32(count)
    return (high + (low >> np.uint32(16))) >> np.uint32(16)


def host_key(seed: int) -> np.uint32:
    """The key of a fixed seed, on the host."""
    return mix(np.zeros(1, np.uint32), np.array([seed], np.uint32))[0]
