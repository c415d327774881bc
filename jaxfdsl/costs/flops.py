"""FLOP of a ViT, counted by hand: a multiplication and an addition are two.

Matrix products alone, as is usual for model FLOP utilisation (Chowdhery et al., arXiv 2204.02311,
appendix B): XLA's own count of a program holds a scanned body once, whatever its length.
"""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxfdsl.models import vit
from jaxfdsl.models.vit import Design


def forward(design: Design) -> float:
    """FLOP of one image through the model: patches, blocks, and every head."""
    size, tokens = design.size, design.tokens
    patches, hidden = design.side**2, int(design.size.width * design.size.mlp_ratio)
    embed = 2 * patches * 3 * design.patch_size**2 * size.width
    linear = 2 * tokens * size.width * (4 * size.width + 2 * hidden)  # qkv, proj, and the MLP
    attention = 4 * tokens**2 * size.width
    reads = {"head": 1, "patch_head": patches}
    heads = sum(2 * reads[name] * size.width * outputs for name, outputs in design.heads)
    return float(embed + size.depth * (linear + attention) + heads)


def training(design: Design) -> float:
    """FLOP of one image in a training step: the backward pass costs twice the forward one.

    What remat computes again is not counted, as it is no use of the model's.
    """
    return 3 * forward(design)


def lowered(model_config: ConfigDict, outputs: dict[str, int]) -> float:
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

    counted = jax.jit(jax.value_and_grad(loss)).lower(params, image).cost_analysis()
    return float((counted or {}).get("flops", 0.0))
