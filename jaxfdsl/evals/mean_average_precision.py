"""Mean average precision of images with several labels."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxfdsl.evals import features
from jaxfdsl.evals.features import ReadStep, TooFew


class Logits:
    """In an objective's place: what a model puts out, a row an image, not sums over it."""

    def evaluated(self, batch: Mapping[str, Any]) -> Any:
        """What the model sees."""
        return batch["image"]

    def counts(self, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> dict[str, Any]:
        """`logits`, `label` and `valid`."""
        return {"logits": outputs["logits"], "label": batch["label"], "valid": batch["valid"]}


def evaluate(read: ReadStep, params: Any, batches: Iterable[Any]) -> Iterator[tuple[str, float]]:
    """Yields ("map", the mean over the classes that some image has) and ("classes", their number).

    `read(params, rows)` returns what `Logits` does; labels are int32[B, L], padded with -1, or
    int32[B]. Images without a label count against every class. All scores are on the host: 4 bytes
    for each image and class.
    """
    found = features.collect(read, params, batches)
    labels = found["label"].reshape(len(found["label"]), -1)
    precisions = []
    for number in range(found["logits"].shape[1]):
        present = np.any(labels == number, axis=1)
        if present.any():
            precisions.append(average_precision(found["logits"][:, number], present))
    if not precisions:
        raise TooFew("mean average precision needs images with labels, and none has any")
    yield "map", float(np.mean(precisions))
    yield "classes", float(len(precisions))


def average_precision(scores: Float[np.ndarray, " n"], present: Bool[np.ndarray, " n"]) -> float:
    """The sum over thresholds of precision times the step in recall, not interpolated.

    As scikit-learn's `average_precision_score`: images with equal scores pass a threshold together.
    NaN is behind all others. VOC 2007's 11 points give another number.
    """
    scores = np.nan_to_num(scores.astype(np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.argsort(-scores, kind="stable")
    scores, present = scores[order], present[order]
    last = np.append(scores[1:] != scores[:-1], True)  # of those with an equal score
    right = np.cumsum(present)[last]
    precision = right / (np.flatnonzero(last) + 1)
    recall = right / right[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))
