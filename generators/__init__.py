"""Images computed from formulas. `load(name)` gives a data set whose every image is a function of
its index.

    from jaxfdsl import generators

    db = generators.load("exfractaldb-1k")
    batch = db.draw([0, 1, 2], size=224)  # image uint8[3, 224, 224, 1], label int32[3]

Needs jax, numpy and jaxtyping alone.
"""

from . import categories
from .catalog import fingerprint, load, names
from .categories import read_published
from .dataset import Dataset
from .search import search

__all__ = ["Dataset", "categories", "fingerprint", "load", "names", "read_published", "search"]
