"""What a trained ViT looks at: its attention probabilities, and what papers make of them.

Nothing here takes part in training. The blocks are run again, in float32, on the parameters of any
model that `vit.build` makes, its blocks scanned or not, its attention fused or not.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from jaxfdsl.models import vit
from jaxfdsl.models.attention import weigh
from jaxfdsl.models.blocks import stack_blocks


def read_out(
    params: vit.Params, images: Float[Array, "B S S 3"], design: vit.Design
) -> tuple[dict[str, jax.Array], Float32[Array, "L B H N N"]]:
    """The outputs of `Model.apply(params, images, train=False)`, computed in float32 at the highest
    precision, and the attention probabilities of each block and head, queries before keys.

    They are 4 L B H N^2 bytes: 22 MB an image of ViT-B/16 at 224 pixels. Jittable; `design` is
    static.
    """
    plain = dataclasses.replace(design, dtype=np.dtype("float32"), attention="xla", remat="none")
    stacked = stack_blocks(params)
    ends = _merge(lambda: vit.Ends(plain, rngs=nnx.Rngs(0)), stacked)

    def step(x: jax.Array, layer: vit.Params) -> tuple[jax.Array, jax.Array]:
        return _block(_merge(lambda: vit.Block(plain, rngs=nnx.Rngs(0)), layer), x)

    with jax.default_matmul_precision("highest"):
        x, weights = jax.lax.scan(step, ends.embed(images), stacked["blocks"])
        return ends.read(x, lambda x: x), weights


def _merge(make, params: vit.Params):
    """A module with those of the parameters that it has."""
    graph, shapes = nnx.split(nnx.eval_shape(make))
    return nnx.merge(graph, {name: params[name] for name in nnx.to_pure_dict(shapes)})


def _block(block: vit.Block, x: Float[Array, "B N D"]) -> tuple[jax.Array, jax.Array]:
    """As `vit.Block` without drop path, and its attention probabilities."""
    qkv = block.attn.qkv(block.norm1(x))
    weights = weigh(qkv[:, :, 0], qkv[:, :, 1])
    x = x + block.attn.proj(jnp.einsum("bhqk,bkhd->bqhd", weights, qkv[:, :, 2]))
    return x + block.mlp(block.norm2(x)), weights


def received(weights: Float[Array, "*b N N"], pool: str) -> Float[Array, "*b n"]:
    """The attention that each patch gets from what the features are read from: from the class token
    (`pool` "token", DINO's figure) or, where all tokens are averaged ("mean"), from the mean query.
    """
    return weights[..., 0, 1:] if pool == "token" else weights.mean(-2)


def rollout(weights: Float[Array, "L B H N N"]) -> Float[Array, "B N N"]:
    """Attention rollout: how much of each input token is in each token behind the last block, if a
    block is half its residual connection and half the mean of its heads.

    Abnar and Zuidema, arXiv 2005.00928, section 3.
    """
    mixed = 0.5 * weights.mean(2) + 0.5 * jnp.eye(weights.shape[-1], dtype=weights.dtype)
    mixed = mixed / mixed.sum(-1, keepdims=True)

    def step(through: jax.Array, layer: jax.Array) -> tuple[jax.Array, None]:
        return jnp.matmul(layer, through, precision=jax.lax.Precision.HIGHEST), None

    return jax.lax.scan(step, mixed[0], mixed[1:])[0]


def mean_distance(
    weights: Float[Array, "*b N N"], side: int, patch_size: int
) -> Float[Array, "*b"]:
    """The distance in pixels between a query's and its keys' patches, weighted by attention and
    averaged over queries; the class token, which has no place, is left out of both.

    Dosovitskiy et al., arXiv 2010.11929, appendix D.7; what a query's keys weigh is brought to 1.
    """
    prefix = weights.shape[-1] - side**2
    patches = weights[..., prefix:, prefix:]
    down, across = np.divmod(np.arange(side**2), side)
    apart = patch_size * np.hypot(down[:, None] - down, across[:, None] - across)
    total = jnp.maximum(patches.sum(-1), jnp.finfo(weights.dtype).tiny)
    return ((patches * apart.astype(np.float32)).sum(-1) / total).mean(-1)
