"""Pictures equal a plain NumPy reference bit for bit, whatever the batch, the way of jitting and
the devices.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import generators
from jaxfdsl.generators.drawing import noise
from jaxfdsl.generators.formulas import exfractaldb, fractaldb
from tests import programs, reference


def row(table, index):
    return type(table)(*(np.asarray(field)[index] for field in table))


@pytest.fixture(scope="module")
def flat():
    return generators.load("fractaldb-1k", num_classes=40)


@pytest.fixture(scope="module")
def solid():
    return generators.load("exfractaldb-1k", num_classes=40)


@pytest.mark.parametrize("pattern", ["point", "patch"])
def test_fractaldb_equals_numpy(flat, pattern):
    db = generators.load(
        "fractaldb-1k", num_classes=40, pattern=pattern, num_points=20_000, size=128
    )
    recipes = np.array([[3 * c, 89 * c + 80] for c in range(12)], np.uint32)
    drawn = np.asarray(db.draw_recipes(recipes)["image"])[..., 0]
    weights = fractaldb.weight_rows("0.4")
    for (category, seed), image in zip(recipes, drawn, strict=True):
        expected = reference.fractaldb_gray(
            row(db.categories, category),
            weights[seed // 40 % 25],
            int(seed),
            128,
            20_000,
            pattern == "patch",
        )
        np.testing.assert_array_equal(image, expected)


def test_uniform_weights_give_every_instance_a_shape_of_its_own():
    db = generators.load(
        "fractaldb-1k", num_classes=1, weights="uniform", pattern="point", num_points=9000, size=64
    )
    seeds = np.array([0, 4, 2**31 + 8], np.uint32)
    recipes = np.stack([np.zeros(3), seeds], 1).astype(np.uint32)
    drawn = np.asarray(db.draw_recipes(recipes)["image"])[..., 0]
    assert len({image.tobytes() for image in drawn}) == 3
    for seed, image in zip(seeds, drawn, strict=True):
        words = reference.mix(seed // 4, np.arange(6)) >> np.uint64(16)
        weight = 320 + (words.astype(np.int64) * 161 >> 16)
        assert (weight >= 320).all() and (weight <= 480).all()
        expected = reference.fractaldb_gray(
            row(db.categories, 0), weight, int(seed), 64, 9000, False
        )
        np.testing.assert_array_equal(image, expected)


def test_exfractaldb_equals_numpy(solid):
    recipes = np.array([[3 * c, 1000 * c + 7] for c in range(12)], np.uint32)
    drawn = np.asarray(solid.draw_recipes(recipes)["image"])[..., 0]
    weights, rotations = exfractaldb.weight_rows(), solid.table["constants"]["rotations"]
    for (category, seed), image in zip(recipes, drawn, strict=True):
        weight, rotation = reference.exfractaldb_pair(seed)
        expected = reference.exfractaldb_picture(
            row(solid.categories, category), weights[weight], rotations[rotation], 224
        )
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("color", ["hue", "density"])
def test_bytes_of_colours_do_not_hang_on_the_way_they_are_drawn(color):
    db = generators.load("fractaldb-1k", size=64, num_points=9000, color=color)
    recipes = np.stack([np.arange(12) * 3, np.arange(12) * 11], 1).astype(np.uint32)
    whole = np.asarray(db.draw_recipes(recipes)["image"])
    for platform in ("gpu", "tpu"):  # their ways to draw, here on the CPU
        other = programs.draw(db, recipes, platform)["image"]
        np.testing.assert_array_equal(whole, other)


def test_an_orbit_that_grows_for_ever_is_drawn_at_the_scale_it_reached():
    grow = np.array([[1.0, 0.9, -0.9, 1.0, 0.5, 0.25, 0.5], [1.0, -0.9, 0.9, 1.0, 0.1, 0.3, 0.5]])
    table = generators.categories.from_systems([grow])
    db = generators.load("fractaldb", table=table, pattern="point", num_points=20_000, size=64)
    image = np.asarray(db.draw([0])["image"])[0, ..., 0]
    weight = fractaldb.weight_rows("0.4")[0]
    np.testing.assert_array_equal(
        image, reference.fractaldb_gray(row(table, 0), weight, 0, 64, 20_000, False)
    )
    assert 2 <= (image > 0).sum() < 400


def test_patch_mode_is_on_in_half_of_the_dilated_support_and_nowhere_else(flat):
    points = generators.load("fractaldb-1k", num_classes=8, pattern="point", weights="none")
    recipes = np.stack([np.arange(8), np.zeros(8)], 1).astype(np.uint32)
    patched = generators.load("fractaldb-1k", num_classes=8, weights="none").draw_recipes(recipes)
    on = np.asarray(patched["image"])[..., 0] > 0
    occupied = np.asarray(points.draw_recipes(recipes)["image"])[..., 0] > 0
    support = np.zeros_like(occupied)
    for r in range(1, 4):  # flip 0 is upside down: patches hang above their point
        for c in range(1, 4):
            support[:, : 362 - r, c:] |= occupied[:, r:, : 362 - c]
    assert abs(on[support].mean() - 256 / 511) < 0.01
    assert not on[~support].any()


def test_instances_are_the_published_weight_patch_and_flip(flat):
    def image(instance):
        return np.asarray(flat.draw_recipes(np.array([[3, instance]], np.uint32))["image"])[
            0, ..., 0
        ]

    base = image(80)  # weight row 2, the identity; patch 0; flip 0
    np.testing.assert_array_equal(image(81), base[::-1])
    np.testing.assert_array_equal(image(82), base[:, ::-1])
    np.testing.assert_array_equal(image(83), base[::-1, ::-1])
    other_patch = image(84)
    assert 0.2 < (other_patch == base)[(other_patch > 0) | (base > 0)].mean() < 0.45
    beyond = image(1080)  # the same weight row with a new patch, past the published thousand
    assert 0.2 < (beyond == base)[(beyond > 0) | (base > 0)].mean() < 0.45
    points = generators.load("fractaldb-1k", num_classes=4, pattern="point")
    pair = np.asarray(points.draw_recipes(np.array([[3, 80], [3, 1080]], np.uint32))["image"])
    np.testing.assert_array_equal(pair[0], pair[1])


def test_without_flips_every_instance_has_a_patch_of_its_own():
    db = generators.load("fractaldb-1k", num_classes=1, flips=False, num_points=9000, size=64)
    images = np.asarray(db.draw(range(12))["image"])
    assert len({image.tobytes() for image in images}) == 12


def test_exfractaldb_shows_every_pair_of_weight_and_rotation_before_one_returns():
    seeds = np.arange(2**21, dtype=np.uint32)
    pairs = noise.scatter(seeds, exfractaldb.PAIR_BITS)
    assert len(np.unique(pairs)) == 2**21
    assert [divmod(int(p), 145)[::-1] for p in pairs[:50]] == [
        reference.exfractaldb_pair(s) for s in seeds[:50]
    ]
    rows = np.bincount(pairs[:14_500] % 145, minlength=145)
    assert abs(rows - 100).max() < 50, "any stretch of instances has all weight rows"


def test_views_of_one_model_equal_the_pictures_drawn_one_by_one():
    db = generators.load("exfractaldb-1k", num_classes=4, views="equatorial")
    recipes = np.array([[2, 12 * 6 + v] for v in range(12)], np.uint32)
    single = np.asarray(db.draw_recipes(recipes)["image"])
    jitter = np.array(
        [int(reference.hash32(s) >> np.uint64(16)) * 256 >> 16 for s in recipes[:, 1]]
    )
    constants = jax.tree.map(jnp.asarray, db.table["constants"])
    together = jax.jit(functools.partial(db.family.draw_views, size=224))(
        row(db.categories, 2),
        np.uint32(6),
        constants=constants,
        jitter=jnp.asarray(np.arange(12) * 256 + jitter, jnp.uint32),
    )
    np.testing.assert_array_equal(single, np.asarray(together))


@pytest.mark.parametrize("color", ["hue", "density"])
def test_colour_keeps_the_support_and_colours_differ_between_instances(color):
    options = {"num_classes": 2, "num_points": 20_000, "size": 96, "weights": "none"}
    gray = generators.load("fractaldb-1k", pattern="point", **options)
    coloured = generators.load("fractaldb-1k", pattern="point", color=color, **options)
    recipes = np.array([[0, 0], [0, 4], [1, 0]], np.uint32)
    support = np.asarray(gray.draw_recipes(recipes)["image"])[..., 0] > 0
    image = np.asarray(coloured.draw_recipes(recipes)["image"])
    assert image.shape == (3, 96, 96, 3)
    np.testing.assert_array_equal(image.max(-1) > 0, support)
    assert (image[0] != image[1]).any()
