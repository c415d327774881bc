"""The vision transformer of published encoders, as one function of their arrays.

What a model has is told by its parameters: a class token and registers (`prefix`), learned
positions, a norm before the blocks (CLIP), a gate in the MLPs (SwiGLU: the first layer is twice as
wide as the last one's input). LayerScale is folded into the maps before it.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxfdsl.models.attention import attend
from jaxfdsl.representations.encoders import positions

ACTIVATIONS = {
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),
    "silu": jax.nn.silu,
}

POOLS = {
    "token": "the first token behind the last norm",
    "pre": "the first token before that norm",
    "projection": "the first token behind norm and projection",
    "attention": "a learned query that attends to all tokens",
}


@dataclasses.dataclass(frozen=True)
class Design:
    """What the arrays' shapes do not tell; `pool` is one of POOLS, `rope_theta` 0 without RoPE."""

    num_heads: int
    image_size: int
    patch_size: int
    epsilon: float
    activation: str
    pool: str
    rope_theta: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def features(
    design: Design, params: Any, images: Float32[Array, "B S S 3"]
) -> Float32[Array, "B E"]:
    """One vector an image, of images 0..255. All is float32, and on accelerators no matrix product
    is rounded to fewer bits, so that a column of vectors is the same wherever it was made.
    """
    with jax.default_matmul_precision("highest"):
        mean, std = (jnp.asarray(x, jnp.float32) for x in (design.mean, design.std))
        with jax.named_scope("embed"):
            x = _embed(design, params, (images / 255 - mean) / std)
        rotate = _rotation(design, params, x)

        def block(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
            with jax.named_scope("block"):
                return _block(design, layer, x, rotate), None

        # A scan: one block is compiled, however many there are.
        x, _ = jax.lax.scan(block, x, params["blocks"])
        with jax.named_scope("pool"):
            return _pool(design, params, x)


def _embed(design: Design, params: Any, images: Float[Array, "B S S 3"]) -> Float[Array, "B N D"]:
    p, side = design.patch_size, design.image_size // design.patch_size
    patches = images.reshape(-1, side, p, side, p, 3).swapaxes(2, 3)
    kernel = params["patch"]["kernel"]
    x = patches.reshape(len(images), side * side, -1) @ kernel.reshape(-1, kernel.shape[-1])
    x = x + params["patch"]["bias"]
    if "positions" in params:
        x = x + params["positions"]
    if "prefix" in params:
        prefix = params["prefix"]
        prefix = jnp.broadcast_to(prefix, (len(images), *prefix.shape))
        x = jnp.concatenate([prefix, x], axis=1)
    return _norm(design, params["norm_pre"], x) if "norm_pre" in params else x


def _rotation(design: Design, params: Any, x: jax.Array) -> Any:
    """x (B, N, H, d) -> the same with its patches rotated."""
    if not design.rope_theta:
        return lambda x: x
    side, head_width = design.image_size // design.patch_size, x.shape[-1] // design.num_heads
    cos, sin = positions.rotations(side, head_width, design.rope_theta)
    cos, sin = cos[:, None], sin[:, None]
    first = x.shape[1] - side * side

    def rotate(x: jax.Array) -> jax.Array:
        patches = x[:, first:]
        left, right = jnp.split(patches, 2, axis=-1)
        turned = patches * cos + jnp.concatenate([-right, left], axis=-1) * sin
        return jnp.concatenate([x[:, :first], turned], axis=1)

    return rotate


def _block(design: Design, layer: Any, x: Float[Array, "B N D"], rotate: Any) -> jax.Array:
    qkv = _linear(layer["qkv"], _norm(design, layer["norm1"], x))
    q, k, v = jnp.split(qkv.reshape(*x.shape[:2], 3 * design.num_heads, -1), 3, axis=2)
    seen = attend(rotate(q), rotate(k), v, "xla").reshape(x.shape)
    x = x + _linear(layer["proj"], seen)
    return x + _mlp(design, layer, _norm(design, layer["norm2"], x))


def _mlp(design: Design, layer: Any, x: jax.Array) -> jax.Array:
    x = _linear(layer["fc1"], x)
    act = ACTIVATIONS[design.activation]
    if x.shape[-1] == layer["fc2"]["kernel"].shape[0]:
        return _linear(layer["fc2"], act(x))
    gate, up = jnp.split(x, 2, axis=-1)
    return _linear(layer["fc2"], act(gate) * up)


def _pool(design: Design, params: Any, x: Float[Array, "B N D"]) -> jax.Array:
    if design.pool == "pre":
        return x[:, 0]
    if design.pool != "attention":
        first = _norm(design, params["norm"], x[:, 0])
        return first @ params["projection"]["kernel"] if design.pool == "projection" else first
    pool, x = params["pool"], _norm(design, params["norm"], x)
    width = x.shape[-1]
    kernel, bias = pool["qkv"]["kernel"], pool["qkv"]["bias"]
    query = pool["probe"] @ kernel[:, :width] + bias[:width]
    keys = x @ kernel[:, width:] + bias[width:]
    k, v = jnp.split(keys.reshape(*x.shape[:2], 2 * design.num_heads, -1), 2, axis=2)
    q = jnp.broadcast_to(query.reshape(design.num_heads, -1), (len(x), 1, *k.shape[2:]))
    seen = _linear(pool["proj"], _attended(q, k, v).reshape(len(x), width))
    return seen + _mlp(design, pool, _norm(design, pool["norm"], seen))


def _attended(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """`attend`, whose queries are as many as its keys, for one query."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits, axis=-1), v)


def _linear(layer: Any, x: jax.Array) -> jax.Array:
    return x @ layer["kernel"] + layer["bias"]


def _norm(design: Design, layer: Any, x: jax.Array) -> jax.Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    scaled = (x - mean) * jax.lax.rsqrt(variance + design.epsilon)
    return scaled * layer["scale"] + layer["bias"]
