"""Categories by formula: candidates spread evenly over a box of parameters, and their hash."""

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, UInt32

from . import noise


@functools.cache
def _steps(dims: int) -> np.ndarray:
    """uint32[dims]: the powers of 1 / g in 32 bits, g the root of g**(dims + 1) = g + 1."""
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (dims + 1))
    return np.round(root ** -np.arange(1, dims + 1) * 2**32).astype(np.uint64).astype(np.uint32)


def spread(
    number: UInt32[Array | np.ndarray, "*n"], dims: int, xp: Any = jnp
) -> UInt32[Array | np.ndarray, "*n d"]:
    """Candidate numbers -> fractions in 32 bits, evenly spread over the cube whatever the number of
    candidates and wherever they begin: the additive recurrence of the generalised golden ratio
    (Roberts, 2018).

    Where a label is but a few numbers, chance would make some of a thousand categories as good as
    equal.
    """
    return number[..., None] * xp.asarray(_steps(dims)) + np.uint32(1 << 31)


def ranged(
    number: UInt32[Array | np.ndarray, "*n"],
    least: Sequence[int],
    most: Sequence[int],
    fixed: Sequence[int],
    varying: int,
    xp: Any = jnp,
) -> list[Any]:
    """int32[*n] for each range, of fewer than 2**16 whole numbers: the first `varying` spread over
    [least, most], the others `fixed`.
    """
    fractions = spread(number, len(least), xp)
    values = []
    for i, (low, high) in enumerate(zip(least, most, strict=True)):
        value = low + noise.below(fractions[..., i], high - low + 1).astype(xp.int32)
        values.append(value if i < varying else xp.zeros_like(value) + np.int32(fixed[i]))
    return values


def check_ranges(table: Any, least: Sequence[int], most: Sequence[int]) -> None:
    """ValueError for a table with a number outside its range."""
    for name, values, low, high in zip(table._fields, table, least, most, strict=True):
        for bad in (int(np.min(values)), int(np.max(values))):
            if not low <= bad <= high:
                raise ValueError(f"{name}={bad} in the table: give {low} to {high}")


def fingerprint(params: Any) -> UInt32[Array, ""]:
    """A hash of one category's numbers, so that its noise is its own whatever its place in a
    table.
    """
    words = jnp.concatenate([field.reshape(-1) for field in params]).astype(jnp.uint32)
    mixed = noise.mix(words, lax.iota(jnp.uint32, words.shape[0]))
    return lax.reduce(mixed, np.uint32(0), lax.bitwise_xor, (0,))
