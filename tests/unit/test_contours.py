"""RCDB and VisualAtom: their pictures equal plain NumPy and PIL, their categories the published
laws.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw

from jaxfdsl.generators import categories, dataset, options
from jaxfdsl.generators.drawing import pnoise, turns
from jaxfdsl.generators.formulas import radial
from jaxfdsl.generators.formulas.rcdb import RCDB
from jaxfdsl.generators.formulas.visualatom import VisualAtom
from tests import programs
from tests import reference_contours as plain

FAMILIES = (RCDB(), VisualAtom())
QUANTILES = plain.noise_quantiles()
by_name = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def load(family, size: int, count: int = 200, first: int = 0) -> dataset.Dataset:
    table = categories.from_numbers(family, first + np.arange(count))
    return dataset.Dataset(family.name, family, table, None, size)


def draw(db: dataset.Dataset, recipes) -> np.ndarray:
    return np.asarray(db.draw_recipes(np.array(recipes, np.uint32))["image"])[..., 0]


def row(table, index) -> radial.Category:
    return radial.Category._make(field[index] for field in table)


def small(family, **settings):
    """Few polygons of few vertices, which every way of drawing can afford here."""
    return type(family)(vertices=(3, 40), polygons=(1, 7), **settings)


@by_name
def test_pictures_equal_numpy(family):
    size = 64
    db = load(family, size)
    recipes = [(c, c % 5 * 13) for c in range(60)]  # every fifth is a first instance
    for (category, seed), image in zip(recipes, draw(db, recipes), strict=True):
        expected = plain.picture(family, row(db.categories, category), seed, size, QUANTILES)
        np.testing.assert_array_equal(image, expected)


@by_name
def test_lines_are_those_of_pil(family):
    db = load(family, 512, first=1000)
    drawn = draw(db, [(c, 1) for c in range(60)])
    different = []
    for category, image in enumerate(drawn):
        params, key = plain.instance(family, row(db.categories, category), 1)
        x, y = plain.polygons(family, params, key, 512, QUANTILES)
        canvas = Image.new("L", (512, 512), 255 if family.background == "white" else 0)
        pen = ImageDraw.Draw(canvas)
        for polygon in zip(x, y, plain.polygon_grays(family, key, len(x)), strict=True):
            corners = np.stack(polygon[:2], 1).tolist()
            points = [tuple(corner) for corner in (*corners, corners[0])]
            pen.line(points, fill=int(polygon[2]), width=1)
        different.append(int((np.asarray(canvas) != image).sum()))
    assert max(different) == 0, "at least 99 % of pictures are asked for, all are had"


@pytest.mark.parametrize(("family", "size"), [(RCDB(), 16), (VisualAtom(), 700)])
def test_odd_canvases_equal_numpy(family, size):
    family = small(family)
    db = load(family, size, 4)
    for category, image in enumerate(draw(db, [(c, 3) for c in range(4)])):
        expected = plain.picture(family, row(db.categories, category), 3, size, QUANTILES)
        np.testing.assert_array_equal(image, expected)


def test_every_way_to_draw_points_gives_the_same_bytes():
    db = load(small(VisualAtom(), render="points", broken_lines=5), 32, 6)
    recipes = np.array([(c, c) for c in range(6)], np.uint32)
    expected = draw(db, recipes)
    for platform in ("cuda", "tpu"):
        image = programs.draw(db, recipes, platform)["image"]
        np.testing.assert_array_equal(image[..., 0], expected)


@by_name
def test_candidates_are_the_same_from_numpy_and_xla(family):
    numbers = np.arange(2000, dtype=np.uint32) * np.uint32(2_147_483)
    host = family.propose(numbers, xp=np)
    device = jax.jit(family.propose)(jnp.asarray(numbers))
    for ours, theirs in zip(host, device, strict=True):
        assert ours.dtype == theirs.dtype == np.int32
        np.testing.assert_array_equal(ours, np.asarray(theirs))


def test_rcdb_categories_follow_the_published_laws():
    table = RCDB().propose(np.arange(50_000, dtype=np.uint32), xp=np)
    assert (table.vertices.min(), table.vertices.max()) == (3, 200)
    assert abs(table.vertices.mean() - 70.8) < 0.5 and np.median(table.vertices) == 59
    assert (table.polygons.min(), table.polygons.max()) == (1, 200)
    assert (table.radius.min(), table.radius.max()) == (0, 100)
    assert (table.frequencies == 0).all()
    centre = table.centre / 2
    assert (centre.min(), centre.max()) == (56, 456) and len(np.unique(centre)) == 801
    for values, low, high in (
        (table.noise / 2**12, 0, 4),
        (table.growth / 2**14, 0, 0.1),
        (table.oval / 2**12, 1, 2),
    ):
        near_uniform(values, low, high)


def test_visualatom_categories_follow_the_published_laws():
    table = VisualAtom().propose(np.arange(50_000, dtype=np.uint32), xp=np)
    assert (table.vertices.min(), table.vertices.max()) == (200, 1000)
    assert (table.radius.min(), table.radius.max()) == (10, 60)
    centre = table.centre / 2
    assert (centre.min(), centre.max()) == (0, 512)
    first, second = table.frequencies.T
    assert (first.min(), first.max(), second.min(), second.max()) == (0, 20, 0, 20)
    assert ((first != second) | (first == 0)).all()
    # The second is drawn again while it equals the first, unless the first is 0.
    pairs = np.histogram2d(first, second, bins=21)[0] / len(first)
    assert np.abs(pairs[0] - 1 / 21**2).max() < 1e-3
    others = pairs[1:][~np.eye(21, dtype=bool)[1:]]
    assert np.abs(others - 1 / (21 * 20)).max() < 1.3e-3
    for values, low, high in (
        (table.noise / 2**12, 0, 4),
        (table.growth / 2**14, 0, 0.1),
        (table.oval / 2**12, 1, 2),
        (table.vertices, 199.5, 1000.5),
        (table.polygons, 0.5, 200.5),
    ):
        near_uniform(values, low, high)


def near_uniform(values, low, high):
    at = np.sort((np.asarray(values, float).ravel() - low) / (high - low))
    assert at[0] >= 0 and at[-1] <= 1
    assert np.abs(at - np.arange(at.size) / at.size).max() < 0.01


def test_the_noise_has_the_distribution_of_the_package():
    drawn = pnoise.quantiles() / 2**pnoise.NOISE_BITS
    np.testing.assert_array_equal(pnoise.quantiles(), QUANTILES)
    sample = plain.pnoise1(np.random.default_rng(0).uniform(0, 10_000, 400_000))
    assert abs(drawn.mean()) < 0.001 and abs(drawn.std() - 0.3288) < 0.0005
    assert abs(np.abs(drawn).max() - 0.952) < 0.001
    shares = [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99]
    published = [-0.825, -0.577, -0.1525, -0.001, 0.144, 0.616, 0.851]
    np.testing.assert_allclose(np.quantile(drawn, shares), published, atol=0.003)
    np.testing.assert_allclose(np.quantile(sample, shares), published, atol=0.004)


def test_cosines_and_sines_are_good_to_two_millionths():
    cosine_sine, table = jax.jit(turns.cosine_sine), jnp.asarray(turns.table())
    for parts in (3, 7, 200, 997, 1000, 4095):
        number = np.arange(4095, dtype=np.int32) % parts
        drawn = cosine_sine(jnp.asarray(number), jnp.int32(parts), table)
        exact = np.exp(2j * np.pi * number / parts)
        for ours, theirs in zip(drawn, (exact.real, exact.imag), strict=True):
            assert np.abs(np.asarray(ours) / 2**turns.COSINE_BITS - theirs).max() < 2e-6


@by_name
def test_instances_differ_as_published(family):
    table = categories.from_numbers(family, np.arange(1))
    first, _ = plain.instance(family, row(table, 0), 0)
    later, _ = plain.instance(family, row(table, 0), 1)
    moved = {"centre"} if family.name == "visualatom" else {"centre", "radius", "oval"}
    changed = {f for f in first._fields if (getattr(first, f) != getattr(later, f)).any()}
    assert changed == moved


def test_options_do_what_they_say():
    def image(**settings):
        family = small(RCDB(), gray=(7, 7), **settings)
        return programs.draw(load(family, 64, 3), [(c, 1) for c in range(3)])["image"][..., 0]

    white = image()
    assert set(np.unique(white)) == {7, 255}
    ink = white == 7
    points = image(background="black", render="points") == 7
    assert points.any() and (points <= ink).all() and points.sum() < ink.sum()
    filled, outline = image(render="filled"), image(render="outline")
    assert set(np.unique(filled)) == set(np.unique(outline)) == {0, 255}
    assert (ink <= (filled == 0)).all() and ((outline == 0) <= (filled == 0)).all()
    broken = image(background="black", broken_lines=100) == 7
    assert (broken <= ink).all() and broken.sum() < 0.6 * ink.sum()


@by_name
def test_varying_leaves_the_rest_in_the_middle(family):
    numbers = np.arange(300, dtype=np.uint32)
    full = family.propose(numbers, xp=np)
    for count in range(1, len(family.VARYING) + 1):
        table = type(family)(varying=count).propose(numbers, xp=np)
        for place, name in enumerate(family.VARYING):
            values = getattr(table, name)
            if place < count:
                np.testing.assert_array_equal(values, getattr(full, name))
            else:
                assert (values == values[0]).all()
    middle = type(family)(varying=1).propose(numbers, xp=np)
    assert (middle.noise == 2 * 2**12).all() and (middle.centre == 512).all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"noise": (0.0, float("nan"))}, "noise=.*give 0 to 8"),
        ({"polygons": (0, 200)}, "polygons=.*give 1 to 256"),
        ({"vertices": (2, 200)}, "vertices=.*give 3 to 1000"),
        ({"radius": (60, 10)}, "radius=.*give the smaller number first"),
        ({"background": "grey"}, "background='grey'.*'white', 'black'"),
        ({"varying": 9}, "varying=9"),
        ({"render": "dots"}, "render='dots'"),
    ],
)
@by_name
def test_options_outside_their_ranges_are_refused(family, settings, words):
    with pytest.raises(ValueError, match=words):
        options.build(type(family), settings)


@by_name
def test_tables_that_cannot_be_drawn_are_refused(family):
    table = categories.from_numbers(family, np.arange(2))
    most = family.vertices[1]
    for broken, words in (
        (
            table._replace(vertices=table.vertices * 0 + most + 1),
            rf"vertices={most + 1} .* load it with vertices=\(\d+, {most + 1}\)",
        ),
        (table._replace(polygons=table.polygons * 0 + 201), r"load it with polygons=\(1, 201\)"),
        (table._replace(radius=-table.radius - 1), "give 0 or more"),
        (table._replace(noise=table.noise * 0 + 2**20), "would leave"),
    ):
        with pytest.raises(ValueError, match=words):
            dataset.Dataset(family.name, family, broken, None, 512)
    dataset.Dataset(family.name, family, table, None, 4096)
    wild = type(family)(noise=(0.0, 8.0))
    with pytest.raises(ValueError, match=r"size=4096.*smaller canvas"):
        dataset.Dataset(family.name, wild, categories.from_numbers(wild, np.arange(1)), None, 4096)
