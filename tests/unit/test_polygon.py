"""Insides of polygons against fractions and against PIL."""

import functools

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw

from jaxfdsl.generators.drawing import polygon
from tests.reference_segrcdb import inside, sides

MOST = 60


def random_polygon(random, size):
    """A star of a few or many corners, some crossing themselves, many beyond the frame."""
    corners = int(random.choice([1, 2, 3, 6, 25, MOST]))
    radius = random.choice([1, 4, size / 4, size])
    angle = np.arange(corners) * 2 * np.pi / corners
    far = radius + random.normal(0, 1 + radius / 10, (2, corners))
    centre = random.uniform(0, size, (2, 1))
    return np.trunc(centre + far * [np.cos(angle), np.sin(angle)]).astype(np.int32)


def eight(random, size):
    """Corners as `filled` takes them, and the polygons one by one."""
    each = [random_polygon(random, size) for _ in range(8)]
    padded = [np.pad(p, ((0, 0), (0, MOST - p.shape[1])), constant_values=3) for p in each]
    x, y = np.stack(padded, 1)
    return (x, y, np.array([p.shape[1] for p in each], np.int32)), each


@functools.cache
def filler(**how):
    return jax.jit(functools.partial(polygon.filled, **how), static_argnums=3)


def bits(word, size):
    return (np.asarray(word).reshape(size, size)[..., None] >> np.arange(8)) & 1 > 0


@pytest.mark.parametrize("size", [16, 61])
def test_a_polygon_is_every_second_stretch_of_each_row(size):
    random = np.random.default_rng(size)
    for _ in range(12):
        corners, each = eight(random, size)
        found = bits(filler()(*corners, size), size)
        for bit, (x, y) in enumerate(each):
            np.testing.assert_array_equal(found[..., bit], inside(x, y, size))


@pytest.mark.parametrize("how", [{"branch": True}, {"backend": "matmul"}])
def test_every_way_to_fill_gives_the_same_bits(how):
    random = np.random.default_rng(0)
    for _ in range(4):
        corners, _ = eight(random, 40)
        expected = filler()(*corners, 40)
        np.testing.assert_array_equal(filler(**how)(*corners, 40), expected)


def test_polygons_without_corners_cover_nothing_and_far_corners_do_not_overflow():
    x = np.zeros((8, 3), np.int32)
    x[:, 1] = 32_000
    y = np.array([[-32_000, 32_000, 31_999]] * 8, np.int32)
    count = np.array([0, 3] * 4, np.int32)
    found = bits(filler()(x, y, count, 16), 16)
    assert not found[..., ::2].any()
    np.testing.assert_array_equal(found[..., 1], inside(x[0], y[0], 16))


def joins_a_corner(x, y, row):
    """Whether two sides that lean the same way meet in a corner above, or below the lowest row."""
    ends = [(a, b[0] - a[0]) for a, b in sides(x, y) if a[1] == row < b[1]]
    if row == np.max(y):
        ends += [(b, a[0] - b[0]) for a, b in sides(x, y) if b[1] == row > a[1]]
    return any(
        a == b and lean * other > 0 for i, (a, lean) in enumerate(ends) for b, other in ends[:i]
    )


def halfway(x, y, row):
    tall = [(a, b) for a, b in sides(x, y) if a[1] <= row <= b[1] and a[1] < b[1]]
    places = [a[0] + (row - a[1]) * (b[0] - a[0]) / (b[1] - a[1]) for a, b in tall]
    return any(abs(place % 1 - 0.5) < 1e-4 for place in places)


def test_pil_differs_in_rows_with_a_leaning_corner_or_a_crossing_halfway_between_pixels():
    random = np.random.default_rng(0)
    differences = []
    for _ in range(25):
        corners, each = eight(random, 128)
        found = bits(filler()(*corners, 128), 128)
        for bit, (x, y) in enumerate(each):
            picture = Image.new("L", (128, 128))
            points = list(zip(x.tolist(), y.tolist(), strict=True))
            twice = [p for i, _ in enumerate(points) for p in (points[i - 1], points[i])]
            ImageDraw.Draw(picture).polygon(twice, fill=255)  # two points a side, as SegRCDB does
            wrong = found[..., bit] != (np.asarray(picture) > 0)
            differences.append(wrong.sum())
            for row in np.flatnonzero(wrong.any(1)):
                assert joins_a_corner(x, y, row) or halfway(x, y, row)
    # PIL 11 and later; its rule for such corners was another one before.
    assert np.mean(np.array(differences) == 0) >= 0.9
    assert max(differences) < 30
