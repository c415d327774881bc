"""The linear probe: as good as scikit-learn's logistic regression, chosen without the test set."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from jaxfdsl.evals import linear_probe
from jaxfdsl.evals.features import Features, TooFew

RATES = (0.01, 0.1, 1.0)


def mixed(count, seed, width=16, classes=5):
    """Classes that overlap, in features of which some vary 30 times as much as others."""
    chance, fixed = np.random.default_rng(seed), np.random.default_rng(5)
    labels = chance.integers(0, classes, count)
    centres = fixed.normal(0, 0.5, (classes, width))
    values = centres[labels] + chance.normal(0, 1, (count, width))
    turned = np.linalg.qr(fixed.normal(0, 1, (width, width)))[0] * np.logspace(0, -1.5, width)
    values = values @ turned @ fixed.normal(0, 1, (width, width)) + 3
    return Features(values.astype(np.float32), labels.astype(np.int32), classes)


TRAIN, TEST = mixed(4000, 0), mixed(10_000, 1)


def probe(train, test, **changed):
    options = {"learning_rates": RATES, "epochs": 40, "held_out": 0.1, **changed}
    return dict(linear_probe.evaluate(train, test, **options))


@pytest.fixture(scope="module")
def found():
    return probe(TRAIN, TEST)


def test_accuracy_is_within_three_tenths_of_a_point_of_scikit_learn(found):
    mean, deviation = TRAIN.values.mean(axis=0), TRAIN.values.std(axis=0)
    oracle = LogisticRegression(C=100, max_iter=1000)
    oracle.fit((TRAIN.values - mean) / deviation, TRAIN.labels)
    accuracy = oracle.score((TEST.values - mean) / deviation, TEST.labels)
    assert found["top1"] == pytest.approx(accuracy, abs=0.003)
    assert 0.4 < accuracy < 0.9 and found["top5"] == 1.0


def test_the_test_labels_choose_nothing(found):
    shuffled = dataclasses.replace(TEST, labels=TEST.labels[::-1].copy())
    again = probe(TRAIN, shuffled)
    for name in ("learning_rate", "held_out_top1"):
        assert again[name] == found[name]
    assert again["top1"] == pytest.approx(0.2, abs=0.02)


def test_learning_rates_do_not_see_each_other():
    values, labels = jnp.asarray(TRAIN.values[:512]), jnp.asarray(TRAIN.labels[:512])
    rows = np.arange(512)
    several = linear_probe.fit(values, labels, 5, rows, (10.0, 0.1), epochs=2)
    one = linear_probe.fit(values, labels, 5, rows, (0.1,), epochs=2)
    np.testing.assert_allclose(several.weights[:, 1:], one.weights, rtol=1e-5, atol=1e-7)
    assert float(jnp.abs(several.weights[:, 0]).max()) > 10 * float(jnp.abs(one.weights).max())


def test_the_same_share_of_every_class_is_held_out():
    labels = np.repeat([0, 1, 2, 3], [200, 30, 2, 1]).astype(np.int32)
    order = np.random.default_rng(0).permutation(len(labels))
    held = linear_probe.held_out_rows(labels[order], 0.1)
    assert np.bincount(labels[order][held], minlength=4).tolist() == [20, 3, 1, 0]
    assert held[:100].any() and held[-100:].any()


def test_nothing_to_hold_out_is_refused():
    one_each = Features(TRAIN.values[:3], np.arange(3, dtype=np.int32), 3)
    with pytest.raises(TooFew, match="no class has two training images"):
        probe(one_each, one_each)


def test_standardised_features_have_mean_0_and_variance_1():
    scaled = linear_probe.SCALINGS["standardised"](TRAIN.values)(TRAIN).values
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-4)
    covariance = linear_probe.SCALINGS["sphered"](TRAIN.values)(TRAIN).values
    assert np.abs(np.corrcoef(scaled.T) - np.eye(16)).max() > 0.3
    assert np.abs(np.corrcoef(covariance.T) - np.eye(16)).max() < 0.05
