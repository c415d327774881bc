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
    sums = Classify().counts({"logits": jnp.asarray(logits)}, batch)
    order = np.argsort(-logits[:33], axis=1)
    hits = order == labels[:33, None]
    assert sums["valid"] == 33
    assert sums["top1"] == hits[:, :1].sum()
    assert sums["top5"] == hits[:, :5].sum()


def several(count=6, classes=9):
    random = np.random.default_rng(1)
    logits = random.normal(0, 2, (count, classes)).astype(np.float32)
    labels = np.array([random.permutation(classes)[:4] for _ in range(count)], np.int32)
    labels[0, 2:], labels[1] = -1, -1  # two labels, none
    return logits, labels


def losses(logits, labels, objective):
    """The loss of each row, as the mean over a batch that holds it alone."""
    one = jax.vmap(lambda x, y: objective.loss({"logits": x[None]}, {"label": y[None]})[0])
    return one(jnp.asarray(logits), jnp.asarray(labels))


def multi_hot(labels, classes):
    hot = np.zeros((len(labels), classes))
    for row, own in enumerate(labels):
        hot[row, own[own >= 0]] = 1
    return hot


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("pos_weight", [True, False])
def test_several_labels_have_the_published_binary_cross_entropy(smoothing, pos_weight):
    logits, labels = several()
    hot, x = multi_hot(labels, 9), logits.astype(np.float64)
    target = hot * (1 - smoothing) + smoothing / 9
    weight = 9 / np.maximum(hot.sum(1, keepdims=True), 1) if pos_weight else 1
    one, other = (np.log1p(np.exp(-sign * x)) for sign in (1, -1))
    expected = (weight * target * one + (1 - target) * other).mean(1)
    found = losses(logits, labels, Classify(smoothing, pos_weight))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_best_of_several_labels_counts_and_an_image_without_any_is_never_right():
    logits, labels = several(200)
    batch = {"label": jnp.asarray(labels), "valid": jnp.ones(200)}
    sums = Classify(0.1).counts({"logits": jnp.asarray(logits)}, batch)
    order = np.argsort(-logits, axis=1)
    hits = np.take_along_axis(multi_hot(labels, 9), order, axis=1)
    assert sums["top1"] == hits[:, 0].sum()
    assert sums["top5"] == hits[:, :5].any(1).sum()
    plain = losses(logits, labels, Classify())
    np.testing.assert_allclose(sums["loss"], plain.sum(), rtol=1e-5)
    loss, metrics = Classify(0.0).loss({"logits": jnp.asarray(logits)}, batch)
    np.testing.assert_allclose(loss, plain.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["top1"], hits[:, 0].mean(), rtol=1e-6)


@pytest.mark.parametrize("several_labels", [False, True])
def test_a_mixed_image_costs_the_weighted_sum_of_both_labels(several_labels):
    logits, labels = several()
    labels = labels if several_labels else np.maximum(labels[:, 0], 0)
    weight = np.linspace(0, 1, len(labels), dtype=np.float32)
    batch = {"label": labels, "label_b": labels[::-1], "label_weight": weight}
    objective = Classify(0.1, pos_weight=False)
    found, metrics = objective.loss(
        {"logits": jnp.asarray(logits)}, jax.tree.map(jnp.asarray, batch)
    )
    own, other = (np.asarray(losses(logits, each, objective)) for each in (labels, labels[::-1]))
    np.testing.assert_allclose(found, np.mean(weight * own + (1 - weight) * other), rtol=1e-5)
    heavier = np.where((weight >= 0.5).reshape(-1, *[1] * (labels.ndim - 1)), labels, labels[::-1])
    _, plain = objective.loss({"logits": jnp.asarray(logits)}, {"label": jnp.asarray(heavier)})
    assert metrics["top1"] == plain["top1"]


def test_separate_label_spaces_are_one_softmax_a_source():
    random = np.random.default_rng(3)
    logits = random.normal(0, 3, (8, 9)).astype(np.float32)
    labels = np.array([0, 1, 4, 5, 6, 8, 2, 7], np.int32)
    objective = Classify(0.1, blocks=((0, 5), (5, 9)))
    batch = {"label": jnp.asarray(labels), "valid": jnp.ones(8)}
    loss, metrics = objective.loss({"logits": jnp.asarray(logits)}, batch)
    sums = objective.counts({"logits": jnp.asarray(logits)}, batch)
    first = labels < 5
    parts = [(logits[first][:, :5], labels[first]), (logits[~first][:, 5:], labels[~first] - 5)]
    each = [np.asarray(classify.cross_entropy(*map(jnp.asarray, part), 0.1)) for part in parts]
    np.testing.assert_allclose(loss, np.concatenate(each).mean(), rtol=1e-6)
    right = sum(float((x.argmax(1) == y).sum()) for x, y in parts)
    assert sums["top1"] == right and metrics["top1"] == right / 8
    gradient = jax.grad(lambda x: objective.loss({"logits": x}, batch)[0])(jnp.asarray(logits))
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[first][:, 5:] == 0).all()  # the other head does not move
