"""Cuts between the stages of a picture on a CPU.

XLA:CPU joins a chain of array steps into one loop and computes shared parts again for each reader;
a join of arrays or a shift of rows in the chain turns that loop scalar: a picture of five such
steps takes five times as long as the steps. Nothing in the language says "finish this first"
(`lax.optimization_barrier` is dropped before loops are joined), but what enters a loop is finished,
even where the loop does not run.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

Arrays = TypeVar("Arrays")
Settle = Callable[[Arrays], Arrays]


def at_once(arrays: Arrays) -> Arrays:
    """The arrays as they are: no cut."""
    return arrays


def settler(never: Bool[Array, ""] | None) -> Settle:
    """A function that returns its integer arrays as they are, computed in full before any reader.

    `never` is false at run time, which the compiler must not know: a count below zero. None where
    images are drawn side by side: the function then does nothing.
    """
    if never is None:
        return at_once

    def settle(arrays):
        def body(state):
            return jax.tree.map(lambda v: v + v.dtype.type(1), state[0]), jnp.zeros_like(state[1])

        return lax.while_loop(lambda state: state[1], body, (arrays, never))[0]

    return settle
