"""k-means: Lloyd's iterations from the seeds of k-means++.

Lloyd, IEEE Trans. Inf. Theory 28 (1982); Arthur and Vassilvitskii, SODA 2007, with several
candidates a seed as in scikit-learn. The N x K distances never lie in memory together.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

from jaxfdsl import sharding

CHUNK = 8192  # rows whose distances to all centres are there at once
SAMPLED = 20  # rows a cluster among which the first centres are chosen
MOST = 100  # iterations
TOLERANCE = 1e-4  # of the mean variance: centres that move by less, squared, stand


@dataclasses.dataclass(frozen=True)
class Clusters:
    """`inertia` is the sum of the squared distances to the nearest centre, `rounds` how many
    iterations there were, `settled` whether the centres had come to stand."""

    centres: Float32[np.ndarray, "K D"]
    nearest: Int32[np.ndarray, " N"]
    inertia: float
    rounds: int
    settled: bool


def fit(
    values: Float32[np.ndarray, "N D"],
    clusters: int,
    *,
    seed: int = 0,
    most: int = MOST,
    chunk: int = CHUNK,
    done: Callable[[int], Any] = lambda _: None,
) -> Clusters:
    """Puts each of N finite vectors into one of K clusters; a function of values and seed alone,
    on one kind of device.

    A cluster that loses all its vectors goes on from those that are farthest from their centre.
    `done` is told of each iteration. Raises ValueError for more clusters than vectors.
    """
    if not 1 <= clusters <= len(values):
        raise ValueError(f"{clusters} clusters of {len(values)} vectors")
    blocks, real = _laid(values, chunk)
    variance = float(np.var(values, axis=0, dtype=np.float64).mean())
    centres = _first(values, clusters, seed)
    rounds, settled = 0, False
    while rounds < most and not settled:
        sums, counts, _, distances = _round(blocks, real, centres)
        moved = _moved(values, sums, counts, distances)
        settled = float(np.square(moved - centres).sum()) <= TOLERANCE * variance
        centres, rounds = moved, rounds + 1
        done(1)
    _, _, nearest, distances = _round(blocks, real, centres)
    count = len(values)
    inertia = float(np.asarray(distances, np.float64).reshape(-1)[:count].sum())
    return Clusters(centres, np.asarray(nearest).reshape(-1)[:count], inertia, rounds, settled)


def _laid(values: np.ndarray, chunk: int) -> tuple[jax.Array, jax.Array]:
    """The vectors in blocks, each cut over this machine's devices, and which are no padding."""
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1, "tensor": 1}, jax.local_devices())
    cut = sharding.batch_parts(mesh)
    chunk = -(-min(chunk, len(values)) // cut) * cut
    number = -(-len(values) // chunk)
    padded = np.zeros((number * chunk, values.shape[1]), np.float32)
    padded[: len(values)] = values
    real = np.arange(number * chunk) < len(values)
    layout = NamedSharding(mesh, P(None, sharding.BATCH_AXES))
    blocks = jax.device_put(padded.reshape(number, chunk, -1), layout)
    return blocks, jax.device_put(real.reshape(number, chunk), layout)


def _moved(
    values: np.ndarray, sums: Any, counts: Any, distances: Any
) -> Float32[np.ndarray, "K D"]:
    """The mean of each cluster; of an empty one a vector that is far from its own centre."""
    counts = np.asarray(counts)
    means = np.asarray(sums, np.float64) / np.maximum(counts, 1)[:, None]
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        far = np.asarray(distances).reshape(-1)[: len(values)]
        chosen = np.argpartition(far, len(far) - len(empty))[len(far) - len(empty) :]
        means[empty] = values[np.sort(chosen)]
    return means.astype(np.float32)


@jax.jit
def _round(
    blocks: Float[Array, "n C D"], real: Bool[Array, "n C"], centres: Float[Array, "K D"]
) -> tuple[Float[Array, "K D"], Int[Array, " K"], Int[Array, "n C"], Float[Array, "n C"]]:
    """Sums and counts of each centre's vectors; each vector's centre and squared distance."""
    clusters = centres.shape[0]
    lengths = jnp.sum(jnp.square(centres), axis=1)

    def of_block(carry: tuple, block: tuple) -> tuple:
        vectors, there = block
        sums, counts = carry
        with jax.named_scope("distances"):
            products = jnp.matmul(vectors, centres.T, precision="highest")
            scores = lengths - 2 * products  # less the vector's own length, the same for all
        nearest = jnp.argmin(scores, axis=1).astype(jnp.int32)
        own = jnp.sum(jnp.square(vectors), axis=1)
        distance = jnp.where(there, jnp.maximum(jnp.min(scores, axis=1) + own, 0), 0)
        # A product adds in the same order each time, as sums by index do not on a GPU.
        member = (nearest[:, None] == jnp.arange(clusters)) & there[:, None]
        sums += jnp.matmul(member.astype(jnp.float32).T, vectors, precision="highest")
        counts += jnp.sum(member, axis=0, dtype=jnp.int32)
        return (sums, counts), (nearest, distance)

    start = jnp.zeros_like(centres), jnp.zeros(clusters, jnp.int32)
    found: Any = jax.lax.scan(of_block, start, (blocks, real))
    return *found[0], *found[1]


def _first(values: np.ndarray, clusters: int, seed: int) -> Float32[np.ndarray, "K D"]:
    """Centres by k-means++ among a sample of the vectors."""
    rng = np.random.default_rng(seed)
    size = min(len(values), max(SAMPLED * clusters, CHUNK // 2))
    sample = np.sort(rng.choice(len(values), size, replace=False))
    points, first = values[sample], int(rng.integers(size))
    chance = rng.random((clusters - 1, 2 + int(np.log(clusters))), np.float32)
    rows = np.asarray(_spread(jnp.asarray(points), first, jnp.asarray(chance)))
    return points[rows]


@jax.jit
def _spread(
    points: Float[Array, "n D"], first: Int[Array, ""] | int, chance: Float[Array, "k L"]
) -> Int[Array, " K"]:
    """Rows of points: each is drawn by its squared distance to those before, and of L draws the
    one stays that leaves the least distances."""
    lengths = jnp.sum(jnp.square(points), axis=1)

    def distances(rows: jax.Array) -> jax.Array:
        products = jnp.matmul(points, points[rows].T, precision="highest")
        return jnp.maximum(lengths[:, None] + lengths[rows] - 2 * products, 0)

    def add(closest: jax.Array, draws: jax.Array) -> tuple:
        ends = jnp.cumsum(closest)
        rows = jnp.searchsorted(ends, draws * ends[-1], side="right")
        rows = jnp.minimum(rows, len(points) - 1)
        left = jnp.minimum(closest[:, None], distances(rows))
        best = jnp.argmin(jnp.sum(left, axis=0))
        return left[:, best], rows[best]

    start = jnp.asarray(first)
    closest = distances(start[None])[:, 0]
    others: Any = jax.lax.scan(add, closest, chance)[1]
    return jnp.concatenate([start[None], others]).astype(jnp.int32)
