"""Augmentation on the device: flips, crops, resizing and normalisation of whole batches.

Every sample has a key of its own, from the step's key and its row in the global batch, so that the
result does not depend on how the batch is sharded. Nothing here moves data between samples. Masks
follow their images: the same key gives the same boxes and flips, a pixel is the nearest one of the
mask, and what lies outside of the picture is background.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt, UInt8
from ml_collections import ConfigDict

from jaxfdsl.data import resample
from jaxfdsl.data.resample import Pixels

Resize = Callable[[Pixels, Any, int], Pixels]  # of pixels, boxes (None: all of it) and a size


def train(
    images: UInt8[Pixels, "B S S C"],
    key: Key[Array, ""] | Any,
    augment: ConfigDict,
    image_size: int,
    rows: Int[Array, " B"] | None = None,
) -> Float[Array, "B {image_size} {image_size} 3"]:
    """Augmented, normalised training images.

    `key` is the step's key; `rows` are the samples' rows in the global batch (None: 0, 1, ...).
    `crop` "pad" pads with black and cuts a random window of `image_size`; "random_resized" is the
    Inception crop; "none" resizes. Flips come last.
    """
    with jax.named_scope("augment"):
        return normalise(_view(images, key, augment, image_size, rows, _smooth), augment)


def train_masks(
    masks: Int[Pixels, "B S S"] | UInt[Pixels, "B S S"],
    key: Key[Array, ""] | Any,
    augment: ConfigDict,
    image_size: int,
    rows: Int[Array, " B"] | None = None,
) -> Int[Array, "B {image_size} {image_size}"] | UInt[Array, "B {image_size} {image_size}"]:
    """The masks of the images that `train` makes with the same key and rows."""
    with jax.named_scope("augment"):
        return _view(masks, key, augment, image_size, rows, resample.nearest)


def evaluate(
    images: UInt8[Pixels, "B S S C"],
    augment: ConfigDict,
    image_size: int,
    crop_fraction: float = 1.0,
) -> Float[Array, "B {image_size} {image_size} 3"]:
    """Resized to `image_size / crop_fraction`, cut to the centre square, normalised, as in timm."""
    with jax.named_scope("augment"):
        resized = int(image_size / crop_fraction)
        if images.shape[1] != resized:
            images = resample.resize(images, resized)
        first = round((resized - image_size) / 2)
        centre = slice(first, first + image_size)
        return normalise(images[:, centre, centre], augment)


def evaluate_masks(
    masks: Int[Pixels, "B S S"] | UInt[Pixels, "B S S"],
    image_size: int,
    crop_fraction: float = 1.0,
) -> Int[Array, "B {image_size} {image_size}"] | UInt[Array, "B {image_size} {image_size}"]:
    """The masks of the images that `evaluate` makes."""
    with jax.named_scope("augment"):
        resized = int(image_size / crop_fraction)
        first = round((resized - image_size) / 2)
        centre = slice(first, first + image_size)
        return resample.nearest(masks, None, resized)[:, centre, centre]


def normalise(
    images: Float[Pixels, "B H W C"] | UInt8[Pixels, "B H W C"], augment: ConfigDict
) -> Float[Array, "B H W 3"]:
    """Pixels 0-255 to `(x / 255 - mean) / std`, gray repeated into three channels."""
    mean, std = (jnp.asarray(augment[name], jnp.float32) for name in ("mean", "std"))
    return (jnp.asarray(images, jnp.float32) / 255 - mean) / std


def _view(
    pixels: Pixels, key: Any, augment: ConfigDict, size: int, rows: Any, resize: Resize
) -> Any:
    """Crops and flips of images (B, S, S, C) or masks (B, S, S), a key a row."""
    rows = jnp.arange(pixels.shape[0]) if rows is None else rows
    keys = jax.vmap(lambda row: jax.random.split(jax.random.fold_in(key, row), 3))(rows)
    pixels = _crop(pixels, keys[:, 0], augment, size, resize)
    if augment.flip_lr:
        pixels = _flip(pixels, jax.vmap(jax.random.bernoulli)(keys[:, 1]), axis=2)
    if augment.flip_ud:
        pixels = _flip(pixels, jax.vmap(jax.random.bernoulli)(keys[:, 2]), axis=1)
    return pixels


def _smooth(images: Pixels, boxes: Int[Array, "B 4"] | None, size: int) -> Pixels:
    if boxes is None:  # one pair of small matrices for all images
        return resample.resize(images, size)
    return resample.crop_and_resize(images, boxes, size)


def _flip(pixels: Pixels, flipped: Bool[Array, " B"], axis: int) -> Array:
    flipped = flipped.reshape(-1, *(1 for _ in pixels.shape[1:]))
    return jnp.where(flipped, jnp.flip(pixels, axis), pixels)


def _crop(
    pixels: Pixels, keys: Key[Array, " B"], augment: ConfigDict, size: int, resize: Resize
) -> Pixels:
    side = pixels.shape[1]
    if augment.crop == "random_resized":
        scale, ratio = tuple(augment.crop_scale), tuple(augment.crop_ratio)
        boxes = jax.vmap(lambda key: random_box(key, side, scale, ratio))(keys)
        return resize(pixels, boxes, size)
    if augment.crop == "pad":
        pixels = resize(pixels, None, size) if side < size else pixels
        return _pad_and_crop(pixels, keys, augment.crop_pad, size)
    return pixels if side == size else resize(pixels, None, size)


def _pad_and_crop(pixels: Pixels, keys: Key[Array, " B"], pad: int, size: int) -> Pixels:
    """torchvision's `RandomCrop(size, padding=pad)`: every place of the window equally likely."""
    freedom = pixels.shape[1] + 2 * pad - size + 1
    rest = pixels.shape[3:]
    padded = jnp.pad(pixels, ((0, 0), (pad, pad), (pad, pad), *((0, 0) for _ in rest)))
    corners = jax.vmap(lambda key: jax.random.randint(key, (2,), 0, freedom))(keys)
    return jax.vmap(
        lambda image, corner: jax.lax.dynamic_slice(
            image, (corner[0], corner[1], *(0 for _ in rest)), (size, size, *rest)
        )
    )(padded, corners)


def random_box(
    key: Key[Array, ""] | Any, side: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Int[Array, "4"]:
    """`(top, left, height, width)` in pixels of an Inception crop from a square, as timm draws it.

    Ten tries of a share of the area within `scale` and an aspect ratio, log-uniform within `ratio`;
    the first box that fits is taken, the largest central one of an allowed ratio if none does
    (timm `RandomResizedCropAndInterpolation`; Szegedy et al. 2015, section 6).
    """
    area_key, ratio_key, place_key = jax.random.split(key, 3)
    area = jax.random.uniform(area_key, (10,), minval=scale[0], maxval=scale[1]) * side**2
    logs = jnp.log(jnp.asarray(ratio, jnp.float32))
    aspect = jnp.exp(jax.random.uniform(ratio_key, (10,), minval=logs[0], maxval=logs[1]))
    width = jnp.round(jnp.sqrt(area * aspect)).astype(jnp.int32)
    height = jnp.round(jnp.sqrt(area / aspect)).astype(jnp.int32)
    fits = (width <= side) & (height <= side) & (width > 0) & (height > 0)
    first = jnp.argmax(fits)
    extent = jnp.stack([height[first], width[first]])
    corner = jnp.floor(jax.random.uniform(place_key, (2,)) * (side - extent + 1)).astype(jnp.int32)
    central = jnp.asarray(
        [min(side, round(side / ratio[0])), min(side, round(side * ratio[1]))], jnp.int32
    )
    found = jnp.any(fits)
    extent = jnp.where(found, extent, central)
    corner = jnp.where(found, jnp.clip(corner, 0, side - extent), (side - extent) // 2)
    return jnp.concatenate([corner, extent])
