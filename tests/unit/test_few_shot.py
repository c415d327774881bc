"""Few shots: scikit-learn's ridge solution, nested draws, a strength found beside the test set."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jaxfdsl.evals import few_shot
from jaxfdsl.evals.features import Features, TooFew, ranks

L2 = (0.01, 1.0, 100.0)


@pytest.mark.parametrize("count", [12, 90], ids=["fewer images than features", "more"])
def test_weights_and_intercept_are_those_of_scikit_learn(count):
    chance = np.random.default_rng(count)
    x = chance.normal(2, 3, (count, 40))
    y = np.where(np.arange(6) == chance.integers(0, 6, count)[:, None], 1.0, -1.0)
    for strength, (weights, bias) in zip(L2, few_shot.ridge(x, y, L2), strict=True):
        oracle = Ridge(alpha=strength).fit(x, y)
        np.testing.assert_allclose(weights, oracle.coef_.T, atol=1e-8)
        np.testing.assert_allclose(bias, oracle.intercept_, atol=1e-8)


def clusters(count, seed, classes=4, width=24):
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, classes, count)
    centres = np.random.default_rng(3).normal(0, 0.7, (classes, width))
    values = 5 + 2 * (centres[labels] + chance.normal(0, 1, (count, width)))
    return Features(values.astype(np.float32), labels.astype(np.int32), classes)


TRAIN, TEST = clusters(400, 0), clusters(1000, 1)


def scores(train, test, **changed):
    return dict(
        few_shot.evaluate(train, test, **{"shots": (1, 5), "seeds": 2, "l2": L2, **changed})
    )


def test_scores_are_those_of_scikit_learn_on_standardised_shots():
    found = scores(TRAIN, TEST, l2=(10.0,))
    for number in (1, 5):
        shares = []
        for seed in range(2):
            shots = TRAIN.at(ranks(TRAIN.labels, seed) < number)
            mean, deviation = shots.values.mean(0), shots.values.std(0)
            targets = 2.0 * (np.arange(4) == shots.labels[:, None]) - 1
            oracle = Ridge(alpha=10.0).fit((shots.values - mean) / deviation, targets)
            predicted = oracle.predict((TEST.values - mean) / deviation).argmax(axis=1)
            shares.append(np.mean(predicted == TEST.labels))
        assert found[f"top1_{number}shot"] == pytest.approx(np.mean(shares), abs=1e-3)
    assert 0.3 < found["top1_1shot"] < found["top1_5shot"] < 0.95


def test_shots_are_nested_and_as_many_of_every_class():
    order = ranks(TRAIN.labels, 0)
    for number in (1, 5):
        assert np.bincount(TRAIN.labels[order < number]).tolist() == [number] * 4
    assert not np.array_equal(order, ranks(TRAIN.labels, 1))


def test_the_strength_is_chosen_beside_the_test_set(monkeypatch):
    looked, share = [], few_shot._share

    def told(linear, features):
        looked.append((features is TEST, len(features.labels)))
        return share(linear, features)

    monkeypatch.setattr(few_shot, "_share", told)
    found = scores(TRAIN, TEST)
    tests = [is_test for is_test, _ in looked]
    # For each number of shots: all strengths on other training images, then one on the test set.
    assert tests == 2 * (6 * [False] + 2 * [True])
    assert all(380 > count > 350 for is_test, count in looked[8:] if not is_test)
    # Where the shots are all there is, the strength for fewer shots holds.
    few = TRAIN.at(ranks(TRAIN.labels, 0) < 5)
    monkeypatch.setattr(few_shot, "CHOOSING", 7)
    looked.clear()
    assert scores(few, TEST, shots=(1, 5))["top1_5shot"] > 0.3 < found["top1_5shot"]
    assert [is_test for is_test, _ in looked] == 6 * [False] + 4 * [True]
    assert {count for is_test, count in looked if not is_test} == {7}


def test_a_class_with_too_few_images_is_refused():
    kept = (TRAIN.labels != 2) | (ranks(TRAIN.labels, 0) < 3)
    with pytest.raises(TooFew, match=r"shots=5, and class 2 has 3 training images: type shots up"):
        scores(TRAIN.at(kept), TEST)


def test_episodes_tell_few_classes_apart():
    """Two of ten well-separated classes at a time; one class's features say nothing."""
    chance = np.random.default_rng(0)
    centres = chance.normal(0, 3, (10, 12)).astype(np.float32)
    labels = np.repeat(np.arange(10, dtype=np.int32), 12)
    noise = chance.normal(0, 0.5, (2, 120, 12)).astype(np.float32)
    train, test = (Features(centres[labels] + part, labels, 10) for part in noise)
    options = {"shots": (5,), "l2": (1.0, 10.0)}
    found = dict(few_shot.evaluate(train, test, **options, seeds=6, ways=2))
    assert found == {"top1_2way_5shot": 1.0, "top1_2way_5shot_ci95": 0.0}
    blind = Features(np.ascontiguousarray(noise[1]), labels, 10)
    found = dict(few_shot.evaluate(train, blind, **options, seeds=40, ways=2))
    assert abs(found["top1_2way_5shot"] - 0.5) < 3 * found["top1_2way_5shot_ci95"] < 0.3
    with pytest.raises(TooFew, match="ways=11 is more than the 10 classes"):
        dict(few_shot.evaluate(train, test, **options, seeds=1, ways=11))
