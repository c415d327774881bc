"""Which points lie in which balls: how often, of every pair, by blocks.

A device compares float32 distances; the few pairs that rounding could turn are compared again in
float64 on the host. A point on a ball's surface, as the neighbour that gave the ball its radius, is
therefore outside whatever the device.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Float64, Int32, Int64

from jaxfdsl.evals import knn

_AT_ONCE = 8192  # pairs that are compared in float64: 50 MB at D 768


def holding(
    points: Float32[np.ndarray, "N D"],
    centres: Float32[np.ndarray, "M D"],
    radii: Float64[np.ndarray, " M"],
) -> Int64[np.ndarray, " N"]:
    """How many of the balls about `centres` hold each point: those nearer than the radius."""
    mean, counts = knn.middle(centres), np.zeros(len(points), np.int64)
    size, length = knn.QUERIES, knn.block_of(len(centres))
    parts = [
        jnp.asarray(knn.centred(points[n : n + size], size, mean=mean))
        for n in range(0, len(points), size)
    ]
    for first in range(0, len(centres), length):
        keys = jnp.asarray(knn.centred(centres[first : first + length], length, mean=mean))
        squares = np.full(length, -np.inf, np.float32)  # of a ball that holds nothing
        told = np.square(radii[first : first + length])
        squares[: len(told)] = told
        for number, part in enumerate(parts):
            start = number * size
            inside = min(size, len(points) - start)
            sure, unsure = _compare(part, keys, squares)
            counts[start : start + inside] += np.asarray(sure)[:inside]
            point, ball = np.nonzero(np.asarray(unsure)[:inside])
            _recount(counts, points, centres, radii, point + start, ball + first)
    return counts


def _recount(
    counts: Int64[np.ndarray, " N"],
    points: np.ndarray,
    centres: np.ndarray,
    radii: np.ndarray,
    point: Int64[np.ndarray, " p"],
    ball: Int64[np.ndarray, " p"],
) -> None:
    """Adds those of the pairs that are truly inside."""
    for first in range(0, len(point), _AT_ONCE):
        some, balls = point[first : first + _AT_ONCE], ball[first : first + _AT_ONCE]
        inside = knn.distances(points[some], centres[balls]) < radii[balls]
        np.add.at(counts, some[inside], 1)


@jax.jit
def _compare(
    points: Float32[Array, "q D"], centres: Float32[Array, "b D"], squares: Float32[Array, " b"]
) -> tuple[Int32[Array, " q"], Bool[Array, "q b"]]:
    """How many balls surely hold each point, and the pairs that float32 cannot tell."""
    own, others = (jnp.sum(values * values, axis=1) for values in (points, centres))
    products = jnp.matmul(points, centres.T, precision=jax.lax.Precision.HIGHEST)
    apart = own[:, None] + others - 2 * products - squares
    # A product's rounding is at most D 2^-24 |x||y|, however it is summed (Higham 2002, 3.1).
    lengths = jnp.square(jnp.sqrt(own)[:, None] + jnp.sqrt(others))
    bound = (points.shape[1] + 8) * 2.0**-24 * lengths
    return jnp.sum(apart < -bound, axis=1), jnp.abs(apart) <= bound
