"""SegRCDB against its plain reference: scenes, masks, categories, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.generators import categories
from jaxfdsl.generators.dataset import Dataset, draw_recipes
from jaxfdsl.generators.formulas.segrcdb import SegRCDB
from tests import reference_segrcdb
from tests.reference_contours import noise_quantiles


@functools.cache
def dataset(size, count=254, **options):
    family = SegRCDB(**options)
    table = categories.from_numbers(family, np.arange(count))
    return Dataset("segrcdb", family, table, None, size)


QUANTILES = functools.cache(noise_quantiles)


@pytest.mark.parametrize(("masks", "size", "scenes"), [
    ("M1", 512, 3), ("M1", 97, 12), ("M2", 64, 7), ("M3", 64, 7), ("M3", 200, 2),
])  # fmt: skip
def test_scenes_equal_the_plain_reference(masks, size, scenes):
    db = dataset(size, masks=masks)
    found = db.draw_recipes(np.array([[0, 2**31 + 977 * i] for i in range(scenes)], np.uint32))
    for i in range(scenes):
        seed = 2**31 + 977 * i
        image, mask, ids = reference_segrcdb.scene(
            db.family, db.categories, seed, size, QUANTILES()
        )
        np.testing.assert_array_equal(found["image"][i, ..., 0], image)
        np.testing.assert_array_equal(found["mask"][i], mask)
        label = np.asarray(found["label"][i])
        assert sorted(label[label >= 0]) == sorted(set(ids)) and len(label) == 32


FEW = {"objects": 3, "vertices": (3, 30), "polygons": (1, 6)}


@pytest.mark.parametrize("options", [{}, {"masks": "M2"}, {"render": "filled"}], ids=str)
def test_batches_single_images_and_other_backends_give_the_same_bytes(options):
    db = dataset(32, **FEW, **options)
    recipes = jnp.array([[0, i] for i in range(4)], jnp.uint32)
    whole = db.draw_recipes(np.asarray(recipes))
    single = db.draw_recipes(np.asarray(recipes[2:3]))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2:3], b), whole, single)
    for platform in ("gpu", "tpu"):  # their ways to draw, here on the CPU
        drawn = jax.jit(draw_recipes, static_argnums=(0, 1, 4))(
            db.family, 32, recipes, db.table, platform
        )
        jax.tree.map(np.testing.assert_array_equal, whole, drawn)


def test_masks_say_where_the_objects_are():
    lines, rings, insides = (
        jax.device_get(dataset(512, masks=masks).draw(range(2))) for masks in ("M1", "M2", "M3")
    )
    for other in (rings, insides):
        np.testing.assert_array_equal(lines["image"], other["image"])
        np.testing.assert_array_equal(lines["label"], other["label"])
    assert not lines["image"][lines["mask"] == 0].any(), "M1 is where something is drawn"
    shares = [np.mean(drawn["mask"] > 0) for drawn in (lines, rings, insides)]
    assert shares[0] < shares[1] < shares[2]
    for drawn in (lines, rings, insides):
        for mask, label in zip(drawn["mask"], drawn["label"], strict=True):
            assert set(np.unique(mask)) <= {0, *(label[label >= 0] + 1)}
    # A pixel of a ring that is none of its lines lies in the inside of the same object or above.
    later = insides["mask"][(rings["mask"] > 0) & (insides["mask"] == 0)]
    assert later.size < 0.01 * rings["mask"].size


def test_shapes_are_drawn_in_white_and_marked_as_drawn():
    few = {"objects": 5, "vertices": (3, 30), "polygons": (2, 6)}
    filled = dataset(96, render="filled", **few).draw(range(4))
    expected = dataset(96, masks="M3", **few).draw(range(4))["mask"]
    np.testing.assert_array_equal(filled["mask"], expected)
    np.testing.assert_array_equal(filled["image"][..., 0], 255 * (expected > 0))
    outline = dataset(96, render="outline", **few).draw(range(4))
    points = dataset(96, render="points", **few).draw(range(4))
    lines = dataset(96, **few).draw(range(4))
    assert set(np.unique(outline["image"])) == {0, 255}
    for less in (outline, points):
        assert np.all((lines["mask"] > 0) | (less["mask"] == 0))
        assert np.mean(less["mask"] > 0) < 0.7 * np.mean(lines["mask"] > 0)


def test_categories_are_drawn_as_the_script_draws_them():
    table = categories.from_numbers(SegRCDB(), np.arange(100_000))
    random = np.random.default_rng(0)
    vertices = random.exponential(100, 300_000).astype(int)
    vertices = vertices[(vertices > 2) & (vertices <= 500)]
    quantiles = np.linspace(0.02, 0.98, 25)
    np.testing.assert_allclose(
        np.quantile(table.vertices, quantiles), np.quantile(vertices, quantiles), rtol=0.03, atol=1
    )
    for field, low, high in (
        ("polygons", 1, 50), ("noise", 0, 4 * 4096), ("growth", 0, 0.1 * 2**14), ("radius", 0, 50),
        ("oval", 4096, 8192),
    ):  # fmt: skip
        values = getattr(table, field)
        assert abs(values.min() - low) <= 0.01 * high and abs(values.max() - high) <= 0.01 * high
        assert abs(values.mean() - (low + high) / 2) < 0.005 * (high - low)
    assert set(np.unique(table.centre)) == {512}  # a place is an object's, not a category's


def test_objects_are_of_all_categories_and_stand_anywhere_on_the_canvas():
    db = dataset(16, objects=32)
    label = np.asarray(db.draw(range(200))["label"])
    counts = np.bincount(label[label >= 0], minlength=254)
    assert counts.min() > 5 and abs(counts.mean() - 200 * 32 / 254) < 2  # some come twice
    drawn = [
        (chosen, params.centre)
        for seed in range(60)
        for params, chosen, _ in reference_segrcdb.cast(db.family, db.categories, seed)
    ]
    centres = np.array([centre for _, centre in drawn])
    assert centres.min() >= 0 and centres.max() <= 1024
    assert np.all(np.abs(centres.mean(0) - 512) < 25)


def test_varying_leaves_the_last_parameters_in_the_middle():
    table = categories.from_numbers(SegRCDB(varying=2), np.arange(500))
    for name in SegRCDB.VARYING[:2]:
        assert len(np.unique(getattr(table, name))) > 20
    for name in SegRCDB.VARYING[2:]:
        assert len(np.unique(getattr(table, name), axis=0)) == 1
    assert table.radius[0] == 25 and table.noise[0] == 2 * 4096


@pytest.mark.parametrize(
    ("size", "count", "options", "words"),
    [
        (48, 4096, {}, "4096 categories: masks have room for 4095"),
        (4096, 254, {"noise": (0.0, 8.0), "polygons": (1, 63)}, "give a smaller canvas"),
    ],
)
def test_what_cannot_be_drawn_is_refused(size, count, options, words):
    with pytest.raises(ValueError, match=words):
        dataset(size, count, **options)


def test_a_table_of_more_polygons_than_the_option_is_refused():
    table = categories.from_numbers(SegRCDB(), np.arange(254))
    with pytest.raises(ValueError, match="polygons=50 in the table: load it with polygons="):
        Dataset("segrcdb", SegRCDB(polygons=(1, 20)), table, None, 64)
