"""Which rows have the best scores, the same share of every group; and, to compare with, the worst
or any.
"""

import numpy as np
from jaxtyping import Float, Float64, Int, Int64


class NotScored(ValueError):
    """A score that cannot be compared; the sentence names its row."""


def best(
    scores: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"], keep: float
) -> Int64[np.ndarray, " k"]:
    """The rows of the highest `keep` share of each group's scores, in order.

    Of a group of c rows ceil(`keep` c) stay, one at least; of equal scores the first rows. A score
    of -inf says that the image cannot be used: such a row is none of its group's, and never stays.
    Raises NotScored for a score that is no number, and ValueError for a `keep` outside (0, 1].
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep={keep}: type a number above 0, up to 1.")
    scores = _checked(scores)
    there = np.flatnonzero(scores > -np.inf)
    order = there[np.lexsort((there, -scores[there], groups[there]))]
    _, first, counts = np.unique(groups[order], return_index=True, return_counts=True)
    place = np.arange(len(order)) - np.repeat(first, counts)
    # 0.1 * 30 is a little more than 3, of which ceil would make 4.
    most = np.ceil(np.round(keep * counts, 9))
    return np.sort(order[place < np.repeat(most, counts)]).astype(np.int64)


def worst(
    scores: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"], keep: float
) -> Int64[np.ndarray, " k"]:
    """As many rows as `best`, of the lowest scores."""
    scores = _checked(scores)
    return best(np.where(np.isneginf(scores), scores, -scores), groups, keep)


def chance(
    scores: Float[np.ndarray, " n"], groups: Int[np.ndarray, " n"], keep: float, seed: int
) -> Int64[np.ndarray, " k"]:
    """As many rows as `best`, of those that could be used, whatever their scores."""
    scores = _checked(scores)
    drawn = np.random.default_rng(seed).random(len(scores))
    return best(np.where(np.isneginf(scores), scores, drawn), groups, keep)


def _checked(scores: Float[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
    scores = np.asarray(scores, np.float64)
    odd = np.flatnonzero(np.isnan(scores) | (scores == np.inf))
    if len(odd):
        raise NotScored(
            f"{len(odd)} of {len(scores)} scores are no numbers, the first is that of row {odd[0]}"
        )
    return scores
