"""The training state: a dict {step, params, opt_state} and, when it is kept, {ema}."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxfdsl import sharding

State = dict[str, Any]


def create(params: Any, optimizer: optax.GradientTransformation, *, ema: bool) -> State:
    """The state before the first step."""
    step, opt_state = jnp.zeros((), jnp.int32), optimizer.init(params)
    state = {"step": step, "params": params, "opt_state": opt_state}
    return state | {"ema": jax.tree.map(jnp.copy, params)} if ema else state


def shardings(state: State, mesh: sharding.AnyMesh) -> State:
    """A sharding for every leaf of a state (of arrays or shapes): the optimiser's moments and the
    average lie as their parameters do, all else is on every device.

    A moment that a parameter's axis was summed out of (Adafactor) is cut by the axes that it keeps.
    """
    params = sharding.params_shardings(state["params"], mesh)
    whole = sharding.replicated(mesh)
    leaves = jax.tree_util.tree_leaves_with_path(state["params"])
    laid = jax.tree.leaves(params)
    known = {_name(path): (x.shape, s) for (path, x), s in zip(leaves, laid, strict=True)}

    def moment(path: tuple, x: Any) -> NamedSharding:
        # Without this, jit(optimizer.init) under Auto axes replicates the moments in silence.
        shape, own = known.get(_name(path), (None, whole))
        return own if x.shape == shape or own is whole else _reduced(path, x.shape, shape, own)

    opt_state = jax.tree_util.tree_map_with_path(moment, state["opt_state"])
    found = {"step": whole, "params": params, "opt_state": opt_state}
    return found | {"ema": params} if "ema" in state else found


def _name(path: tuple) -> tuple[str, ...]:
    """The parameter's own path: the dict keys that a path ends with."""
    keys: list[str] = []
    for entry in path:
        keys = [*keys, entry.key] if isinstance(entry, jax.tree_util.DictKey) else []
    return tuple(keys)


def _reduced(path: tuple, shape: tuple, full: tuple, own: NamedSharding) -> NamedSharding:
    """The sharding of a parameter's moment with one axis less, or of a placeholder."""
    gone = [i for i in range(len(full)) if (*full[:i], *full[i + 1 :]) == shape]
    if not gone:
        return sharding.replicated(own.mesh)
    # Of two axes alike, optax sums the later one out of `v_row` and the earlier out of `v_col`.
    axis = gone[-1] if any(getattr(e, "name", "") == "v_row" for e in path) else gone[0]
    axes = [*own.spec, *(None for _ in range(len(full) - len(own.spec)))]
    del axes[axis]
    while axes and axes[-1] is None:
        axes.pop()
    return NamedSharding(own.mesh, P(*axes))


def evaluated(state: State) -> Any:
    """The parameters to evaluate and to hand on: the average if one is kept."""
    return state.get("ema", state["params"])
