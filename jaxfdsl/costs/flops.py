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

from jaxfdsl.models import denoiser, vit
from jaxfdsl.models import text as text_lib
from jaxfdsl.models.projector import Projection
from jaxfdsl.models.text import TextDesign
from jaxfdsl.models.vit import Design


def forward(design: Design | denoiser.Design) -> float:
    """FLOP of one image through the model: patches, blocks, and every head; of a denoiser once."""
    if isinstance(design, denoiser.Design):
        return denoising(design)
    size, tokens = design.size, design.tokens
    patches, hidden = design.side**2, int(design.size.width * design.size.mlp_ratio)
    embed = 2 * patches * 3 * design.patch_size**2 * size.width
    linear = 2 * tokens * size.width * (4 * size.width + 2 * hidden)  # qkv, proj, and the MLP
    attention = 4 * tokens**2 * size.width
    heads = sum(_head(name, head, size.width, patches) for name, head in design.heads)
    return float(embed + size.depth * (linear + attention) + heads)


def denoising(design: denoiser.Design) -> float:
    """FLOP of one velocity: patches, blocks with their modulation, and the output."""
    size, tokens = design.size, design.tokens
    width, hidden = size.width, int(size.width * size.mlp_ratio)
    patch = design.patch_size**2
    ends = tokens * patch * width * (design.channels + design.output_channels)
    vector = 256 * width + width**2 + design.cond_size * width + 2 * width**2
    block = tokens * width * (4 * width + 2 * hidden) + 2 * tokens**2 * width + 6 * width**2
    return float(2 * (ends + vector + size.depth * block))


def _head(name: str, head: vit.Outputs, width: int, patches: int) -> int:
    if isinstance(head, Projection):
        return sum(2 * inputs * outputs for inputs, outputs in head.widths(width))
    return 2 * width * head * (patches if name == "patch_head" else 1)


def sampling(
    design: denoiser.Design,
    steps: int,
    method: str = "heun",
    guidance: float = 1.0,
    weaker: denoiser.Design | None = None,
) -> float:
    """FLOP of one sample: a velocity a step, two of Heun's method; guidance asks for as many of the
    model without a condition, or of the `weaker` one."""
    each = denoising(design)
    if guidance != 1.0:
        each += denoising(weaker or design)
    return steps * (2 if method == "heun" else 1) * each


def caption(design: TextDesign) -> float:
    """FLOP of one caption through a text tower; of its attention all pairs, masked ones too."""
    width, tokens = design.width, design.context
    linear = 2 * tokens * width * (4 * width + 2 * 4 * width)  # qkv, proj, and the MLP
    attention = 4 * tokens**2 * width
    return float(design.depth * (linear + attention) + 2 * width * design.output)


def training(design: Design | denoiser.Design, text: TextDesign | None = None) -> float:
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


def lowered_denoiser(design: denoiser.Design) -> float:
    """What `lowered` counts, of a denoiser."""
    plain = dataclasses.replace(design, scan_blocks=False, remat="none", attention="xla")
    made = denoiser.build(dataclasses.replace(plain, dtype=jnp.dtype("float32")))
    params = jax.eval_shape(made.init, jax.random.key(0))
    seen = denoiser_inputs(design, 1)
    return _counted(lambda params, seen: jnp.sum(made.velocity(params, *seen)), params, seen)


def denoiser_inputs(design: denoiser.Design, count: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes of what a velocity is made of: images, times, conditions, and which are known."""
    side, float32 = design.image_size, jnp.float32
    return (
        jax.ShapeDtypeStruct((count, side, side, design.channels), float32),
        jax.ShapeDtypeStruct((count,), float32),
        jax.ShapeDtypeStruct((count, design.cond_size), float32),
        jax.ShapeDtypeStruct((count,), jnp.bool_),
    )


def _lowered_caption(design: TextDesign) -> float:
    tower = text_lib.build(dataclasses.replace(design, dtype=jnp.dtype(jnp.float32)))
    params = jax.eval_shape(tower.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((1, design.context), jnp.int32)
    return _counted(lambda params, tokens: jnp.sum(tower.apply(params, tokens)), params, tokens)


def _counted(loss: Callable[[Any, Any], jax.Array], params: Any, seen: Any) -> float:
    counted = jax.jit(jax.value_and_grad(loss)).lower(params, seen).cost_analysis()
    return float((counted or {}).get("flops", 0.0))
