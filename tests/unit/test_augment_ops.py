"""Each op on images against Pillow, as timm calls it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxfdsl import config
from jaxfdsl.data.augment import affine, colour, jitter, neighbours, rand_augment
from jaxfdsl.data.augment.affine import LEVELS
from tests import programs
from tests import reference_augment as reference

SIZE = 40
MOVES = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
BLENDS = ("Color", "Contrast", "Brightness", "Sharpness")


def pictures():
    """Smooth, noisy, black and white, of one colour, dark with an island, of low contrast."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    island = np.zeros((SIZE, SIZE, 3), np.uint8)
    island[10:20, 5:33] = 200, 3, 90
    shape = (SIZE, SIZE, 3)
    return np.stack(
        [
            np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)),
            rng.integers(0, 256, shape, np.uint8),
            rng.integers(0, 2, shape, np.uint8) * np.uint8(255),
            np.full(shape, 77, np.uint8),
            island,
            rng.integers(30, 170, shape).astype(np.uint8),
        ]
    )


POLICY = rand_augment.parse(rand_augment.PAPERS)


@functools.cache
def ours(platform):
    """Every op as the training step calls it: of one image, and of many at once."""
    cfg = config.default_config().augment
    one = functools.partial(rand_augment.one_op, policy=POLICY, cfg=cfg, platform=platform)
    if platform == "cpu":
        return jax.jit(
            lambda images, ops, levels: jax.lax.map(lambda x: one(*x), (images, ops, levels)),
            compiler_options=programs.AS_USERS,
        )
    return jax.jit(jax.vmap(one))


def every(op, levels, platform="cpu"):
    """The images after the op, [levels, images, ...]."""
    images = pictures()
    stacked = np.concatenate([images] * len(levels))
    repeated = np.repeat(np.asarray(levels, np.int32), len(images))
    ops = np.full(len(repeated), rand_augment.OPS.index(op), np.int32)
    found = np.asarray(ours(platform)(stacked, ops, repeated))
    return found.reshape(len(levels), *images.shape)


def theirs(op, level):
    return np.stack(
        [np.asarray(reference.rand_augment(op, Image.fromarray(p), level)) for p in pictures()]
    )


LEVEL_CHOICES = (0, 371, -1024, 2500, -3687, 4096)


@pytest.mark.parametrize("op", sorted(set(rand_augment.OPS) - set(MOVES) - set(BLENDS)))
def test_ops_on_values_have_the_bytes_of_pillow(op):
    for level, found in zip(LEVEL_CHOICES, every(op, LEVEL_CHOICES), strict=True):
        np.testing.assert_array_equal(found, theirs(op, level / LEVELS), err_msg=str(level))


@pytest.mark.parametrize("op", BLENDS)
def test_blends_have_the_bytes_of_pillow(op):
    for level, found in zip(LEVEL_CHOICES, every(op, LEVEL_CHOICES), strict=True):
        factor = int(rand_augment.levels_of(POLICY, jnp.int32(level))["enhance"])
        assert abs(factor / LEVELS - max(0.1, 1 + 0.9 * level / LEVELS)) <= 0.5 / LEVELS
        expected = theirs(op, (factor / LEVELS - 1) / 0.9)
        np.testing.assert_array_equal(found, expected, err_msg=str(level))


@pytest.mark.parametrize("op", MOVES)
def test_moves_differ_from_pillow_by_one_in_few_places(op):
    for level, found in zip(LEVEL_CHOICES, every(op, LEVEL_CHOICES), strict=True):
        far = np.abs(found.astype(int) - theirs(op, level / LEVELS))
        assert far.max() <= 1
        assert np.mean(far > 0) < 2e-3


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
def test_a_warp_is_pillows_transform(method):
    generic = (0.8137, 0.2971, 2.4931, -0.1937, 1.1213, 3.1819)
    matrices = np.array([generic, (1, 0, -7, 0, 1, 4), (2, 0, 0, 0, 2, 0)])
    warp = jax.jit(lambda image, matrix: affine.warp(image, matrix, reference.FILL, method))
    fixed = np.round(matrices * 2**affine.BITS).astype(np.int32)
    for entries in fixed:
        for picture in pictures():
            exact = tuple(entries / 2**affine.BITS)
            expected = reference.transformed(Image.fromarray(picture), exact, method)
            far = np.abs(np.asarray(warp(picture, entries)).astype(int) - np.asarray(expected))
            assert far.max() <= 1 and np.mean(far > 0) < 1e-3


def test_many_images_at_once_are_what_each_is_alone():
    rng = np.random.default_rng(1)
    images = np.concatenate([pictures()] * 6)
    ops = np.arange(len(images), dtype=np.int32) % (rand_augment.NONE + 1)
    levels = rng.integers(-LEVELS, LEVELS + 1, len(images)).astype(np.int32)
    alone, together = (np.asarray(ours(p)(images, ops, levels)) for p in ("cpu", "gpu"))
    far = np.abs(alone.astype(int) - together)
    assert far.max() <= 1 and np.mean(far > 0) < 1e-4  # the moves are in float32
    unmoved = ops >= rand_augment.NONE
    np.testing.assert_array_equal(alone[unmoved], images[unmoved])
    counted = jax.jit(lambda image: (colour.counted(image), colour.multiplied(image)))
    for image in images[:6]:  # the ways of GPUs and of TPUs
        np.testing.assert_array_equal(*counted(image))


def test_autocontrast_slips_by_one_where_pillow_does():
    # Ramps from every darkest to every brightest value, two values apart and more.
    stretch = jax.jit(colour.autocontrast)
    slipped = 0
    for low in range(0, 250, 7):
        for high in range(low + 2, 256, 5):
            ramp = np.arange(256, dtype=np.uint8).clip(low, high).reshape(16, 16, 1)
            expected = np.asarray(ImageOps.autocontrast(Image.fromarray(ramp[..., 0])))
            np.testing.assert_array_equal(stretch(ramp)[..., 0], expected)
            slipped += expected.max() < 255
    assert slipped > 0  # the table of slips is needed


def test_blurs_have_the_bytes_of_pillow():
    blur = jax.jit(neighbours.blur)
    for radius in (0, 1, 200, 511, 512, 777, 1023):
        for picture in pictures()[[0, 1, 2, 4]]:
            expected = reference.blurred(Image.fromarray(picture), neighbours.radius_of(radius))
            found = blur(picture, jnp.int32(radius))
            np.testing.assert_array_equal(found, np.asarray(expected), err_msg=str(radius))
    assert neighbours.radius_of(0) == 0.1 and neighbours.radius_of(1023) == 2.0


def test_gray_is_pillows_luma():
    for picture in pictures():
        luma = np.asarray(Image.fromarray(picture).convert("L"))
        np.testing.assert_array_equal(colour.gray(jnp.asarray(picture)), np.stack([luma] * 3, -1))


def test_hues_are_those_of_pillow():
    turn = jax.jit(jitter.turn_hue)
    far = []
    for turned in (-100, -1, 0, 3, 127):
        for picture in pictures():
            expected = reference.adjusted_hue(Image.fromarray(picture), turned)
            far.append(np.abs(np.asarray(turn(picture, jnp.int32(turned))).astype(int) - expected))
    # Pillow's floats round a hue down where it should be a whole number: a 255th of the circle.
    assert np.max(far) <= 6
    assert np.mean(np.stack(far) > 0) < 2e-3


def test_one_channel_is_what_three_equal_ones_are():
    gray = pictures()[1][..., :1]
    three = np.repeat(gray, 3, axis=2)
    ops = [
        colour.invert, colour.gray, colour.autocontrast,
        functools.partial(colour.contrast, factor=jnp.int32(6000)),
        functools.partial(colour.color, factor=jnp.int32(6000)),
        functools.partial(neighbours.sharpness, factor=jnp.int32(6000)),
        functools.partial(jitter.turn_hue, turn=jnp.int32(60)),
    ]  # fmt: skip
    for op in ops:
        one, whole = jax.jit(lambda a, b, op=op: (op(a), op(b)))(gray, three)
        np.testing.assert_array_equal(np.repeat(one, 3, axis=2), whole)
