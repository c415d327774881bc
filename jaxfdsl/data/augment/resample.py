"""Pillow's `resize` in its own integers: the same bytes on every processor.

An output pixel is a weighted sum of the input pixels under a kernel that is as wide as the output
pixel when shrinking. As in Pillow (`Resample.c`), weights have 22 fractional bits and each of the
two passes, first across, then down, rounds to bytes. A crop never looks outside its box. Masks,
whose values have no mean, take the nearest pixel.
"""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt, UInt8

from jaxfdsl.data.augment import packed
from jaxfdsl.generators.drawing.stages import settler

Pixels = Array | np.ndarray
Method = Literal["bilinear", "bicubic"]
SUPPORT = {"bilinear": 1.0, "bicubic": 2.0}
BITS = 22
AT_ONCE = 128  # images, where weights are matrices: bounds what lies in memory between the products


def resize(
    images: UInt8[Pixels, "B S S C"], size: int, method: Method = "bicubic", *, taps: bool
) -> UInt8[Array, "B {size} {size} C"]:
    """Whole square images to `size` pixels."""
    count, side = images.shape[:2]
    whole = jnp.broadcast_to(jnp.asarray([0, 0, side, side], jnp.int32), (count, 4))
    return crop_and_resize(images, whole, size, method, taps=taps, least=side)


def crop_and_resize(
    images: UInt8[Pixels, "B S S C"],
    boxes: Int[Array, "B 4"],
    size: int,
    method: Method = "bicubic",
    *,
    taps: bool,
    least: int = 1,
) -> UInt8[Array, "B {size} {size} C"]:
    """Boxes `(top, left, height, width)`, one an image, to `size` pixels; none has a side below
    `least`.

    `taps` adds the pixels under each kernel one after the other, image by image: fast where memory
    is near (CPU). Otherwise the weights are a matrix: fast where matrices are (GPU, TPU).
    """
    tables = kernels(least, images.shape[1], size, method)
    firsts, weights = (jnp.asarray(table) for table in tables)

    def one(image: Array, box: Array) -> Array:
        top, left, height, width = box
        across = firsts[width - least] + left, weights[width - least]
        down = firsts[height - least] + top, weights[height - least]
        apply = _gathered if taps else _multiplied
        settle = settler(height < 0 if taps else None)
        # Always down the first axis, and the longest one last: moves of bytes are then runs.
        columns = settle(image.transpose(1, 2, 0))
        rows = settle(_vertical(columns, across, apply)).transpose(2, 1, 0)
        planes = settle(_vertical(settle(rows), down, apply))
        return packed.stack([planes[:, k] for k in range(image.shape[2])])

    at_once = None if taps else AT_ONCE
    return jax.lax.map(lambda each: one(*each), (jnp.asarray(images), boxes), batch_size=at_once)


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


@functools.cache
def kernels(least: int, side: int, size: int, method: Method) -> tuple[np.ndarray, np.ndarray]:
    """For boxes of `least` to `side` pixels: the first pixel under each of `size` kernels, int32[E,
    size], and the kernels, int32[E, size, K] of sum 2**22, K the pixels under the widest.

    In double precision, step by step as Pillow's `precompute_coeffs`, so that no bit differs.
    """
    extent = np.arange(least, side + 1, dtype=np.float64)[:, None]
    scale = extent / size
    wide = np.maximum(scale, 1.0)
    support = SUPPORT[method] * wide
    centre = (np.arange(size) + 0.5) * scale
    first = np.maximum(np.trunc(centre - support + 0.5), 0)
    last = np.minimum(np.trunc(centre + support + 0.5), extent)
    taps = first[..., None] + np.arange(math.ceil(support.max()) * 2 + 1)
    found = _kernel((taps - centre[..., None] + 0.5) * (1.0 / wide)[..., None], method)
    found = np.where(taps < last[..., None], found, 0.0)
    total = np.zeros_like(centre)
    for k in range(found.shape[-1]):
        total = total + found[..., k]
    scaled = found / total[..., None] * (1 << BITS)
    kernel = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int32)
    used = np.flatnonzero(kernel.any((0, 1)))
    return first.astype(np.int32), kernel[..., : used.max() + 1]


def _kernel(x: np.ndarray, method: Method) -> np.ndarray:
    x = np.abs(x)
    if method == "bilinear":
        return np.maximum(0.0, 1.0 - x)
    near = (1.5 * x - 2.5) * x * x + 1  # Keys' cubic with a = -1/2
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _vertical(image: UInt8[Array, "S C N"], kernel: tuple[Array, Array], apply: Any) -> Array:
    """Rows of the result from the rows of the image, rounded half up to bytes."""
    rows = image.reshape(image.shape[0], -1)
    total = apply(rows, *kernel) + (1 << (BITS - 1))
    found = jnp.clip(total >> BITS, 0, 255).astype(jnp.uint8)
    return found.reshape(-1, *image.shape[1:])


def _gathered(
    rows: UInt8[Array, "S N"], first: Int[Array, " s"], weights: Int[Array, "s K"]
) -> Int[Array, "s N"]:
    total = jnp.zeros((first.shape[0], rows.shape[1]), jnp.int32)
    for k in range(weights.shape[1]):
        at = jnp.minimum(first + k, rows.shape[0] - 1)  # past the edge lie weights of 0 alone
        total += rows[at].astype(jnp.int32) * weights[:, k, None]
    return total


def _multiplied(
    rows: UInt8[Array, "S N"], first: Int[Array, " s"], weights: Int[Array, "s K"]
) -> Int[Array, "s N"]:
    """The same sum as a product of matrices of bfloat16, which is exact: a weight is three digits
    of 8 bits with a sign, a byte is one, and float32 adds whole numbers below 2**24 exactly.
    """
    offset = jnp.arange(rows.shape[0]) - first[:, None]
    dense = jnp.zeros(offset.shape, jnp.int32)
    for k in range(weights.shape[1]):
        dense = jnp.where(offset == k, weights[:, k, None], dense)
    digits = []
    for _ in range(2):
        digits.append(((dense + 128) & 255) - 128)
        dense = (dense - digits[-1]) >> 8
    matrix = jnp.concatenate([*digits, dense]).astype(jnp.bfloat16)
    sums = jnp.dot(matrix, rows.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    low, middle, high = jnp.split(sums.astype(jnp.int32), 3)
    return low + (middle << 8) + (high << 16)
