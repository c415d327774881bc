"""The vision transformer, equal to timm's `vit_*` (pre-norm, exact GELU, learned positions).

Dosovitskiy et al., arXiv 2010.11929. With `pool="token"` the model is timm's default. With
`pool="mean"` it is timm's `class_token=False, global_pool="avg", fc_norm=True`: no class token,
the mean of the patch tokens, then the norm.

Parameters of block i are `blocks_{i}`, or with `scan_blocks` one stacked `blocks`; both start from
the same values.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from jaxfdsl.models import heads
from jaxfdsl.models.attention import LINEAR_INIT, Attention, choose
from jaxfdsl.models.blocks import unstack_blocks
from jaxfdsl.models.projector import Projection, Projector
from jaxfdsl.models.variants import Variant, resolve

Params = dict
Constrain = Callable[..., jax.Array]  # of an array and, where it has heads, their axis
Outputs = int | Projection  # how many numbers a linear head puts out, or what a projector is


@dataclasses.dataclass(frozen=True)
class Design:
    """Everything that decides a ViT's parameters and arithmetic."""

    size: Variant
    heads: tuple[tuple[str, Outputs], ...]  # names, as in `models.heads`, and what each is
    image_size: int
    patch_size: int
    pool: str
    norm_epsilon: float
    drop_path: float
    scan_blocks: bool
    remat: str
    attention: str
    dtype: np.dtype

    @property
    def side(self) -> int:
        """Patches along an edge of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """The number of tokens in the trunk."""
        return self.side**2 + (self.pool == "token")


@dataclasses.dataclass(frozen=True)
class Model:
    """A ViT as two pure functions of a nested dict of float32 parameters.

    init(key) -> params; apply(params, images float[B, S, S, 3], *, train, key, constrain) ->
    {"features": float32[B, D]}, with a `head` "logits": float32[B, K], with a `patch_head`
    "patch_logits": float32[B, h, w, K], with a `projector` "projection": float32[B, P]. `key`
    drives drop path alone. `constrain(x)` returns activations (B, ...) where they shall lie;
    `constrain(x, heads=i)` has heads on axis i.
    """

    init: Callable[[jax.Array], Params]
    apply: Callable[..., dict[str, jax.Array]]
    design: Any  # a `Design`, or a denoiser's
    text: Any = None  # a `models.text.TextTower`, where one stands beside the trunk


def drop_path(
    x: Float[Array, "B N D"], rate: jax.typing.ArrayLike, key: jax.Array
) -> Float[Array, "B N D"]:
    """Zeroes whole samples of a branch with probability `rate` and rescales the others (timm)."""
    keep = 1.0 - rate
    kept = jax.random.bernoulli(key, keep, (x.shape[0], 1, 1))
    return x * (kept / keep).astype(x.dtype)


class PatchEmbed(nnx.Module):
    """Cuts images into p x p patches and maps each to D channels; kernel (p, p, 3, D)."""

    def __init__(self, patch_size: int, width: int, dtype, *, rngs: nnx.Rngs):
        # timm leaves a convolution as torch makes it: uniform within 1 / sqrt(fan in).
        bound = (patch_size * patch_size * 3) ** -0.5

        def uniform(shape):
            return jax.random.uniform(rngs.params(), shape, jnp.float32, -bound, bound)

        self.dtype = dtype
        self.kernel = nnx.Param(uniform((patch_size, patch_size, 3, width)))
        self.bias = nnx.Param(uniform((width,)))

    def __call__(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B N D"]:
        p, _, c, width = self.kernel.shape
        b, s = images.shape[0], images.shape[1] // p
        kernel = self.kernel[...].reshape(p * p * c, width).astype(self.dtype)
        x = images.astype(self.dtype).reshape(b, s, p, s, p, c).transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(b, s * s, p * p * c) @ kernel
        return x + self.bias[...].astype(self.dtype)[None, None]


class Mlp(nnx.Module):
    """Two linear maps with an exact GELU between them."""

    def __init__(self, width: int, hidden: int, dtype, *, rngs: nnx.Rngs):
        self.fc1 = nnx.Linear(width, hidden, dtype=dtype, kernel_init=LINEAR_INIT, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, dtype=dtype, kernel_init=LINEAR_INIT, rngs=rngs)

    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


class Block(nnx.Module):
    """x + drop(attn(norm1(x))), then x + drop(mlp(norm2(x)))."""

    def __init__(self, design: Design, *, rngs: nnx.Rngs):
        size, dtype = design.size, design.dtype
        kind = choose(design.attention, size.width // size.num_heads, dtype)
        self.norm1 = heads.layer_norm(size.width, dtype, design.norm_epsilon, rngs=rngs)
        self.attn = Attention(size.width, size.num_heads, kind, dtype, rngs=rngs)
        self.norm2 = heads.layer_norm(size.width, dtype, design.norm_epsilon, rngs=rngs)
        self.mlp = Mlp(size.width, int(size.width * size.mlp_ratio), dtype, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N D"], rate, key: jax.Array | None, constrain: Constrain
    ) -> Float[Array, "B N D"]:
        def drop(branch: jax.Array, index: int) -> jax.Array:
            if key is None:
                return branch
            return drop_path(branch, rate, jax.random.fold_in(key, index))

        x = x + drop(self.attn(self.norm1(x), constrain), 0)
        return x + drop(self.mlp(self.norm2(x)), 1)


class Ends(nnx.Module):
    """What stands before and after the blocks: images (B, S, S, 3) to tokens, tokens to heads."""

    def __init__(self, design: Design, *, rngs: nnx.Rngs):
        self.design = design
        width = design.size.width
        self.patch_embed = PatchEmbed(design.patch_size, width, design.dtype, rngs=rngs)
        if design.pool == "token":
            self.cls_token = nnx.Param(1e-6 * jax.random.normal(rngs.params(), (1, 1, width)))
        self.pos_embed = nnx.Param(LINEAR_INIT(rngs.params(), (1, design.tokens, width)))
        self.norm = heads.layer_norm(width, jnp.float32, design.norm_epsilon, rngs=rngs)
        for name, outputs in design.heads:
            if isinstance(outputs, Projection):
                made: nnx.Module = Projector(width, outputs, rngs=rngs)
            elif name == "image_projection":
                made = heads.embedding_head(width, outputs, rngs=rngs)
            else:
                made = heads.linear_head(width, outputs, rngs=rngs)
            setattr(self, name, made)

    def embed(self, images: Float[Array, "B S S 3"]) -> Float[Array, "B N D"]:
        """Patch tokens, behind the class token if there is one, plus positions."""
        x = self.patch_embed(images)
        if self.design.pool == "token":
            cls = jnp.broadcast_to(self.cls_token[...], (x.shape[0], 1, x.shape[2]))
            x = jnp.concatenate([cls.astype(x.dtype), x], axis=1)
        return x + self.pos_embed[...].astype(x.dtype)

    def read(self, x: Float[Array, "B N D"], constrain: Constrain) -> dict[str, jax.Array]:
        """The outputs of the model, see `Model`."""
        # Without the constraint the head's sharded kernel moves the features between devices.
        features = constrain(self.norm(heads.pool(x, self.design.pool)))
        outputs = {"features": features}
        if hasattr(self, "head"):
            outputs["logits"] = self.head(features)
        if hasattr(self, "patch_head"):
            patches = constrain(self.norm(x[:, self.design.pool == "token" :]))
            side = self.design.side
            outputs["patch_logits"] = self.patch_head(patches).reshape(len(x), side, side, -1)
        if hasattr(self, "projector"):
            outputs["projection"] = self.projector(features, constrain)
        if hasattr(self, "image_projection"):
            outputs["image_embedding"] = self.image_projection(features)
        return outputs


def _block_function(design: Design, constrain: Constrain) -> Callable:
    """Returns run(params, x, i, rate, key) -> x, block number i as a function of its parameters."""
    graphdef, _ = nnx.split(nnx.eval_shape(lambda: Block(design, rngs=nnx.Rngs(0))))

    def run(params: Params, x: jax.Array, i, rate, key: jax.Array | None) -> jax.Array:
        with jax.named_scope("block"):
            block_key = None if key is None else jax.random.fold_in(key, i)
            return constrain(nnx.merge(graphdef, params)(x, rate, block_key, constrain))

    if design.remat != "none":
        save = {"full": None, "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}
        policy, prevent_cse = save[design.remat], not design.scan_blocks
        run = jax.checkpoint(run, policy=policy, prevent_cse=prevent_cse)
    return jax.jit(run)  # traced once however many blocks there are


def _trunk(
    params: Params, x: jax.Array, key: jax.Array | None, design: Design, constrain: Constrain
) -> jax.Array:
    """All blocks in order, one after another or as a scan over stacked parameters."""
    run, depth = _block_function(design, constrain), design.size.depth
    # Rising linearly from 0 in the first block to the full rate in the last, as in timm.
    rates = np.linspace(0.0, design.drop_path, depth, dtype=np.float32)
    if design.scan_blocks:

        def step(x, layer):
            stacked, i, rate = layer
            return run(stacked, x, i, rate, key), None

        return jax.lax.scan(step, x, (params["blocks"], jnp.arange(depth), rates))[0]
    for i in range(depth):
        x = run(params[f"blocks_{i}"], x, i, rates[i], key)
    return x


def design_of(cfg, outputs: int | Mapping[str, Outputs], dtype) -> Design:
    """Reads the `model` part of a config."""
    outputs = {"head": outputs} if isinstance(outputs, int) else outputs
    size = resolve(cfg.variant, cfg.width, cfg.depth, cfg.num_heads, cfg.mlp_ratio)
    same = ("image_size", "patch_size", "pool", "norm_epsilon", "drop_path", "scan_blocks")
    rest = {name: cfg[name] for name in (*same, "remat", "attention")}
    heads_of = tuple(sorted(outputs.items()))
    return Design(size=size, heads=heads_of, dtype=jnp.dtype(dtype), **rest)


def build(cfg, outputs: int | Mapping[str, Outputs], dtype) -> Model:
    """Builds the model that the `model` part of a config describes.

    `outputs` has the heads by name and how many numbers each puts out, a `Projection` for the
    projector; a bare number is that of the classifier, {"head": K}. `dtype` is the trunk's compute
    type; parameters, final norm and heads are float32.
    """
    design = design_of(cfg, outputs, dtype)
    graphdef, ends_shapes = nnx.split(nnx.eval_shape(lambda: Ends(design, rngs=nnx.Rngs(0))))
    ends_names = set(nnx.to_pure_dict(ends_shapes))

    def init(key: jax.Array) -> Params:
        ends_key, blocks_key = jax.random.split(key)
        params = _values(Ends(design, rngs=nnx.Rngs(ends_key)))
        keys = jax.random.split(blocks_key, design.size.depth)
        params["blocks"] = jax.vmap(lambda k: _values(Block(design, rngs=nnx.Rngs(k))))(keys)
        return params if design.scan_blocks else unstack_blocks(params)

    def apply(params, images, *, train: bool, key=None, constrain: Constrain = unconstrained):
        ends = nnx.merge(graphdef, {name: params[name] for name in ends_names})
        drop = key if train and design.drop_path else None
        with jax.named_scope("embed"):
            x = constrain(ends.embed(images))
        x = _trunk(params, x, drop, design, constrain)
        with jax.named_scope("head"):
            return ends.read(x, constrain)

    return Model(init, apply, design)


def unconstrained(x: jax.Array, heads: int = 0) -> jax.Array:
    """Activations wherever they are."""
    return x


def _values(module: nnx.Module) -> Params:
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))
