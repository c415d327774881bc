"""New representations from two real ones, or from one and a little noise (NumPy alone).

Number i of a list is a function of the column, the seed and i: a longer list begins with the
shorter one.
"""

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, Int64

from jaxfdsl.data.shuffle import hash64, permute

_FIRST, _CLASS, _OTHER, _WEIGHT, _NOISE = range(5)  # what a hash is for


class TooFew(ValueError):
    """A class without two rows, so that none of its rows has a partner."""


def drawn(
    labels: Int[np.ndarray, " n"], count: int, seed: int, per_class: bool = False
) -> Int64[np.ndarray, " R"]:
    """Rows of a column: of n each comes once before any comes twice, in an order that is `seed`'s.

    With `per_class` they are `count` of each class that is there, the classes in turn.
    """
    if not per_class:
        return _turns(np.arange(count), len(labels), hash64(seed, _FIRST))
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    chosen = [
        rows[_turns(np.arange(count), len(rows), hash64(seed, _CLASS, number))]
        for number, rows in enumerate(classes)
    ]
    return np.stack(chosen, axis=1).reshape(-1)


def _turns(places: np.ndarray, length: int, key: np.ndarray) -> np.ndarray:
    """Permutations of `range(length)` one after the other, at `places`."""
    return permute(places % length, length, hash64(key, places // length))


def interpolated(
    column: Float[np.ndarray, "n D"],
    labels: Int[np.ndarray, " n"],
    count: int,
    seed: int,
    per_class: bool = False,
) -> tuple[Float32[np.ndarray, "R D"], Int32[np.ndarray, " R"], Int64[np.ndarray, "R 2"]]:
    """(1 - w) a + w b of two different rows of one class, w uniform in [0, 1): the vectors, their
    labels and the rows a and b.

    a is `drawn`, b is any other row of its class. Raises TooFew, whose argument is the label, for a
    class of one row.
    """
    first = drawn(labels, count, seed, per_class)
    number = np.arange(len(first))
    order = np.argsort(labels, kind="stable")
    known, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    if (counts < 2).any():
        raise TooFew(int(known[np.argmin(counts)]))
    place = np.empty(len(labels), np.int64)  # of a row among those of its class
    place[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    which = np.searchsorted(known, labels[first])
    away = hash64(seed, _OTHER, number) % (counts[which] - 1).astype(np.uint64)
    partner = (place[first] + 1 + away.astype(np.int64)) % counts[which]
    second = order[starts[which] + partner]
    weight = _uniform(hash64(seed, _WEIGHT, number))[:, None]
    mixed = (1 - weight) * column[first] + weight * column[second]
    parents = np.stack([first, second], axis=1)
    return mixed.astype(np.float32), labels[first].astype(np.int32), parents


def perturbed(
    column: Float[np.ndarray, "R D"],
    sigma: float,
    seed: int,
    deviation: Float[np.ndarray, " D"] | None = None,
) -> Float32[np.ndarray, "R D"]:
    """r + sigma e where each number has deviation 1: in its own units, r + sigma `deviation` e.

    Without `deviation` it is the column's own.
    """
    if sigma < 0:
        raise ValueError(f"sigma={sigma}: type 0 or more.")
    scale = np.std(column, axis=0, dtype=np.float64) if deviation is None else deviation
    noise = normal(seed, column.shape)
    return (column + (sigma * scale).astype(np.float32) * noise).astype(np.float32)


def normal(seed: int, shape: tuple[int, int]) -> Float32[np.ndarray, "R D"]:
    """Standard normal numbers; a row hangs on the seed, its number and the width alone."""
    key = int(hash64(seed, _NOISE)[0])
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(shape, np.float32)


def _uniform(bits: np.ndarray) -> Float[np.ndarray, " n"]:
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
