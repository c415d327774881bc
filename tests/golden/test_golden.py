"""Hashes of pictures. A change here is a change of every published result: bump the family's
version with it.
"""

import hashlib

import numpy as np
import pytest

from jaxfdsl import generators
from jaxfdsl.generators import categories

PICTURES = {
    "fractaldb-1k": "",
    "fractaldb-1k point": "",
    "fractaldb-1k hue": "",
    "fractaldb-1k density": "",
    "exfractaldb-1k": "",
    "exfractaldb-1k equatorial": "",
}
OPTIONS = {
    "point": {"pattern": "point"},
    "hue": {"color": "hue"},
    "density": {"color": "density"},
    "equatorial": {"views": "equatorial"},
}


@pytest.mark.parametrize("key", PICTURES)
def test_pictures(key):
    name, _, option = key.partition(" ")
    db = generators.load(name, **OPTIONS.get(option, {}))
    recipes = np.stack([np.arange(16) * 61, np.arange(16) * 67 + 80], 1).astype(np.uint32)
    drawn = np.asarray(db.draw_recipes(recipes)["image"])
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == PICTURES[key]


@pytest.mark.parametrize("name", ["fractaldb-1k", "fractaldb-21k", "exfractaldb-21k"])
def test_shipped_tables(name):
    table = generators.load(name).categories
    expected = {"fractaldb-1k": "", "fractaldb-21k": "", "exfractaldb-21k": ""}
    assert categories.sha256(table)[:16] == expected[name]
