"""All measures of a made set beside real images, from features on the host."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int

from jaxfdsl.evals import knn
from jaxfdsl.judge import frechet, kernel, manifold

QUANTILES = (0.01, 0.05, 0.25, 0.5)  # of distances to the nearest real image
COPIES = "nearer_than_1%_of_held_out"


@dataclasses.dataclass(frozen=True)
class Points:
    """Features of a set, and labels where it has them (-1 or None: none)."""

    values: Float32[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"] | None = None

    def of_class(self, label: int) -> "Points":
        """Those with a label."""
        assert self.labels is not None
        kept = self.labels == label
        return Points(self.values[kept], self.labels[kept])

    @property
    def labelled(self) -> bool:
        """Whether every one has a label."""
        return self.labels is not None and bool((np.asarray(self.labels) >= 0).all())


def compare(
    made: Points,
    real: Points,
    held_out: Points | None = None,
    *,
    k: int = 3,
    k_density: int = 5,
    per_class: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """{"made": {measure: number}, "held_out": the same of the held-out images, "classes": {label:
    {measure: number}}}; the last two where they are asked for.

    Held-out real images say what a set that is as good as real ones would get at their number, and
    from which distance on an image is a copy: `nearer_than_1%_of_held_out` is the share of made
    images that are nearer to a real one than 99 % of the held-out are; 0.01 is no memorisation.
    Raises ValueError where a set has no more than k images.
    """
    ks = {"k": k, "k_density": k_density}
    own, apart = _told(made, real, **ks)
    tell("the set is measured")
    found: dict[str, Any] = {"made": own}
    if held_out is not None:
        found["held_out"], usual = _told(held_out, real, **ks)
        own[COPIES] = float(np.mean(apart < np.quantile(usual, QUANTILES[0])))
        tell("the held-out images are measured")
    if per_class:
        found["classes"] = by_class(made, real, **ks)
    return found


def _told(
    made: Points, real: Points, k: int, k_density: int
) -> tuple[dict[str, Any], Float64[np.ndarray, " N"]]:
    """The measures, and the distance of each image to the nearest real one."""
    near, apart = knn.neighbours(real.values, made.values, k_density, "euclidean")
    found = {
        "images": len(made.values),
        "real_images": len(real.values),
        "frechet": frechet.distance(made.values, real.values),
        "kernel": kernel.distance(made.values, real.values),
        **manifold.measures(real.values, made.values, k, k_density),
    }
    if made.labelled and real.labelled:
        found["label_agreement"] = float(np.mean(_agreement(near, made, real)))
    for share, value in zip(QUANTILES, np.quantile(apart[:, 0], QUANTILES), strict=True):
        found[f"nearest_real_{share * 100:g}%"] = float(value)
    return found, apart[:, 0]


def _agreement(
    near: Int[np.ndarray, "N k"], made: Points, real: Points
) -> Float64[np.ndarray, " N"]:
    """The share of each image's nearest real ones that have its label."""
    assert made.labels is not None and real.labels is not None
    return (real.labels[near] == made.labels[:, None]).mean(axis=1)


def by_class(made: Points, real: Points, k: int, k_density: int) -> dict[int, dict[str, Any]]:
    """Measures within each class; where it has too few images of either, their numbers alone.

    No Frechet distance, which the few images of a class would make one of their number.
    """
    assert made.labels is not None and real.labels is not None
    near, _ = knn.neighbours(real.values, made.values, k_density, "euclidean")
    agreement = _agreement(near, made, real)
    found = {}
    for label in np.union1d(made.labels, real.labels).tolist():
        own, theirs = made.of_class(label), real.of_class(label)
        told: dict[str, Any] = {"images": len(own.values), "real_images": len(theirs.values)}
        if min(told.values()) > max(k, k_density):
            told["kernel"] = kernel.distance(own.values, theirs.values)
            told |= manifold.measures(theirs.values, own.values, k, k_density)
        if len(own.values):
            told["label_agreement"] = float(np.mean(agreement[made.labels == label]))
        found[label] = told
    return found
