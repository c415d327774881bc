"""Lists of unequal lengths, visited in blocks of equal size: what bounds the memory of lines."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int32


@jax.custom_batching.custom_vmap
def greatest(value: Int32[Array, ""]) -> Int32[Array, ""]:
    """`value`, and under `vmap` the greatest of the batch, as one number for all.

    For loops whose further rounds change nothing: with a number of rounds of its own for each
    image, JAX would select between old and new carry, that is copy every canvas in every round.
    """
    return value


@greatest.def_vmap
def _greatest_of_batch(size, batched, value):
    return greatest(value.max(0)), False


def fold(
    lengths: Int32[Array, " N"],
    visit: Callable[[Any, Array, Array, Array], Any],
    carry: Any,
    *,
    block: int,
    search: bool = False,
) -> Any:
    """Visits every pair (item, offset) with 0 <= offset < lengths[item], in order, `block` at a
    time: carry = visit(carry, item int32[block], offset int32[block], live bool[block]).

    What is not live must leave the carry as it is. `search=True` finds the items by comparison
    instead of by a scatter, for processors whose scatter is serial.
    """
    # The barriers keep XLA:CPU from making the scans again for each of their readers.
    ends = lax.associative_scan(jnp.add, lax.optimization_barrier(lengths))
    ends = lax.optimization_barrier(ends)
    starts, total, count = ends - lengths, ends[-1], lengths.shape[0]
    places = lax.iota(jnp.int32, block)

    def some(state):
        first, carry = state
        place = first + places
        if search:
            item = (ends[None] <= place[:, None]).sum(1, dtype=jnp.int32)
        else:
            ended = jnp.clip(ends - first, 0, block)  # the last place is no place
            marks = jnp.zeros(block + 1, jnp.int32).at[ended].add(1, mode="promise_in_bounds")
            item = lax.associative_scan(jnp.add, marks[:block])
        item = lax.optimization_barrier(jnp.minimum(item, count - 1))
        offset = lax.optimization_barrier(place - starts[item])
        return first + block, visit(carry, item, offset, place < total)

    most = greatest(total)
    return lax.while_loop(lambda state: state[0] < most, some, (jnp.int32(0), carry))[1]
