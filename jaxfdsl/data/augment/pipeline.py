"""What is done to a batch after the crops, in timm's order."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt8, UInt32
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data.augment import (
    chance,
    colour,
    crops,
    erase,
    jitter,
    mix,
    neighbours,
    rand_augment,
    resample,
)
from jaxfdsl.data.augment.chance import Stream, happens
from jaxfdsl.data.augment.colour import Image
from jaxfdsl.data.augment.resample import Pixels
from jaxfdsl.generators.drawing.stages import settler

ON_BYTES = (
    "flip_lr", "flip_ud", "three_augment", "rand_augment", "color_jitter", "hue", "grayscale",
    "solarize", "blur",
)  # fmt: skip
AT_ONCE = 128  # images or pairs, where they are vectorised: bounds what lies in memory between ops
WHOLE_BATCH = 0xFFFFFFFF  # a row that no batch has: what is drawn once for all


def finish(
    batch: dict[str, Any],
    key: Key[Array, ""] | Any,
    cfg: ConfigDict,
    rows: Int[Array, " B"],
    platform: str | None = None,
) -> dict[str, Any]:
    """A batch of crops, uint8[B, s, s, C], ready for the model: `image` float32[B, s, s, 3].

    Flips (of `mask` too), three-augment or RandAugment, colour jitter, grayscale, solarise, blur,
    normalisation, erasing, mixup and cutmix. The last two add `label_b`, the neighbour's label, and
    `label_weight` float32[B], the weight of `label`; 1 less it is that of `label_b`. `key` is the
    step's, `rows` are the samples' rows in the global batch; nothing else decides what is drawn.
    `platform` is whose way to take, by default this process's. Raises ConfigError for masks where
    an op would move the image without them.
    """
    platform = platform or jax.default_backend()
    batch = dict(batch)
    with jax.named_scope("finish"):
        seeds = chance.seeds(key, rows)
        if "mask" in batch:
            _check_masks(cfg)
            flip = functools.partial(_flipped, cfg=cfg)
            batch["mask"] = jax.vmap(flip)(batch["mask"], seeds)
        images = jnp.asarray(batch["image"])
        if any(cfg[name] for name in ON_BYTES):
            to_bytes = functools.partial(_bytes, cfg=cfg, platform=platform)
            images = _each(to_bytes, platform, images, seeds)
        if cfg.mixup or cfg.cutmix:
            return batch | _mixed(images, batch, seeds, key, cfg, platform)
        if cfg.erasing:
            to_floats = functools.partial(_floats, cfg=cfg, branch=platform == "cpu")
            return batch | {"image": _each(to_floats, platform, images, seeds)}
        return batch | {"image": normalise(images, cfg)}


def mirrored(seeds: UInt32[Array, " B"]) -> Bool[Array, " B"]:
    """Which of the samples with these seeds `flip_lr` turns round."""
    return jax.vmap(lambda seed: happens(chance.bits(seed, Stream.FLIP, 2)[0], 0.5))(seeds)


def evaluate(
    images: UInt8[Pixels, "B S S C"],
    augment: ConfigDict,
    image_size: int,
    crop_fraction: float = 1.0,
    platform: str | None = None,
) -> Float[Array, "B {image_size} {image_size} 3"]:
    """Resized to `image_size / crop_fraction`, cut to the centre square, normalised, as in timm."""
    taps = (platform or jax.default_backend()) == "cpu"
    with jax.named_scope("augment"):

        def resize(images: Pixels, _: None, size: int) -> Array:
            return resample.resize(images, size, augment.interpolation, taps=taps)

        return normalise(crops.centre(images, image_size, crop_fraction, resize), augment)


def evaluate_masks(masks: crops.Masks, image_size: int, crop_fraction: float = 1.0) -> Array:
    """The masks of the images that `evaluate` makes, [B, image_size, image_size]."""
    with jax.named_scope("augment"):
        return crops.centre(masks, image_size, crop_fraction, resample.nearest)


def normalise(images: UInt8[Pixels, "*B H W C"], cfg: ConfigDict) -> Float[Array, "*B H W 3"]:
    """Bytes to `(x / 255 - mean) / std`, gray repeated into three channels."""
    mean, std = (jnp.asarray(cfg[name], jnp.float32) for name in ("mean", "std"))
    return (jnp.asarray(images, jnp.float32) / 255 - mean) / std


def _each(function: Any, platform: str, *arrays: Any) -> Array:
    """Of every image: one after the other on a CPU, where a branch that is not taken costs nothing
    and an image stays in the cache; many at once elsewhere.
    """
    at_once = None if platform == "cpu" else AT_ONCE
    return jax.lax.map(lambda each: function(*each), arrays, batch_size=at_once)


def _bytes(
    image: Image, seed: chance.Seed, cfg: ConfigDict, platform: str
) -> UInt8[Array, "H W K"]:
    """The ops on bytes, of one image; those that are off are not there."""
    policy = rand_augment.parse(cfg.rand_augment) if cfg.rand_augment else None
    image = _flipped(image, seed, cfg)
    if rand_augment.coloured(policy, cfg) and image.shape[2] == 1:
        image = jnp.repeat(image, 3, axis=2)
    if cfg.three_augment:
        image = _three(image, seed, platform == "cpu")
    if policy:
        image = rand_augment.apply(image, seed, policy, cfg, platform)
    if cfg.color_jitter or cfg.hue:
        word = chance.bits(seed, Stream.JITTER, 1)[0]
        op = functools.partial(jitter.apply, seed=seed, strength=cfg.color_jitter, hue=cfg.hue)
        image = _maybe(word, cfg.color_jitter_prob, op, image)
    if cfg.grayscale:
        word = chance.bits(seed, Stream.GRAYSCALE, 1)[0]
        image = _maybe(word, cfg.grayscale, colour.gray, image)
    if cfg.solarize:
        word = chance.bits(seed, Stream.SOLARIZE, 1)[0]
        op = functools.partial(colour.solarize, threshold=jnp.int32(128))
        image = _maybe(word, cfg.solarize, op, image)
    if cfg.blur:
        word = chance.bits(seed, Stream.BLUR, 1)[0]
        op = functools.partial(_blurred, seed=seed, branch=platform == "cpu")
        image = _maybe(word, cfg.blur, op, image)
    return image


def _maybe(word: Array, probability: float, op: Any, image: Array) -> Array:
    if probability >= 1:
        return op(image)
    return jax.lax.cond(happens(word, probability), op, lambda image: image, image)


def _flipped(pixels: Array, seed: chance.Seed, cfg: ConfigDict) -> Array:
    words = chance.bits(seed, Stream.FLIP, 2)
    for word, on, axis in zip(words, (cfg.flip_lr, cfg.flip_ud), (1, 0), strict=True):
        if on:
            flip = functools.partial(jnp.flip, axis=axis)
            pixels = _maybe(word, 0.5, flip, pixels)
    return pixels


def _three(image: Image, seed: chance.Seed, branch: bool) -> Image:
    """One of grayscale, solarise and blur (Touvron et al. 2022, DeiT III, section 3.2)."""
    branches = (
        colour.gray,
        functools.partial(colour.solarize, threshold=jnp.int32(128)),
        functools.partial(_blurred, seed=seed, branch=branch),
    )
    return jax.lax.switch(
        chance.between(chance.bits(seed, Stream.THREE, 1)[0], 0, 2), branches, image
    )


def _blurred(image: Image, seed: chance.Seed, branch: bool) -> Image:
    word = chance.bits(seed, Stream.BLUR, 2)[1]
    radius = chance.between(word, 0, neighbours.RADII - 1)
    return neighbours.blur(image, radius, settler(radius < 0 if branch else None))


def _floats(image: Image, seed: chance.Seed, cfg: ConfigDict, branch: bool) -> Array:
    found = normalise(image, cfg)
    if cfg.erasing:
        box = erase.box(seed, image.shape[0], cfg.erasing)
        found = erase.apply(found, seed, box, branch=branch)
    return found


def _mixed(
    images: Array, batch: dict[str, Any], seeds: Array, key: Any, cfg: ConfigDict, platform: str
) -> dict[str, Array]:
    count, size = images.shape[:2]
    if count % 2:
        raise ConfigError(
            f"augment.mixup and cutmix mix pairs, and a device has {count} rows of the batch: type "
            "a batch_size that is a multiple of twice the number of devices."
        )
    if cfg.mixup_mode == "batch":
        seed = chance.seeds(key, jnp.asarray([WHOLE_BATCH], jnp.uint32))[0]
        one = mix.drawn(seed, size, cfg)
        mixtures = jax.tree.map(lambda x: jnp.broadcast_to(x, (count // 2, *x.shape)), one)
    else:
        mixtures = jax.vmap(lambda seed: mix.drawn(seed, size, cfg))(seeds[::2])
    if "valid" in batch:
        valid = jnp.all(batch["valid"].reshape(-1, 2) > 0, axis=1)
        mixtures = jax.vmap(mix.kept_apart)(mixtures, valid)

    def pair(images: Array, seeds: Array, mixture: mix.Mixture) -> Array:
        branch = platform == "cpu"
        own, other = (_floats(images[i], seeds[i], cfg, branch) for i in (0, 1))
        return jnp.stack([mix.apply(own, other, mixture), mix.apply(other, own, mixture)])

    pairs = images.reshape(-1, 2, *images.shape[1:]), seeds.reshape(-1, 2), mixtures
    mixed = _each(pair, platform, *pairs)
    labels = batch["label"].reshape(-1, 2, *batch["label"].shape[1:])
    return {
        "image": mixed.reshape(-1, *mixed.shape[2:]),
        "label_b": labels[:, ::-1].reshape(batch["label"].shape),
        "label_weight": jnp.repeat(mixtures.weight, 2),
    }


def _check_masks(cfg: ConfigDict) -> None:
    for name, off in (("rand_augment", "''"), ("mixup", "0"), ("cutmix", "0")):
        if cfg[name]:
            raise ConfigError(
                f"augment.{name}={cfg[name]!r} changes what is where in an image, and the batch "
                f"has masks: type --config.augment.{name}={off}."
            )
