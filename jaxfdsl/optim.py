"""Optimisers, learning-rate schedules, the weight-decay mask and layer-wise learning rates."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

# No decay on one-dimensional parameters, the class token and the positions, as in timm.
UNDECAYED = frozenset({"bias", "scale", "cls_token", "pos_embed"})

EMBEDDING = frozenset({"patch_embed", "cls_token", "pos_embed"})


def schedule(cfg, learning_rate: float, *, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """The learning rate of a step counted from 0.

    It rises linearly from `cfg.warmup_from` over `warmup_steps`, then falls by half a cosine to
    `cfg.final` at `total_steps` ("cosine"), or stays ("constant").
    """
    tail = max(total_steps - warmup_steps, 1)
    if cfg.name == "constant":
        after = optax.constant_schedule(learning_rate)
    else:
        alpha = cfg.final / learning_rate if learning_rate else 0.0
        after = optax.cosine_decay_schedule(learning_rate, tail, alpha)
    if not warmup_steps:
        return after
    warmup = optax.linear_schedule(cfg.warmup_from, learning_rate, warmup_steps)
    return optax.join_schedules([warmup, after], [warmup_steps])


def decay_mask(params):
    """True for every leaf that weight decay pulls to zero."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key not in UNDECAYED, params)


def layer_scales(params: Any, decay: float) -> Any:
    """What each leaf's learning rate is multiplied by: decay ** (depth + 1 - layer), the embedding
    being layer 0, block i layer i + 1, the last norm and the heads depth + 1 (Bao et al., arXiv
    2106.08254, as in its `optim_factory.py`).

    Leaves are scalars, or (depth, 1, ...) for stacked blocks.
    """
    stacked = "blocks" in params
    depth = (
        jax.tree.leaves(params["blocks"])[0].shape[0]
        if stacked
        else sum(name.startswith("blocks_") for name in params)
    )

    def scale(path: tuple, leaf: Any) -> Any:
        name = path[0].key
        if name == "blocks":
            powers = decay ** (depth - jnp.arange(depth, dtype=jnp.float32))
            return powers.reshape(depth, *(1 for _ in leaf.shape[1:]))
        if name.startswith("blocks_"):
            return decay ** (depth - int(name.removeprefix("blocks_")))
        return decay ** (depth + 1) if name in EMBEDDING else 1.0

    return jax.tree_util.tree_map_with_path(scale, params)


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
    def scaled(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda u, s: u * s, updates, layer_scales(updates, decay))

    return optax.stateless(scaled)


def build(cfg, rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW (decoupled decay, arXiv 1711.05101) or SGD with momentum (decay in the gradient, as
    torch has it), with gradients clipped by their global norm first when `clip_norm` is not 0, and
    learning rates that fall towards the embedding when `layer_decay` is not 1."""
    clip = [optax.clip_by_global_norm(cfg.clip_norm)] if cfg.clip_norm else []
    decay = [optax.add_decayed_weights(cfg.weight_decay, decay_mask)] if cfg.weight_decay else []
    if cfg.name == "adamw":
        scale = [optax.scale_by_adam(cfg.b1, cfg.b2), *decay]
    else:
        scale = [*decay, optax.trace(cfg.momentum, cfg.nesterov)]
    layers = [_scale_by_layer(cfg.layer_decay)] if cfg.layer_decay != 1 else []
    return optax.chain(*clip, *scale, *layers, optax.scale_by_learning_rate(rate))
