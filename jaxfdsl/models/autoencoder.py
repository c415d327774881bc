"""Images as latents and back: Stable Diffusion's autoencoder, frozen.

`AutoencoderKL` of diffusers (github.com/huggingface/diffusers, `models/autoencoders/`), which is
that of latent diffusion (Rombach et al., arXiv 2112.10752) after Esser et al., arXiv 2012.09841.
It computes in the type of its parameters, group norms and softmax in float32.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Params = Mapping[str, Any]

EPSILON = 1e-6  # of the group norms
CHUNK = 16  # images that are encoded or decoded at once: one of 256 pixels works on 100 MB
_CLIP = (-30.0, 20.0)  # of the logarithm of the variance


@dataclasses.dataclass(frozen=True)
class Design:
    """Everything that decides an autoencoder's parameters and arithmetic; Stable Diffusion's."""

    widths: tuple[int, ...] = (128, 256, 512, 512)  # of the levels, that of the pixels first
    layers: int = 2  # resnet blocks of a level; the decoder has one more
    groups: int = 32  # of the norms
    channels: int = 4  # of a latent
    quant: bool = True  # whether a 1 x 1 convolution ends the encoder
    post_quant: bool = True  # and begins the decoder

    @property
    def factor(self) -> int:
        """Pixels of a side for one number of a latent's side."""
        return 2 ** (len(self.widths) - 1)


@dataclasses.dataclass(frozen=True)
class Autoencoder:
    """Frozen weights and their two functions.

    encode(params, images float[B, S, S, 3] in -1..1) -> (mean, logvar), float32[B, s, s, channels]
    with s = S / factor; decode(params, latents float[B, s, s, channels]) -> float32[B, S, S, 3].
    What a denoiser works in is (latent - shift) * scale, whose deviation is about 1.
    """

    params: Params
    encode: Callable[..., tuple[jax.Array, jax.Array]]
    decode: Callable[..., jax.Array]
    scale: float
    shift: float
    channels: int
    factor: int
    digest: str  # sha256 of the file
    design: Design

    def latents(
        self, params: Params, images: Float[Array, "B S S 3"], noise: Float[Array, "B s s C"]
    ) -> Float[Array, "B s s C"]:
        """Draws from what `images` may be encoded as, scaled; a few images at a time."""

        def one(image: jax.Array, noise: jax.Array) -> jax.Array:
            mean, logvar = self.encode(params, image[None])
            return mean[0] + jnp.exp(0.5 * logvar[0]) * noise

        return self.scaled(jax.lax.map(lambda pair: one(*pair), (images, noise), batch_size=CHUNK))

    def scaled(self, drawn: Float[Array, "B s s C"]) -> Float[Array, "B s s C"]:
        """What a denoiser works in, of what the encoder's means and deviations are of."""
        return (drawn - self.shift) * self.scale

    def images(self, params: Params, latents: Float[Array, "B s s C"]) -> Float[Array, "B S S 3"]:
        """The images, about -1 to 1, of latents as `latents` gives them; a few at a time."""
        wide = latents / self.scale + self.shift
        return jax.lax.map(lambda z: self.decode(params, z[None])[0], wide, batch_size=CHUNK)


def encode(
    design: Design, params: Params, images: Float[Array, "B S S 3"]
) -> tuple[Float[Array, "B s s C"], Float[Array, "B s s C"]]:
    """Mean and logarithm of the variance of what images in -1..1 are encoded as."""
    own = params["encoder"]
    x = _conv(own["conv_in"], images.astype(own["conv_in"]["kernel"].dtype))
    for level in _in_order(own["down_blocks"]):
        for block in _in_order(level["resnets"]):
            x = _resnet(block, x, design.groups)
        if "downsamplers" in level:
            x = _conv(level["downsamplers"]["0"]["conv"], x, stride=2, padding=(0, 1))
    x = _end(own, _middle(own["mid_block"], x, design.groups), design.groups)
    if design.quant:
        x = _conv(params["quant_conv"], x, padding=(0, 0))
    mean, logvar = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return mean, jnp.clip(logvar, *_CLIP)


def decode(
    design: Design, params: Params, latents: Float[Array, "B s s C"]
) -> Float[Array, "B S S 3"]:
    """The images, about -1 to 1, of latents that are not scaled."""
    own = params["decoder"]
    x = latents.astype(own["conv_in"]["kernel"].dtype)
    if design.post_quant:
        x = _conv(params["post_quant_conv"], x, padding=(0, 0))
    x = _middle(own["mid_block"], _conv(own["conv_in"], x), design.groups)
    for level in _in_order(own["up_blocks"]):
        for block in _in_order(level["resnets"]):
            x = _resnet(block, x, design.groups)
        if "upsamplers" in level:
            x = _conv(level["upsamplers"]["0"]["conv"], x.repeat(2, axis=1).repeat(2, axis=2))
    return _end(own, x, design.groups).astype(jnp.float32)


def _in_order(blocks: Params) -> list[Params]:
    return [blocks[str(i)] for i in range(len(blocks))]


def _resnet(own: Params, x: Float[Array, "B H W C"], groups: int) -> Float[Array, "B H W D"]:
    hidden = _conv(own["conv1"], jax.nn.silu(_norm(own["norm1"], x, groups)))
    hidden = _conv(own["conv2"], jax.nn.silu(_norm(own["norm2"], hidden, groups)))
    if "conv_shortcut" in own:
        x = _conv(own["conv_shortcut"], x, padding=(0, 0))
    return x + hidden


def _middle(own: Params, x: jax.Array, groups: int) -> jax.Array:
    x = _resnet(own["resnets"]["0"], x, groups)
    x = _attend(own["attentions"]["0"], x, groups)
    return _resnet(own["resnets"]["1"], x, groups)


def _attend(own: Params, x: Float[Array, "B H W C"], groups: int) -> Float[Array, "B H W C"]:
    """Every place asks every place, with one head."""
    tokens = _norm(own["group_norm"], x, groups).reshape(x.shape[0], -1, 1, x.shape[-1])
    query, key, value = (_linear(own[f"to_{letter}"], tokens) for letter in "qkv")
    found = jax.nn.dot_product_attention(query, key, value)
    return x + _linear(own["to_out"]["0"], found).reshape(x.shape)


def _end(own: Params, x: jax.Array, groups: int) -> jax.Array:
    return _conv(own["conv_out"], jax.nn.silu(_norm(own["conv_norm_out"], x, groups)))


def _norm(own: Params, x: Float[Array, "*n C"], groups: int) -> Float[Array, "*n C"]:
    b, h, w, c = x.shape
    wide = x.astype(jnp.float32).reshape(b, h, w, groups, c // groups)
    mean = jnp.mean(wide, axis=(1, 2, 4), keepdims=True)
    variance = jnp.mean(jnp.square(wide - mean), axis=(1, 2, 4), keepdims=True)
    plain = ((wide - mean) * jax.lax.rsqrt(variance + EPSILON)).reshape(x.shape)
    return (plain * own["scale"].astype(jnp.float32) + own["bias"].astype(jnp.float32)).astype(
        x.dtype
    )


def _linear(own: Params, x: Float[Array, "*n C"]) -> Float[Array, "*n D"]:
    return x @ own["kernel"] + own["bias"]


def _conv(
    own: Params, x: Float[Array, "B H W C"], stride: int = 1, padding: tuple[int, int] = (1, 1)
) -> Float[Array, "B h w D"]:
    names = ("NHWC", "HWIO", "NHWC")
    found = jax.lax.conv_general_dilated(
        x, own["kernel"], (stride, stride), (padding, padding), dimension_numbers=names
    )
    return found + own["bias"]


def shapes(design: Design) -> dict[str, tuple[int, ...]]:
    """Every parameter's shape by its path, as "encoder/conv_in/kernel"; convolutions are HWIO."""
    return dict(_shapes(design))


def parameters(design: Design) -> int:
    """How many numbers they are."""
    return sum(math.prod(shape) for shape in shapes(design).values())


Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _shapes(design: Design) -> Shapes:
    widths, channels = design.widths, design.channels
    yield from _conv_shapes("encoder/conv_in", 3, widths[0])
    yield from _levels("encoder/down_blocks", "downsamplers", widths[0], widths, design.layers)
    yield from _ends_shapes("encoder", widths[-1], widths[-1], 2 * channels)
    if design.quant:
        yield from _conv_shapes("quant_conv", 2 * channels, 2 * channels, 1)
    if design.post_quant:
        yield from _conv_shapes("post_quant_conv", channels, channels, 1)
    yield from _conv_shapes("decoder/conv_in", channels, widths[-1])
    up = widths[::-1]
    yield from _levels("decoder/up_blocks", "upsamplers", up[0], up, design.layers + 1)
    yield from _ends_shapes("decoder", widths[-1], widths[0], 3)


def _levels(path: str, between: str, first: int, widths: tuple[int, ...], layers: int) -> Shapes:
    for i, width in enumerate(widths):
        for j in range(layers):
            yield from _resnet_shapes(f"{path}/{i}/resnets/{j}", first, width)
            first = width
        if i < len(widths) - 1:
            yield from _conv_shapes(f"{path}/{i}/{between}/0/conv", width, width)


def _ends_shapes(path: str, middle: int, last: int, outputs: int) -> Shapes:
    for i in range(2):
        yield from _resnet_shapes(f"{path}/mid_block/resnets/{i}", middle, middle)
    attention = f"{path}/mid_block/attentions/0"
    yield from _norm_shapes(f"{attention}/group_norm", middle)
    for name in ("to_q", "to_k", "to_v", "to_out/0"):
        yield f"{attention}/{name}/kernel", (middle, middle)
        yield f"{attention}/{name}/bias", (middle,)
    yield from _norm_shapes(f"{path}/conv_norm_out", last)
    yield from _conv_shapes(f"{path}/conv_out", last, outputs)


def _resnet_shapes(path: str, inputs: int, outputs: int) -> Shapes:
    yield from _norm_shapes(f"{path}/norm1", inputs)
    yield from _conv_shapes(f"{path}/conv1", inputs, outputs)
    yield from _norm_shapes(f"{path}/norm2", outputs)
    yield from _conv_shapes(f"{path}/conv2", outputs, outputs)
    if inputs != outputs:
        yield from _conv_shapes(f"{path}/conv_shortcut", inputs, outputs, 1)


def _norm_shapes(path: str, width: int) -> Shapes:
    yield f"{path}/scale", (width,)
    yield f"{path}/bias", (width,)


def _conv_shapes(path: str, inputs: int, outputs: int, side: int = 3) -> Shapes:
    yield f"{path}/kernel", (side, side, inputs, outputs)
    yield f"{path}/bias", (outputs,)
