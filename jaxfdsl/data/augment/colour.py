"""Colour ops on one image of bytes, each with the bytes of Pillow.

All of it is in whole numbers. Where Pillow blends two images by a float, the factor here is a whole
number of 4096ths: then Pillow's float arithmetic is exact too, and the results are the same.
`settle` is what cuts stages that a CPU would compute again and again (`generators.drawing.stages`).
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

from jaxfdsl.generators.drawing.stages import Settle, at_once

Image = UInt8[Array, "H W C"]
Scalar = Int[Array, ""]
ONE = 4096  # a blend's factor of 1: the image as it was


def gray(image: Image) -> Image:
    """Luma (ITU-R 601) in every channel: `convert("L")`."""
    return jnp.broadcast_to(_luma(image).astype(jnp.uint8), image.shape)


def invert(image: Image) -> Image:
    """`ImageOps.invert`."""
    return jnp.uint8(255) - image


def solarize(image: Image, threshold: Scalar) -> Image:
    """`ImageOps.solarize`: inverts what is at least `threshold` (0 to 256)."""
    return jnp.where(image.astype(jnp.int32) < threshold, image, invert(image))


def solarize_add(image: Image, amount: Scalar) -> Image:
    """timm's `solarize_add`: makes what is below 128 brighter by `amount` (0 to 128)."""
    # A byte below 128 and at most 128 more never leave a byte.
    added = image + amount.astype(jnp.uint8)
    return jnp.where(image < 128, added, image)


def posterize(image: Image, bits: Scalar) -> Image:
    """`ImageOps.posterize`: keeps the highest `bits` (0 to 8)."""
    return image & (jnp.uint32(0xFF00) >> bits.astype(jnp.uint32)).astype(jnp.uint8)


def brightness(image: Image, factor: Scalar) -> Image:
    """`ImageEnhance.Brightness` with `factor` 4096ths."""
    return blend(jnp.uint8(0), image, factor)


def contrast(image: Image, factor: Scalar) -> Image:
    """`ImageEnhance.Contrast` with `factor` 4096ths: about the rounded mean of the luma."""
    pixels = image.shape[0] * image.shape[1]
    total = jnp.sum(_luma(image).astype(jnp.uint32))
    mean = (2 * total + pixels) // jnp.uint32(2 * pixels)
    return blend(mean.astype(jnp.uint8), image, factor)


def color(image: Image, factor: Scalar) -> Image:
    """`ImageEnhance.Color` with `factor` 4096ths: about each pixel's luma."""
    if image.shape[2] == 1:
        return image
    return blend(gray(image), image, factor)


def blend(base: UInt8[Array, "..."], image: Image, factor: Scalar) -> Image:
    """`Image.blend(base, image, factor / 4096)`: rounded down, cut to bytes."""
    base = base.astype(jnp.int32)
    mixed = base * ONE + factor * (image.astype(jnp.int32) - base)
    return jnp.clip(mixed >> 12, 0, 255).astype(jnp.uint8)


def autocontrast(image: Image, settle: Settle = at_once) -> Image:
    """`ImageOps.autocontrast`: each channel from its darkest and brightest value to 0 and 255."""
    low, high = (_of_channels(image, f).astype(jnp.int32) for f in (jnp.min, jnp.max))
    span = jnp.maximum(high - low, 1)
    value = jnp.arange(256)[:, None]
    table = jnp.clip((value - low) * 255 // span, 0, 255)
    which, patterns = _slips()
    pattern = jnp.asarray(patterns)[jnp.asarray(which)[low, high].astype(jnp.int32)].T
    table -= (pattern[value[:, 0] >> 3].astype(jnp.int32) >> (value & 7)) & 1
    table = jnp.where(high > low, table, value)
    return _looked_up(image, settle(table))


def equalize(image: Image, histogram: Int[Array, "256 C"], settle: Settle = at_once) -> Image:
    """`ImageOps.equalize`: each channel's values spread by rank; `histogram` as counted below."""
    total = image.shape[0] * image.shape[1]
    values = jnp.arange(256)[:, None]
    last = jnp.max(jnp.where(histogram > 0, values, 0), axis=0)
    step = (total - jnp.sum(jnp.where(values == last, histogram, 0), axis=0)) // 255
    before = jnp.cumsum(histogram, axis=0) - histogram
    spread = jnp.minimum((step // 2 + before) // jnp.maximum(step, 1), 255)
    return _looked_up(image, settle(jnp.where(step > 0, spread, values)))


def counted(image: Image) -> Int[Array, "256 C"]:
    """How often each value occurs in each channel, by adding one pixel after the other."""
    flat = image.reshape(-1, image.shape[2]).astype(jnp.int32)
    places = flat * image.shape[2] + jnp.arange(image.shape[2])
    counts = jnp.zeros(256 * image.shape[2], jnp.int32).at[places.reshape(-1)].add(1)
    return counts.reshape(256, -1)


def multiplied(image: Image) -> Int[Array, "256 C"]:
    """The same counts as a product of matrices, for TPUs: of the upper by the lower four bits."""
    flat = image.reshape(-1, image.shape[2])
    nibbles = jnp.arange(16, dtype=jnp.uint8)
    upper, lower = ((part[..., None] == nibbles) for part in (flat >> 4, flat & 15))
    counts = jnp.einsum(
        "pcu,pcl->ulc",
        upper.astype(jnp.bfloat16),
        lower.astype(jnp.bfloat16),
        preferred_element_type=jnp.float32,
    )
    return counts.astype(jnp.int32).reshape(256, -1)


def _luma(image: Image) -> Int[Array, "H W 1"]:
    wide = image.astype(jnp.int32)
    if image.shape[2] == 1:
        return wide
    red, green, blue = (wide[..., i, None] for i in range(3))
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def _of_channels(image: Image, reduce: Callable[..., Array]) -> UInt8[Array, " C"]:
    # Rows first, as whole vectors: CPUs take channels that lie side by side one by one.
    height, width, channels = image.shape
    return reduce(reduce(image.reshape(height, -1), 0).reshape(width, channels), 0)


def _looked_up(image: Image, table: Int[Array, "256 C"]) -> Image:
    channels = image.shape[2]
    places = image.astype(jnp.int32) * channels + jnp.arange(channels)
    return table.astype(jnp.uint8).reshape(-1)[places.reshape(-1)].reshape(image.shape)


@functools.cache
def _slips() -> tuple[np.ndarray, np.ndarray]:
    """Where Pillow's `int(value * scale + offset)`, in double precision, is one less than the whole
    number that it should be: a pattern for each (low, high), uint16[256, 256], and the patterns,
    uint8[P, 32], a bit a value.
    """
    value = np.arange(256)
    index, patterns = np.zeros((256, 256), np.uint16), {bytes(32): 0}
    for lowest in range(256):
        highest = np.arange(lowest + 1, 256)[:, None]
        scale = 255.0 / (highest - lowest)
        theirs = np.trunc(value * scale + -lowest * scale)
        exact = (value - lowest) * 255 // (highest - lowest)
        inside = (value >= lowest) & (value <= highest)
        slips = np.packbits(inside & (theirs < exact), axis=1, bitorder="little")
        for high, pattern in zip(highest[:, 0], slips, strict=True):
            index[lowest, high] = patterns.setdefault(pattern.tobytes(), len(patterns))
    return index, np.frombuffer(b"".join(patterns), np.uint8).reshape(-1, 32)
