"""One-instance sets, switches and canvases of the searched fractal families."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import generators
from jaxfdsl.generators import catalog
from jaxfdsl.generators.drawing import raster, views
from jaxfdsl.generators.formulas import exfractaldb, fractaldb
from tests import reference

FAMILIES = {"fractaldb": fractaldb.FractalDB, "exfractaldb": exfractaldb.ExFractalDB}


def as_reference(table, i):
    return tuple(np.asarray(field[i]) for field in table)


@pytest.mark.parametrize("weights, row", [("none", 2), ("ofdb", 0)])
def test_ofdb2d_is_one_picture_of_the_identity_or_of_the_scripts_row(weights, row):
    db = generators.load("ofdb2d-1k", num_classes=8, size=96, num_points=20_000, weights=weights)
    assert len(db) == 8
    weight = fractaldb.weight_rows("0.4")[row]
    assert weight[0] == {"none": 400, "ofdb": 80}[weights] and (weight[1:] == 400).all()
    images = np.asarray(db.draw(range(8))["image"])[..., 0]
    for i, image in enumerate(images):
        expected = reference.fractaldb_gray(
            as_reference(db.categories, i), weight, 0, 96, 20_000, True
        )
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("weights, row", [("none", 6), ("ofdb", 0)])
def test_ofdb3d_is_twelve_views_of_one_model(weights, row):
    db = generators.load("ofdb3d-1k", num_classes=3, weights=weights)
    assert len(db) == 36
    weight = exfractaldb.weight_rows()[row]
    assert weight[0] == {"none": 10, "ofdb": 4}[weights] and (weight[1:] == 10).all()
    rotations = views.equatorial_rotations()
    images = np.asarray(db.draw(range(36))["image"])[..., 0]
    for index, image in enumerate(images):
        category, view = index % 3, index // 3
        jitter = int(reference.hash32(view) >> np.uint64(16)) * 256 >> 16
        expected = reference.exfractaldb_picture(
            as_reference(db.categories, category), weight, rotations[view * 256 + jitter], 224
        )
        np.testing.assert_array_equal(image, expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_outline_and_filled_shape_of_the_published_ink(family):
    name, options = f"{family}-1k", {"num_classes": 6, "size": 96, "num_points": 5000}
    recipes = np.stack([np.arange(6), 100 + np.arange(6)], 1).astype(np.uint32)

    def image(**more):
        return np.asarray(generators.load(name, **options, **more).draw_recipes(recipes)["image"])

    published, filled, outline = image(), image(render="filled"), image(render="outline")
    value = 127 if family == "fractaldb" else 255
    for drawn in (published, filled, outline):
        assert set(np.unique(drawn)) == {0, value}
    assert (filled >= published).all() and (filled >= outline).all()
    assert 0 < (outline > 0).sum() < (filled > 0).sum()
    points = image(render="points")
    if family == "fractaldb":
        np.testing.assert_array_equal(points, image(pattern="point"))
        solid = image(pattern="solid")
        assert (solid >= published).all() and solid.mean() > 1.7 * published.mean()
        hue = image(render="filled", color="hue")
        np.testing.assert_array_equal(hue, np.broadcast_to(filled, hue.shape))
    else:
        np.testing.assert_array_equal(points, published)


@pytest.mark.parametrize("family", FAMILIES)
def test_varying_coefficients_are_the_first_of_the_list(family):
    kind, numbers = FAMILIES[family], np.arange(40, dtype=np.uint32)
    columns = len(kind.VARYING) - 1
    whole = kind().propose(numbers, xp=np)
    for varying in (1, 3, columns, columns + 1):
        table = kind(varying=varying).propose(numbers, xp=np)
        moves = np.ptp(table.maps[:, 0], 0) > 0
        assert moves.tolist() == [k < varying for k in range(columns)]
        np.testing.assert_array_equal(
            table.maps[:, 0, :varying], whole.maps[:, 0, :varying][:, :columns]
        )
        assert (np.ptp(table.num_maps) > 0) == (varying > columns)
    module = {"fractaldb": fractaldb, "exfractaldb": exfractaldb}[family]
    fixed = kind(varying=1).propose(np.array([module.REFERENCE], np.uint32), xp=np)
    own = kind().propose(np.array([module.REFERENCE], np.uint32), xp=np)
    np.testing.assert_array_equal(fixed.maps, own.maps)
    first = catalog.load(f"{family}-10k", num_classes=1).categories
    np.testing.assert_array_equal(first.maps, own.maps)
    assert kind(varying=2).search_settings != kind().search_settings
    with pytest.raises(ValueError, match=f"{family}-10k"):
        generators.load(f"{family}-10k", varying=2)


@pytest.mark.parametrize("size", [2048, 4096])
def test_the_camera_keeps_its_word_on_large_canvases(size):
    cloud = np.random.default_rng(1).uniform(-1.6, 1.6, (3, 4000))
    rotation = views.random_rotations()[4321]
    points = tuple(jnp.asarray(np.round(axis * 4096), jnp.int32) for axis in cloud)
    rows, cols = views.project(points, jnp.asarray(rotation), size)
    right, up, forward = rotation / 2**15 @ cloud
    scale = size / 2 / np.tan(np.deg2rad(22.5)) / (4 + forward)
    for drawn, exact in ((cols, right), (rows, up)):
        miss = np.abs(np.asarray(drawn) - (size // 2 + exact * scale - 0.5))
        assert (miss < 0.5 + size / 1500).all()


def test_the_quotient_is_exact_for_large_numerators():
    rng = np.random.default_rng(0)
    d = rng.integers(2000, 30_000, 100_000).astype(np.int32)
    n = (rng.integers(-4000, 4000, 100_000) * d + rng.integers(0, d)).astype(np.int32)
    n[::3] = n[::3] // d[::3] * d[::3]
    drawn = jax.jit(views.floor_quotient)(jnp.asarray(n), jnp.asarray(d))
    np.testing.assert_array_equal(np.asarray(drawn), n // d)


@pytest.mark.parametrize("name", ["fractaldb-1k", "exfractaldb-1k"])
@pytest.mark.parametrize("size", [16, 4096])
def test_canvases_from_16_to_4096_pixels(name, size):
    image = np.asarray(generators.load(name, num_classes=1, size=size).draw([6])["image"])
    assert image.shape[1:3] == (size, size)
    assert 4 < (image > 0).sum() < size * size


def test_fit_spans_a_canvas_of_4096_pixels():
    values = jnp.asarray([-32_768, 0, 32_767], jnp.int32)
    low, high = values[0], values[-1]
    fitted = np.asarray(raster.fit(values, low, high, 4084))
    assert fitted[0] == 0 and abs(fitted[1] - 2042) <= 1 and 4083 <= fitted[2] <= 4084
    place = functools.partial(raster.window, low=low, high=high, shift=jnp.int32(0), size=4096)
    for scale, end in ((2**12, 4095), (2**13, 3071), (2**11, 6142)):
        drawn = np.asarray(place(values, scale=jnp.int32(scale)))
        assert abs(drawn[2] - end) <= 2 and abs(drawn[1] - 2047) <= 1
