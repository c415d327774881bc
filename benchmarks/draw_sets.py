"""The data sets that the drawing benchmarks share, drawn through `Dataset.fields`."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxfdsl import generators
from jaxfdsl.generators.dataset import Dataset, draw_recipes

NATIVE = 224  # the size that a ViT trains at
CATEGORIES = 32


class Drawn(NamedTuple):
    """A data set to time: `name` and `options` for `generators.load`, its first instance, and how
    many images a call draws.
    """

    name: str
    options: dict[str, Any] = {}  # noqa: RUF012
    first: int = 1
    images: int = 32

    def load(self, size: int | None = None) -> Dataset:
        return generators.load(
            self.name, instances=None, **{"num_classes": CATEGORIES, **self.options, "size": size}
        )


# From instance 40 on, FractalDB is weighted as published; its first 40 images are of weight row 0.
SETS = {
    "FractalDB": Drawn("fractaldb-1k", first=40),
    "FractalDB, the script's colours": Drawn("fractaldb-1k", {"color": "hue"}, first=40),
    "FractalDB, by density": Drawn("fractaldb-1k", {"color": "density"}, first=40),
    "ExFractalDB": Drawn("exfractaldb-1k"),
    "RCDB": Drawn("rcdb-1k"),
    "VisualAtom": Drawn("visualatom-1k"),
    "SVD fractals": Drawn("svd_fractal-1k"),
    "MultiX": Drawn("multix-1k", {"num_classes": 1000}),
    "1p-frac": Drawn("1p-frac"),
    "SegRCDB": Drawn("segrcdb", {"num_classes": 254}, images=8),
    "Perlin": Drawn("perlin-1k"),
    "Dead leaves": Drawn("dead_leaves-1k"),
    "Bezier": Drawn("bezier-1k"),
}
# What the best published CUDA figure was measured on: its own ranges of noise, radius and growth.
CUDA_CASE = Drawn(
    "visualatom",
    {
        "vertices": (1000, 1000),
        "polygons": (200, 200),
        "noise": (2.0, 6.0),
        "radius": (0, 50),
        "growth": (0.0, 0.01),
    },
    images=8,
)
# The same size of problem with the ranges of VisualAtom's own script.
LARGE_CASE = Drawn("visualatom", {"vertices": (1000, 1000), "polygons": (200, 200)}, images=8)


def recipes(db: Dataset, count: int, first: int) -> np.ndarray:
    """uint32[count, 2]: one image of each category in turn, instances `first` and on."""
    each = np.arange(count)
    return np.stack([each % db.num_recipes, first + each], 1).astype(np.uint32)


def drawer(db: Dataset, count: int, first: int) -> Callable[[], Any]:
    """A call draws `count` images with the jitted `Dataset.fields` and waits for them."""
    wanted, table = jax.device_put((recipes(db, count, first), db.table))
    fields = jax.jit(db.fields)
    return lambda: jax.block_until_ready(fields(wanted, table))


def compiled(db: Dataset, count: int, platform: str):
    """The program that draws `count` images as `platform` does, compiled for this machine."""
    draw = jax.jit(functools.partial(draw_recipes, db.family, db.size, platform=platform))
    table = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, db.table))
    return draw.lower(jax.ShapeDtypeStruct((count, 2), jnp.uint32), table).compile()


def chosen(families: str) -> dict[str, Drawn]:
    """The sets whose family is among comma-separated `families`, all of them for "all"."""
    if families == "all":
        return SETS
    wanted = set(families.split(","))
    return {title: drawn for title, drawn in SETS.items() if _family(drawn) in wanted}


def _family(drawn: Drawn) -> str:
    return drawn.name.rpartition("-")[0] or drawn.name
