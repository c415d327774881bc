"""MultiX scenes: bit for bit the NumPy reference, and labels of what is drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxfdsl import generators
from jaxfdsl.generators.drawing import colour, resample, stages
from jaxfdsl.generators.formulas import multix
from tests import programs
from tests import reference_svd as reference

CATEGORIES = 60


@pytest.mark.parametrize("size, points, count", [(48, 1500, 80), (65, 1500, 20), (224, 50_000, 2)])
def test_scenes_and_labels_equal_numpy(size, points, count):
    systems = [reference.system(i) for i in range(CATEGORIES)]
    db = generators.load("multix-1k", num_classes=CATEGORIES, size=size, num_points=points)
    seeds = np.random.default_rng(size).integers(0, len(db), count)
    drawn = db.draw(seeds)
    labels = np.asarray(drawn["label"])
    assert labels.shape == (count, 5) and labels.dtype == np.int32
    for seed, image, label in zip(seeds, np.asarray(drawn["image"]), labels, strict=True):
        expected, shown = reference.scene(systems, int(seed), size, points)
        np.testing.assert_array_equal(image, expected)
        assert label.tolist() == shown + [-1] * (5 - len(shown))


def test_a_scene_hangs_on_the_categories_of_its_label_and_on_no_other():
    options = {"size": 96, "num_points": 5000, "num_classes": 6}
    db = generators.load("multix-1k", **options)
    other = generators.load("svd_fractal", num_classes=6, search_seed=9).categories
    seeds = np.arange(24)
    drawn = db.draw(seeds)
    images, labels = np.asarray(drawn["image"]), np.asarray(drawn["label"])
    changed_but_hidden = 0
    for category in range(6):
        mixed = type(other)(
            *(
                np.where((np.arange(6) == category).reshape(-1, *[1] * (mine.ndim - 1)), new, mine)
                for mine, new in zip(db.categories, other, strict=True)
            )
        )
        swapped = generators.load("multix", table=mixed, size=96, num_points=5000).draw(seeds)
        np.testing.assert_array_equal(labels, np.asarray(swapped["label"]))
        same = (np.asarray(swapped["image"]) == images).all((1, 2, 3))
        named = (labels == category).any(1)
        assert same[~named].all()
        changed_but_hidden += (same & named).sum()
    assert changed_but_hidden <= 3, "only a fractal that others cover, or with an empty mask"


def test_numbers_sizes_and_places_are_the_published_ones():
    db = generators.load("multix-1k", size=64, num_points=600, blur=False)
    only = jax.jit(lambda recipes, table: db.fields(recipes, table)["label"])  # draws nothing
    labels = np.asarray(only(db.recipes(range(3000)), db.table))
    # Among a thousand categories two of five objects are the same in one scene of a hundred.
    assert stats.chisquare(np.bincount((labels >= 0).sum(1), minlength=6)[1:]).pvalue > 0.001
    counts = np.bincount(labels[labels >= 0], minlength=1000)
    assert stats.chisquare(counts).pvalue > 0.01, "categories are uniform"
    live = labels >= 0
    ordered = np.where(live, labels, 10**6)
    assert (np.diff(ordered)[live[:, 1:]] > 0).all(), "each category once, in rising order"
    assert not (np.diff(live.astype(int)) > 0).any(), "padding is last"


def test_resizing_is_bilinear():
    rng = np.random.default_rng(0)
    picture = rng.integers(1, 256, (20, 20, 3))
    packed = jnp.asarray(colour.pack(picture.reshape(-1, 3)).reshape(20, 20))
    settle = stages.settler(None)
    paste = jax.jit(functools.partial(resample.paste, settle=settle), static_argnames="most")
    canvas = jnp.zeros((60, 60), jnp.uint32)
    for side in (7, 20, 33):
        for row, col, window in ((10, 5, 40), (-3, 50, 40), (-3, 50, 60)):
            place = (jnp.int32(v) for v in (row, col, side))
            pasted = paste(canvas, packed, *place, most=window)
            along = np.clip((np.arange(side) + 0.5) * 20 / side - 0.5, 0, 19)
            weight = np.maximum(1 - np.abs(along[:, None] - np.arange(20)), 0)
            exact = np.zeros((60, 60, 3))
            whole = np.einsum("ri,cj,ijk->rck", weight, weight, picture)
            rows, cols = np.arange(side) + row, np.arange(side) + col
            inside = np.ix_((rows >= 0) & (rows < 60), (cols >= 0) & (cols < 60))
            place = np.ix_(rows[(rows >= 0) & (rows < 60)], cols[(cols >= 0) & (cols < 60)])
            exact[place] = whole[inside]
            assert np.abs(np.asarray(colour.unpack(pasted)) - exact).max() < 2


def test_any_number_of_objects_of_any_size():
    options = {"objects": (7, 7), "sizes": (0.9, 1.0), "size": 64, "num_points": 1000}
    seven = programs.draw_first(generators.load("multix-1k", blur=False, **options), 20)
    assert seven["label"].shape == (20, 7) and ((seven["label"] >= 0).sum(1) >= 6).all()
    assert seven["image"].shape == (20, 64, 64, 3)


def test_refusals():
    with pytest.raises(ValueError, match=r"objects=\(0, 3\): give 1 to 32"):
        generators.load("multix-1k", objects=(0, 3))
    with pytest.raises(ValueError, match=r"sizes=\(0.6, 0.15\): give the smaller number first"):
        generators.load("multix-1k", sizes=(0.6, 0.15))
    table = multix.MultiX().propose(np.zeros(1, np.uint32), xp=np)
    many = jax.tree.map(lambda v: np.repeat(v, 2**16, 0), table)
    with pytest.raises(ValueError, match=r"65536 categories: a scene picks from at most 65,535"):
        generators.load("multix", table=many)
