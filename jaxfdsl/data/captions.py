"""Captions of formula images: a category's parameters in words and numbers.

No caption of a person's is needed to try what learns from captions.
"""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

NUMBERS = 8  # of an array of parameters, the first ones
SMALL = 1000  # whole numbers up to this are counts


def of_categories(dataset: Any) -> list[str]:
    """A caption for each category of a `generators.Dataset`, such as "rcdb with vertices 118 and
    polygons 192 and oval 0.89 0.95": small whole numbers as they are, others as shares of the
    largest in their place, to two places.
    """
    family = dataset.name.split("-")[0]
    parts = _arrays(dataset.categories)
    return [
        f"{family} with " + " and ".join(f"{name} {_words(array[k])}" for name, array in parts)
        for k in range(dataset.num_classes)
    ]


def parameters(dataset: Any) -> Float32[np.ndarray, "K D"]:
    """The parameters of each category of a `generators.Dataset` as one vector, all of them."""
    flat = [array.reshape(len(array), -1) for _, array in _arrays(dataset.categories)]
    return np.concatenate(flat, axis=1).astype(np.float32)


def _arrays(categories: Any) -> list[tuple[str, np.ndarray]]:
    """The parameters of all categories by name; what is one number for all says nothing, and
    uint32 are cumulated probabilities, which maps have in proportion to their areas anyway."""
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(categories):
        array = np.asarray(leaf)
        name = "".join(str(entry).strip(".[]'") for entry in path[-1:]).replace("_", " ")
        if array.ndim and array.dtype != np.uint32 and (array != array[:1]).any():
            most = np.abs(array).max(axis=0)
            large = np.max(most) > SMALL
            found.append((name, array / np.maximum(most, 1) if large else array))
    return found


def _words(value: np.ndarray) -> str:
    flat = value.reshape(-1)[:NUMBERS]
    return " ".join(f"{x:.2f}" if flat.dtype.kind == "f" else str(int(x)) for x in flat)
