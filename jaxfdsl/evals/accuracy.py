"""Classification accuracy and loss over a whole set."""

from collections.abc import Iterable, Iterator
from typing import Any

from jaxfdsl.evals import sums
from jaxfdsl.evals.sums import EvalStep


def evaluate(
    eval_step: EvalStep, params: Any, batches: Iterable[Any]
) -> Iterator[tuple[str, float]]:
    """Yields ("top1", share), ("top5", share) and ("loss", nats an example).

    `eval_step(params, rows)` returns sums over the valid rows of a batch, as `Classify.counts`
    does. Of images with several labels an image is right when any of them is in the top.
    """
    totals = sums.over(eval_step, params, batches)
    for name in ("top1", "top5", "loss"):
        yield name, float(totals[name] / totals["valid"])
