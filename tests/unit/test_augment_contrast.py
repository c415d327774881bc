"""The augmentation of contrastive learning: its order, and pictures brought to few pixels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.data.augment import chance
from jaxfdsl.data.augment.chance import Stream
from tests import reference_augment as reference
from tests.unit.test_augment import pictures, settings

COUNT = 24


@functools.partial(jax.jit, static_argnames="flip")
def finished(images, flip):
    """Jitter with hue, grayscale, blur, and flips: StableRep's, without the crop."""
    cfg = settings(color_jitter=0.4, color_jitter_prob=0.8, hue=0.1, grayscale=0.2, blur=0.5)
    cfg.flip_lr = flip
    batch = {"image": images}
    return augment.finish(batch, jax.random.key(0), cfg, jnp.arange(COUNT))["image"]


def test_flipping_before_jitter_and_blur_is_flipping_after_them():
    """StableRep flips last and timm first: here first, which is the same to the last bit."""
    images = pictures(COUNT, 20)
    first, never = (np.asarray(finished(images, flip)) for flip in (True, False))
    seeds = chance.seeds(jax.random.key(0), jnp.arange(COUNT))
    words = jax.vmap(lambda seed: chance.bits(seed, Stream.FLIP, 2))(seeds)
    flipped = np.asarray(chance.uniform(words[:, 0]) < 0.5)[:, None, None, None]
    assert 6 < flipped.sum() < 18
    np.testing.assert_array_equal(first, np.where(flipped, never[:, :, ::-1], never))
    changed = (never != images).any((1, 2, 3))
    assert 12 < changed.sum() < COUNT  # some are jittered, gray or blurred, and not all


def test_a_share_of_the_pictures_goes_to_few_pixels_and_back_as_with_pillow():
    images = pictures(COUNT, 144)
    cfg, key = settings(downsample=0.4), jax.random.key(0)

    @functools.partial(jax.jit, static_argnums=1)
    def cropped(images, platform):
        return augment.crop(images, key, cfg, 144, jnp.arange(len(images)), platform)

    found = np.asarray(cropped(images, "cpu"))
    np.testing.assert_array_equal(cropped(images[:3], "gpu"), found[:3])
    kinds = []
    for image, made in zip(images, found, strict=True):
        ways = {0: image}
        for size in augment.FEW_PIXELS:
            small = reference.resized(image, (0, 0, 144, 144), size, "bicubic")
            ways[size] = reference.resized(small, (0, 0, size, size), 144, "bicubic")
        kinds += [next(size for size, way in ways.items() if np.array_equal(way, made))]
    assert set(kinds) == {0, 64, 128} and 10 < kinds.count(0) < 20


def test_a_share_is_a_probability():
    with pytest.raises(ConfigError, match=r"^augment\.downsample=5.0: type a probability"):
        augment.check(settings(downsample=5.0))
