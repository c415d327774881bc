"""The two layouts of a trunk's parameters: one entry a block, or all blocks stacked for a scan."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def unstack_blocks(params: Mapping[str, Any]) -> dict[str, Any]:
    """`blocks` (leading layer axis) as `blocks_0`, `blocks_1`, ...; other entries unchanged."""
    if "blocks" not in params:
        return dict(params)
    rest = {name: value for name, value in params.items() if name != "blocks"}
    depth = jax.tree.leaves(params["blocks"])[0].shape[0]
    for i in range(depth):
        rest[f"blocks_{i}"] = jax.tree.map(lambda x, i=i: x[i], params["blocks"])
    return rest


def stack_blocks(params: Mapping[str, Any]) -> dict[str, Any]:
    """`blocks_0`, `blocks_1`, ... as `blocks` with a leading layer axis."""
    names = [name for name in params if re.fullmatch(r"blocks_\d+", name)]
    if not names:
        return dict(params)
    rest = {name: value for name, value in params.items() if name not in names}
    blocks = [params[f"blocks_{i}"] for i in range(len(names))]
    return rest | {"blocks": jax.tree.map(lambda *x: jnp.stack(x), *blocks)}
