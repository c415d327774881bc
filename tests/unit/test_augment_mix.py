"""Random erasing, mixup and cutmix against timm's definitions in NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.data.augment import chance, erase, mix
from tests import reference_augment as reference

SIZE = 32
DRAWS = 10_000


def settings(**values):
    fields = config.default_config().augment
    fields.update({"mean": (0.0,) * 3, "std": (1.0,) * 3, **values})  # pixels are 0 to 1
    return fields


seeds_of = jax.jit(chance.seeds)


def seeds(count, number=0):
    return seeds_of(jax.random.key(number), jnp.arange(count))


def images(count, size=SIZE):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def agree(ours, theirs):
    """Means and deviations of the columns of two samples are equal up to chance."""
    ours, theirs = (np.asarray(sample, np.float64) for sample in (ours, theirs))
    error = np.sqrt(ours.var(0) / len(ours) + theirs.var(0) / len(theirs))
    assert np.all(np.abs(ours.mean(0) - theirs.mean(0)) < 4 * error)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.05)


def test_erased_boxes_are_distributed_as_those_of_timm():
    draw = jax.jit(jax.vmap(lambda seed: erase.box(seed, SIZE, 0.25)))
    boxes = np.asarray(draw(seeds(4 * DRAWS)))
    erased = boxes[boxes[:, 2] > 0]
    assert abs(len(erased) / len(boxes) - 0.25) < 0.01
    theirs = np.array(list(reference.boxes_of_erasing(DRAWS, SIZE)))
    agree(erased, theirs)
    agree(erased[:, 2:].prod(1, keepdims=True), theirs[:, 2:].prod(1, keepdims=True))


def test_the_box_becomes_normal_noise_and_the_rest_stays():
    shown, key, rows = images(64), jax.random.key(1), jnp.arange(64)

    @jax.jit
    def made(batch):
        ways = [
            augment.finish(batch, key, settings(erasing=1.0), rows, platform=platform)["image"]
            for platform in ("cpu", "gpu")
        ]
        boxes = jax.vmap(lambda seed: erase.box(seed, SIZE, 1.0))(chance.seeds(key, rows))
        return *ways, augment.finish(batch, key, settings(), rows)["image"], boxes

    batch = {"image": jnp.asarray(shown), "label": rows}
    found, other, whole, boxes = (np.asarray(part) for part in made(batch))
    np.testing.assert_allclose(other, found, atol=1e-5)
    noise = []
    for image, before, (top, left, height, width) in zip(found, whole, boxes, strict=True):
        inside = np.zeros((SIZE, SIZE), bool)
        inside[top : top + height, left : left + width] = True
        np.testing.assert_array_equal(image[~inside], before[~inside])
        noise.append(image[inside].ravel())
    values = np.concatenate(noise)
    assert stats.kstest(values, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 3.0])
def test_weights_of_mixup_are_beta(alpha):
    uniform = (jnp.arange(DRAWS) + 0.5) / DRAWS
    drawn = np.asarray(jax.jit(jax.vmap(lambda u: mix.quantile(u, alpha)))(uniform))
    np.testing.assert_allclose(drawn, stats.beta(alpha, alpha).ppf(uniform), atol=2e-4)


def test_boxes_of_cutmix_are_distributed_as_those_of_timm():
    cfg = settings(cutmix=1.0)
    drawn = jax.jit(jax.vmap(lambda seed: mix.drawn(seed, SIZE, cfg)))(seeds(DRAWS, 2))
    assert np.all(drawn.kind == 2)
    ours = np.concatenate([drawn.box, drawn.weight[:, None]], axis=1)
    theirs = [(*box, weight) for box, weight in reference.boxes_of_cutmix(DRAWS, SIZE, 1.0)]
    agree(ours, theirs)
    covered = np.prod(np.asarray(drawn.box)[:, 2:], axis=1) / SIZE**2
    np.testing.assert_allclose(drawn.weight, 1 - covered, atol=1e-6)


def test_kinds_are_drawn_as_asked():
    cfg = settings(mixup=0.8, cutmix=1.0, mixup_prob=0.9, mixup_switch=0.3)
    drawn = jax.jit(jax.vmap(lambda seed: mix.drawn(seed, SIZE, cfg)))(seeds(DRAWS, 3))
    shares = np.bincount(drawn.kind, minlength=3) / DRAWS
    np.testing.assert_allclose(shares, [0.1, 0.63, 0.27], atol=0.02)
    assert np.all(np.asarray(drawn.weight)[np.asarray(drawn.kind) == 0] == 1)


@functools.cache
def finisher(**values):
    return jax.jit(lambda b, key, rows: augment.finish(b, key, settings(**values), rows))


def finished(valid=None, count=16, key=0, label=None, **values):
    rows = jnp.arange(count)
    batch = {"image": jnp.asarray(images(count, 8)), "label": rows if label is None else label}
    batch["valid"] = jnp.asarray(np.ones(count) if valid is None else valid, jnp.float32)
    made = finisher(**values)(batch, jax.random.key(key), rows)
    return {name: np.asarray(value) for name, value in made.items()}


def neighbours(values):
    return values.reshape(-1, 2, *values.shape[1:])[:, ::-1].reshape(values.shape)


def test_mixup_mixes_neighbours_images_and_labels_by_one_weight():
    found = finished(mixup=0.8, mixup_mode="pair")
    plain, weight = images(16, 8) / 255, found["label_weight"]
    np.testing.assert_array_equal(found["label"], np.arange(16))
    np.testing.assert_array_equal(found["label_b"], neighbours(np.arange(16)))
    np.testing.assert_array_equal(weight, neighbours(weight))
    assert len(set(weight.tolist())) == 8
    share = weight[:, None, None, None]
    mixed = share * plain + (1 - share) * neighbours(plain)
    np.testing.assert_allclose(found["image"], mixed, atol=1e-6)


def test_cutmix_swaps_one_box_and_weighs_by_its_area():
    found = finished(cutmix=1.0, mixup_mode="pair")
    plain, pixels = images(16, 8), np.round(255 * found["image"])
    own = np.all(pixels == plain, axis=-1)
    other = np.all(pixels == neighbours(plain), axis=-1)
    assert np.all(own ^ other)
    np.testing.assert_allclose(own.mean((1, 2)), found["label_weight"], atol=1e-6)
    for swapped in other:  # the box is full
        rows, columns = swapped.any(1), swapped.any(0)
        np.testing.assert_array_equal(swapped, rows[:, None] & columns[None])


def test_a_batch_has_one_weight_where_asked_and_another_one_at_the_next_step():
    weights = [finished(key=key, mixup=0.8, cutmix=1.0)["label_weight"] for key in range(4)]
    assert all(len(set(each.tolist())) == 1 for each in weights)
    assert len({each[0] for each in weights}) == 4


def test_corrupt_rows_are_mixed_into_nothing():
    valid = np.ones(16)
    valid[[3, 8, 9]] = 0
    found = finished(valid, mixup=0.8, mixup_mode="pair")
    apart = np.array([2, 3, 8, 9])
    np.testing.assert_array_equal(found["label_weight"][apart], 1)
    np.testing.assert_allclose(found["image"][apart], images(16, 8)[apart] / 255, atol=1e-6)
    rest = np.setdiff1d(np.arange(16), apart)
    assert np.all(found["label_weight"][rest] != 1)


def test_several_labels_an_image_are_exchanged_as_a_whole():
    label = jnp.asarray(np.arange(32).reshape(16, 2))
    found = finished(label=label, mixup=0.8, mixup_mode="pair")
    np.testing.assert_array_equal(found["label_b"], neighbours(np.asarray(label)))


def test_an_odd_batch_is_refused():
    with pytest.raises(ConfigError, match="a device has 3 rows of the batch"):
        finished(count=3, mixup=0.8)
