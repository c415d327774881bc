"""Softmax regression on frozen features, at all learning rates at once.

The protocol of StableRep's `main_linear.py` (Tian et al., arXiv 2306.00984), after MoCo v3 and MAE:
standardised features, SGD with momentum .9 and no weight decay, a cosine to 0. There the best
learning rate is found on the test set, here on a part of the training set; docs/evaluation.md says
what else differs.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float32, Int, Int32

from jaxfdsl.evals.features import Features, TooFew, ranks
from jaxfdsl.objectives.classify import cross_entropy, in_top

BATCH_SIZE = 1024  # at most, and at most an eighth of the images
MOMENTUM = 0.9
_BLOCK = 4096  # images of one product
FLOOR = 1e-2  # variance, of features standardised to 1, below which an axis is learned less
_EPSILON = 1e-6  # added to variances, as in the published batch norm


class Probes(NamedTuple):
    """L linear classifiers of sphered features."""

    weights: Float32[Array, "D L C"]
    bias: Float32[Array, "L C"]


def evaluate(
    train: Features,
    test: Features,
    *,
    learning_rates: Sequence[float],
    epochs: int,
    held_out: float,
    scaling: str = "sphered",
) -> Iterator[tuple[str, float]]:
    """Yields ("top1", share), ("top5", share), ("learning_rate", chosen), ("held_out_top1", share).

    A learning rate is for 256 images and grows with the batch. All are trained on the training
    images without a share `held_out` of each class, drawn by a hash of their numbers; the rate that
    is best on that share is trained again on all of them. Nothing is chosen by the test images'
    labels. The training features lie on one device, 4 n D bytes. Raises TooFew when there is
    nothing to hold out.
    """
    judges = held_out_rows(train.labels, held_out)
    if not judges.any():
        raise TooFew(
            f"held_out={held_out}: no class has two training images, so that none can be held out: "
            "take more training images."
        )
    scaled = SCALINGS[scaling](train.values)
    train, test = scaled(train), scaled(test)
    images = jnp.asarray(train.values), jnp.asarray(train.labels), train.num_classes
    probes = fit(*images, np.flatnonzero(~judges), learning_rates, epochs)
    tried = shares(probes, train.at(judges))["top1"]
    chosen = int(np.argmax(tried))
    everything = np.arange(len(judges))
    probe = fit(*images, everything, learning_rates[chosen : chosen + 1], epochs)
    for name, share in shares(probe, test).items():
        yield name, float(share[0])
    yield "learning_rate", float(learning_rates[chosen])
    yield "held_out_top1", float(tried[chosen])


def sphering(values: Float32[np.ndarray, "n D"]) -> Callable[[Features], Features]:
    """A linear map that gives these features mean 0 and nearly the unit covariance.

    They are standardised, turned into their principal axes and divided by sqrt(v + FLOOR), where v
    is the variance along an axis. The classifiers that can be reached stay the same, and gradient
    descent reaches them in tens of epochs: features of a ViT have variances from 60 down to 1e-3.
    """
    mean = values.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((values.shape[1],) * 2)
    for first in range(0, len(values), _BLOCK):
        part = values[first : first + _BLOCK] - mean
        covariance += part.T @ part / len(values)
    scale = 1 / np.sqrt(np.diag(covariance) + _EPSILON)
    variances, axes = np.linalg.eigh(covariance * scale * scale[:, None])
    turned = scale[:, None] * axes / np.sqrt(np.maximum(variances, 0) + FLOOR)
    matrix, offset = turned.astype(np.float32), (mean @ turned).astype(np.float32)
    return lambda seen: dataclasses.replace(seen, values=seen.values @ matrix - offset)


def standardising(values: Float32[np.ndarray, "n D"]) -> Callable[[Features], Features]:
    """A map that gives each of these features mean 0 and variance 1: the batch norm without affine
    parameters of the published probe, with the statistics of all images."""
    mean, variance = values.mean(axis=0, dtype=np.float64), values.var(axis=0, dtype=np.float64)
    scale = 1 / np.sqrt(variance + _EPSILON)
    matrix, offset = scale.astype(np.float32), (mean * scale).astype(np.float32)
    return lambda seen: dataclasses.replace(seen, values=seen.values * matrix - offset)


SCALINGS = {"sphered": sphering, "standardised": standardising}


def held_out_rows(labels: Int32[np.ndarray, " n"], share: float) -> Bool[np.ndarray, " n"]:
    """A share of the images of each class, rounded, and at least one of a class that has two."""
    counts = np.bincount(labels)
    held = np.where(counts > 1, np.maximum(1, np.round(share * counts)), 0)
    return ranks(labels, seed=0) < np.minimum(held, counts - 1)[labels]


def fit(
    values: Float32[Array, "n D"],
    labels: Int32[Array, " n"],
    num_classes: int,
    rows: Int[np.ndarray, " m"],
    learning_rates: Sequence[float],
    epochs: int,
) -> Probes:
    """A classifier for each learning rate, all of which see the same batches of `rows`."""
    batch_size = max(1, min(BATCH_SIZE, len(rows) // 8))
    rates = jnp.asarray(learning_rates, jnp.float32) * (batch_size / 256)
    return _fit(values, labels, jnp.asarray(rows), rates, num_classes, epochs, batch_size)


@functools.partial(jax.jit, static_argnames=("classes", "epochs", "batch_size"))
def _fit(values, labels, rows, rates, classes: int, epochs: int, batch_size: int) -> Probes:
    steps = len(rows) // batch_size
    shape = (values.shape[1], len(rates), classes)
    probes = Probes(jnp.zeros(shape), jnp.zeros(shape[1:]))
    momentum = optax.trace(MOMENTUM)
    decay = optax.cosine_decay_schedule(1.0, epochs * steps)

    def loss_of(probes: Probes, batch: jax.Array) -> jax.Array:
        losses = jax.vmap(cross_entropy, in_axes=(1, None))(
            _logits(probes, values[batch]), labels[batch]
        )
        return jnp.sum(jnp.mean(losses, axis=1))  # each classifier has a gradient of its own

    def step(carry, batch):
        probes, trace, number = carry
        updates, trace = momentum.update(jax.grad(loss_of)(probes, batch), trace)
        sizes = (rates * decay(number))[:, None]
        probes = jax.tree.map(lambda value, update: value - sizes * update, probes, updates)
        return (probes, trace, number + 1), None

    def epoch(carry, key):
        order = jax.random.permutation(key, rows)[: steps * batch_size]
        return jax.lax.scan(step, carry, order.reshape(steps, batch_size))

    carry = (probes, momentum.init(probes), jnp.zeros((), jnp.int32))
    (probes, _, _), _ = jax.lax.scan(epoch, carry, jax.random.split(jax.random.key(0), epochs))
    return probes


def _logits(probes: Probes, values: Float32[Array, "B D"]) -> Float32[Array, "B L C"]:
    width, rates, classes = probes.weights.shape
    flat = probes.weights.reshape(width, rates * classes)
    product = jnp.matmul(values, flat, precision=jax.lax.Precision.HIGHEST)
    return product.reshape(-1, rates, classes) + probes.bias


def shares(probes: Probes, features: Features) -> dict[str, np.ndarray]:
    """{"top1", "top5"}: the share of right answers of each of L classifiers, float[L]; NaN is never
    right."""
    right: dict[str, np.ndarray] = {}
    for first in range(0, len(features.labels), _BLOCK):
        part = features.at(slice(first, first + _BLOCK))
        for name, count in _right(probes, part.values, part.labels).items():
            right[name] = right.get(name, 0) + np.asarray(count)
    return {name: count / len(features.labels) for name, count in right.items()}


@jax.jit
def _right(probes: Probes, values: jax.Array, labels: jax.Array) -> dict[str, jax.Array]:
    outputs = _logits(probes, values)
    found = {"top1": 1, "top5": 5}
    return {
        name: jnp.sum(jax.vmap(in_top, in_axes=(1, None, None))(outputs, labels, k), axis=1)
        for name, k in found.items()
    }
