"""A normal distribution for each class, or one for all, in the space of principal components.

The cheap baseline of a representation generator. Numbers are standardised over the whole column,
projected on the first principal axes and divided by the deviation there, so that all have mean 0
and variance 1. In that space each class has its mean and its covariance, the latter shrunk towards
a multiple of the covariance within all classes, as far as Ledoit and Wolf find best ("A
well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis 88,
2004, whose target is the identity: that covariance is, after another change of axes).
"""

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from jaxfdsl.representations.mixing import normal

_BLOCK = 65536  # rows of one product


@dataclasses.dataclass(frozen=True)
class Gaussians:
    """What `fit` found. `labels` are the classes' numbers, (-1,) of a single one."""

    mean: Float32[np.ndarray, " D"]
    axes: Float32[np.ndarray, "k D"]  # a number of a vector in units of its components
    labels: Int32[np.ndarray, " C"]
    means: Float32[np.ndarray, "C k"]
    factors: Float32[np.ndarray, "C k k"]  # Cholesky's, lower
    shrinkage: Float32[np.ndarray, " C"]  # 0: the covariance of its rows, 1: that of all
    explained: float  # share of the standardised variance that the axes hold

    def sample(
        self, labels: Int[np.ndarray, " R"] | int, seed: int
    ) -> tuple[Float32[np.ndarray, "R D"], Int32[np.ndarray, " R"]]:
        """A vector of each label, in the column's own space, and the labels; of a number, so many
        of each class, the classes in turn.

        What lies outside the principal axes is the column's mean. Vector i hangs on (labels[i],
        seed, i). Raises ValueError for a label that was not there.
        """
        if isinstance(labels, int):
            labels = np.tile(self.labels, labels)
        labels = np.asarray(labels, np.int32)
        which = np.searchsorted(self.labels, labels)
        if (self.labels[np.minimum(which, len(self.labels) - 1)] != labels).any():
            raise ValueError(f"labels are {self.labels.tolist()}, no others")
        found = normal(seed, (len(labels), self.means.shape[1]))
        for number in np.unique(which):
            rows = np.flatnonzero(which == number)
            found[rows] = found[rows] @ self.factors[number].T + self.means[number]
        return found @ self.axes + self.mean, labels


def fit(
    column: Float[np.ndarray, "n D"],
    labels: Int[np.ndarray, " n"] | None,
    components: int | float = 0.95,
) -> Gaussians:
    """Gaussians of a column; without labels a single one.

    `components` below 1 is the share of the standardised variance that is kept, from 1 on the
    number of axes. A class of one row has the covariance within the others. Raises ValueError for
    `components` that are not above 0, for more axes than have a variance, where no class has two
    rows, and where all rows, or all of each class, are equal.
    """
    classes = np.full(len(column), -1) if labels is None else labels
    known, which, counts = np.unique(classes, return_inverse=True, return_counts=True)
    if counts.max() < 2:
        raise ValueError("no class has two rows, so that there is no covariance")
    mean, axes, back, explained = _principal(column, float(components))
    scores = np.concatenate(
        [
            ((column[at : at + _BLOCK] - mean) @ axes).astype(np.float32)
            for at in range(0, len(column), _BLOCK)
        ]
    )
    members = [np.flatnonzero(which == number) for number in range(len(known))]
    means = np.stack([scores[rows].mean(axis=0, dtype=np.float64) for rows in members])
    centred = scores - means[which]
    if not centred.any():
        raise ValueError("all vectors of a class are equal, so that there is no covariance")
    common = np.linalg.cholesky(ledoit_wolf(centred[counts[which] > 1])[0])
    apart = np.linalg.solve(common, centred.T).T  # its covariance within classes is the identity
    identity = np.eye(len(common))
    fitted = [ledoit_wolf(apart[rows]) if len(rows) > 1 else (identity, 1.0) for rows in members]
    return Gaussians(
        mean=mean.astype(np.float32),
        axes=back.astype(np.float32),
        labels=known.astype(np.int32),
        means=means.astype(np.float32),
        factors=np.stack([common @ _factor(spread) for spread, _ in fitted]).astype(np.float32),
        shrinkage=np.array([share for _, share in fitted], np.float32),
        explained=explained,
    )


def _principal(
    column: np.ndarray, components: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The mean, what maps a vector without it to whitened scores [D, k], what maps them back
    [k, D], and the share of the variance that they hold."""
    count, width = column.shape
    mean = column.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((width, width))
    for first in range(0, count, _BLOCK):
        part = column[first : first + _BLOCK] - mean
        covariance += part.T @ part / count
    deviation = np.sqrt(np.diag(covariance))
    deviation = np.where(deviation > 0, deviation, 1.0)
    variances, axes = np.linalg.eigh(covariance / deviation / deviation[:, None])
    variances, axes = np.maximum(variances[::-1], 0), axes[:, ::-1]
    if not variances.any():
        raise ValueError("all vectors are equal, so that there is no covariance")
    shares = np.cumsum(variances) / variances.sum()
    number = _number(variances, shares, components)
    scale = np.sqrt(variances[:number])
    into = axes[:, :number] / scale / deviation[:, None]
    back = (axes[:, :number] * scale * deviation[:, None]).T
    return mean, into, back, float(shares[number - 1])


def _number(variances: np.ndarray, shares: np.ndarray, components: float) -> int:
    """How many axes are kept; those without variance cannot be."""
    most = int(np.sum(variances > variances[0] * 1e-10))
    if not components > 0:
        raise ValueError(f"components={components}: type a share below 1, or a number from 1 on.")
    if components < 1:
        return min(most, int(np.searchsorted(shares, components)) + 1)
    if components > most or components != int(components):
        raise ValueError(f"components={components:g}: type a whole number up to {most}.")
    return int(components)


def ledoit_wolf(centred: Float[np.ndarray, "n k"]) -> tuple[Float[np.ndarray, "k k"], float]:
    """The covariance of rows whose mean is 0, shrunk towards its mean variance times the identity,
    and by what share (section 3.3 of the paper)."""
    count, width = centred.shape
    empirical = centred.T @ centred / count
    target = np.trace(empirical) / width * np.eye(width)
    apart = np.sum(np.square(empirical - target))
    # The mean over rows of |x x' - S|^2 is that of |x|^4, less |S|^2.
    wrong = np.mean(np.square(np.sum(np.square(centred), axis=1))) - np.sum(np.square(empirical))
    share = min(wrong / count, apart) / apart if apart > 0 else 0.0
    return (1 - share) * empirical + share * target, float(share)


def _factor(covariance: np.ndarray) -> np.ndarray:
    """Cholesky's factor; of a covariance that is flat in some direction, with a ridge of 1e-8."""
    ridge = 1e-8 * max(1.0, float(np.trace(covariance)) / len(covariance))
    return np.linalg.cholesky(covariance + ridge * np.eye(len(covariance)))
