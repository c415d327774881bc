"""Cross-entropy and accuracy against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.objectives import classify
from jaxfdsl.objectives.classify import Classify


def some(count=6, classes=5):
    random = np.random.default_rng(0)
    logits = random.normal(0, 3, (count, classes)).astype(np.float32)
    return logits, random.integers(0, classes, count).astype(np.int32)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_mixes_the_target_with_the_uniform_one(smoothing):
    logits, labels = some()
    target = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
    x = logits.astype(np.float64)
    log_probs = x - np.log(np.exp(x).sum(-1, keepdims=True))
    expected = -(target * log_probs).sum(-1)
    loss = classify.cross_entropy(jnp.asarray(logits), jnp.asarray(labels), smoothing)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_rows_that_are_not_valid_weigh_nothing_even_when_infinite():
    logits, labels = some()
    broken = logits.copy()
    broken[2] = np.nan
    valid = np.ones(6, np.float32)
    valid[2] = 0
    batch = {"label": jnp.asarray(labels), "valid": jnp.asarray(valid)}
    loss, metrics = Classify(0.1).loss({"logits": jnp.asarray(broken)}, batch)
    kept = np.delete(np.arange(6), 2)
    whole = {"label": jnp.asarray(labels[kept])}
    expected, others = Classify(0.1).loss({"logits": jnp.asarray(logits[kept])}, whole)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["top1"], others["top1"])
    grad = jax.grad(lambda x: Classify(0.1).loss({"logits": x}, batch)[0])(jnp.asarray(logits))
    np.testing.assert_array_equal(grad[2], 0)


def test_top_k_counts_ties_and_nan_as_wrong():
    labels = jnp.asarray([0, 1, 2, 0, 0], jnp.int32)
    logits = jnp.asarray(
        [[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [1, 1, 1], [jnp.nan, 1, 2]], jnp.float32
    )
    assert classify.in_top(logits, labels, 1).tolist() == [True, False, False, False, False]
    assert classify.in_top(logits, labels, 2).tolist() == [True, True, False, False, False]


def test_counts_are_sums_over_valid_rows():
    logits, labels = some(40, 12)
    valid = (np.arange(40) < 33).astype(np.float32)
    batch = {"label": jnp.asarray(labels), "valid": jnp.asarray(valid)}
    sums = classify.counts({"logits": jnp.asarray(logits)}, batch)
    order = np.argsort(-logits[:33], axis=1)
    hits = order == labels[:33, None]
    assert sums["valid"] == 33
    assert sums["top1"] == hits[:, :1].sum()
    assert sums["top5"] == hits[:, :5].sum()
