"""Accuracy over a whole set: the padded last batch weighs nothing, whatever the batch size."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.data.batches import eval_batches
from jaxfdsl.data.sources import Source
from jaxfdsl.evals import accuracy
from jaxfdsl.objectives.classify import Classify

LOGITS = np.random.default_rng(0).normal(0, 2, (50, 12)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 12, 50).astype(np.int32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listed(Source):
    """Fifty examples with known logits."""

    name: str = "listed"
    num_classes: int = 12
    size: int = 1
    channels: int = 3
    num_examples: int | None = 50

    @property
    def fingerprint(self) -> str:
        return "listed"

    def rows(self, positions):
        return {"logits": LOGITS[positions], "label": LABELS[positions]}

    def rows_of(self, category, count):
        return self.rows(np.flatnonzero(category == LABELS)[:count])

    def fields(self, rows: Mapping[str, Any], table: Any):
        return dict(rows)


@jax.jit
def eval_step(params, rows):
    return Classify().counts({"logits": rows["logits"] + params}, rows)


@pytest.mark.parametrize("batch_size", [7, 16, 50, 64])
def test_top1_top5_and_loss_are_those_of_numpy(batch_size):
    rows = eval_batches(Listed(), 0, batch_size)
    found = dict(accuracy.evaluate(eval_step, jnp.float32(0), rows))
    of_label = LOGITS[np.arange(50), LABELS]
    rank = np.sum(of_label[:, None] < LOGITS, axis=1)
    assert found["top1"] == pytest.approx(np.mean(rank < 1), abs=1e-7)
    assert found["top5"] == pytest.approx(np.mean(rank < 5), abs=1e-7)
    loss = np.mean(np.log(np.exp(LOGITS).sum(axis=1)) - of_label)
    assert found["loss"] == pytest.approx(loss, rel=1e-6)


def test_the_first_examples_alone_can_be_asked_for():
    rows = eval_batches(Listed(), 20, 16)
    found = dict(accuracy.evaluate(eval_step, jnp.float32(0), rows))
    assert found["top1"] == pytest.approx(np.mean(LOGITS[:20].argmax(axis=1) == LABELS[:20]))


def test_an_evaluation_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no valid example"):
        list(accuracy.evaluate(eval_step, jnp.float32(0), []))
