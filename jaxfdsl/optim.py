"""Optimisers, learning-rate schedules and the weight-decay mask."""

import jax
import optax

# No decay on one-dimensional parameters, the class token and the positions, as in timm.
UNDECAYED = frozenset({"bias", "scale", "cls_token", "pos_embed"})


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


def build(cfg, rate: optax.Schedule) -> optax.GradientTransformation:
    """AdamW (decoupled decay, arXiv 1711.05101) or SGD with momentum (decay in the gradient, as
    torch has it), with gradients clipped by their global norm first when `clip_norm` is not 0."""
    clip = [optax.clip_by_global_norm(cfg.clip_norm)] if cfg.clip_norm else []
    decay = [optax.add_decayed_weights(cfg.weight_decay, decay_mask)] if cfg.weight_decay else []
    if cfg.name == "adamw":
        scale = [optax.scale_by_adam(cfg.b1, cfg.b2), *decay]
    else:
        scale = [*decay, optax.trace(cfg.momentum, cfg.nesterov)]
    return optax.chain(*clip, *scale, optax.scale_by_learning_rate(rate))
