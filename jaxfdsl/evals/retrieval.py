"""Image-text retrieval: recall at k, from images to captions and back.

Radford et al., arXiv 2103.00020, table 13. With several images a caption, an image finds its one
caption, and a caption has found when one of its images is among the first k.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int

from jaxfdsl.evals.zero_shot import unit

_AT_ONCE = 1024  # rows of the similarities that are there at one time


def evaluate(
    images: Float32[np.ndarray, "n K"],
    captions: Float32[np.ndarray, "c K"],
    owners: Int[np.ndarray, " n"],
    k: Sequence[int] = (1, 5, 10),
) -> Iterator[tuple[str, float]]:
    """Yields ("image_to_text_r1", share), ... and ("text_to_image_r1", share), ...

    `owners` are the captions' numbers, one an image. What is equally similar as the right one is
    ahead of it, so that equal embeddings find nothing.
    """
    images, captions = unit(images), unit(captions)
    to_text = np.concatenate(
        [
            _ahead(images[part] @ captions.T, owners[part, None] == np.arange(len(captions)))
            for part in _parts(len(images))
        ]
    )
    to_image = np.concatenate(
        [
            _ahead(captions[part] @ images.T, np.arange(len(captions))[part, None] == owners)
            for part in _parts(len(captions))
        ]
    )
    asked = np.isin(np.arange(len(captions)), owners)
    for name, ahead in (("image_to_text", to_text), ("text_to_image", to_image[asked])):
        for most in k:
            yield f"{name}_r{most}", float(np.mean(ahead < most))


def _ahead(similar: np.ndarray, right: np.ndarray) -> np.ndarray:
    """How many wrong ones score as much as the best right one."""
    best = np.where(right, similar, -np.inf).max(axis=1, keepdims=True)
    return (~right & ~(similar < best)).sum(axis=1)


def _parts(count: int) -> list[slice]:
    return [slice(first, first + _AT_ONCE) for first in range(0, count, _AT_ONCE)]
