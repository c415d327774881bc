"""Classification accuracy and loss over a whole set, every example counted exactly once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax

Sums = Mapping[str, Any]


def evaluate(
    eval_step: Callable[[Any, Any], Sums], params: Any, batches: Iterable[Any]
) -> Iterator[tuple[str, float]]:
    """Yields ("top1", share), ("top5", share) and ("loss", nats an example).

    `eval_step(params, rows)` returns sums over the valid rows of a batch: `top1`, `top5`, `loss`
    and their number `valid`. They are fetched one batch late, so that the device never waits, and
    added in float64, so that the result does not depend on how many there are.
    """
    totals = dict.fromkeys(("top1", "top5", "loss", "valid"), 0.0)
    previous: Sums | None = None
    for rows in batches:
        sums = eval_step(params, rows)
        if previous is not None:
            _add(totals, previous)
        previous = sums
    if previous is not None:
        _add(totals, previous)
    if not totals["valid"]:
        raise ValueError("an evaluation saw no valid example")
    for name in ("top1", "top5", "loss"):
        yield name, totals[name] / totals["valid"]


def _add(totals: dict[str, float], sums: Sums) -> None:
    for name, value in jax.device_get({name: sums[name] for name in totals}).items():
        totals[name] += float(value)
