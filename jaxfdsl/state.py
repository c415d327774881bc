"""The training state: a dict {step, params, opt_state} and, when it is kept, {ema}."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxfdsl import sharding

State = dict[str, Any]


def create(params: Any, optimizer: optax.GradientTransformation, *, ema: bool) -> State:
    """The state before the first step."""
    step, opt_state = jnp.zeros((), jnp.int32), optimizer.init(params)
    state = {"step": step, "params": params, "opt_state": opt_state}
    return state | {"ema": jax.tree.map(jnp.copy, params)} if ema else state


def shardings(state: State, optimizer: optax.GradientTransformation, mesh: Mesh) -> State:
    """A sharding for every leaf of a state (of arrays or shapes): the optimiser's moments and the
    average lie as their parameters do, all else is on every device."""
    params = sharding.params_shardings(state["params"], mesh)
    whole = sharding.replicated(mesh)
    # Without this, jit(optimizer.init) under Auto axes replicates the moments in silence.
    opt_state = optax.tree.map_params(
        optimizer,
        lambda _, s: s,
        state["opt_state"],
        params,
        transform_non_params=lambda _: whole,
    )
    laid = {"step": whole, "params": params, "opt_state": opt_state}
    return laid | {"ema": params} if "ema" in state else laid


def evaluated(state: State) -> Any:
    """The parameters to evaluate and to hand on: the average if one is kept."""
    return state.get("ema", state["params"])
