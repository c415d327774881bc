"""Palettes, computed once on the host in float64 and rounded: the device only looks colours up."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt8, UInt32

from .noise import below, mix


@functools.cache
def hsi_palette(levels: int = 128, saturation: float = 0.75, intensity: float = 0.75) -> np.ndarray:
    """uint8[levels, 3]: FractalDB's colours, the hue circle at fixed saturation and intensity (HSI,
    Gonzalez and Woods).
    """
    hue = np.arange(levels) / levels * 3
    sector, angle = np.floor(hue), np.deg2rad((hue - np.floor(hue)) * 120)
    low = np.full(levels, intensity * (1 - saturation))
    high = intensity * (1 + saturation * np.cos(angle) / np.cos(np.pi / 3 - angle))
    rest = 3 * intensity - low - high
    order = np.stack([high, rest, low], 1)
    rgb = np.stack([np.roll(order[i], int(sector[i])) for i in range(levels)])
    return np.round(np.clip(rgb, 0, 1) * 255).astype(np.uint8)


@functools.cache
def _hue_weights() -> np.ndarray:
    """int32[256, 3] in [0, 256]: how far each channel falls below the value as saturation grows, at
    256 hues (HSV).
    """
    turns = (np.array([5.0, 3.0, 1.0]) + np.arange(256)[:, None] * 6 / 256) % 6
    return np.round(256 * np.clip(np.minimum(turns, 4 - turns), 0, 1)).astype(np.int32)


def density_palette(key: UInt32[Array, ""]) -> UInt32[Array, " 256"]:
    """Colours of the densities 0..255 as 0x00BBGGRR, for one image: hue = density + random shift,
    random saturation in [.3, 1] and value in [.5, 1] (Anderson and Farrell, WACV 2022, section
    3.2). Density 0 is black."""
    draws = below(mix(key, lax.iota(jnp.uint32, 3)), 256).astype(jnp.int32)
    hue = (lax.iota(jnp.int32, 256) + draws[0]) & 255
    saturation, value = 77 + (draws[1] * 179 >> 8), 128 + (draws[2] >> 1)
    fall = jnp.asarray(_hue_weights())[hue]
    rgb = value * (65536 - saturation * fall) >> 16
    rgb = jnp.where(lax.iota(jnp.int32, 256)[:, None] > 0, rgb, 0).astype(jnp.uint32)
    packed = rgb[:, 0] | (rgb[:, 1] << 8) | (rgb[:, 2] << 16)
    # A scatter stops XLA:CPU from fusing this into the look-up, that is from making the palette
    # again at every pixel.
    return jnp.zeros_like(packed).at[lax.iota(jnp.int32, 256)].set(packed)


def paint(density: Int32[Array, "H W"], palette: UInt32[Array, " 256"]) -> UInt8[Array, "H W 3"]:
    """Counts to colours: the densest pixel is 255, a pixel with any point is at least 1."""
    most = jnp.maximum(density.max(), 1)
    shift = jnp.maximum(
        32 - lax.clz(most) - 20, 0
    )  # counts of up to 2**20 keep the product below 2**31
    scale = (255 << 20) // jnp.maximum(most >> shift, 1)
    level = ((density >> shift) * scale) >> 20
    level = jnp.where(density > 0, jnp.clip(level, 1, 255), 0)
    return unpack(lax.optimization_barrier(palette[level]))


def graded(density: Int32[Array, "H W"], start: Int32[Array, ""]) -> Int32[Array, "H W"]:
    """Counts to 0..255: floor(255 count / greatest + start / 256), start in [0, 256)."""
    high = lax.optimization_barrier(density.max(0))
    most = jnp.maximum(high.max(), 1)
    shift = jnp.maximum(32 - lax.clz(most) - 20, 0)
    scale = (255 << 20) // jnp.maximum(most >> shift, 1)
    return jnp.minimum((density >> shift) * scale + (start << 12) >> 20, 255)


def hsv(
    hue: Int32[Array, " N"],
    saturation: Int32[Array, "#N"],
    value: Int32[Array, "#N"],
    turn: int,
) -> UInt32[Array, " N"]:
    """uint8 HSV to 0x00BBGGRR, rounded half up: `turn` hues make a circle, those beyond go on
    around it. OpenCV's 8-bit HSV has turn=180.
    """
    place = (hue * 6)[:, None] + turn * np.array([5, 3, 1], np.int32)
    place = place % (6 * turn)
    fall = jnp.clip(jnp.minimum(place, 4 * turn - place), 0, turn)
    scale = 255 * turn
    rgb = (value[:, None] * (scale - saturation[:, None] * fall) + scale // 2) // scale
    rgb = rgb.astype(jnp.uint32)
    return rgb[:, 0] | (rgb[:, 1] << 8) | (rgb[:, 2] << 16)


def unpack(packed: UInt32[Array, "H W"]) -> UInt8[Array, "H W 3"]:
    """0x00BBGGRR to channels; XLA:CPU is slow at stacking uint8 planes, a shift against a constant
    is not.
    """
    shifts = np.array([0, 8, 16], np.uint32)
    return ((packed[..., None] >> shifts) & np.uint32(255)).astype(jnp.uint8)


def pack(palette: np.ndarray) -> np.ndarray:
    """uint8[n, 3] -> uint32[n] as 0x00BBGGRR."""
    wide = palette.astype(np.uint32)
    return wide[:, 0] | (wide[:, 1] << 8) | (wide[:, 2] << 16)
