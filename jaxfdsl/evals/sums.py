"""Sums over a whole set, every example counted exactly once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxfdsl.evals.features import TooFew

Sums = Mapping[str, Any]
EvalStep = Callable[[Any, Any], Sums]  # of parameters and rows


def over(eval_step: EvalStep, params: Any, batches: Iterable[Any]) -> dict[str, Any]:
    """What `eval_step(params, rows)` returns, numbers or arrays by name, added up in float64, so
    that the result does not depend on how many batches there are.

    One of the sums is `valid`, the number of examples; raises TooFew when that is 0. They are
    fetched one batch late, so that the device never waits.
    """
    totals: dict[str, Any] = {}
    previous: Sums = {}
    for rows in batches:
        sums = eval_step(params, rows)
        _add(totals, previous)
        previous = sums
    _add(totals, previous)
    if not totals.get("valid"):
        raise TooFew("an evaluation saw no valid example")
    return totals


def mean_loss(
    eval_step: EvalStep, params: Any, batches: Iterable[Any]
) -> Iterator[tuple[str, float]]:
    """Yields ("loss", the mean over all examples)."""
    totals = over(eval_step, params, batches)
    yield "loss", float(totals["loss"] / totals["valid"])


def _add(totals: dict[str, Any], sums: Sums) -> None:
    for name, value in jax.device_get(dict(sums)).items():
        totals[name] = totals.get(name, 0.0) + np.asarray(value, np.float64)
