"""Shear, translation and rotation of one image of bytes, as Pillow's `Image.transform`.

The places that are looked at are whole numbers of 2**-20 pixels, the same on every processor; the
kernels are float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from jaxfdsl.data.augment import packed
from jaxfdsl.data.augment.colour import Image, Scalar
from jaxfdsl.data.augment.resample import Method
from jaxfdsl.generators.drawing.stages import Settle, at_once

BITS = 19  # of fraction in a matrix
LEVELS = 4096  # of an op's strength; negative ones go the other way
MAX_SIZE = 1024  # pixels: places are 32-bit numbers
Matrix = Int[Array, "6"]  # a, b, c, d, e, f of `Image.transform`, times 2**19


def shear_x(level: Scalar, size: int) -> Matrix:
    """Rows moved by up to .3 of their distance from the top edge."""
    return _matrix(_one(), _signed(level, 192), 0, 0, _one(), 0)


def shear_y(level: Scalar, size: int) -> Matrix:
    """Columns moved by up to .3 of their distance from the left edge."""
    return _matrix(_one(), 0, 0, _signed(level, 192), _one(), 0)


def translate_x(level: Scalar, size: int) -> Matrix:
    """Moved by up to .45 of the width."""
    return _matrix(_one(), 0, _signed(level, 288 * size), 0, _one(), 0)


def translate_y(level: Scalar, size: int) -> Matrix:
    """Moved by up to .45 of the height."""
    return _matrix(_one(), 0, 0, 0, _one(), _signed(level, 288 * size))


def rotate(level: Scalar, size: int) -> Matrix:
    """Turned by up to 30 degrees about the centre, anticlockwise."""
    cosine, sine = (jnp.asarray(table)[jnp.abs(level)] for table in _turns())
    sine = jnp.where(level < 0, -sine, sine)
    right, down = (size * (_one() - cosine + sine)) >> 1, (size * (_one() - cosine - sine)) >> 1
    return _matrix(cosine, -sine, right, sine, cosine, down)


def warp(
    image: Image,
    matrix: Matrix,
    fill: tuple[int, ...],
    method: Method,
    settle: Settle = at_once,
) -> Image:
    """`Image.transform(size, AFFINE, matrix / 2**19, method, fillcolor=fill)` of a square image."""
    size, channels = image.shape[0], image.shape[2]
    column, row, inside = _places(matrix, size)
    taps = 4 if method == "bicubic" else 2
    margin = taps // 2  # the edge is repeated there
    words = jnp.pad(packed.pack(image), margin, mode="edge")
    width = words.shape[0]
    across, down = (_weights(place & _MASK, method) for place in (column, row))
    start = (row >> (BITS + 1)) * width + (column >> (BITS + 1)) + (width + 1)
    # What is outside is not used.
    start = settle(jnp.clip(start, 0, width * (width - taps) + width - taps).reshape(-1))
    total = [jnp.float32(0)] * channels
    for j in range(taps):
        line = settle(_runs(words.reshape(-1), start + j * width, taps)).reshape(size, size, taps)
        for k in range(channels):
            part = sum(across[i] * packed.channel(line[..., i], k) for i in range(taps))
            total[k] += down[j] * part
    values = [
        jnp.where(inside, jnp.clip(value + _SLACK, 0, 255).astype(jnp.uint32), jnp.uint32(colour))
        for value, colour in zip(total, fill, strict=True)
    ]
    return packed.stack(values)


def _runs(
    words: UInt32[Array, " N"], starts: Int[Array, " P"], length: int
) -> UInt32[Array, "P {length}"]:
    """`words[start : start + length]` of each start; all of them are inside."""
    dimensions = jax.lax.GatherDimensionNumbers(
        offset_dims=(1,), collapsed_slice_dims=(), start_index_map=(0,)
    )
    return jax.lax.gather(words, starts[:, None], dimensions, (length,), mode="promise_in_bounds")


# Values are rounded down, and the float32 sum over equal pixels may lie just below their value.
_SLACK = 2.0**-14
_MASK = (1 << (BITS + 1)) - 1


def _places(matrix: Matrix, size: int) -> tuple[Array, Array, Array]:
    """Columns and rows of the centres looked at, in 2**-20 pixels from the first pixel's centre,
    and which are inside.
    """
    a, b, c, d, e, f = matrix
    x = 2 * jnp.arange(size)[None, :] + 1
    y = 2 * jnp.arange(size)[:, None] + 1
    column, row = a * x + b * y + 2 * c, d * x + e * y + 2 * f
    end = size << (BITS + 1)
    inside = (column >= 0) & (column < end) & (row >= 0) & (row < end)
    return column - (1 << BITS), row - (1 << BITS), inside


def _weights(fraction: Int[Array, "H W"], method: Method) -> list[Float[Array, "H W"]]:
    d = fraction.astype(jnp.float32) * jnp.float32(2.0 ** -(BITS + 1))
    if method == "bilinear":
        return [1 - d, d]
    # Keys' cubic with a = -1: `transform` has another one than `resize`.
    return [d * (d * (2 - d) - 1), 1 + d * d * (d - 2), d * (1 + d * (1 - d)), d * d * (d - 1)]


def _one() -> int:
    return 1 << BITS


def _signed(level: Scalar, fifths: int) -> Scalar:
    """The level times a number of fifths, rounded: .3 in 2**-19 is 192 fifths of 4096, .45 is 288.

    Fits into 32 bits up to MAX_SIZE.
    """
    return jnp.sign(level) * ((jnp.abs(level) * fifths + 2) // 5)


def _matrix(*entries: Array | int) -> Matrix:
    return jnp.stack([jnp.asarray(entry, jnp.int32) for entry in entries])


@functools.cache
def _turns() -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of 0 to 30 degrees, int32[4097] in 2**-19."""
    angle = np.radians(30 * np.arange(LEVELS + 1) / LEVELS)
    cosine, sine = (np.round(f(angle) * _one()).astype(np.int32) for f in (np.cos, np.sin))
    return cosine, sine
