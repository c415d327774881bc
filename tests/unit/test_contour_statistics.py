"""RCDB and VisualAtom against the recipe of the published scripts, written plainly with floats and
PIL: the same ink, grays and number of lines, in distribution.

Seeds are fixed. The mean of the ink is compared between pictures of the same categories at the same
places, with noise of their own on either side: of independent categories it scatters by 4 %.
"""

import random

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import stats

from jaxfdsl.generators import categories, dataset
from jaxfdsl.generators.formulas.rcdb import RCDB
from jaxfdsl.generators.formulas.visualatom import VisualAtom
from tests import programs
from tests import reference_contours as plain

SIZE = 512


def rcdb_parameters(draw: random.Random) -> dict:
    """In the order of make_rcdb.py."""
    vertices = 0
    while not 2 < vertices <= 200:
        vertices = int(draw.expovariate(1 / 100))
    return {
        "vertices": vertices,
        "polygons": draw.randint(1, 200),
        "noise": draw.uniform(0, 4),
        "growth": draw.uniform(0, 0.1),
        "radius": draw.randint(0, 100),
        "oval": [draw.uniform(1, 2) for _ in range(2)],
        "centre": [(SIZE + draw.randint(-400, 400)) / 2 for _ in range(2)],
        "frequencies": (0, 0),
    }


def visualatom_parameters(draw: random.Random) -> dict:
    """In the order of render_VisualAtom.py with the arguments of make_VisualAtom.sh."""
    fields = {
        "vertices": draw.randint(200, 1000),
        "polygons": draw.randint(1, 200),
        "noise": draw.uniform(0, 4),
        "growth": draw.uniform(0, 0.1),
        "radius": draw.randint(10, 60),
    }
    first = second = draw.randint(0, 20)
    while first == second:
        second = draw.randint(0, 20)
        if first == 0:
            break
    fields["frequencies"] = (first, second)
    fields["oval"] = [draw.uniform(1, 2) for _ in range(2)]
    fields["centre"] = [(SIZE + draw.randint(-SIZE, SIZE)) / 2 for _ in range(2)]
    return fields


def published_picture(name: str, p: dict, rng: np.random.Generator) -> np.ndarray:
    """One picture of the recipe: a walk of every vertex along its ray, a line from each to the
    next.
    """
    angle = 2 * np.pi / p["vertices"] * np.arange(p["vertices"])
    shape = (p["polygons"], p["vertices"])
    wave = sum(0.5 * np.sin(angle * f) for f in p["frequencies"])
    scale = 2 * p["noise"] if name == "rcdb" else p["noise"]
    ends = []
    for axis, ray in enumerate((np.cos(angle), np.sin(angle))):
        noise = plain.pnoise1(rng.uniform(0, 10_000, shape)) * scale - p["noise"] - wave
        start = ray * p["radius"] * p["oval"][axis] + p["centre"][axis]
        ends.append(start - np.cumsum(ray * (noise - p["growth"]), 0))
    image = Image.new("L", (SIZE, SIZE), 255 if name == "rcdb" else 0)
    pen = ImageDraw.Draw(image)
    for polygon in np.stack(ends, -1):
        corners = polygon.ravel().tolist()
        gray = min(rng.integers(0, 256, endpoint=name == "rcdb"), 255)
        pen.line(corners + corners[:2], fill=int(gray), width=1)
    return np.asarray(image)


def describe(images, background: int, rng: np.random.Generator):
    """Of each picture: its share of ink, and the gray of one of its inked pixels."""
    ink, gray = [], []
    for image in images:
        inked = image[image != background]
        ink.append(inked.size / image.size)
        if inked.size:
            gray.append(rng.choice(inked))
    return np.array(ink), np.array(gray)


def as_numbers(params) -> dict:
    """A category in the script's units."""
    return {
        "vertices": int(params.vertices),
        "polygons": int(params.polygons),
        "noise": int(params.noise) / 2**12,
        "growth": int(params.growth) / 2**14,
        "radius": int(params.radius),
        "oval": np.asarray(params.oval) / 2**12,
        "centre": np.asarray(params.centre) / 2,
        "frequencies": np.asarray(params.frequencies),
    }


@pytest.mark.parametrize(
    ("family", "published", "count"),  # VisualAtom has many more lines a picture
    [(RCDB(), rcdb_parameters, 500), (VisualAtom(), visualatom_parameters, 250)],
    ids=["rcdb", "visualatom"],
)
def test_pictures_have_the_statistics_of_the_script(family, published, count):
    rng, draw = np.random.default_rng(1), random.Random(1)
    background = 255 if family.name == "rcdb" else 0
    table = categories.from_numbers(family, np.arange(count))
    db = dataset.Dataset(family.name, family, table, None, SIZE)
    recipes = np.stack([np.arange(count), np.ones(count)], 1).astype(np.uint32)
    ours = programs.draw_as_users(db, recipes)["image"][..., 0]  # quicker: there are many

    placed = [
        plain.instance(family, type(table)(*(field[i] for field in table)), 1)[0]
        for i in range(count)
    ]
    same = (published_picture(family.name, as_numbers(p), rng) for p in placed)
    theirs = [published(draw) for _ in range(count)]
    other = (published_picture(family.name, p, rng) for p in theirs)

    ink, gray = describe(ours, background, rng)
    paired_ink, paired_gray = describe(same, background, rng)
    other_ink, other_gray = describe(other, background, rng)
    assert abs(ink.mean() / paired_ink.mean() - 1) < 0.02
    lines = table.vertices * table.polygons
    other_lines = [p["vertices"] * p["polygons"] for p in theirs]
    for some, others in (
        (ink, other_ink),
        (ink, paired_ink),
        (gray, other_gray),
        (gray, paired_gray),
        (lines, other_lines),
    ):
        assert stats.ks_2samp(some, others).pvalue > 0.01
    # Picture by picture, ink is that of the same category up to its noise.
    assert np.median(np.abs(ink - paired_ink)) < 0.02 * ink.mean()
