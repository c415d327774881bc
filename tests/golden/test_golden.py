"""Hashes of pictures, of each family by a program as users compile it. A change here is a change of
every published result: bump the family's version with it.
"""

import hashlib

import numpy as np
import pytest

from jaxfdsl import generators
from jaxfdsl.generators import categories
from tests import programs

PICTURES = {
    "fractaldb-1k": "acc4cc23c679e991",
    "fractaldb-1k point": "bfc552fd401214e9",
    "fractaldb-1k hue": "4e0474a86a631bdd",
    "fractaldb-1k density": "a84a205d14d3a8c5",
    "exfractaldb-1k": "2f66dab5bd07a5f3",
    "exfractaldb-1k equatorial": "a06cc0236df1b688",
}
WHOLE_SETS = {  # every field of eight images
    "rcdb-1k": "185b275d84c6561c",
    "visualatom-1k": "1f89609865b63833",
    "svd_fractal-1k": "1812467afd05ad2b",
    "multix-1k": "737b22a3900fbfc3",
    "segrcdb": "b75e5922c6799698",
    "1p-frac": "569e10390113f787",
    "ofdb2d-1k": "4ec360e05314a60e",
    "ofdb3d-1k": "a951a849b2c886b7",
    "perlin-1k": "f04613b325e0dc31",
    "dead_leaves-1k": "ee1f288c8afa941b",
    "bezier-1k": "ea32d31889b1f190",
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
    draw = programs.draw if option else programs.draw_as_users
    drawn = draw(db, recipes)["image"]
    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:16] == PICTURES[key]


@pytest.mark.parametrize("name", WHOLE_SETS)
def test_sets(name):
    db = generators.load(name)
    recipes = np.stack([np.arange(8) * 61 % db.num_recipes, np.arange(8) * 67 + 80], 1)
    draw = programs.draw if name.startswith("ofdb") else programs.draw_as_users
    drawn = draw(db, recipes)
    digest = hashlib.sha256()
    for field in sorted(drawn):
        digest.update(np.asarray(drawn[field]).tobytes())
    assert digest.hexdigest()[:16] == WHOLE_SETS[name]


@pytest.mark.parametrize(
    "name", ["fractaldb-1k", "fractaldb-21k", "exfractaldb-21k", "fractaldb-50k", "exfractaldb-50k"]
)
def test_shipped_tables(name):
    table = generators.load(name).categories
    expected = {
        "fractaldb-1k": "d54490dfa5b9a5e2",
        "fractaldb-21k": "fcb992007fd7859e",
        "exfractaldb-21k": "e19311daa77da9ed",
        "fractaldb-50k": "c3a2bea59a7111ab",
        "exfractaldb-50k": "cb5555b2912efb5e",
    }
    assert categories.sha256(table)[:16] == expected[name]
