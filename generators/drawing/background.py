"""Plasma behind fractals: the diamond-square algorithm in integers (Anderson and Farrell, WACV
2022), one level after the other on a grid that doubles.

As published: random corners in [0, 1), level k adds uniform noise of reach .5 exp(-decay (k - 1))
to the middles of squares, then to the middles of edges; an edge point of the frame takes its
missing neighbour from the opposite side. Heights are Q12. Two columns are kept in one word, because
joining words row by row is a copy and joining columns is not.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt32

from .colour import hsv
from .noise import GOLDEN, below, hash32
from .stages import Settle, at_once

HEIGHT_BITS = 12
DECAYS = 256
LEVELS = 12  # of a canvas of 4096 pixels
SMALL = 4  # levels of so few points that cuts cost more than they save
COLOURS, STEP_BITS, LOWEST = 4096, 10, -1536  # heights from -1.5 to 2.5 in 1024ths


@functools.cache
def reaches(least: float = 0.4, most: float = 0.8) -> np.ndarray:
    """int32[256, 12] in Q12: the noise of each level, for decays from `least` to `most`."""
    decay = least + (most - least) * (np.arange(DECAYS) + 0.5) / DECAYS
    reach = 0.5 * np.exp(-decay[:, None] * np.arange(LEVELS))
    return np.round(reach * 2**HEIGHT_BITS).astype(np.int32)


def plasma(
    key: UInt32[Array, ""], reach: Int32[Array, " 12"], size: int, settle: Settle
) -> Int32[Array, "size size"]:
    """Heights in Q12, from about -.5 to 1.5, of the upper left of a grid of 2**n + 1."""
    corners = hash32(lax.iota(jnp.uint32, 4) * GOLDEN + hash32(key))
    grid = (corners >> np.uint32(32 - HEIGHT_BITS)).astype(jnp.int32).reshape(2, 2)
    levels = max((size - 1).bit_length(), 1)
    for level in range(levels):
        side = size if level == levels - 1 else 2 * grid.shape[0] - 1
        cut = settle if level >= SMALL else at_once
        words = _refine(grid, hash32(key ^ np.uint32(level + 1)), reach[level], side, cut)
        pairs = lax.bitcast_convert_type(words, jnp.int16)
        grid = cut(pairs.reshape(words.shape[0], -1)[:, :side].astype(jnp.int32))
    return grid


def _refine(grid, key, reach, side: int, cut: Settle) -> UInt32[Array, "side words"]:
    """The next level's first `side` rows, two columns a word."""
    h = grid.shape[0]
    even, odd = (side + 1) // 2, side // 2
    place = lax.iota(jnp.uint32, h)

    def noise(kind: int, rows: int, cols: int):
        counter = (place[:rows, None] << np.uint32(16)) | place[:cols]
        bits = hash32(counter * GOLDEN + hash32(key + np.uint32(kind)))
        return ((bits >> np.uint32(16)).astype(jnp.int32) - 2**15) * reach >> 15

    pairs = grid[:-1] + grid[1:]
    squares = cut(((pairs[:, :-1] + pairs[:, 1:] + 2) >> 2) + noise(0, h - 1, h - 1))
    around = cut(jnp.pad(squares, 1, mode="wrap"))  # around[i + 1, j + 1] is squares[i, j]
    grid = cut(jnp.pad(grid, ((0, 1), (0, 1))))
    here = around[1:, 1:]
    across = grid[:even, :even] + grid[:even, 1 : even + 1]
    across = across + around[:even, 1 : even + 1] + here[:even, :even]
    down = grid[:odd, :even] + grid[1 : odd + 1, :even]
    down = down + around[1 : odd + 1, :even] + here[:odd, :even]
    rows = cut(
        (
            _word(grid[:even, :even], ((across + 2) >> 2) + noise(1, even, even)),
            _word(((down + 2) >> 2) + noise(2, odd, even), here[:odd, :even]),
        )
    )
    lower = jnp.pad(rows[1], ((0, even - odd), (0, 0)))
    return cut(jnp.stack([rows[0], lower], 1).reshape(2 * even, even)[:side])


def _word(low, high):
    low, high = low.astype(jnp.uint32), high.astype(jnp.uint32)
    return (low & np.uint32(0xFFFF)) | (high << np.uint32(16))


def level(heights: Int32[Array, "H W"]) -> Int32[Array, "H W"]:
    """Heights to places in `palette`."""
    return jnp.clip((heights >> (HEIGHT_BITS - STEP_BITS)) - LOWEST, 0, COLOURS - 1)


def palette(bits: UInt32[Array, " 6"], turn: int) -> UInt32[Array, " 4096"]:
    """Colours of the heights: hue, saturation and value rise with the height x at random rates.

    Published: hue = x U(63.75, 255) + U(0, 255), saturation = x U(25.5, 76.5) + U(102, 153), value
    = x U(76.5, 153) + U(102, 153), each truncated to uint8, the last two at most 255. `turn`: how
    many hues make a circle, see `colour.hsv`.
    """
    q8 = {"hue": (16320, 48960, 0, 65280), "saturation": (6528, 13056, 26112, 13056)}
    q8["value"] = (19584, 19584, 26112, 13056)
    x = lax.iota(jnp.int32, COLOURS) + LOWEST
    found = []
    for i, (name, (least, width, low, span)) in enumerate(q8.items()):
        rate = least + below(bits[2 * i], width).astype(jnp.int32)
        start = low + below(bits[2 * i + 1], span).astype(jnp.int32)
        value = ((x * rate >> STEP_BITS) + start) >> 8
        found.append((value if name == "hue" else jnp.minimum(value, 255)) & 255)
    hue, saturation, value = found
    return hsv(hue, saturation, value, turn)
