"""Ops that look at a pixel's neighbours, on one image of bytes, each with the bytes of Pillow."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt32

from jaxfdsl.data.augment.colour import Image, Scalar, blend
from jaxfdsl.generators.drawing.stages import Settle, at_once

RADII = 1024  # that a blur may have
RADIUS = (0.1, 2.0)  # from the least to the most, in pixels (DeiT III)


def sharpness(image: Image, factor: Scalar) -> Image:
    """`ImageEnhance.Sharpness` with `factor` 4096ths: about `ImageFilter.SMOOTH`."""
    return blend(_smooth(image), image, factor)


def _smooth(image: Image) -> Image:
    """3 x 3 pixels, the middle one five times, over 13; the frame stays as it is."""
    wide = image.astype(jnp.uint32)
    lines = wide[:-2] + wide[1:-1] + wide[2:]
    total = lines[:, :-2] + lines[:, 1:-1] + lines[:, 2:] + 4 * wide[1:-1, 1:-1]
    # Rounded: never half way, as 13 is odd. The product is the quotient for every possible sum.
    middle = ((2 * total + 13) * 40330) >> 20
    return image.at[1:-1, 1:-1].set(middle.astype(jnp.uint8))


def blur(image: Image, radius: Scalar, settle: Settle = at_once) -> Image:
    """`ImageFilter.GaussianBlur` of the `radius`-th of 1,024 radii from .1 to 2 pixels: three box
    blurs across, then three down, each rounded to bytes (`BoxBlur.c`).
    """
    weights = jnp.asarray(box_weights())[radius]
    for _ in range(2):
        image = settle(image.swapaxes(0, 1))
        for _ in range(3):
            image = settle(_box(image, weights))
    return image


def _box(image: Image, weights: UInt32[Array, "3"]) -> Image:
    """Five pixels down: weights of the middle one, its neighbours and theirs, in 2**-24."""
    size = image.shape[0]
    padded = jnp.pad(image, ((2, 2), (0, 0), (0, 0)), mode="edge").astype(jnp.uint32)
    parts = [padded[i : i + size] for i in range(5)]
    total = parts[2] * weights[0] + (parts[1] + parts[3]) * weights[1]
    total += (parts[0] + parts[4]) * weights[2]
    return ((total + (1 << 23)) >> 24).astype(jnp.uint8)


def radius_of(number: int) -> float:
    """The `number`-th radius, in pixels."""
    return RADIUS[0] + (RADIUS[1] - RADIUS[0]) * number / (RADII - 1)


@functools.cache
def box_weights() -> np.ndarray:
    """uint32[1024, 3]: what `_box` takes for each radius, in Pillow's single precision
    (`_gaussian_blur_radius`, after Gwosdek et al. 2011, and `ImagingBoxBlur`).
    """
    found = []
    for number in range(RADII):
        radius = np.float32(radius_of(number))
        variance = np.float32(radius * radius / np.float32(3))
        length = np.float32(np.sqrt(12.0 * float(variance) + 1.0))
        whole = np.float32(np.floor((float(length) - 1.0) / 2.0))
        share = np.float32((2 * whole + 1) * (whole * (whole + 1) - 3 * variance))
        share = np.float32(share / np.float32(6 * (variance - (whole + 1) * (whole + 1))))
        box = np.float32(whole + share)
        reach = int(box)
        full = int(np.float32(1 << 24) / np.float32(box * 2 + 1))
        far = ((1 << 24) - (reach * 2 + 1) * full) // 2
        found.append([full, far, 0] if reach == 0 else [full, full, far])
    return np.array(found, np.uint32)
