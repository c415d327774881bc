"""Weights of one model as the start of another: new heads, resized positions."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxfdsl.models import heads
from jaxfdsl.models.blocks import stack_blocks, unstack_blocks


def resize_positions(
    positions: Float[Array, "1 N D"], tokens: int, *, prefix: int, new_prefix: int
) -> Float[Array, "1 M D"]:
    """Positions for another number of tokens: the grid resized by antialiased bicubic
    interpolation, as in timm; the class token's row is kept, dropped, or zero where it is new.
    """
    head, grid = positions[:, :prefix], positions[:, prefix:]
    side, new_side = (round(n**0.5) for n in (grid.shape[1], tokens - new_prefix))
    if side != new_side:
        grid = grid.reshape(1, side, side, -1)
        shape = (1, new_side, new_side, grid.shape[-1])
        grid = jax.image.resize(grid, shape, "cubic", antialias=True)
        grid = grid.reshape(1, new_side * new_side, -1)
    if new_prefix and not prefix:
        head = jnp.zeros((1, new_prefix, grid.shape[-1]), grid.dtype)
    return jnp.concatenate([head[:, :new_prefix], grid], axis=1)


def adapt(
    loaded: Mapping[str, Any], fresh: Mapping[str, Any], *, keep_heads: bool = False
) -> tuple[dict, list[str]]:
    """`loaded` with the structure and shapes of `fresh`, and a phrase for each change made.

    The heads, unless `keep_heads`, and the class token, where `loaded` has none, are `fresh`'s own
    leaves, which may be shapes alone. Raises ValueError that names every parameter that does not
    fit.
    """
    params, phrases = unstack_blocks(loaded), []
    learned = ["pos_embed" in tree for tree in (params, fresh)]  # a denoiser's are fixed
    if learned[0] != learned[1]:
        theirs, ours = ("a vision transformer" if one else "a denoiser" for one in learned)
        raise ValueError(f"these are weights of {theirs}, and the run trains {ours}")
    prefix, new_prefix = ("cls_token" in tree for tree in (params, fresh))
    tokens, new_tokens = (
        tree["pos_embed"].shape[1] if all(learned) else 0 for tree in (params, fresh)
    )
    if (tokens, prefix) != (new_tokens, new_prefix):
        params["pos_embed"] = resize_positions(
            jnp.asarray(params["pos_embed"]),
            new_tokens,
            prefix=int(prefix),
            new_prefix=int(new_prefix),
        )
        phrases.append(f"positions resized from {tokens} to {new_tokens} tokens")
    if prefix != new_prefix:
        phrases.append("class token new" if new_prefix else "class token dropped")
        params = _without(params, "cls_token")
        params |= {"cls_token": fresh["cls_token"]} if new_prefix else {}
    for name in heads.NAMES:
        kept = params.get(name) if keep_heads else None
        params = _without(params, name)
        if name in fresh:
            params[name] = fresh[name] if kept is None else kept
            words = f"{name.replace('_', ' ')} {'new' if kept is None else 'kept'}"
            linear = isinstance(fresh[name], Mapping) and "bias" in fresh[name]
            classes = fresh[name]["bias"].shape[0] if linear else 0
            phrases.append(f"{words} ({classes} classes)" if classes else words)
    _check(params, fresh)
    return stack_blocks(params) if "blocks" in fresh else params, phrases


def _without(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key != name}


def _check(params: Any, fresh: Any) -> None:
    ours, theirs = (_shapes(tree) for tree in (fresh, params))
    alike: dict[tuple[str, str], list[str]] = {}
    for name in sorted({*ours, *theirs}):
        if ours.get(name) != theirs.get(name):
            there, here = (str(s.get(name, "absent")) for s in (theirs, ours))
            generic = re.sub(r"^(blocks[_.])\d+", r"\1{i}", name)
            alike.setdefault((generic, f"is {there} there and {here} here"), []).append(name)
    if alike:
        more = {names[0]: len(names) - 1 for names in alike.values()}
        rest = {name: f" (and {n} block{'s'[: n > 1]} like it)" for name, n in more.items() if n}
        lines = [f"{n[0]} {how}{rest.get(n[0], '')}" for (_, how), n in alike.items()]
        raise ValueError(", ".join(lines))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters, with one entry a block."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    shapes = {"/".join(e.key for e in path): tuple(np.shape(x)) for path, x in leaves}
    stacked = {name: shapes.pop(name) for name in list(shapes) if name.startswith("blocks/")}
    for name, (depth, *shape) in stacked.items():
        rest = name.removeprefix("blocks/")
        shapes |= {f"blocks_{i}/{rest}": tuple(shape) for i in range(depth)}
    return shapes
