"""Average precision: scikit-learn's, class by class, on images with none, one or several labels."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from jaxfdsl.evals import mean_average_precision
from jaxfdsl.evals.mean_average_precision import average_precision

CHANCE = np.random.default_rng(0)
LOGITS = CHANCE.normal(0, 1, (60, 5)).round(1).astype(np.float32)  # rounded, so that some are equal
PRESENT = CHANCE.random((60, 5)) < [0.5, 0.3, 0.1, 0.0, 0.9]
PRESENT[7] = False  # an image without a label; class 3 has none


def padded(present):
    rows = [np.flatnonzero(row) for row in present]
    return np.array([np.pad(r, (0, 5 - len(r)), constant_values=-1) for r in rows], np.int32)


def batches(size):
    """The rows in batches, the last one filled up with what would change the result."""
    fill = -len(LOGITS) % size
    logits = np.concatenate([LOGITS, np.full((fill, 5), 9.0, np.float32)])
    label = np.concatenate([padded(PRESENT), np.zeros((fill, 5), np.int32)])
    valid = (np.arange(len(logits)) < len(LOGITS)).astype(np.float32)
    for first in range(0, len(logits), size):
        part = slice(first, first + size)
        yield {"logits": logits[part], "label": label[part], "valid": valid[part]}


@pytest.mark.parametrize("size", [7, 60])
def test_the_mean_is_that_of_scikit_learn_over_the_classes_that_occur(size):
    found = dict(mean_average_precision.evaluate(lambda params, rows: rows, None, batches(size)))
    each = [average_precision_score(PRESENT[:, i], LOGITS[:, i]) for i in (0, 1, 2, 4)]
    assert found == {"map": pytest.approx(np.mean(each), abs=1e-12), "classes": 4.0}


def test_equal_scores_pass_a_threshold_together_and_nan_comes_last():
    present = np.array([True, False, True, False])
    assert average_precision(np.zeros(4), present) == 0.5
    broken = np.array([np.nan, 1.0, 3.0, 2.0])
    assert average_precision(broken, present) == pytest.approx(0.5 * 1 + 0.5 * 2 / 4)


def test_images_without_any_label_are_refused():
    rows = {"logits": LOGITS, "label": np.full((60, 2), -1, np.int32), "valid": np.ones(60)}
    with pytest.raises(ValueError, match="needs images with labels"):
        list(mean_average_precision.evaluate(lambda params, rows: rows, None, [rows]))
