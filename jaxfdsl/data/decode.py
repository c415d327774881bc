"""Encoded pictures to what a batch holds, on the host: random crops, centre crops, canvases.

Crops are those of PyTorch's image pipelines: the box that timm or torchvision would cut, resized
by an antialiased filter. Worker processes load this module: nothing in it touches a device.
"""

import contextlib
import dataclasses
import functools
import math
import os
import struct
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8
from PIL import Image

from jaxfdsl.data.picture import RESAMPLING, Picture, resize
from jaxfdsl.data.shuffle import hash64

ATTEMPTS = 10  # boxes that are drawn before a random crop falls back to the centre, as in timm
Box = tuple[int, int, int, int]  # left, top, width, height in pixels of the picture
Pixels = UInt8[np.ndarray, "S S 3"]
# What Pillow raises for files that it cannot read.
BROKEN = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, OverflowError,
    struct.error, Image.DecompressionBombError,
)  # fmt: skip
_THREADED_BYTES = 8192  # for smaller pictures threads cost more than they bring
_threads = min(16, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4)


@dataclasses.dataclass(frozen=True)
class View:
    """What the model sees of a stored picture: a square of `size` pixels.

    `crop="random_resized"` takes, in training, a random box of `scale` of the area and `ratio`
    width to height (log-uniform), resized; else the shorter side is resized to
    `int(size / fraction)` and the centre square is cut.
    """

    size: int = 224
    crop: str = "none"  # or "random_resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    fraction: float = 1.0
    interpolation: str = "bicubic"  # or "bilinear"; antialiased as in Pillow


def box_draws(
    seed: int, positions: Int64[np.ndarray, " n"], samples: Int64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 10 4"]:
    """Numbers in [0, 1) for `random_box`, a pure function of (seed, position, sample)."""
    key = hash64(seed, positions, samples)
    bits = hash64(key[:, None], np.arange(ATTEMPTS * 4)) >> np.uint64(11)
    return (bits * 2.0**-53).reshape(-1, ATTEMPTS, 4)


def random_box(width: int, height: int, view: View, draws: Float64[np.ndarray, "10 4"]) -> Box:
    """The box of a random resized crop by the law of timm's RandomResizedCropAndInterpolation."""
    low, high = map(math.log, view.ratio)
    for area, ratio, top, left in draws.tolist():
        target = (view.scale[0] + (view.scale[1] - view.scale[0]) * area) * width * height
        aspect = math.exp(low + (high - low) * ratio)
        w, h = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(left * (width - w + 1)), int(top * (height - h + 1)), w, h
    w, h = width, height
    if width / height < view.ratio[0]:
        h = round(width / view.ratio[0])
    elif width / height > view.ratio[1]:
        w = round(height * view.ratio[1])
    return (width - w) // 2, (height - h) // 2, w, h


def random_crop(data: bytes, view: View, draws: Float64[np.ndarray, "10 4"]) -> Pixels:
    """A random box of a picture, resized to the view's square.

    A JPEG whose box is at least twice the view's size is decoded at half its size (a quarter, an
    eighth) by libjpeg's scaled transform.
    """
    picture = Picture(data)
    left, top, w, h = random_box(picture.width, picture.height, view, draws)
    factor = 1
    while factor < 8 and min(w, h) >= 2 * factor * view.size:
        factor *= 2
    pixels = picture.load(factor)
    # Only JPEGs come smaller.
    across, down = pixels.shape[1] / picture.width, pixels.shape[0] / picture.height
    span = (left * across, top * down, (left + w) * across, (top + h) * down)
    return resize(pixels, span, view.size, view.interpolation)


def centre_crop(data: bytes, view: View) -> Pixels:
    """Shorter side resized to `int(size / fraction)`, centre square: torchvision's definition, bit
    for bit, which is why the JPEG is decoded in full and Pillow resizes.
    """
    image = Image.fromarray(Picture(data).load())
    target, shorter = int(view.size / view.fraction), min(image.size)
    width, height = (int(target * side / shorter) for side in image.size)
    image = image.resize((width, height), RESAMPLING[view.interpolation])
    left, top = (round((side - view.size) / 2) for side in image.size)
    return np.asarray(image.crop((left, top, left + view.size, top + view.size)))


def canvas(data: bytes, size: int) -> Pixels:
    """A picture's shorter side resized to `size` (bicubic), then the centre square."""
    image = Image.fromarray(Picture(data).load())
    shorter = min(image.size)
    if shorter != size:
        width, height = (max(size, round(side * size / shorter)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def decode_all(
    encoded: Sequence[bytes | None], decode: Callable[[int, bytes], Pixels], size: int
) -> tuple[UInt8[np.ndarray, "n S S 3"], Float32[np.ndarray, " n"]]:
    """`decode(i, encoded[i])` of each, and 1 for each that could be decoded.

    A corrupt picture, or None for a file that is not there, is black and counts 0.
    """
    images = np.zeros((len(encoded), size, size, 3), np.uint8)
    valid = np.zeros(len(encoded), np.float32)

    def one(place: int) -> None:
        data = encoded[place]
        if data is None:
            return
        with contextlib.suppress(*BROKEN):
            images[place] = decode(place, data)
            valid[place] = 1

    lengths = [len(data) for data in encoded if data is not None]
    in_threads(one, range(len(encoded)), few=sum(lengths) < _THREADED_BYTES * len(lengths))
    return images, valid


def in_threads(function: Callable[[Any], Any], items: Iterable[Any], few: bool = False) -> list:
    """`function` of each item, in order, by this process's threads; by none if there is `few` to
    do.
    """
    if _threads < 2 or few:
        return [function(item) for item in items]
    return list(_pool().map(function, items))


def use_one_thread() -> None:
    """For worker processes, of which there is one a core."""
    global _threads
    _threads = 1


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_threads, "decode")
