"""The diffusion transformer: the ViT's block, modulated by a vector, that predicts a velocity.

DiT with adaLN-zero (Peebles and Xie, arXiv 2212.09748, section 3.2) under flow matching on the
linear path (SiT, Ma et al., arXiv 2401.08740). Class, cluster and representation conditioning are
one thing, a vector times a matrix; a learned vector stands for no condition.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from jaxfdsl.models.attention import Attention, choose
from jaxfdsl.models.blocks import unstack_blocks
from jaxfdsl.models.variants import Variant
from jaxfdsl.models.vit import Model, Params

_FREQUENCIES = 256  # numbers of a time before its MLP
_SMALL = nnx.initializers.normal(0.02)
_XAVIER = nnx.initializers.xavier_uniform()
_ZERO = nnx.initializers.zeros_init()

Constrain = Callable[..., jax.Array]


@dataclasses.dataclass(frozen=True)
class Design:
    """Everything that decides a denoiser's parameters and arithmetic."""

    size: Variant
    image_size: int  # side of what is denoised: pixels, or numbers of a latent
    channels: int
    patch_size: int
    cond_size: int  # numbers of a condition
    output_channels: int  # `channels`; DiT has twice as many, as it learns variances
    attention: str
    scan_blocks: bool
    remat: str
    dtype: np.dtype

    @property
    def tokens(self) -> int:
        """Patches of an image."""
        return (self.image_size // self.patch_size) ** 2


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """A denoiser as two pure functions of a nested dict of float32 parameters.

    init(key) -> params; velocity(params, images float[B, S, S, C], times float[B], conds float[B,
    K], known bool[B], *, constrain) -> float32[B, S, S, O]. Where `known` is False the learned
    vector stands for the condition.
    """

    init: Callable[[jax.Array], Params]
    velocity: Callable[..., jax.Array]
    design: Design


def modulate(
    x: Float[Array, "B N D"], shift: Float[Array, "B D"], scale: Float[Array, "B D"]
) -> Float[Array, "B N D"]:
    """x (1 + scale) + shift, the same at every token."""
    return x * (1 + scale[:, None]) + shift[:, None]


class Modulated(nnx.Module):
    """x + gate attn(modulate(norm(x))), then the same with the MLP; a vector gives the six."""

    def __init__(self, design: Design, *, rngs: nnx.Rngs):
        size, dtype = design.size, design.dtype
        width, hidden = size.width, int(size.width * size.mlp_ratio)
        kind = choose(design.attention, width // size.num_heads, dtype)
        self.attn = Attention(width, size.num_heads, kind, dtype, init=_XAVIER, rngs=rngs)
        self.fc1 = nnx.Linear(width, hidden, dtype=dtype, kernel_init=_XAVIER, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, dtype=dtype, kernel_init=_XAVIER, rngs=rngs)
        self.modulation = nnx.Linear(width, 6 * width, dtype=dtype, kernel_init=_ZERO, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B N D"], vector: Float[Array, "B D"], constrain: Constrain
    ) -> Float[Array, "B N D"]:
        six = jnp.split(self.modulation(jax.nn.silu(vector).astype(x.dtype)), 6, axis=-1)
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = six
        x = x + gate[:, None] * self.attn(modulate(plain_norm(x), shift, scale), constrain)
        hidden = self.fc1(modulate(plain_norm(x), shift_mlp, scale_mlp))
        return x + gate_mlp[:, None] * self.fc2(jax.nn.gelu(hidden, approximate=True))


class Ends(nnx.Module):
    """What stands before and after the blocks."""

    def __init__(self, design: Design, *, rngs: nnx.Rngs):
        width, patch = design.size.width, design.patch_size
        self.design = design
        self.patches = nnx.Linear(
            patch * patch * design.channels, width, kernel_init=_XAVIER, rngs=rngs
        )
        self.time1 = nnx.Linear(_FREQUENCIES, width, kernel_init=_SMALL, rngs=rngs)
        self.time2 = nnx.Linear(width, width, kernel_init=_SMALL, rngs=rngs)
        self.cond_embed = nnx.Linear(
            design.cond_size, width, use_bias=False, kernel_init=_SMALL, rngs=rngs
        )
        self.no_cond = nnx.Param(0.02 * jax.random.normal(rngs.params(), (width,)))
        self.modulation = nnx.Linear(width, 2 * width, kernel_init=_ZERO, rngs=rngs)
        self.output = nnx.Linear(
            width, patch * patch * design.output_channels, kernel_init=_ZERO, rngs=rngs
        )

    def embed(self, images: Float[Array, "B S S C"]) -> Float[Array, "B N D"]:
        """Patches, each mapped to D numbers, plus their places' sines and cosines."""
        x = self.patches(_patches(images.astype(jnp.float32), self.design.patch_size))
        side = self.design.image_size // self.design.patch_size
        x = x + positions(self.design.size.width, side)
        return x.astype(self.design.dtype)

    def vector(
        self, times: Float[Array, " B"], conds: Float[Array, "B K"], known: Bool[Array, " B"]
    ) -> Float[Array, "B D"]:
        """What modulates the blocks: the time's embedding plus the condition's."""
        time = self.time2(jax.nn.silu(self.time1(frequencies(times))))
        # `where` before the product: an unknown condition may hold anything, NaN too.
        cond = self.cond_embed(jnp.where(known[:, None], conds.astype(jnp.float32), 0.0))
        return time + jnp.where(known[:, None], cond, self.no_cond[...])

    def read(self, x: Float[Array, "B N D"], vector: Float[Array, "B D"]) -> jax.Array:
        """The patches' velocities as an image, float32[B, S, S, O]."""
        shift, scale = jnp.split(self.modulation(jax.nn.silu(vector)), 2, axis=-1)
        x = self.output(modulate(plain_norm(x.astype(jnp.float32)), shift, scale))
        return _image(x, self.design.patch_size)


def build(design: Design) -> Denoiser:
    """The denoiser of a design; blocks are `blocks_{i}`, or one stacked `blocks`."""
    ends_def, ends_shapes = nnx.split(nnx.eval_shape(lambda: Ends(design, rngs=nnx.Rngs(0))))
    block_def, _ = nnx.split(nnx.eval_shape(lambda: Modulated(design, rngs=nnx.Rngs(0))))
    names = set(nnx.to_pure_dict(ends_shapes))

    def init(key: jax.Array) -> Params:
        ends_key, blocks_key = jax.random.split(key)
        params = _values(Ends(design, rngs=nnx.Rngs(ends_key)))
        keys = jax.random.split(blocks_key, design.size.depth)
        params["blocks"] = jax.vmap(lambda k: _values(Modulated(design, rngs=nnx.Rngs(k))))(keys)
        return params if design.scan_blocks else unstack_blocks(params)

    def velocity(params, images, times, conds, known, *, constrain: Constrain = _unconstrained):
        ends = nnx.merge(ends_def, {name: params[name] for name in names})
        vector = ends.vector(times, conds, known)
        x = constrain(ends.embed(images))

        def block(x: jax.Array, own: Params) -> jax.Array:
            with jax.named_scope("block"):
                return constrain(nnx.merge(block_def, own)(x, vector, constrain))

        run = jax.checkpoint(block) if design.remat != "none" else block
        if design.scan_blocks:
            x, _ = jax.lax.scan(lambda x, own: (run(x, own), None), x, params["blocks"])
        else:
            for i in range(design.size.depth):
                x = run(x, params[f"blocks_{i}"])
        return ends.read(x, vector)

    return Denoiser(init, velocity, design)


def as_model(made: Denoiser) -> Model:
    """The denoiser as training sees every model: of `Denoise.inputs` it makes `velocity`, and hands
    on the `target`."""

    def apply(params, images, *, train: bool, key=None, constrain: Constrain = _unconstrained):
        seen = images
        asked = (seen[name] for name in ("images", "times", "conds", "known"))
        velocity = made.velocity(params, *asked, constrain=constrain)
        return {"velocity": velocity, "target": seen["target"]}

    return Model(made.init, apply, made.design)


def positions(width: int, side: int) -> np.ndarray:
    """float32[side^2, width], fixed: half of the numbers are of the row, half of the column, each
    half sines then cosines of frequencies from 1 to 1/10,000 (MAE's `get_2d_sincos_pos_embed`)."""
    quarter = width // 4
    omega = 1.0 / 10_000 ** (np.arange(quarter, dtype=np.float64) / quarter)
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    halves = []
    for place in (columns, rows):  # DiT has the column first
        angles = place.reshape(-1, 1) * omega
        halves += [np.sin(angles), np.cos(angles)]
    return np.concatenate(halves, axis=1).astype(np.float32)


def frequencies(times: Float[Array, " B"]) -> Float[Array, "B 256"]:
    """Cosines then sines of 1000 t at frequencies from 1 to 1/10,000 (DiT's, whose times are 0 to
    999)."""
    half = _FREQUENCIES // 2
    omega = jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = 1000.0 * times.astype(jnp.float32)[:, None] * omega
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)


@jax.custom_vjp
def plain_norm(x: Float[Array, "... D"]) -> Float[Array, "... D"]:
    """LayerNorm without parameters, in float32.

    Its gradient is of the output alone: differentiated by JAX, on a CPU the whole gradient of a
    denoiser took a quarter longer.
    """
    return _normed(x)[0]


def _normed(x: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    wide = x.astype(jnp.float32)
    mean = jnp.mean(wide, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(wide - mean), axis=-1, keepdims=True)
    rate = jax.lax.rsqrt(variance + 1e-6)
    normed = ((wide - mean) * rate).astype(x.dtype)
    return normed, (normed, rate)


def _normed_back(kept: tuple[jax.Array, jax.Array], given: jax.Array) -> tuple[jax.Array]:
    normed, rate = kept[0].astype(jnp.float32), kept[1]
    wide = given.astype(jnp.float32)
    along = jnp.mean(wide * normed, axis=-1, keepdims=True)
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True) - normed * along
    return ((wide * rate).astype(given.dtype),)


plain_norm.defvjp(_normed, _normed_back)


def _patches(images: Float[Array, "B S S C"], patch: int) -> Float[Array, "B N P"]:
    b, s, _, c = images.shape
    cut = images.reshape(b, s // patch, patch, s // patch, patch, c)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def _image(patches: Float[Array, "B N P"], patch: int) -> Float[Array, "B S S C"]:
    b, n, p = patches.shape
    side, c = math.isqrt(n), p // patch**2
    cut = patches.reshape(b, side, side, patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return cut.reshape(b, side * patch, side * patch, c)


def _unconstrained(x: jax.Array, heads: int = 0) -> jax.Array:
    return x


def _values(module: nnx.Module) -> Any:
    return nnx.to_pure_dict(nnx.state(module, nnx.Param))
