"""SegRCDB against the recipe of the published script, written plainly with floats and PIL: the same
ink, grays and masks in distribution. Scenes of both sides hold the same objects at the same places,
with noise and grays of their own.
"""

import functools

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import stats

from jaxfdsl.generators import categories, dataset
from jaxfdsl.generators.formulas.segrcdb import SegRCDB
from tests import reference_segrcdb
from tests.reference_contours import pnoise1

SCENES, SIZE = 24, 512  # 768 objects of 254 classes


def published_scene(objects, masks, rng):
    """SegRCDB_render.py: each object's polygons as lines, its mask as `--mode` says."""
    image, mask = (Image.new("L", (SIZE, SIZE)) for _ in range(2))
    pen, marker = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    for p, chosen, _ in objects:
        angle = 2 * np.pi / p.vertices * np.arange(p.vertices)
        factor, growth = p.noise / 2**12, p.growth / 2**14
        polygons = []
        for axis, ray in enumerate((np.cos(angle), np.sin(angle))):
            noise = pnoise1(rng.uniform(0, 10_000, (p.polygons, p.vertices))) * factor * 2 - factor
            start = ray * p.radius * (p.oval[axis] / 2**12) + p.centre[axis] / 2
            polygons.append(start - np.cumsum(ray * (noise - growth), 0))
        polygons = [corners.ravel().tolist() for corners in np.stack(polygons, -1)]
        ink = int(chosen) + 1
        for corners in polygons:
            closed = corners + corners[:2]
            pen.line(closed, fill=int(rng.integers(0, 256)), width=1)
            if masks == "M1":
                marker.line(closed, fill=ink, width=1)
        if masks == "M3":
            marker.polygon(polygons[-1], fill=ink)
        elif masks == "M2" and len(polygons) > 1:
            marker.polygon(polygons[-1], fill=ink)
            marker.polygon(polygons[0], fill=0)
            for corners in (polygons[0], polygons[-1]):
                marker.line(corners + corners[:2], fill=ink, width=1)
    return np.asarray(image), np.asarray(mask)


@functools.cache
def both(masks):
    """image and mask, uint8[SCENES, 512, 512], of ours and of the published recipe."""
    family = SegRCDB(masks=masks)
    table = categories.from_numbers(family, np.arange(254))
    drawn = dataset.Dataset("segrcdb", family, table, None, SIZE).draw(range(SCENES))
    ours = np.asarray(drawn["image"])[..., 0], np.asarray(drawn["mask"])
    rng = np.random.default_rng(0)
    theirs = [
        published_scene(list(reference_segrcdb.cast(family, table, seed)), masks, rng)
        for seed in range(SCENES)
    ]
    return ours, tuple(np.stack(side) for side in zip(*theirs, strict=True))


def test_ink_and_grays_are_those_of_the_published_recipe():
    (image, mask), (published, lines) = both("M1")
    ink, expected = (np.mean(marked > 0, axis=(1, 2)) for marked in (mask, lines))
    assert abs(ink.mean() / expected.mean() - 1) < 0.02
    assert stats.ks_2samp(ink, expected).pvalue > 0.01
    # Pixels of a line are alike, so that one of a hundred is looked at.
    rng = np.random.default_rng(1)
    grays = [rng.choice(i[m > 0], 2000) for i, m in ((image, mask), (published, lines))]
    assert stats.ks_2samp(*grays).pvalue > 0.01
    assert abs(np.mean(image) / np.mean(published) - 1) < 0.02


@pytest.mark.parametrize("masks", ["M1", "M3"])
def test_masks_are_those_of_the_published_recipe(masks):
    (_, mask), (_, published) = both(masks)
    shares = [np.mean(m > 0, axis=(1, 2)) for m in (mask, published)]
    assert abs(shares[0].mean() / shares[1].mean() - 1) < 0.02
    assert stats.ks_2samp(*shares).pvalue > 0.01
    classes = [np.mean([len(np.unique(m)) for m in side]) for side in (mask, published)]
    assert abs(classes[0] / classes[1] - 1) < 0.02
    if masks != "M1":  # other noise moves lines, and hardly the inside of what they surround
        assert np.mean(mask == published) > 0.9
