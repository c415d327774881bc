"""Nearest neighbours: scikit-learn's labels, and what decides between equals."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from jaxfdsl.evals import knn
from jaxfdsl.evals.features import Features, TooFew

K, TEMPERATURE = (10, 20, 200), 0.07


def clusters(count, seed, width=12, classes=7):
    """Overlapping classes whose features are far from 0 and of unequal length."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, count)
    centres = np.random.default_rng(99).normal(0, 1, (classes, width))
    values = 1 + centres[labels] + chance.normal(0, 1.2, (count, width))
    values *= chance.uniform(0.2, 5, (count, 1))
    return Features(values.astype(np.float32), labels.astype(np.int32), classes)


TRAIN, TEST = clusters(701, 0), clusters(333, 1)


def test_every_label_is_that_of_scikit_learn(monkeypatch):
    # Smaller than the sets, with a rest: 6 blocks of training images, 4 of queries.
    monkeypatch.setattr(knn, "BLOCK", 128)
    monkeypatch.setattr(knn, "QUERIES", 100)
    found = knn.predict(TRAIN, TEST.values, k=K, temperature=TEMPERATURE)
    for k in K:
        oracle = KNeighborsClassifier(
            k,
            metric="cosine",
            weights=lambda distance: np.exp((1 - distance) / TEMPERATURE),
        )
        oracle.fit(TRAIN.values.astype(np.float64), TRAIN.labels)
        np.testing.assert_array_equal(found[k], oracle.predict(TEST.values.astype(np.float64)))
    shares = dict(knn.evaluate(TRAIN, TEST, k=K, temperature=TEMPERATURE))
    assert shares["top1_k10"] == np.mean(found[10] == TEST.labels) > 0.5
    assert shares["top1"] == shares["top1_k20"] != shares["top1_k10"]


def test_equals_are_told_apart_by_order_and_by_class(monkeypatch):
    monkeypatch.setattr(knn, "BLOCK", 2)
    right, up = [1.0, 0.0], [0.0, 1.0]
    train = Features(
        np.array([up, right, right, right, right], np.float32),
        np.array([3, 2, 1, 1, 0], np.int32),
        4,
    )
    query = np.array([[2.0, 0.0]], np.float32)
    found = knn.predict(train, query, k=(1, 2, 3, 5), temperature=1.0)
    # The first of equal neighbours; of one vote each the lower class; then a majority.
    assert {k: int(labels[0]) for k, labels in found.items()} == {1: 2, 2: 1, 3: 1, 5: 1}


def test_more_neighbours_than_training_images_are_refused():
    with pytest.raises(TooFew, match=r"k=\(10, 702\) goes beyond the 701 training images"):
        knn.predict(TRAIN, TEST.values, k=(10, 702), temperature=TEMPERATURE)
