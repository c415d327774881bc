"""What a run took: rates, time and FLOP, from the metrics that it logged."""

import dataclasses
import statistics
from collections.abc import Sequence

from jaxfdsl.report.page.runs import Run

SHARES = ("input_wait", "drawing", "evaluation", "checkpoint")


@dataclasses.dataclass(frozen=True)
class Cost:
    """None is what was not logged. Rates are medians over the lines of metrics."""

    images: float | None
    images_per_second: float | None
    steps_per_second: float | None
    seconds: float | None  # of steps, and of the evaluations and checkpoints between them
    mfu: float | None
    flop: float | None  # of all training steps, analytically
    parameters: float | None
    shares: dict[str, float]  # means over time


def of(run: Run) -> Cost:
    """The cost of what has been trained so far."""
    lines = [line for line in run.lines if line.get("train/step_seconds", 0) > 0]
    images = float(run.steps * run.batch_size) or None
    image_flop = _number(run.facts.get("flop_per_image"))
    paces = [1 / line["train/step_seconds"] for line in lines]
    spans = _spans(run)
    seconds = sum(spans.values())
    return Cost(
        images=images,
        images_per_second=_median([line.get("train/images_per_second") for line in lines]),
        steps_per_second=_median(paces),
        seconds=seconds or None,
        mfu=_median([line.get("train/mfu") for line in lines]),
        flop=image_flop * images if image_flop and images else None,
        parameters=_number(run.facts.get("parameters")) or _number(run.summary.get("parameters")),
        shares=_shares(run, spans),
    )


def _spans(run: Run) -> dict[int, float]:
    """Seconds up to each line of metrics since the one before, by step."""
    spans: dict[int, float] = {}
    before = 0
    for line in run.lines:
        step, seconds = int(line["step"]), line.get("train/step_seconds")
        if seconds is None:
            continue
        paused = line.get("train/evaluation", 0.0) + line.get("train/checkpoint", 0.0)
        spans[step] = (step - before) * seconds / max(1 - paused, 1e-3)
        before = step
    return spans


def _shares(run: Run, spans: dict[int, float]) -> dict[str, float]:
    found = {}
    for share in SHARES:
        name = f"train/{share}"
        lines = [
            (line[name], spans.get(int(line["step"]), 0)) for line in run.lines if name in line
        ]
        total = sum(span for _, span in lines)
        if total > 0:
            found[share] = sum(value * span for value, span in lines) / total
    return found


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value else None
