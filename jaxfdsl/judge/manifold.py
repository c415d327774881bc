"""Precision, recall, density and coverage: two sets, each a union of balls about its points.

A ball reaches to its point's k-th nearest neighbour in its own set. Kynkaanniemi et al., "Improved
Precision and Recall Metric" (arXiv 1904.06991), k 3; Naeem et al., "Reliable Fidelity and Diversity
Metrics" (arXiv 2002.09797), k 5, whose code (`prdc`) has all four, with "nearer than" as here.
"""

import numpy as np
from jaxtyping import Float32, Float64

from jaxfdsl.evals import knn
from jaxfdsl.judge import balls


def measures(
    real: Float32[np.ndarray, "N D"],
    made: Float32[np.ndarray, "M D"],
    k: int = 3,
    k_density: int = 5,
) -> dict[str, float]:
    """Shares: `precision` of made points in a real ball, `recall` of real points in a made one,
    `coverage` of real balls with a made point; `density` is the mean number of real balls about a
    made point over `k_density`, about 1 for a set of the same distribution.

    The first two are of `k`, the others of `k_density`. Raises ValueError where a set has no more
    points than that.
    """
    if min(len(real), len(made)) <= max(k, k_density):
        raise ValueError(f"k={k}, {k_density} needs more points than {len(real)}, {len(made)}")
    real_radii, made_radii = radii(real, k, k_density), radii(made, k)
    nearest_made = knn.neighbours(made, real, 1, "euclidean")[1][:, 0]
    return {
        "precision": float(np.mean(balls.holding(made, real, real_radii[0]) > 0)),
        "recall": float(np.mean(balls.holding(real, made, made_radii[0]) > 0)),
        "density": float(np.mean(balls.holding(made, real, real_radii[1])) / k_density),
        "coverage": float(np.mean(nearest_made < real_radii[1])),
    }


def radii(values: Float32[np.ndarray, "N D"], *ks: int) -> list[Float64[np.ndarray, " N"]]:
    """The distance of each point to its k-th nearest other one, for each k."""
    # Of the k + 1 nearest one is the point itself, at distance 0.
    _, told = knn.neighbours(values, values, max(ks) + 1, "euclidean")
    return [told[:, k] for k in ks]
