"""Optimisers, learning-rate schedules, the weight-decay mask and layer-wise learning rates."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int
from optax.contrib import MuonDimensionNumbers, scale_by_muon

from jaxfdsl.optim.by_layer import by_layer

# No decay on one-dimensional parameters, the class token and the positions, as in timm.
UNDECAYED = frozenset({"bias", "scale", "cls_token", "pos_embed", "no_cond", "logit_scale"})

EMBEDDING = frozenset({"patch_embed", "cls_token", "pos_embed"})

# Matrices of a block for Muon, input axes and output axes; q, k and v (axis 1) are three.
MATRICES = {
    ("attn", "qkv", "kernel"): ((0,), (2, 3)),
    ("attn", "proj", "kernel"): ((0, 1), (2,)),
    ("mlp", "fc1", "kernel"): ((0,), (1,)),
    ("mlp", "fc2", "kernel"): ((0,), (1,)),
}


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


def ema_decay(cfg) -> Callable[[Int[Array, ""]], Any] | None:
    """What the average of the parameters keeps of itself in step t, counted from 0; None for no
    average. With `cfg.ema_warmup` it is at most (1 + t) / (10 + t), TensorFlow's `num_updates`.
    """
    if not cfg.ema:
        return None
    if not cfg.ema_warmup:
        return lambda _: cfg.ema
    return lambda t: jnp.minimum(cfg.ema, (1.0 + t) / (10.0 + t))


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


def build(cfg, rate: optax.Schedule) -> optax.GradientTransformation:
    """The optimiser that `cfg.name` names, with gradients clipped by their global norm first when
    `clip_norm` is not 0, and learning rates that fall towards the embedding when `layer_decay` is
    not 1. Weight decay is decoupled (arXiv 1711.05101) but for SGD, which has it in the gradient,
    as torch does. All see one layer at a time, whether its blocks are stacked or not.

    "adamw" and "sgd" (`momentum`, `nesterov`); "lamb" (You et al., arXiv 1904.00962, algorithm 2);
    "adafactor" as Zhai et al., arXiv 2106.04560, 3.4 train ViT-g; "muon" (Jordan 2024), scaled to
    Adam's size (Liu et al., arXiv 2502.16982), with AdamW for all that is no matrix of a block
    of the ViT, the text tower included.
    """
    clip = [optax.clip_by_global_norm(cfg.clip_norm)] if cfg.clip_norm else []
    decay = [optax.add_decayed_weights(cfg.weight_decay, decay_mask)] if cfg.weight_decay else []
    kinds = {
        "adamw": lambda: [optax.scale_by_adam(cfg.b1, cfg.b2), *decay],
        "sgd": lambda: [*decay, optax.trace(cfg.momentum, cfg.nesterov)],
        "lamb": lambda: [optax.scale_by_adam(cfg.b1, cfg.b2, eps=1e-6), *decay, _trust()],
        "adafactor": lambda: [*_adafactor(cfg.b1, cfg.b2), *decay],
        "muon": lambda: [_muon(cfg.b1, cfg.b2), *decay],
    }
    layers = [_scale_by_layer(cfg.layer_decay)] if cfg.layer_decay != 1 else []
    return optax.chain(*clip, *kinds[cfg.name](), *layers, optax.scale_by_learning_rate(rate))


def updates_made(opt_state: Any) -> jax.Array:
    """How many updates an optimiser of `build` has made: int32[], what its learning rate is of."""
    kind = optax.ScaleByScheduleState
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, kind))
    return next(node.count for node in nodes if isinstance(node, kind))


def _scale_by_layer(decay: float) -> optax.GradientTransformation:
    def scaled(updates: Any, params: Any) -> Any:
        return jax.tree.map(lambda u, s: u * s, updates, layer_scales(updates, decay))

    return optax.stateless(scaled)


def _trust() -> optax.GradientTransformation:
    # The authors' code and timm's adapt the layers that decay; a bias of zeros has no size to keep.
    return by_layer(optax.masked(optax.scale_by_trust_ratio(), decay_mask))


def _adafactor(b1: float, b2: float) -> list[optax.GradientTransformation]:
    """Factored second moments whose decay, 1 - t ** -0.8, stops at b2, and a first moment in
    bfloat16; neither sizes of parameters nor of updates play a part."""

    def decay_rate(step: Any, exponent: Any) -> jax.Array:
        step = jnp.asarray(step + 1, jnp.float32)
        return jnp.minimum(1.0 - step ** (-exponent), b2)

    second = optax.scale_by_factored_rms(min_dim_size_to_factor=32, decay_rate_fn=decay_rate)
    first = optax.ema(b1, debias=False, accumulator_dtype=jnp.bfloat16)
    return [by_layer(second), *([first] if b1 else [])]


def _muon(b1: float, b2: float) -> optax.GradientTransformation:
    """Momentum of 0.95 with Nesterov's look ahead, orthogonalised, for the blocks' matrices; Adam
    for the rest."""

    def labels(params: Any) -> Any:
        numbers = muon_dimensions(params)
        return jax.tree.map(lambda x: "muon" if x else "adam", numbers, is_leaf=_is_numbers)

    def sized(updates: Any, params: Any) -> Any:
        # A matrix with orthonormal rows has entries of size 1 / sqrt(longer side); Adam's are 0.2.
        def scale(x: jax.Array, numbers: MuonDimensionNumbers) -> jax.Array:
            sides = [math.prod(x.shape[axis] for axis in axes) for axes in numbers]
            return x * (0.2 * max(sides) ** 0.5)

        return jax.tree.map(scale, updates, muon_dimensions(updates), is_leaf=_is_numbers)

    matrices = scale_by_muon(beta=0.95, nesterov=True, weight_dimension_numbers=muon_dimensions)
    kinds = {"muon": optax.chain(matrices, optax.stateless(sized))}
    return optax.partition(kinds | {"adam": optax.scale_by_adam(b1, b2)}, labels)


def muon_dimensions(params: Any) -> Any:
    """MuonDimensionNumbers of each leaf that Muon trains, None for the others."""

    def leaf(path: tuple, _: Any) -> MuonDimensionNumbers | None:
        block, *rest = [entry.key for entry in path]
        if not block.startswith("blocks") or tuple(rest) not in MATRICES:
            return None
        first = int(block == "blocks")  # the axis of stacked layers
        axes = (tuple(axis + first for axis in side) for side in MATRICES[tuple(rest)])
        return MuonDimensionNumbers(*axes)

    return jax.tree_util.tree_map_with_path(leaf, params)


def _is_numbers(x: Any) -> bool:
    return x is None or isinstance(x, MuonDimensionNumbers)
