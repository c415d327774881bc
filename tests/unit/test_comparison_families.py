"""Perlin noise, dead leaves and Bezier curves: bit for bit, and in distribution, against plain
recipes.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import stats

from jaxfdsl import generators
from jaxfdsl.generators.formulas import bezier, dead_leaves, perlin
from tests import programs
from tests import reference_comparison as plain

FAMILIES = {"perlin": perlin.Perlin, "dead_leaves": dead_leaves.DeadLeaves, "bezier": bezier.Bezier}
RANGES = {
    "perlin": ([(256, 9216)] * 2, [4736] * 2),
    "dead_leaves": ([(0, 6), (1966, 3932), (16384, 65536), (0, 15)], [6, 1966, 65536, 8]),
    "bezier": ([(3, 18), (1, 64), (64, 256), (64, 256)], [10, 32, 160, 160]),
}
RENDERS = ("published", "points", "outline", "filled")


def load(name, **options):
    return generators.load(f"{name}-1k", instances=None, **options)


def draw(db, recipes):
    return np.asarray(db.draw_recipes(np.asarray(recipes, np.uint32))["image"])


def draw_many(db, chosen):
    """The instance of its own number of each category, a hundred at a time."""
    return np.concatenate([draw(db, np.stack([c, c], 1)) for c in chosen.reshape(-1, 100)])


def params(db, index):
    return [int(field[index]) for field in db.categories]


def reference(db, recipe, size, render="published"):
    category, seed = params(db, recipe[0]), int(recipe[1])
    if db.family.name == "perlin":
        return plain.perlin(category, seed, size, render)[..., None]
    if db.family.name == "bezier":
        return plain.bezier(category, seed, size, render)[..., None]
    return plain.dead_leaves_picture(category, seed, size, db.table["constants"], render)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [25, 48])
def test_pictures_equal_numpy(name, size):
    db = load(name, size=size)
    each = np.arange(50)
    recipes = np.stack([each * 9 % 1000, each * 7919 + size], 1)
    for recipe, image in zip(recipes, draw(db, recipes), strict=True):
        np.testing.assert_array_equal(image, reference(db, recipe, size))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("render", RENDERS[1:])
def test_other_renders_equal_numpy(name, render):
    if name == "bezier" and render != "points":
        pytest.skip("silhouettes have a test of their own")
    db = load(name, size=48, render=render)
    recipes = [[13 * c, c] for c in range(6)]
    for recipe, image in zip(recipes, programs.draw(db, recipes)["image"], strict=True):
        np.testing.assert_array_equal(image, reference(db, recipe, 48, render))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_largest_canvas_and_the_published_one(name):
    db = load(name, num_classes=3)
    recipe = [[1, 5]]
    np.testing.assert_array_equal(draw(db, recipe)[0], reference(db, recipe[0], db.size))
    if name == "perlin":
        large = np.asarray(db.draw_recipes(np.array(recipe, np.uint32), 1500)["image"])[0]
        np.testing.assert_array_equal(large, reference(db, recipe[0], 1500))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("varying", [0, 1, None])
def test_candidates_are_spread_evenly_and_equal_on_host_and_device(name, varying):
    kind = FAMILIES[name]
    family = kind() if varying is None else kind(varying=varying)
    numbers = np.array([*range(1000), 2**22 + 5, 2**32 - 1], np.uint32)
    host, device = family.propose(numbers, xp=np), family.propose(jnp.asarray(numbers))
    ranges, fixed = RANGES[name]
    for i, row in enumerate(numbers.tolist()):
        expected = plain.candidate(row, ranges, fixed, family.varying)
        assert [int(field[i]) for field in host] == expected
    for i, (a, b) in enumerate(zip(host, device, strict=True)):
        np.testing.assert_array_equal(a, np.asarray(b))
        low, high = ranges[i]
        quarters = np.bincount((a[:1000] - low) * 4 // (high - low + 1), minlength=4)
        assert np.ptp(quarters) < 160 if i < family.varying else (a == fixed[i]).all()


@pytest.mark.parametrize("name", ["perlin", "bezier"])
def test_a_thousand_categories_are_a_thousand_labels(name):
    table = np.stack(load(name).categories, 1)
    assert len(np.unique(table, axis=0)) == 1000
    assert len(np.unique(np.stack(load("dead_leaves").categories, 1), axis=0)) == 1000


def test_the_radii_of_leaves_are_the_script_s():
    radii = np.linspace(0.03, 1, 200)
    share = np.cumsum(radii**-3.0 - 1)
    share /= share[-1]
    uniform = np.random.default_rng(0).random(4000)
    theirs = np.abs(share[:, None] - uniform).argmin(0)
    ours = np.searchsorted(dead_leaves.radius_steps()[8, 31] / (2**32 - 1), uniform)
    np.testing.assert_array_equal(ours, theirs)


def float_perlin(rng, frequencies, size):
    """A picture by the textbook, in floats."""
    angle = rng.random((40, 40)) * 2 * np.pi
    cells = [np.arange(size) * f / size + rng.random() for f in frequencies]
    (column, x), (row, y) = ((np.floor(c).astype(int), c % 1) for c in cells)
    row, y = row[:, None], y[:, None]
    fade = [t**3 * (t * (t * 6 - 15) + 10) for t in (x, y)]

    def corner(down, right):
        turn = angle[row + down, column + right]
        return np.cos(turn) * (x - right) + np.sin(turn) * (y - down)

    top, bottom = (corner(d, 0) + fade[0] * (corner(d, 1) - corner(d, 0)) for d in range(2))
    noise = top + fade[1] * (bottom - top)
    return np.clip(np.floor(128 + noise * 128 * np.sqrt(2)), 0, 255)


def float_leaves(rng, category, size):
    """The published script in floats; a polygon is filled and lined by PIL, as OpenCV does both."""
    shape, small, large, exponent = category
    radii = np.linspace(small / 65536, large / 65536, 200)
    share = np.cumsum(radii ** (-2 - exponent / 8) - radii[-1] ** (-2 - exponent / 8))
    middle = (share[1:] + share[:-1]) / 2 / share[-1]
    radius = radii[np.searchsorted(middle, rng.random(5000))]  # that of the nearest share
    radius = np.maximum((radius * size).astype(int), 1)
    kind = rng.integers(6, size=5000) if shape == 6 else np.full(5000, shape)
    centre = np.floor(rng.random((5000, 2)) * size)
    turn = rng.random((5000, 4)) * 2 * np.pi
    half = np.floor(radius / np.sqrt(2))
    wide, tall = (np.floor(radius * part(turn[:, 0] / 4)) for part in (np.cos, np.sin))
    wide, tall = np.where(kind == 3, wide, half), np.where(kind == 3, tall, half)
    x, y = wide[:, None] * [1, 1, -1, -1], tall[:, None] * [1, -1, -1, 1]
    cos, sin = (
        np.where(kind == 2, part(turn[:, 1]), one) for part, one in ((np.cos, 1), (np.sin, 0))
    )
    x, y = cos[:, None] * x - sin[:, None] * y, sin[:, None] * x + cos[:, None] * y
    turn[:, 3] = np.where(kind == 4, turn[:, 2], turn[:, 3])
    turn.sort(1)
    x = np.where(kind[:, None] > 3, radius[:, None] * np.cos(turn), x)
    y = np.where(kind[:, None] > 3, radius[:, None] * np.sin(turn), y)
    corners = np.floor(np.stack([x, y], -1) + centre[:, None]).reshape(5000, 8).tolist()
    image = Image.new("I", (size, size))
    pen = ImageDraw.Draw(image)
    for number, (disc, (x, y), r) in enumerate(zip(kind == 0, centre, radius, strict=True), 1):
        if disc:
            for dy in range(-r, r + 1):
                reach = int(np.sqrt(r * r - dy * dy))
                pen.line((x - reach, y + dy, x + reach, y + dy), number)
        else:
            pen.polygon(corners[number - 1], number)
            pen.line(corners[number - 1] + corners[number - 1][:2], number)
        if image.getextrema()[0]:
            break
    colours = np.vstack([np.zeros(3), np.floor(rng.random((5000, 3)) * 255)])
    return colours[np.asarray(image)]


def float_bezier(rng, category, size):
    """Curves by de Casteljau in floats, lines by PIL."""
    points, curves, *box = category
    box = np.array(box) / 256 * size
    low = rng.random(2) * (size - box)
    image = Image.new("L", (size, size))
    pen = ImageDraw.Draw(image)
    t = np.linspace(0, 1, 65)[:, None, None]
    for _ in range(curves):
        control = np.broadcast_to(low + rng.random((points, 2)) * box, (65, points, 2))
        while control.shape[1] > 1:
            control = control[:, :-1] * (1 - t) + control[:, 1:] * t
        pen.line([tuple(p) for p in control[:, 0].tolist()], 255)
    return np.asarray(image)


def alike(ours, theirs, mean=0.02):
    """The project's two criteria, on one number an image."""
    assert abs(np.mean(ours) / np.mean(theirs) - 1) < mean
    assert stats.ks_2samp(ours, theirs).pvalue > 0.01


def test_perlin_is_perlin_s_noise():
    db, chosen = load("perlin", size=48), np.arange(500) * 2
    images = draw_many(db, chosen)[..., 0].astype(float)
    rng = np.random.default_rng(3)
    theirs = [float_perlin(rng, [f / 256 for f in params(db, c)], 48) for c in chosen]
    theirs = np.stack(theirs)
    alike(images.mean((1, 2)), theirs.mean((1, 2)))
    alike(images.std((1, 2)), theirs.std((1, 2)))
    alike((images > 160).mean((1, 2)), (theirs > 160).mean((1, 2)))
    along, down = (np.abs(np.diff(images, axis=a)).mean((1, 2)) for a in (2, 1))
    alike(along, np.abs(np.diff(theirs, axis=2)).mean((1, 2)))
    alike(down, np.abs(np.diff(theirs, axis=1)).mean((1, 2)))


def test_bezier_curves_are_de_casteljau_s():
    db, chosen = load("bezier", size=48), np.arange(500) * 2
    images = draw_many(db, chosen)[..., 0] > 0
    rng = np.random.default_rng(4)
    theirs = np.stack([float_bezier(rng, params(db, c), 48) for c in chosen]) > 0
    alike(images.mean((1, 2)), theirs.mean((1, 2)))
    for axis in (1, 2):  # how wide and how high the curves are
        alike(images.any(axis).mean(1), theirs.any(axis).mean(1))


def test_dead_leaves_are_the_published_script_s():
    db, chosen = load("dead_leaves", size=48), np.arange(200) * 5
    images = draw_many(db, chosen)
    rng = np.random.default_rng(5)
    theirs = np.stack([float_leaves(rng, params(db, c), 48) for c in chosen])

    def colours(pictures):
        packed = pictures.astype(np.int64) @ np.array([1, 256, 65536])
        return [len(np.unique(p)) for p in packed]

    def changes(pictures):
        return (np.diff(pictures.astype(int), axis=2) != 0).any(-1).mean((1, 2))

    alike(colours(images), colours(theirs))
    alike(changes(images), changes(theirs))
    alike(images.mean((1, 2, 3)), theirs.mean((1, 2, 3)))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("perlin-1k", {"varying": 3}, "varying=3: give 0 to 2"),
        ("bezier-1k", {"render": "dots"}, "render='dots': bezier has 'published', 'points'"),
        ("dead_leaves-1k", {"varying": -1}, "varying=-1: give 0 to 4"),
        ("dead_leaves-1k", {"size": 8}, "size=8: give a canvas of 16 to 4096 pixels"),
    ],
)
def test_options_out_of_range_are_refused(name, options, words):
    with pytest.raises(ValueError, match=words):
        generators.load(name, **options)


def test_tables_out_of_range_are_refused():
    for kind, words in (
        (bezier.Bezier, "control_points=2 in the table: give 3 to 18"),
        (perlin.Perlin, "frequency_x=2 in the table: give 256 to 9216"),
    ):
        low = kind().propose(np.zeros(1, np.uint32), xp=np)
        low = low._replace(**{low._fields[0]: np.array([2], np.int32)})
        with pytest.raises(ValueError, match=words):
            kind().check(low, 64)
