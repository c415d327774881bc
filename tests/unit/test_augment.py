"""Augmentation against Pillow and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import config
from jaxfdsl.data import augment, resample

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def settings(**values):
    fields = config.default_config().augment
    fields.update({"mean": (0.0,) * 3, "std": (1 / 255,) * 3, **values})  # pixels stay 0-255
    return fields


def pictures(count=6, side=48, channels=3):
    """Smooth pictures with some noise, uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, channels), np.uint8)
    shape = (count, side, side, channels)
    large = np.asarray(jax.image.resize(coarse.astype(np.float32), shape, "cubic"))
    return np.clip(large + rng.normal(0, 8, large.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [20, 48, 80])
def test_crops_are_those_of_pillow(method, size):
    images = pictures(count=5)
    boxes = np.array(
        [[0, 0, 48, 48], [5, 9, 30, 13], [40, 1, 7, 47], [47, 47, 1, 1], [3, 3, 20, 20]]
    )
    ours = resample.crop_and_resize(images, jnp.asarray(boxes), size, method)
    for image, (top, left, height, width), found in zip(images, boxes, ours, strict=True):
        cut = Image.fromarray(image).crop((left, top, left + width, top + height))
        expected = np.asarray(cut.resize((size, size), FILTERS[method]), np.float32)
        assert np.abs(found - expected).max() < 1.6  # Pillow rounds to bytes twice
        assert np.abs(found - expected).mean() < 0.4


def test_evaluation_resizes_and_cuts_the_centre_as_timm_does():
    images = pictures()
    ours = augment.evaluate(images, settings(), 28, crop_fraction=0.875)
    for image, found in zip(images, ours, strict=True):
        resized = Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)
        expected = np.asarray(resized.crop((2, 2, 30, 30)), np.float32)
        assert np.abs(found - expected).max() < 1.6


def test_evaluation_at_the_own_size_changes_no_pixel():
    images = pictures(side=32)
    np.testing.assert_allclose(augment.evaluate(images, settings(), 32), images, atol=1e-3)


def test_padded_crops_are_windows_of_the_padded_image_everywhere_equally_often():
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
    images = np.tile(image, (5000, 1, 1, 3))
    found = augment.train(images, jax.random.key(0), settings(crop="pad", crop_pad=2), 8)
    padded = np.pad(image[0, :, :, 0], 2)
    windows = {
        padded[top : top + 8, left : left + 8].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    rounded = np.round(np.asarray(found[..., 0])).astype(np.uint8)
    places = [windows[window.tobytes()] for window in rounded]
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.transpose(places)), 1)
    assert np.sum((counts - 200) ** 2 / 200) < 43  # 24 degrees of freedom, p = .01


def test_a_small_image_is_enlarged_before_it_is_padded_and_a_large_one_only_cut():
    small, large = pictures(side=16), pictures(side=48)
    for images in (small, large):
        found = augment.train(images, jax.random.key(1), settings(crop="pad", crop_pad=0), 32)
        assert found.shape == (6, 32, 32, 3)
    windows = np.lib.stride_tricks.sliding_window_view(large[0], (32, 32, 3))[:, :, 0]
    assert np.any(np.all(np.abs(windows - np.asarray(found[0])) < 1e-2, axis=(2, 3, 4)))


@pytest.mark.parametrize(("field", "axis"), [("flip_lr", 2), ("flip_ud", 1)])
def test_half_of_the_images_are_flipped(field, axis):
    images = np.tile(pictures(1, 8), (2000, 1, 1, 1))
    found = np.round(augment.train(images, jax.random.key(2), settings(**{field: True}), 8))
    same = np.all(found == images, axis=(1, 2, 3))
    flipped = np.all(found == np.flip(images, axis), axis=(1, 2, 3))
    assert np.all(same ^ flipped)
    assert abs(flipped.mean() - 0.5) < 0.04


def boxes_of_timm(count, side, scale, ratio):
    """timm's `RandomResizedCropAndInterpolation.get_params`, in NumPy."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        for _ in range(10):
            area = side * side * rng.uniform(*scale)
            aspect = np.exp(rng.uniform(*np.log(ratio)))
            width, height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if width <= side and height <= side:
                corner = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
                yield (*corner, height, width)
                break


def test_random_boxes_are_distributed_as_those_of_timm():
    side, scale, ratio = 64, (0.08, 1.0), (0.75, 1.3333)
    keys = jax.random.split(jax.random.key(3), 20_000)
    ours = np.asarray(
        jax.jit(jax.vmap(lambda key: augment.random_box(key, side, scale, ratio)))(keys)
    )
    theirs = np.array(list(boxes_of_timm(20_000, side, scale, ratio)))
    assert np.all(ours >= 0) and np.all(ours[:, :2] + ours[:, 2:] <= side)
    quantiles = np.linspace(0.05, 0.95, 19)
    for column in range(4):
        found, expected = (np.quantile(boxes[:, column], quantiles) for boxes in (ours, theirs))
        assert np.abs(found - expected).max() <= 1
    area = [(boxes[:, 2] * boxes[:, 3]).mean() / side**2 for boxes in (ours, theirs)]
    assert abs(area[0] - area[1]) < 0.01


def test_a_ratio_that_never_fits_gives_the_largest_central_box():
    box = jax.jit(lambda key: augment.random_box(key, 60, (1.0, 1.0), (2.0, 3.0)))(
        jax.random.key(0)
    )
    np.testing.assert_array_equal(box, [15, 0, 30, 60])


def test_a_sample_depends_on_its_row_of_the_global_batch_alone():
    images, key = pictures(), jax.random.key(4)
    fields = settings(crop="random_resized", flip_lr=True, flip_ud=True)
    function = jax.jit(lambda images, rows: augment.train(images, key, fields, 24, rows))
    whole = function(images, jnp.arange(6))
    # The same boxes and flips; sums of products may round differently in batches of other sizes.
    np.testing.assert_allclose(function(images[4:], jnp.array([4, 5])), whole[4:], atol=1e-3)
    assert not np.allclose(function(images[4:], jnp.array([0, 1])), whole[4:], atol=10)


def test_gray_becomes_three_equal_channels_before_normalisation():
    gray = pictures(channels=1)
    found = augment.evaluate(gray, config.default_config().augment, 48)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(found, (gray / 255.0 - mean) / std, atol=1e-5)
