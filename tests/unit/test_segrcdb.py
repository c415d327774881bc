"""SegRCDB against its plain reference: scenes, masks, categories, and what is refused."""

import functools

import jax
import numpy as np
import pytest

from jaxfdsl.generators import categories
from jaxfdsl.generators.dataset import Dataset
from jaxfdsl.generators.formulas.segrcdb import SegRCDB
from tests import programs, reference_segrcdb
from tests.reference_contours import noise_quantiles


@functools.cache
def dataset(size, count=254, **options):
    family = SegRCDB(**options)
    table = categories.from_numbers(family, np.arange(count))
    return Dataset("segrcdb", family, table, None, size)


QUANTILES = functools.cache(noise_quantiles)


@functools.cache
def drawn_scenes(size, masks, seeds):
    recipes = np.array([[0, seed] for seed in seeds], np.uint32)
    return jax.device_get(dataset(size, masks=masks).draw_recipes(recipes))


SEEDS = tuple(2**31 + 977 * i for i in range(4))


@pytest.mark.parametrize(
    ("masks", "size", "scenes"), [("M1", 512, 2), ("M1", 97, 4), ("M2", 97, 4), ("M3", 97, 4)]
)
def test_scenes_equal_the_plain_reference(masks, size, scenes):
    db, found = dataset(size, masks=masks), drawn_scenes(size, masks, SEEDS[:scenes])
    for i, seed in enumerate(SEEDS[:scenes]):
        image, mask, ids = reference_segrcdb.scene(
            db.family, db.categories, seed, size, QUANTILES()
        )
        np.testing.assert_array_equal(found["image"][i, ..., 0], image)
        np.testing.assert_array_equal(found["mask"][i], mask)
        label = found["label"][i]
        assert sorted(label[label >= 0]) == sorted(set(ids)) and len(label) == 32


FEW = {"objects": 10, "vertices": (3, 30), "polygons": (1, 6)}


def test_every_way_to_draw_rings_and_insides_gives_the_same_bytes():
    db = dataset(32, masks="M2", render="filled", **FEW)
    recipes = np.array([[0, i] for i in range(4)], np.uint32)
    whole = db.draw_recipes(recipes)
    for platform in ("gpu", "tpu"):  # their ways to draw, here on the CPU
        jax.tree.map(np.testing.assert_array_equal, whole, programs.draw(db, recipes, platform))


def test_masks_say_where_the_objects_are():
    lines, rings, insides = (drawn_scenes(512, masks, SEEDS[:2]) for masks in ("M1", "M2", "M3"))
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
    def draw(**options):
        few = {"objects": 5, "vertices": (3, 30), "polygons": (2, 6), "gray": (1, 255)}
        return programs.draw_first(dataset(96, **few, **options), 4)

    filled, lines = draw(render="filled"), draw(masks="M3")
    np.testing.assert_array_equal(filled["mask"], lines["mask"])
    np.testing.assert_array_equal(filled["image"][..., 0], 255 * (lines["mask"] > 0))
    drawn = lines["image"][..., 0] > 0  # no line is black
    outline = draw(render="outline")
    points = draw(render="points")
    assert set(np.unique(outline["image"])) == {0, 255}
    for less in (outline, points):
        assert np.all(drawn | (less["mask"] == 0))
        assert np.mean(less["mask"] > 0) < 0.7 * np.mean(drawn)


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
    only = jax.jit(lambda recipes, table: db.fields(recipes, table)["label"])  # paints nothing
    label = np.asarray(only(db.recipes(range(200)), db.table))
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
