"""Zero-shot classification: the class whose captions an image lies nearest to.

Radford et al., arXiv 2103.00020, section 3.1.4: each class is the mean of its prompts' normalised
embeddings, normalised again.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int32

Encode = Callable[[Sequence[str]], Float32[np.ndarray, "n K"]]  # captions to embeddings


def class_embeddings(
    encode: Encode, names: Sequence[str], templates: Sequence[str]
) -> Float32[np.ndarray, "C K"]:
    """A unit vector a class; "{}" in a template stands for its name."""
    prompts = [template.replace("{}", name) for name in names for template in templates]
    found = unit(encode(prompts)).reshape(len(names), len(templates), -1)
    return unit(found.mean(axis=1))


def evaluate(
    images: Float32[np.ndarray, "n K"],
    labels: Int32[np.ndarray, " n"],
    classes: Float32[np.ndarray, "C K"],
) -> Iterator[tuple[str, float]]:
    """Yields ("top1", share) and, of more than five classes, ("top5", share)."""
    similar = unit(images) @ classes.T
    own = np.take_along_axis(similar, labels[:, None], axis=1)
    # As in training: fewer than k other classes score as much; NaN is never right.
    ahead = (~(similar < own)).sum(axis=1)
    yield "top1", float(np.mean(ahead <= 1))
    if len(classes) > 5:
        yield "top5", float(np.mean(ahead <= 5))


def unit(x: Float32[np.ndarray, "*n K"]) -> Float32[np.ndarray, "*n K"]:
    """Vectors of length 1; those of length 0 stay."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return (x / np.maximum(length, 1e-12)).astype(np.float32)
