"""Crops: where the model looks, and at what size, the same for images and masks."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt, UInt8
from ml_collections import ConfigDict

from jaxfdsl.data.augment import chance, resample
from jaxfdsl.data.augment.chance import Stream
from jaxfdsl.data.augment.resample import Pixels

FEW_PIXELS = (64, 128)

Masks = Int[Pixels, "B S S"] | UInt[Pixels, "B S S"]


def crop(
    images: UInt8[Pixels, "B S S C"],
    key: Key[Array, ""] | Any,
    cfg: ConfigDict,
    image_size: int,
    rows: Int[Array, " B"] | None = None,
    platform: str | None = None,
) -> UInt8[Array, "B {image_size} {image_size} C"]:
    """Training crops, resized with the bytes of Pillow.

    `key` is the step's key; `rows` are the samples' rows in the global batch (None: 0, 1, ...).
    `cfg.crop` "pad" pads with black and cuts a random window of `image_size`; "random_resized" is
    the Inception crop; "none" resizes. With `cfg.downsample` some images are first brought to few
    pixels and back. `platform` is whose way to take, by default this process's.
    """
    taps = (platform or jax.default_backend()) == "cpu"

    def resize(images: Pixels, boxes: Array | None, size: int) -> Array:
        if boxes is None:
            return resample.resize(images, size, cfg.interpolation, taps=taps)
        return resample.crop_and_resize(images, boxes, size, cfg.interpolation, taps=taps)

    with jax.named_scope("crop"):
        if cfg.downsample:
            images = _downsampled(images, key, cfg, rows, resize, taps)
        return _crop(images, key, cfg, image_size, rows, resize)


def crop_masks(
    masks: Masks,
    key: Key[Array, ""] | Any,
    cfg: ConfigDict,
    image_size: int,
    rows: Int[Array, " B"] | None = None,
) -> Int[Array, "B {image_size} {image_size}"] | UInt[Array, "B {image_size} {image_size}"]:
    """The masks of the images that `crop` makes with the same key and rows: nearest pixels."""
    with jax.named_scope("crop"):
        return _crop(masks, key, cfg, image_size, rows, resample.nearest)


def centre(
    pixels: UInt8[Pixels, "B S S C"] | Masks,
    image_size: int,
    crop_fraction: float,
    resize: Any,
) -> Array:
    """Resized to `image_size / crop_fraction`, cut to the centre square, as timm evaluates."""
    side = int(image_size / crop_fraction)
    first = round((side - image_size) / 2)
    middle = slice(first, first + image_size)
    pixels = jnp.asarray(pixels) if pixels.shape[1] == side else resize(pixels, None, side)
    return pixels[:, middle, middle]


def _crop(pixels: Pixels, key: Any, cfg: ConfigDict, size: int, rows: Any, resize: Any) -> Array:
    side = pixels.shape[1]
    if cfg.crop != "none":
        rows = jnp.arange(pixels.shape[0]) if rows is None else rows
        seeds = chance.seeds(key, rows)
    if cfg.crop == "random_resized":
        scale, ratio = tuple(cfg.crop_scale), tuple(cfg.crop_ratio)
        boxes = jax.vmap(lambda seed: random_box(seed, side, scale, ratio))(seeds)
        return resize(pixels, boxes, size)
    if cfg.crop == "pad":
        pixels = resize(pixels, None, size) if side < size else pixels
        return _pad_and_crop(pixels, seeds, cfg.crop_pad, size)
    return jnp.asarray(pixels) if side == size else resize(pixels, None, size)


def _downsampled(
    images: Pixels, key: Any, cfg: ConfigDict, rows: Any, resize: Any, taps: bool
) -> Array:
    """A share `cfg.downsample` of the images at 64 or 128 pixels, with equal odds, and back at
    their own size, for features that are to see small images too (Tian et al. 2023, StableRep).
    """
    side = images.shape[1]
    rows = jnp.arange(images.shape[0]) if rows is None else rows

    def at(size: int) -> Any:
        return lambda image: resize(resize(image[None], None, size), None, side)[0]

    def one(image: Array, seed: Array) -> Array:
        words = chance.bits(seed, Stream.DOWNSAMPLE, 2)
        found = chance.between(words[1], 1, len(FEW_PIXELS))
        which = jnp.where(chance.happens(words[0], cfg.downsample), found, 0)
        return jax.lax.switch(which, [lambda image: image, *map(at, FEW_PIXELS)], image)

    at_once = None if taps else resample.AT_ONCE
    given = jnp.asarray(images), chance.seeds(key, rows)
    return jax.lax.map(lambda each: one(*each), given, batch_size=at_once)


def _pad_and_crop(pixels: Pixels, seeds: Array, pad: int, size: int) -> Array:
    """torchvision's `RandomCrop(size, padding=pad)`: every place of the window equally likely."""
    freedom = pixels.shape[1] + 2 * pad - size
    rest = pixels.shape[3:]
    padded = jnp.pad(pixels, ((0, 0), (pad, pad), (pad, pad), *((0, 0) for _ in rest)))

    def window(image: Array, seed: Array) -> Array:
        corner = chance.between(chance.bits(seed, Stream.CROP, 2), 0, freedom)
        starts = (corner[0], corner[1], *(jnp.int32(0) for _ in rest))
        return jax.lax.dynamic_slice(image, starts, (size, size, *rest))

    return jax.vmap(window)(padded, seeds)


def random_box(
    seed: chance.Seed, side: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Int[Array, "4"]:
    """`(top, left, height, width)` in pixels of an Inception crop from a square, as timm draws it.

    Ten tries of a share of the area within `scale` and an aspect ratio, log-uniform within `ratio`;
    the first box that fits is taken, the largest central one of an allowed ratio if none does
    (timm `RandomResizedCropAndInterpolation`; Szegedy et al. 2015, section 6).
    """
    words = chance.bits(seed, Stream.CROP, 22)
    height, width = sides(words[:20], side, scale, ratio)
    fits = (width <= side) & (height <= side) & (width > 0) & (height > 0)
    first = jnp.argmax(fits)
    extent = jnp.stack([height[first], width[first]])
    central = jnp.asarray(
        [min(side, round(side / ratio[0])), min(side, round(side * ratio[1]))], jnp.int32
    )
    found = jnp.any(fits)
    extent = jnp.where(found, extent, central)
    anywhere = chance.between(words[20:], 0, side - extent)
    corner = jnp.where(found, anywhere, (side - extent) // 2)
    return jnp.concatenate([corner, extent])


def sides(
    words: Array, side: int, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """Heights and widths of n = len(words) / 2 random boxes: a share of a square's area, evenly
    within `area`, and width over height, log-uniformly within `ratio`.
    """
    shares, aspects = (chance.uniform(part) for part in jnp.split(words, 2))
    pixels = _within(shares, *area) * side**2
    log = jnp.log(jnp.asarray(ratio, jnp.float32))
    aspect = jnp.exp(_within(aspects, log[0], log[1]))
    height, width = jnp.sqrt(pixels / aspect), jnp.sqrt(pixels * aspect)
    return jnp.round(height).astype(jnp.int32), jnp.round(width).astype(jnp.int32)


def _within(uniform: Float[Array, " n"], low: Any, high: Any) -> Float[Array, " n"]:
    return low + uniform * (high - low)
