"""Crops, flips, evaluation and the order of augmentation, against Pillow and NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.data.augment import chance, neighbours, pipeline, resample
from tests import programs
from tests import reference_augment as reference

PIXELS = {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}  # pixels stay 0-255
BOXES = np.array([[0, 0, 48, 48], [5, 9, 30, 13], [40, 1, 7, 47], [47, 47, 1, 1], [3, 3, 20, 20]])


def settings(**values):
    fields = config.default_config().augment
    fields.update({**PIXELS, **values})
    return fields


def pictures(count=6, side=48, channels=3):
    """Smooth pictures with some noise, uint8."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 6, 6, channels), np.uint8)
    shape = (count, side, side, channels)
    large = np.asarray(jax.image.resize(coarse.astype(np.float32), shape, "cubic"))
    return np.clip(large + rng.normal(0, 8, large.shape), 0, 255).astype(np.uint8)


def augmented(images, key, cfg, size, rows):
    """Cropped and finished, as the training step does."""
    crops = augment.crop(images, key, cfg, size, rows)
    return augment.finish({"image": crops}, key, cfg, rows)["image"]


def trained(images, key, cfg, size):
    rows = jnp.arange(len(images))
    return jax.jit(lambda images: augmented(images, key, cfg, size, rows))(images)


def cropped(images, cfg, size):
    return jax.jit(lambda images: augment.crop(images, jax.random.key(0), cfg, size))(images)


@pytest.mark.parametrize(("method", "size"), [("bilinear", 20), ("bicubic", 80)])
def test_crops_have_the_bytes_of_pillow(method, size):
    images = pictures(count=5)

    @functools.partial(jax.jit, compiler_options=programs.AS_USERS)
    def ways(images, boxes):  # of CPUs and of GPUs
        crop = functools.partial(resample.crop_and_resize, images, boxes, size, method)
        return crop(taps=True), crop(taps=False)

    found = ways(images, jnp.asarray(BOXES))
    for i, box in enumerate(BOXES):
        expected = reference.resized(images[i], box, size, method)
        for crops in found:
            np.testing.assert_array_equal(crops[i], expected)


def test_gray_images_of_the_published_canvas_are_pillows_too():
    images = pictures(count=2, side=362, channels=1)
    box = np.array([[0, 0, 362, 362], [20, 100, 250, 171]])
    crop = jax.jit(lambda *given: resample.crop_and_resize(*given, 224, "bicubic", taps=True))
    found = crop(images, jnp.asarray(box))
    for i in range(2):
        expected = reference.resized(images[i], box[i], 224, "bicubic")
        np.testing.assert_array_equal(found[i], expected)


def test_evaluation_resizes_and_cuts_the_centre_as_timm_does():
    images = pictures()
    ours = jax.jit(lambda images: augment.evaluate(images, settings(), 28, 0.875))(images)
    for image, found in zip(images, ours, strict=True):
        expected = reference.resized(image, (0, 0, 48, 48), 32, "bicubic")[2:30, 2:30]
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_evaluation_at_the_own_size_changes_no_pixel():
    images = pictures(side=32)
    np.testing.assert_allclose(augment.evaluate(images, settings(), 32), images, atol=1e-3)


def test_padded_crops_are_windows_of_the_padded_image_everywhere_equally_often():
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
    images = np.tile(image, (5000, 1, 1, 3))
    found = cropped(images, settings(crop="pad", crop_pad=2), 8)
    padded = np.pad(image[0, :, :, 0], 2)
    windows = {
        padded[top : top + 8, left : left + 8].tobytes(): (top, left)
        for top in range(5)
        for left in range(5)
    }
    places = [windows[window.tobytes()] for window in np.asarray(found[..., 0])]
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(np.transpose(places)), 1)
    assert np.sum((counts - 200) ** 2 / 200) < 43  # 24 degrees of freedom, p = .01


def test_a_small_image_is_enlarged_before_it_is_padded_and_a_large_one_only_cut():
    small, large = pictures(side=16), pictures(side=48)
    for images in (small, large):
        found = cropped(images, settings(crop="pad", crop_pad=0), 32)
        assert found.shape == (6, 32, 32, 3)
    windows = np.lib.stride_tricks.sliding_window_view(large[0], (32, 32, 3))[:, :, 0]
    assert np.any(np.all(windows == np.asarray(found[0]), axis=(2, 3, 4)))


def test_half_of_the_images_are_flipped_either_way():
    images = np.tile(pictures(1, 8), (2000, 1, 1, 1))
    found = np.round(trained(images, jax.random.key(2), settings(flip_lr=True, flip_ud=True), 8))
    for axes in ((), (1,), (2,), (1, 2)):
        assert abs(share(found, np.flip(images, axes)) - 0.25) < 0.04


def test_random_boxes_are_distributed_as_those_of_timm():
    side, scale, ratio = 64, (0.08, 1.0), (0.75, 1.3333)
    seeds = jax.jit(chance.seeds)(jax.random.key(3), jnp.arange(20_000))
    draw = jax.jit(jax.vmap(lambda seed: augment.random_box(seed, side, scale, ratio)))
    ours = np.asarray(draw(seeds))
    theirs = np.array(list(reference.boxes_of_crops(20_000, side, scale, ratio)))
    assert np.all(ours >= 0) and np.all(ours[:, :2] + ours[:, 2:] <= side)
    quantiles = np.linspace(0.05, 0.95, 19)
    for column in range(4):
        found, expected = (np.quantile(boxes[:, column], quantiles) for boxes in (ours, theirs))
        assert np.abs(found - expected).max() <= 1
    area = [(boxes[:, 2] * boxes[:, 3]).mean() / side**2 for boxes in (ours, theirs)]
    assert abs(area[0] - area[1]) < 0.01


def test_a_ratio_that_never_fits_gives_the_largest_central_box():
    box = jax.jit(lambda seed: augment.random_box(seed, 60, (1.0, 1.0), (2.0, 3.0)))(jnp.uint32(0))
    np.testing.assert_array_equal(box, [15, 0, 30, 60])


def test_a_sample_depends_on_its_row_of_the_global_batch_alone():
    images, key = pictures(), jax.random.key(4)
    fields = settings(crop="random_resized", flip_lr=True, flip_ud=True, erasing=0.5)
    function = jax.jit(lambda images, rows: augmented(images, key, fields, 24, rows))
    whole, order = function(images, jnp.arange(6)), np.array([3, 0, 5, 1, 4, 2])
    np.testing.assert_array_equal(function(images[order], jnp.asarray(order)), whole[order])
    others = function(images, jnp.arange(6, 12))
    assert not any(np.allclose(a, b, atol=10) for a, b in zip(whole, others, strict=True))


def test_gray_becomes_three_equal_channels_before_normalisation():
    gray = pictures(channels=1)
    found = augment.evaluate(gray, config.default_config().augment, 48)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(found, (gray / 255.0 - mean) / std, atol=1e-5)


def test_what_is_off_leaves_nothing_in_the_program():
    key, rows = jax.random.key(0), jnp.arange(4)
    batch = {"image": jnp.asarray(pictures(count=4, side=8)), "label": rows}

    def program(**values):
        cfg = settings(**values)
        return str(
            jax.make_jaxpr(lambda b: augment.finish(b, key, cfg, jnp.arange(4))["image"])(batch)
        )

    off = program()
    assert not any(word in off for word in ("scan", "while", "cond", "gather", "erf_inv"))
    # Probabilities and shapes of what is off are not in it either.
    unused = {
        "color_jitter_prob": 0.3,
        "mixup_prob": 0.2,
        "mixup_switch": 0.1,
        "mixup_mode": "pair",
    }
    assert program(**unused) == off
    for values in ({"flip_lr": True}, {"erasing": 0.1}, {"mixup": 0.5}, {"blur": 0.1}):
        assert program(**values) != off
    assert "erf_inv" not in program(rand_augment="rand-m9-inc1")  # no noise without mstd


def shown(cfg, count=600, side=8):
    """What finish makes of copies of one picture, rounded to bytes, and the picture."""
    image = pictures(1, side)[0]
    images = np.tile(image, (count, 1, 1, 1))
    return np.round(trained(images, jax.random.key(5), cfg, side)).astype(np.uint8), image


def share(found, expected):
    return np.mean(np.all(found == expected, axis=(1, 2, 3)))


def test_grayscale_and_solarise_happen_as_often_as_asked():
    from PIL import Image, ImageOps

    found, image = shown(settings(grayscale=0.2, solarize=0.3))
    gray = np.asarray(Image.fromarray(image).convert("L").convert("RGB"))
    bright, dark = (np.asarray(ImageOps.solarize(Image.fromarray(i))) for i in (image, gray))
    expected = {0.56: image, 0.14: gray, 0.24: bright, 0.06: dark}
    for probability, picture in expected.items():
        assert abs(share(found, picture) - probability) < 0.06


def test_three_augment_is_one_of_gray_solarised_and_blurred():
    from PIL import Image, ImageOps

    found, image = shown(settings(three_augment=True))
    picture = Image.fromarray(image)
    gray, bright = picture.convert("L").convert("RGB"), ImageOps.solarize(picture)
    shares = [share(found, np.asarray(made)) for made in (gray, bright)]
    radii = [neighbours.radius_of(number) for number in range(0, neighbours.RADII)]
    blurred = {np.asarray(reference.blurred(picture, radius)).tobytes() for radius in radii}
    shares.append(np.mean([made.tobytes() in blurred for made in found]))
    assert abs(sum(shares) - 1) < 1e-9
    assert np.abs(np.array(shares) - 1 / 3).max() < 0.06


def test_colour_jitter_draws_factors_evenly_about_one():
    # Of a gray picture of one value only the brightness is seen.
    cfg = settings(color_jitter=0.4, color_jitter_prob=0.8)
    images = np.full((1500, 4, 4, 1), 100, np.uint8)
    factor = np.round(trained(images, jax.random.key(6), cfg, 4))[:, 0, 0, 0] / 100
    assert abs(np.mean(factor == 1) - 0.2) < 0.05
    drawn = factor[factor != 1] + 0.005  # rounded down
    assert stats.kstest(drawn, stats.uniform(0.6, 0.8).cdf).statistic < 0.05


def test_masks_are_flipped_with_their_images_and_not_moved_otherwise():
    images = pictures(20, 12, channels=1)
    batch = {"image": jnp.asarray(images), "mask": jnp.asarray(images[..., 0].astype(np.int32))}
    key, rows = jax.random.key(7), jnp.arange(20)
    flips = settings(flip_lr=True, flip_ud=True)
    found = jax.jit(lambda batch: augment.finish(batch, key, flips, rows))(batch)
    np.testing.assert_array_equal(np.round(found["image"][..., 0]), found["mask"])
    for values in ({"rand_augment": "rand-m9"}, {"mixup": 0.8}, {"cutmix": 1.0}):
        with pytest.raises(ConfigError, match="the batch has masks: type --config"):
            cfg = settings(**values)
            jax.eval_shape(lambda b, cfg=cfg: augment.finish(b, key, cfg, rows), batch)


def test_gray_images_stay_gray_until_an_op_fills_with_a_colour():
    gray, seed = jnp.asarray(pictures(1, 16, channels=1)[0]), jnp.uint32(0)

    def channels(**values):
        cfg = settings(rand_augment="rand-m9-mstd0.5-inc1", **values)
        op = functools.partial(pipeline._bytes, cfg=cfg, platform="cpu")
        return jax.eval_shape(op, gray, seed).shape[-1]

    assert channels(mean=(0.5, 0.5, 0.5)) == 1
    assert channels(mean=(0.485, 0.456, 0.406)) == 3
