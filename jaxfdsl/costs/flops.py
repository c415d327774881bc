"""FLOP of a ViT, counted by hand: a multiplication and an addition are two.

Matrix products alone, as is usual for model FLOP utilisation (Chowdhery et al., arXiv 2204.02311,
appendix B): XLA's own count of a program holds a scanned body once, whatever its length.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxfdsl.models import text as text_lib
from jaxfdsl.models import vit
from jaxfdsl.models.projector import Projection
from jaxfdsl.models.text import TextDesign
from jaxfdsl.models.vit import Design


def forward(design: Design) -> float:
    """FLOP of one image through the model: patches, blocks, and every head."""
    size, tokens = design.size, design.tokens
    patches, hidden = design.side**2, int(design.size.width * design.size.mlp_ratio)
    embed = 2 * patches * 3 * design.patch_size**2 * size.width
    linear = 2 * tokens * size.width * (4 * size.width + 2 * hidden)  # qkv, proj, and the MLP
    attention = 4 * tokens**2 * size.width
    heads = sum(_head(name, head, size.width, patches) for name, head in design.heads)
    return float(embed + size.depth * (linear + attention) + heads)


def _head(name: str, head: vit.Outputs, width: int, patches: int) -> int:
    if isinstance(head, Projection):
        return sum(2 * inputs * outputs for inputs, outputs in head.widths(width))
    return 2 * width * head * (patches if name == "patch_head" else 1)


def caption(design: TextDesign) -> float:
    """FLOP of one caption through a text tower; of its attention all pairs, masked ones too."""
    width, tokens = design.width, design.context
    linear = 2 * tokens * width * (4 * width + 2 * 4 * width)  # qkv, proj, and the MLP
    attention = 4 * tokens**2 * width
    return float(design.depth * (linear + attention) + 2 * width * design.output)


def training(design: Design, text: TextDesign | None = None) -> float:
    """FLOP of one image in a training step, with its share of its caption: the backward pass costs
    twice the forward one.

    What remat computes again is not counted, as it is no use of the model's.
    """
    return 3 * (forward(design) + (caption(text) / text.views if text else 0.0))


def lowered(
    model_config: ConfigDict, outputs: dict[str, vit.Outputs], text: TextDesign | None = None
) -> float:
    """XLA's count for one image forward and backward, of the program as it is written: blocks one
    after another, nothing computed again, nothing compiled. It holds norms, GELU and softmax too.
    """
    config = model_config.copy_and_resolve_references()
    config.update(scan_blocks=False, remat="none", attention="xla")
    model = vit.build(config, outputs, jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, config.image_size, config.image_size, 3), jnp.float32)

    def loss(params: Any, image: jax.Array) -> jax.Array:
        made = model.apply(params, image, train=True, key=jax.random.key(0))
        return sum((jnp.sum(made[k]) for k in made if k != "features"), jnp.zeros(()))

    return _counted(loss, params, image) + (_lowered_caption(text) / text.views if text else 0.0)


def _lowered_caption(design: TextDesign) -> float:
    tower = text_lib.build(dataclasses.replace(design, dtype=jnp.dtype(jnp.float32)))
    params = jax.eval_shape(tower.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((1, design.context), jnp.int32)
    return _counted(lambda params, tokens: jnp.sum(tower.apply(params, tokens)), params, tokens)


def _counted(loss: Callable[[Any, Any], jax.Array], params: Any, seen: Any) -> float:
    counted = jax.jit(jax.value_and_grad(loss)).lower(params, seen).cost_analysis()
    return float((counted or {}).get("flops", 0.0))
