"""Few-shot classification of frozen features by ridge regression in closed form.

As big_vision's `evaluators/fewshot_lsr.py`: features standardised by the shots' own statistics,
targets 1 for the class and -1 for the others, one linear map by least squares. With `ways` in
episodes of a few classes each, as few-shot learning is usually measured (5-way 5-shot).
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

from jaxfdsl.data.shuffle import hash64
from jaxfdsl.evals.features import Features, TooFew, ranks

CHOOSING = 10_000  # training images, none of them a shot, on which the strength is chosen
_EPSILON = 1e-5  # added to standard deviations, as there
_BLOCK = 8192  # images of one product

Linear = tuple[Float[np.ndarray, "D C"], Float[np.ndarray, " C"]]  # a map and its intercept


def evaluate(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int],
    seeds: int,
    l2: Sequence[float],
    ways: int = 0,
) -> Iterator[tuple[str, float]]:
    """Yields ("top1_5shot", share), the mean over `seeds` draws, for each number of shots.

    The shots of a class are its first images in a shuffle that the seed decides, so that 1 shot is
    among 5. The strength for a number of shots is the best one of `l2` on at most 10,000 training
    images that no draw of that many holds; where none is left, that of fewer shots, or the middle
    of `l2`. Nothing is chosen by the test images' labels. With `ways` above 0 each seed is an
    episode, which draws so many classes and asks for their test images alone: ("top1_5way_5shot",
    mean share) and ("..._ci95", 1.96 standard errors of it). Raises TooFew for a class with fewer
    training images than shots, and for fewer classes than `ways`.
    """
    _check(train, max(shots))
    if ways:
        yield from _episodes(train, test, shots=shots, seeds=seeds, l2=l2, ways=ways)
        return
    orders = [ranks(train.labels, seed) for seed in range(seeds)]
    best = len(l2) // 2
    for number in sorted(shots):
        drawn = [order < number for order in orders]
        fits = [fit(train.at(rows), l2) for rows in drawn]
        others = np.flatnonzero(~np.any(drawn, axis=0))
        if len(others):
            chance = hash64(seeds, others)
            judges = train.at(others[np.argsort(chance, kind="stable")[:CHOOSING]])
            shares = [[_share(linear, judges) for linear in linears] for linears in fits]
            best = int(np.argmax(np.mean(shares, axis=0)))
        yield f"top1_{number}shot", float(np.mean([_share(linear[best], test) for linear in fits]))


def _episodes(
    train: Features,
    test: Features,
    *,
    shots: Sequence[int],
    seeds: int,
    l2: Sequence[float],
    ways: int,
) -> Iterator[tuple[str, float]]:
    there = np.unique(test.labels)
    if ways > len(there):
        raise TooFew(
            f"ways={ways} is more than the {len(there)} classes of the test images: type ways up "
            f"to {len(there)}."
        )
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        classes = there[np.argsort(hash64(seed, there), kind="stable")[:ways]]
        parts = [_of_classes(features, classes) for features in (train, test)]
        for name, share in evaluate(*parts, shots=shots, seeds=1, l2=l2):
            found.setdefault(name.replace("top1_", f"top1_{ways}way_"), []).append(share)
    for name, shares in found.items():
        yield name, float(np.mean(shares))
        yield f"{name}_ci95", float(1.96 * np.std(shares) / len(shares) ** 0.5)


def _of_classes(features: Features, classes: Int[np.ndarray, " w"]) -> Features:
    """The images of some classes, numbered in their order."""
    numbers = np.full(features.num_classes, -1, np.int32)
    numbers[classes] = np.arange(len(classes))
    kept = features.at(np.isin(features.labels, classes))
    return Features(kept.values, numbers[kept.labels], len(classes))


def fit(shots: Features, l2: Sequence[float]) -> list[Linear]:
    """The classifier of each strength, float32, as a map of features that are not standardised."""
    x = shots.values.astype(np.float64)
    mean, deviation = x.mean(axis=0), x.std(axis=0) + _EPSILON
    targets = np.where(np.arange(shots.num_classes) == shots.labels[:, None], 1.0, -1.0)
    linears = []
    for weights, bias in ridge((x - mean) / deviation, targets, l2):
        weights = weights / deviation[:, None]
        bias = bias - mean @ weights
        linears.append((weights.astype(np.float32), bias.astype(np.float32)))
    return linears


def ridge(
    x: Float64[np.ndarray, "n D"], y: Float64[np.ndarray, "n C"], l2: Sequence[float]
) -> list[Linear]:
    """The minimum of |y - x W - b|^2 + l2 |W|^2 for each `l2`, in float64.

    The intercept costs nothing (big_vision's has a feature of 100 instead, nearly the same). One
    eigendecomposition serves all strengths: of the smaller one of x x' and x'x, so that the cost is
    that of min(n, D)^3.
    """
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    x, y = x - mean_x, y - mean_y
    wide = len(x) <= x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    values = np.maximum(values, 0.0)[:, None]
    projected = vectors.T @ (y if wide else x.T @ y)
    found = []
    for strength in l2:
        weights = vectors @ (projected / (values + strength))
        weights = x.T @ weights if wide else weights
        found.append((weights, mean_y - mean_x @ weights))
    return found


def _share(linear: Linear, features: Features) -> float:
    weights, bias = linear
    right = 0
    for first in range(0, len(features.labels), _BLOCK):
        part = features.at(slice(first, first + _BLOCK))
        right += int(np.sum(np.argmax(part.values @ weights + bias, axis=1) == part.labels))
    return right / len(features.labels)


def _check(train: Features, most: int) -> None:
    counts: Int[np.ndarray, " C"] = np.bincount(train.labels, minlength=train.num_classes)
    fewest = int(np.argmin(counts))
    if counts[fewest] < most:
        raise TooFew(
            f"shots={most}, and class {fewest} has {counts[fewest]} training images: type shots up "
            f"to {counts[fewest]}, or take more training images."
        )
