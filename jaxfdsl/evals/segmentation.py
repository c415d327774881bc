"""Segmentation quality and loss over a whole set."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxfdsl.evals import sums
from jaxfdsl.evals.sums import EvalStep


def evaluate(
    eval_step: EvalStep, params: Any, batches: Iterable[Any]
) -> Iterator[tuple[str, float]]:
    """Yields ("miou", share), ("pixel_accuracy", share) and ("loss", nats a pixel).

    `eval_step(params, rows)` returns sums over the valid rows of a batch, as `Segment.counts` does.
    Intersection and union of a class are added up over the whole set before they are divided; the
    mean is over the classes, background included, that are there or were seen in it.
    """
    totals = sums.over(eval_step, params, batches)
    known = totals["union"] > 0
    yield "miou", float(np.mean(totals["intersection"][known] / totals["union"][known]))
    yield "pixel_accuracy", float(totals["intersection"].sum() / totals["pixels"])
    yield "loss", float(totals["loss"] / totals["valid"])
