"""The random numbers of augmentation: a 32-bit seed a sample, and counters below it.

A seed comes from the step's key and the sample's row in the global batch, by threefry. What is
drawn for the sample is hashed from the seed, the op and a counter, in integers: the same numbers on
every processor, however the batch is sharded, and three hashes where threefry takes twenty rounds.
"""

import enum

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer, Key, UInt32

from jaxfdsl.generators.drawing.noise import mix

Seed = UInt32[Array, ""]


class Stream(enum.IntEnum):
    """The ops that draw numbers; each has a sequence of its own."""

    CROP = 0
    FLIP = 1
    THREE = 2
    RAND = 3
    JITTER = 4
    GRAYSCALE = 5
    SOLARIZE = 6
    BLUR = 7
    ERASE = 8
    NOISE = 9
    MIX = 10
    DOWNSAMPLE = 11
    LATENT = 12


def seeds(key: Key[Array, ""] | Array, rows: Integer[Array, " B"]) -> UInt32[Array, " B"]:
    """A seed for each row of the global batch."""
    return jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row)))(rows)


def bits(seed: Seed, stream: Stream, count: int) -> UInt32[Array, " {count}"]:
    """`count` random words."""
    return mix(mix(seed, jnp.uint32(stream)), jnp.arange(count, dtype=jnp.uint32))


def uniform(words: UInt32[Array, "*n"]) -> Float[Array, "*n"]:
    """Evenly in [0, 1), in steps of 2**-24."""
    return (words >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def normal(words: UInt32[Array, "*n"]) -> Float[Array, "*n"]:
    """Standard normal: the inverse of its distribution function at 2**23 even places."""
    places = ((words >> 9).astype(jnp.float32) + 0.5) * jnp.float32(2**-22) - 1.0
    return jnp.float32(2**0.5) * jax.lax.erf_inv(places)


def happens(word: UInt32[Array, ""], probability: float) -> Array:
    """Whether an event of that probability takes place."""
    return uniform(word) < probability


def between(word: UInt32[Array, "*n"], low: Array | int, high: Array | int) -> Int[Array, "*n"]:
    """A whole number from `low` to `high`, both included."""
    count = jnp.asarray(high - low + 1)
    return low + jnp.minimum((uniform(word) * count).astype(jnp.int32), count - 1)
