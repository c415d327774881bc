"""The two switches of every family: how it is drawn, and how many of its parameters vary."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import generators
from jaxfdsl.generators import catalog, options
from jaxfdsl.generators.dataset import Dataset
from jaxfdsl.generators.drawing import silhouette
from jaxfdsl.generators.formulas import contour
from tests import programs

RENDERS = ("published", "points", "outline", "filled")
FEW = {"gray": (40, 200), "polygons": (1, 40)}
# What makes ink and background easy to tell apart, and little to draw where that changes nothing.
PLAIN = {
    "rcdb": {**FEW, "vertices": (3, 60), "background": "black"},
    "visualatom": {**FEW, "vertices": (20, 60)},
    "segrcdb": {**FEW, "vertices": (3, 60), "objects": 6},
    "fractaldb": {"num_points": 20_000},
    "perturbed": {"num_points": 20_000},
    "svd_fractal": {"num_points": 20_000, "background": False, "blur": False, "jitter": "none"},
    "multix": {"num_points": 5_000, "blur": False, "jitter": "none", "flips": False},
}
SILHOUETTES = (
    "fractaldb",
    "exfractaldb",
    "rcdb",
    "visualatom",
    "svd_fractal",
    "perturbed",
    "bezier",
)
LINES = ("rcdb", "visualatom", "bezier", "exfractaldb")  # points are pixels of the published ink
REFERENCE = {"fractaldb": 22, "exfractaldb": 25, "svd_fractal": 0, "multix": 0}  # what stands still


def dataset(kind, numbers, **changes):
    family = options.build(kind, changes)
    table = generators.categories.from_numbers(family, np.asarray(numbers, np.uint32))
    return Dataset(name=kind.name, family=family, categories=table, instances=None, size=80)


def pictures(name, render):
    db = dataset(catalog.FAMILIES[name], range(1, 9), render=render, **PLAIN.get(name, {}))
    each = np.arange(6)
    return programs.draw(db, np.stack([each % db.num_recipes, each], 1))


# Of the two left out every way equals NumPy, tests/unit/test_comparison_families.py.
@pytest.mark.parametrize("name", sorted({*catalog.FAMILIES} - {"perlin", "dead_leaves"}))
def test_every_family_is_drawn_in_four_ways(name):
    renders = ("published", "outline") if name == "multix" else RENDERS  # its fractals' own
    drawn = {render: pictures(name, render) for render in renders}
    images = {render: fields["image"] for render, fields in drawn.items()}
    for fields in drawn.values():
        np.testing.assert_array_equal(fields["label"], drawn["published"]["label"])
        assert fields["image"].shape == drawn["published"]["image"].shape
    for i, one in enumerate(renders):
        for other in renders[i + 1 :]:
            if name == "exfractaldb" and (one, other) == ("published", "points"):
                np.testing.assert_array_equal(images[one], images[other])
            else:
                assert (images[one] != images[other]).any((1, 2, 3)).sum() >= 5
    if name == "multix":  # its background is everywhere
        return
    ink = {render: (image > 0).any(-1) for render, image in images.items()}
    for render in ("outline", "filled"):
        assert len(np.unique(images[render])) == 2, "one ink"
    # PIL's lines pass the sides of the polygons that it fills by a pixel.
    filled = reached(ink["filled"], 1) if name == "segrcdb" else ink["filled"]
    assert not (ink["outline"] & ~filled).any()
    if name in SILHOUETTES:
        for published, *shapes in zip(*(ink[r] for r in ("published", *RENDERS[2:])), strict=True):
            for render, shape in zip(RENDERS[2:], shapes, strict=True):
                expected = getattr(silhouette, render)(jnp.asarray(published))
                np.testing.assert_array_equal(shape, np.asarray(expected))
    if name in LINES:
        assert not (ink["points"] & ~ink["published"]).any()
    else:  # patches hang up to three pixels away from their point, segrcdb's points are of all
        beyond = ink["points"] & ~reached(ink["filled"], 3)
        assert name == "segrcdb" or beyond.mean() <= 0.001
    assert ink["points"].any((1, 2)).sum() >= 5


def reached(ink, distance):
    """Pixels at most so far from the ink, along the axes."""
    framed = np.pad(ink, ((0, 0), (distance,) * 2, (distance,) * 2))
    size, steps = ink.shape[1], range(2 * distance + 1)
    return np.any([framed[:, r : r + size, c : c + size] for r in steps for c in steps], 0)


def parameters(name, table):
    """Each parameter of a family's VARYING, one row a category."""
    if name in ("svd_fractal", "multix"):
        matrix = table.maps[:, :2, :4].reshape(-1, 2, 2, 2) / 2**14
        left, values, right = np.linalg.svd(matrix)
        axes = [np.arctan2(side[..., 1], side[..., 0]) for side in (left[..., 0], right[..., 0, :])]
        turns = [np.stack([np.cos(2 * a), np.sin(2 * a)], -1) for a in axes]
        round_ = values[..., :1] - values[..., 1:] < 0.1  # no axis to speak of
        turns = [np.where(round_, np.nan, turn) for turn in turns]
        found = [values, *turns, table.maps[:, :2, 4:] / 2**20, table.num_maps]
        return dict(zip(catalog.FAMILIES[name].VARYING, found, strict=True))
    if name == "perturbed":
        return dict(
            zip(catalog.FAMILIES[name].VARYING, table.maps[:, :2].reshape(-1, 12).T, strict=True)
        )
    if hasattr(table, "maps"):
        columns = np.moveaxis(table.maps[:, :2], -1, 0)
        return dict(zip(catalog.FAMILIES[name].VARYING, (*columns, table.num_maps), strict=True))
    return {field: getattr(table, field) for field in catalog.FAMILIES[name].VARYING}


def differs(values):
    """The greatest difference between two categories."""
    values = np.asarray(values, float).reshape(len(values), -1)
    return np.nanmax(np.nanmax(values, 0) - np.nanmin(values, 0))


@pytest.mark.parametrize("name", catalog.FAMILIES)
def test_as_many_parameters_vary_as_asked_for(name):
    kind = catalog.FAMILIES[name]
    assert kind().varying == len(kind.VARYING) == kind.limits["varying"][1]
    numbers = np.arange(300, dtype=np.uint32)
    own = parameters(name, kind().propose(numbers, xp=np))
    for count in range(kind.limits["varying"][0], len(kind.VARYING) + 1):
        family = kind(varying=count)
        table = family.propose(numbers, xp=np)
        found = parameters(name, table)
        for i, parameter in enumerate(kind.VARYING):
            close = 0.02 if name in ("svd_fractal", "multix") else 0
            assert (differs(found[parameter]) > close) == (i < count), parameter
            if i >= count and name in REFERENCE:
                there = np.asarray(own[parameter])[REFERENCE[name]]
                assert np.nanmax(np.abs(np.asarray(found[parameter])[0] - there)) <= close
        if name in ("rcdb", "visualatom", "segrcdb"):
            for parameter in kind.VARYING[count:]:
                low, high = contour.ranges(family)[parameter]
                value = np.asarray(found[parameter]).reshape(300, -1)[0, 0]
                assert abs(2 * int(value) - low - high) <= 1, "the middle of its range"
    device = kind(varying=1).propose(jnp.asarray(numbers[:20]))
    host = kind(varying=1).propose(numbers[:20], xp=np)
    for ours, theirs in zip(host, device, strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs))


@pytest.mark.parametrize("name", catalog.FAMILIES)
def test_switches_out_of_range_are_refused(name):
    kind = catalog.FAMILIES[name]
    with pytest.raises(ValueError, match=f"varying={len(kind.VARYING) + 1}: give"):
        options.build(kind, {"varying": len(kind.VARYING) + 1})
    with pytest.raises(ValueError, match=f"render='dots': {name} has 'published', 'points'"):
        options.build(kind, {"render": "dots"})
