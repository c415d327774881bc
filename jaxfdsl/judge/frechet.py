"""The Frechet distance of two sets of features, each taken to be normally distributed.

Heusel et al., "GANs Trained by a Two Time-Scale Update Rule" (arXiv 1706.08500), there of
Inception's features. It is biased upwards, by about 1/N, as a covariance of few images is wrong:
compare sets of the same size, and with N many times D.
"""

import numpy as np
from jaxtyping import Float, Float64


def distance(some: Float[np.ndarray, "N D"], others: Float[np.ndarray, "M D"]) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), in float64, in the squared unit of the features.

    Covariances divide by N - 1. Raises ValueError for a set of one.
    """
    return of_gaussians(*moments(some), *moments(others))


def moments(
    values: Float[np.ndarray, "N D"],
) -> tuple[Float64[np.ndarray, " D"], Float64[np.ndarray, "D D"]]:
    """The mean and the covariance, by parts of the set."""
    if len(values) < 2:
        raise ValueError("a covariance needs two vectors")
    mean = values.mean(axis=0, dtype=np.float64)
    total = np.zeros((len(mean), len(mean)))
    for first in range(0, len(values), 4096):
        apart = values[first : first + 4096] - mean
        total += apart.T @ apart
    return mean, total / (len(values) - 1)


def of_gaussians(
    mean: Float64[np.ndarray, " D"],
    covariance: Float64[np.ndarray, "D D"],
    other_mean: Float64[np.ndarray, " D"],
    other_covariance: Float64[np.ndarray, "D D"],
) -> float:
    """The distance of two normal distributions (Dowson and Landau, 1982).

    tr (C1 C2)^(1/2) is the sum of the singular values of C1^(1/2) C2^(1/2): no square root of a
    matrix that is not symmetric, whose imaginary part one would have to drop, and no square roots
    of eigenvalues that rounding made negative.
    """
    common = np.linalg.svd(_root(covariance) @ _root(other_covariance), compute_uv=False).sum()
    apart = np.square(mean - other_mean).sum()
    return float(apart + np.trace(covariance) + np.trace(other_covariance) - 2 * common)


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
