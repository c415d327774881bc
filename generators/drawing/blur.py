"""Gaussian blur of three by three pixels, on packed colours."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, UInt32

from .stages import Settle

STRENGTHS = 256


@functools.cache
def side_weights(least: float = 0.5, most: float = 1.0) -> np.ndarray:
    """uint32[256]: the outer of the weights (w, 256 - 2 w, w), for a sigma evenly from `least` to
    `most` pixels.
    """
    sigma = least + (most - least) * (np.arange(STRENGTHS) + 0.5) / STRENGTHS
    outer = np.exp(-0.5 / sigma**2)
    return np.round(256 * outer / (1 + 2 * outer)).astype(np.uint32)


def blur(
    packed: UInt32[Array, "H W"], weight: UInt32[Array, ""], settle: Settle
) -> UInt32[Array, "H W"]:
    """Blurs 0x00BBGGRR down, then across, each rounded half up to 8 bits; the frame mirrors what is
    inside without repeating its edge, as OpenCV's default. OpenCV rounds once, so channels may
    differ from it by 1.
    """
    tall = settle(jnp.pad(packed, ((1, 1), (0, 0)), mode="reflect"))
    down = settle(_mix(tall[:-2], tall[1:-1], tall[2:], weight))
    # Neighbours across are neighbours in the flat array, but for the first and the last column.
    height, width = down.shape
    flat = settle(jnp.pad(down.reshape(-1), 1))
    left, right = (flat[i : i + height * width].reshape(height, width) for i in (0, 2))
    column = lax.iota(jnp.int32, width)
    left, right = (
        jnp.where(column == 0, right, left),
        jnp.where(column == width - 1, left, right),
    )
    return _mix(left, down, right, weight)


def _mix(before, here, after, weight):
    """Two channels a word: sums of weights are 256, so a channel stays below 2**16."""
    pair, single = np.uint32(0x00FF00FF), np.uint32(0x0000FF00)
    middle = np.uint32(256) - weight * np.uint32(2)

    def mixed(before, here, after, half):
        return (before + after) * weight + here * middle + half

    red_blue = mixed(before & pair, here & pair, after & pair, np.uint32(0x00800080))
    above, own, below = ((v & single) >> np.uint32(8) for v in (before, here, after))
    green = mixed(above, own, below, np.uint32(0x80))
    return ((red_blue >> np.uint32(8)) & pair) | (green & single)
