"""CLIP's text tower: a causal transformer over token ids, read at the caption's end.

Radford et al., arXiv 2103.00020, section 2.4, and the code that goes with it; StableRep+ has the
same one (Tian et al., arXiv 2306.00984). Its parameters stand beside the trunk's as `text`, with
the `logit_scale` of the comparison.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from jaxfdsl.models.vit import Constrain, Model, Params, unconstrained

EPSILON = 1e-5  # torch's, of every LayerNorm here
SCALE_INIT = math.log(1 / 0.07)
SCALE_MOST = math.log(100.0)


@dataclasses.dataclass(frozen=True)
class TextDesign:
    """Everything that decides a text tower's parameters and arithmetic."""

    width: int
    depth: int
    num_heads: int
    context: int
    vocabulary: int
    output: int  # numbers of the embedding that images and captions share
    dtype: np.dtype
    views: int = 1  # images of a caption, neighbours in the batch


class TextAttention(nnx.Module):
    """Attention of each token to itself and those before it."""

    def __init__(self, design: TextDesign, *, rngs: nnx.Rngs):
        width, heads, dtype = design.width, design.num_heads, design.dtype
        inner = nnx.initializers.normal(width**-0.5)
        outer = nnx.initializers.normal((width * 2 * design.depth) ** -0.5)
        shape = (3, heads, width // heads)
        self.qkv = nnx.LinearGeneral(width, shape, dtype=dtype, kernel_init=inner, rngs=rngs)
        self.proj = nnx.LinearGeneral(
            shape[1:], width, axis=(-2, -1), dtype=dtype, kernel_init=outer, rngs=rngs
        )

    def __call__(self, x: Float[Array, "n L D"], constrain: Constrain) -> Float[Array, "n L D"]:
        q, k, v = jnp.moveaxis(constrain(self.qkv(x), heads=3), 2, 0)
        return self.proj(jax.nn.dot_product_attention(q, k, v, is_causal=True))


class TextMlp(nnx.Module):
    """Two linear maps with QuickGELU, x sigmoid(1.702 x), between them."""

    def __init__(self, design: TextDesign, *, rngs: nnx.Rngs):
        width, dtype = design.width, design.dtype
        inner = nnx.initializers.normal((2 * width) ** -0.5)
        outer = nnx.initializers.normal((width * 2 * design.depth) ** -0.5)
        self.fc1 = nnx.Linear(width, 4 * width, dtype=dtype, kernel_init=inner, rngs=rngs)
        self.fc2 = nnx.Linear(4 * width, width, dtype=dtype, kernel_init=outer, rngs=rngs)

    def __call__(self, x: Float[Array, "n L D"]) -> Float[Array, "n L D"]:
        hidden = self.fc1(x)
        return self.fc2(hidden * jax.nn.sigmoid(1.702 * hidden))


class TextBlock(nnx.Module):
    """x + attn(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, design: TextDesign, *, rngs: nnx.Rngs):
        self.norm1 = _norm(design.width, design.dtype, rngs)
        self.attn = TextAttention(design, rngs=rngs)
        self.norm2 = _norm(design.width, design.dtype, rngs)
        self.mlp = TextMlp(design, rngs=rngs)

    def __call__(self, x: Float[Array, "n L D"], constrain: Constrain) -> Float[Array, "n L D"]:
        x = x + self.attn(self.norm1(x), constrain)
        return constrain(x + self.mlp(self.norm2(x)))


class TextEnds(nnx.Module):
    """What stands before and after the blocks."""

    def __init__(self, design: TextDesign, *, rngs: nnx.Rngs):
        width, draw = design.width, jax.random.normal
        self.design = design
        tokens = draw(rngs.params(), (design.vocabulary, width))
        self.token_embed = nnx.Param(0.02 * tokens)
        self.pos_embed = nnx.Param(0.01 * draw(rngs.params(), (design.context, width)))
        self.norm = _norm(width, jnp.float32, rngs)
        self.projection = nnx.Param(width**-0.5 * draw(rngs.params(), (width, design.output)))

    def embed(self, tokens: Int[Array, "n L"]) -> Float[Array, "n L D"]:
        """Each token's vector and its place's."""
        found = self.token_embed[...][tokens] + self.pos_embed[...]
        return found.astype(self.design.dtype)

    def read(
        self, x: Float[Array, "n L D"], tokens: Int[Array, "n L"], constrain: Constrain
    ) -> Float[Array, "n K"]:
        """The embedding at the end of the caption, which has the largest id of all."""
        last = jnp.argmax(tokens, axis=1)[:, None, None]
        at_end = jnp.take_along_axis(x, last, axis=1)[:, 0].astype(jnp.float32)
        return constrain(self.norm(at_end)) @ self.projection[...]


@dataclasses.dataclass(frozen=True)
class TextTower:
    """A text tower as two pure functions of a nested dict of float32 parameters.

    init(key) -> params; apply(params, tokens int32[n, L], constrain) -> float32[n, K], not
    normalised. `constrain`, as a ViT's, says where activations shall lie: without it, kernels that
    are cut over the devices (FSDP) would have each of them see all captions.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[..., jax.Array]
    design: TextDesign


def build(design: TextDesign) -> TextTower:
    """The tower of a design; blocks are `blocks_{i}`."""
    ends_def, ends_shapes = nnx.split(nnx.eval_shape(lambda: TextEnds(design, rngs=nnx.Rngs(0))))
    block_def, _ = nnx.split(nnx.eval_shape(lambda: TextBlock(design, rngs=nnx.Rngs(0))))
    names = set(nnx.to_pure_dict(ends_shapes))

    def init(key: jax.Array) -> Params:
        keys = jax.random.split(key, design.depth + 1)
        params = _values(TextEnds(design, rngs=nnx.Rngs(keys[0])))
        for i in range(design.depth):
            params[f"blocks_{i}"] = _values(TextBlock(design, rngs=nnx.Rngs(keys[i + 1])))
        return params

    def apply(params: Params, tokens: jax.Array, constrain: Constrain = unconstrained) -> jax.Array:
        ends = nnx.merge(ends_def, {name: params[name] for name in names})

        @jax.jit  # traced once for all blocks
        def run(params: Params, x: jax.Array) -> jax.Array:
            return nnx.merge(block_def, params)(x, constrain)

        with jax.named_scope("text"):
            tokens = constrain(tokens)
            x = constrain(ends.embed(tokens))
            for i in range(design.depth):
                x = run(params[f"blocks_{i}"], x)
            return ends.read(x, tokens, constrain)

    return TextTower(init, apply, design)


def beside(model: Model, tower: TextTower) -> Model:
    """`model` with a text tower: `apply(..., tokens=int32[B, L])` also puts out `text_embedding`
    float32[B / views, K] and `logit_scale` float32[]. The tower sees each caption once."""

    def init(key: jax.Array) -> Params:
        image_key, text_key = jax.random.split(key)
        scale = jnp.asarray(SCALE_INIT, jnp.float32)
        return {**model.init(image_key), "text": tower.init(text_key), "logit_scale": scale}

    def apply(params: Params, images: jax.Array, *, tokens=None, **rest: Any):
        outputs = model.apply(params, images, **rest)
        if tokens is None:
            return outputs
        lie = rest.get("constrain", unconstrained)
        embedding = tower.apply(params["text"], tokens[:: tower.design.views], lie)
        return {**outputs, "text_embedding": embedding, "logit_scale": params["logit_scale"]}

    return dataclasses.replace(model, init=init, apply=apply, text=tower)


def clamped(params: Params) -> Params:
    """Parameters after an update: the scale stays between 1 and 100, as CLIP keeps it."""
    if "logit_scale" not in params:
        return params
    return {**params, "logit_scale": jnp.clip(params["logit_scale"], 0.0, SCALE_MOST)}


def _norm(width: int, dtype: Any, rngs: nnx.Rngs) -> nnx.LayerNorm:
    return nnx.LayerNorm(width, epsilon=EPSILON, dtype=dtype, rngs=rngs)


def _values(module: nnx.Module) -> Params:
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))
