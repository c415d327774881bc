"""The kernel distance (KID) of two sets of features: unbiased, where Frechet's is not.

Binkowski et al., "Demystifying MMD GANs" (arXiv 1801.01401): the squared maximum mean discrepancy
under the kernel (x.y / D + 1)^3.
"""

import numpy as np
from jaxtyping import Float

PART = 5000  # images
_AT_ONCE = 1000  # rows of a kernel: 40 MB of a part


def distance(some: Float[np.ndarray, "N D"], others: Float[np.ndarray, "M D"]) -> float:
    """The unbiased estimate, which may be below 0 for sets that are alike.

    Larger sets than PART are cut into parts by chance, always the same, whose estimates are
    averaged; by every so manieth row a part of a set made class after class would be of one class.
    Raises ValueError for a set of one.
    """
    if min(len(some), len(others)) < 2:
        raise ValueError("an unbiased estimate needs two vectors of each")
    parts = min(-(-max(len(some), len(others)) // PART), min(len(some), len(others)) // 2)
    if parts > 1:
        orders = (np.random.default_rng(0).permutation(len(one)) for one in (some, others))
        some, others = (one[order] for one, order in zip((some, others), orders, strict=True))
    return float(np.mean([_whole(some[n::parts], others[n::parts]) for n in range(parts)]))


def _whole(some: np.ndarray, others: np.ndarray) -> float:
    some, others = some.astype(np.float64), others.astype(np.float64)
    means = []
    for one in (some, others):
        own = (np.einsum("nd,nd->n", one, one) / one.shape[1] + 1) ** 3
        means.append((_total(one, one) - own.sum()) / (len(one) * (len(one) - 1)))
    return means[0] + means[1] - 2 * _total(some, others) / (len(some) * len(others))


def _total(some: np.ndarray, others: np.ndarray) -> float:
    """The sum of the kernel of all pairs."""
    parts = [some[n : n + _AT_ONCE] for n in range(0, len(some), _AT_ONCE)]
    return float(sum(((part @ others.T / some.shape[1] + 1) ** 3).sum() for part in parts))
