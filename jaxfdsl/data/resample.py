"""Resizing as products with small matrices, one for each axis, with antialiasing.

An output pixel is a weighted mean of the input pixels under a kernel that is as wide as the output
pixel when shrinking, the kernel of Pillow's `resize` and of `jax.image.scale_and_translate`. A crop
never looks outside its box. Masks, whose values have no mean, take the nearest pixel.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num, UInt

Pixels = Array | np.ndarray
Method = Literal["bilinear", "bicubic"]


def resize(
    images: Num[Pixels, "B S S C"], size: int, method: Method = "bicubic"
) -> Float[Array, "B {size} {size} C"]:
    """Whole square images to `size` pixels, in the range 0-255."""
    side = images.shape[1]
    weights = axis_weights(jnp.int32(0), jnp.int32(side), side, size, method)
    return _apply(images, weights, weights, "oi", "pj")


def crop_and_resize(
    images: Num[Pixels, "B S S C"],
    boxes: Int[Array, "B 4"],
    size: int,
    method: Method = "bicubic",
) -> Float[Array, "B {size} {size} C"]:
    """Boxes `(top, left, height, width)`, one an image, to `size` pixels, in the range 0-255."""
    side = images.shape[1]
    both = jax.vmap(lambda start, extent: axis_weights(start, extent, side, size, method))
    vertical = both(boxes[:, 0], boxes[:, 2])
    horizontal = both(boxes[:, 1], boxes[:, 3])
    return _apply(images, vertical, horizontal, "boi", "bpj")


def nearest(
    masks: Int[Pixels, "B S S"] | UInt[Pixels, "B S S"], boxes: Int[Array, "B 4"] | None, size: int
) -> Int[Array, "B {size} {size}"] | UInt[Array, "B {size} {size}"]:
    """Boxes `(top, left, height, width)` of masks to `size` pixels, or all of them: the pixel under
    each centre.
    """
    side, centres = masks.shape[1], 2 * jnp.arange(size) + 1
    if boxes is None:
        places = centres * side // (2 * size)
        return jnp.asarray(masks)[:, places][:, :, places]

    def one(mask: Array, box: Array) -> Array:
        rows, columns = (box[i] + centres * box[i + 2] // (2 * size) for i in (0, 1))
        return mask[rows][:, columns]

    return jax.vmap(one)(jnp.asarray(masks), boxes)


def axis_weights(
    start: Int[Array, ""], extent: Int[Array, ""], side: int, size: int, method: Method
) -> Float[Array, "{size} {side}"]:
    """How much each of `side` pixels adds to each of the `size` that show [start, start+extent)."""
    pixels = jnp.arange(side)
    scale = extent.astype(jnp.float32) / size
    centres = start + (jnp.arange(size) + 0.5) * scale
    distance = (pixels + 0.5)[None, :] - centres[:, None]
    weights = _kernel(jnp.abs(distance) / jnp.maximum(scale, 1.0), method)
    inside = (pixels >= start) & (pixels < start + extent)
    weights = jnp.where(inside, weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _kernel(x: Float[Array, "..."], method: Method) -> Float[Array, "..."]:
    if method == "bilinear":
        return jnp.maximum(0.0, 1.0 - x)
    near = (1.5 * x - 2.5) * x * x + 1.0  # Keys' cubic with a = -1/2, Pillow's BICUBIC
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0.0))


def _apply(images: Pixels, vertical: Array, horizontal: Array, rows: str, columns: str) -> Array:
    # Full precision: TPU and GPU would round pixels to 8 or 10 bits of mantissa otherwise.
    highest = jax.lax.Precision.HIGHEST
    images = images.astype(jnp.float32)
    out = jnp.einsum(f"{columns},bijc->bipc", horizontal, images, precision=highest)
    out = jnp.clip(out, 0.0, 255.0)  # as Pillow, which keeps bytes between the two passes
    out = jnp.einsum(f"{rows},bipc->bopc", vertical, out, precision=highest)
    return jnp.clip(out, 0.0, 255.0)
