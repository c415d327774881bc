"""Numbers as people read them, with the exact value beside."""

import math

from jaxfdsl.report.page.markup import Markup, tag
from jaxfdsl.report.status import duration

SHARES = (
    "top1", "top5", "miou", "pixel_accuracy", "map", "mfu",
    "input_wait", "drawing", "evaluation", "checkpoint",
)  # fmt: skip
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def is_share(name: str, values: list[float]) -> bool:
    """Whether a metric reads best in percent; values of an evaluation are shares but its loss."""
    run, _, metric = name.rpartition("/")
    if metric in SHARES:
        return True
    between = all(0 <= value <= 1 for value in values)
    return run not in ("train", "") and "loss" not in metric and between and bool(values)


def lower_is_better(name: str) -> bool:
    """Whether less of a metric is better, as `config.best_metric` takes it."""
    return name.endswith("loss")


def plain(value: float) -> str:
    """Up to four digits: 0.003, 2.015, 1,235."""
    if not math.isfinite(value):
        return "not finite"
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(value: float) -> str:
    """A share with a digit behind the point."""
    return f"{value:.1%}"


def metric(name: str, value: float) -> Markup:
    """A metric's value, in percent where it is a share."""
    return exact(value, percent(value) if is_share(name, [value]) else plain(value))


def scaled(value: float, unit: str) -> str:
    """With a prefix: 1.2 PFLOP."""
    for size, prefix in _PREFIXES:
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def time(seconds: float) -> str:
    """A time as the status line says it; a short one with a digit."""
    return f"{seconds:.1f}s" if seconds < 10 else duration(seconds)


def exact(value: float, shown: str) -> Markup:
    """What is shown, and the number itself for whoever copies the page's data."""
    return tag("data", shown, value=repr(float(value)))
