"""Weighted k-nearest-neighbour classification of frozen features.

The protocol of Wu et al. ("InstDisc", arXiv 1805.01978, 3.4) and DINO (`eval_knn.py`): the k
training images of the highest cosine similarity s vote for their class with weight exp(s / T).
"""

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Float64, Int, Int32

from jaxfdsl.evals.features import Features, TooFew

QUERIES, BLOCK = 512, 32_768  # of one product: 67 MB of similarities, whatever the sets' sizes
USUAL = 20  # the k of "top1", where it is among those asked for
_SPARE = 16  # neighbours more than asked for, as float32 cannot tell the last ones apart
_AT_ONCE = 64  # queries whose neighbours are compared in float64: 85 MB at k 200 and D 768


def evaluate(
    train: Features, test: Features, *, k: Sequence[int], temperature: float
) -> Iterator[tuple[str, float]]:
    """Yields ("top1_k10", share) for each k, and ("top1", share), that of k 20 (else the first k).

    Nothing is chosen by the test images' labels.
    """
    found = predict(train, test.values, k=k, temperature=temperature)
    shares = {n: float(np.mean(classes == test.labels)) for n, classes in found.items()}
    yield "top1", shares.get(USUAL, shares[k[0]])
    for n in k:
        yield f"top1_k{n}", shares[n]


def predict(
    train: Features, queries: Float32[np.ndarray, "n D"], *, k: Sequence[int], temperature: float
) -> dict[int, Int[np.ndarray, " n"]]:
    """The class of each query for each k.

    One device finds a few more neighbours than are asked for, by float32 products at the highest
    precision; it holds all queries (150 MB for ImageNet's 50,000 at D 768) and 100 MB of training
    features. The host puts those in order and counts votes in float64. Of equally similar
    neighbours the one that comes first in the training set is nearer; of equally many votes the
    lower class wins. Raises TooFew for a k above the number of training images.
    """
    if max(k) > len(train.labels):
        raise TooFew(
            f"k={tuple(k)} goes beyond the {len(train.labels)} training images: type k up to that."
        )
    near, similar = neighbours(train.values, queries, max(k))
    winners = []
    for first in range(0, len(queries), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        labels, weights = train.labels[near[part]], np.exp(similar[part] / temperature)
        winners.append([_winners(labels[:, :n], weights[:, :n], train.num_classes) for n in k])
    return {n: np.concatenate([each[place] for each in winners]) for place, n in enumerate(k)}


def neighbours(
    values: Float32[np.ndarray, "m D"],
    queries: Float32[np.ndarray, "n D"],
    count: int,
    metric: str = "cosine",
) -> tuple[Int32[np.ndarray, "n {count}"], Float64[np.ndarray, "n {count}"]]:
    """The numbers of each query's `count` nearest of `values`, nearest first, and their cosines;
    of `metric` "euclidean" their distances, in the values' unit.

    Every value is compared, by blocks: no set is too large. Of equally near ones that of the lower
    number is nearer.
    """
    spared = -(-(count + _SPARE) // 8) * 8  # few different numbers, few programs
    found = np.sort(_candidates(values, queries, min(spared, len(values)), metric))
    near, nearness = [], []
    for first in range(0, len(queries), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        keys = values[found[part]]
        if metric == "cosine":
            told = _similar(queries[part], keys)
            order = np.argsort(-told, axis=1, kind="stable")[:, :count]
        else:
            told = distances(queries[part][:, None], keys)
            order = np.argsort(told, axis=1, kind="stable")[:, :count]
        near.append(np.take_along_axis(found[part], order, axis=1))
        nearness.append(np.take_along_axis(told, order, axis=1))
    return np.concatenate(near), np.concatenate(nearness)


def distances(
    some: Float32[np.ndarray, "*n D"], others: Float32[np.ndarray, "*m D"]
) -> Float64[np.ndarray, "..."]:
    """The Euclidean distances of pairs of vectors, in float64: 0 of equal ones, and the same number
    whichever of two is called first."""
    apart = some.astype(np.float64) - others.astype(np.float64)
    return np.sqrt(np.einsum("...d,...d->...", apart, apart))


def _similar(
    queries: Float32[np.ndarray, "q D"], keys: Float32[np.ndarray, "q k D"]
) -> Float64[np.ndarray, "q k"]:
    """The cosine of each query and its own keys, in float64."""
    wide, keys = queries.astype(np.float64), keys.astype(np.float64)
    # einsum, not matmul: equal keys have equal results, wherever they stand.
    lengths = np.sqrt(np.einsum("qd,qd->q", wide, wide)[:, None])
    lengths = lengths * np.sqrt(np.einsum("qkd,qkd->qk", keys, keys))
    return np.einsum("qkd,qd->qk", keys, wide) / np.maximum(lengths, np.finfo(np.float64).tiny)


def _winners(
    labels: Int32[np.ndarray, "q k"], weights: Float64[np.ndarray, "q k"], classes: int
) -> Int[np.ndarray, " q"]:
    places = np.arange(len(labels))[:, None] * classes + labels
    votes = np.bincount(places.ravel(), weights.ravel(), len(labels) * classes)
    return votes.reshape(-1, classes).argmax(axis=1)


def _candidates(
    values: Float32[np.ndarray, "m D"], queries: Float32[np.ndarray, "n D"], count: int, metric: str
) -> Int32[np.ndarray, "n {count}"]:
    """The numbers of the `count` most similar training images of each query."""
    put = _unit if metric == "cosine" else functools.partial(centred, mean=middle(values))
    starts = range(0, len(queries), QUERIES)
    parts = [jnp.asarray(put(queries[first : first + QUERIES], QUERIES)) for first in starts]
    best = [(jnp.full((len(x), count), -jnp.inf), jnp.full((len(x), count), -1)) for x in parts]
    length = block_of(len(values))
    for first in range(0, len(values), length):
        keys = put(values[first : first + length], length)
        # Of the distances q.q - 2 q.k + k.k the first part is the same for all keys.
        bonus = np.zeros(length) if metric == "cosine" else -0.5 * np.square(keys).sum(axis=1)
        bonus[len(values) - first :] = -np.inf  # padding
        held = jnp.asarray(keys), jnp.asarray(bonus, jnp.float32)
        best = [
            _nearest(x, *held, first, *known, count) for x, known in zip(parts, best, strict=True)
        ]
    found = np.concatenate([np.asarray(numbers) for _, numbers in best])
    return found[: len(queries)]


def block_of(count: int) -> int:
    """How many of `count` vectors to compare at once: few different lengths, few programs."""
    return min(BLOCK, -(-count // QUERIES) * QUERIES)


def _unit(values: Float32[np.ndarray, "n D"], length: int) -> Float32[np.ndarray, "length D"]:
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    return padded(values / np.maximum(norm, np.finfo(np.float32).tiny), length)


def middle(values: Float32[np.ndarray, "n D"]) -> Float64[np.ndarray, " D"]:
    """The mean vector, about which float32 products lose the least."""
    return values.mean(axis=0, dtype=np.float64)


def centred(
    values: Float32[np.ndarray, "n D"], length: int, *, mean: Float64[np.ndarray, " D"]
) -> Float32[np.ndarray, "length D"]:
    """Vectors with `mean` taken off, and zeros behind them."""
    return padded((values - mean).astype(np.float32), length)


def padded(values: Float32[np.ndarray, "n D"], length: int) -> Float32[np.ndarray, "length D"]:
    """Vectors and zeros behind them."""
    return np.pad(values, ((0, length - len(values)), (0, 0)))


@functools.partial(jax.jit, static_argnames="count")
def _nearest(
    queries: Float32[Array, "q D"],
    keys: Float32[Array, "b D"],
    bonus: Float32[Array, " b"],
    first: jax.typing.ArrayLike,
    known: Float32[Array, "q k"],
    known_numbers: Int32[Array, "q k"],
    count: int,
) -> tuple[jax.Array, jax.Array]:
    """The best similarities, products plus `bonus`, and their numbers, of those known and of the
    keys, whose numbers begin at `first`."""
    similar = jnp.matmul(queries, keys.T, precision=jax.lax.Precision.HIGHEST) + bonus
    found, place = jax.lax.top_k(similar, min(count, len(keys)))
    both = jnp.concatenate([known, found], axis=1)
    numbers = jnp.concatenate([known_numbers, first + place.astype(jnp.int32)], axis=1)
    best, chosen = jax.lax.top_k(both, count)
    return best, jnp.take_along_axis(numbers, chosen, axis=1)
