"""`curves.png`: loss, accuracy and learning rate over the steps, from `metrics.jsonl`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

from jaxfdsl.report import writers

_COLORS = ("#4269d0", "#e5762c", "#3b9c6e", "#b4499a", "#8a6d4b", "#d43d4f")
_GRAY = "#555555"
_SMOOTHED = 100  # more points than these are drawn faintly, with their running mean


def write(workdir: epath.PathLike) -> None:
    """Draws `curves.png` beside a run's `metrics.jsonl`; nothing without any metrics."""
    series = collect(writers.read(workdir))
    if not series:
        return
    figure = draw(series)
    with (epath.Path(workdir) / "curves.png").open("wb") as file:
        figure.savefig(file, format="png", dpi=150)


def collect(lines: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Every metric as float64[n, 2] of (step, value), by name; what was not finite is left out."""
    points: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name != "step" and value is not None:
                points.setdefault(name, []).append((line["step"], value))
    return {name: np.array(values, np.float64) for name, values in points.items()}


def draw(series: dict[str, np.ndarray]) -> Figure:
    """The three panels as a figure; a run keeps its colour, last values stand in the legends."""
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    loss, accuracy, rate = figure.subplots(1, 3)
    runs = sorted({_run(name) for name in series}, key=lambda run: (run != "train", run))
    colors = {run: _COLORS[place % len(_COLORS)] for place, run in enumerate(runs)}
    end = max(points[-1, 0] for points in series.values())
    for axes, title, metrics in (
        (loss, "Loss", ("loss",)),
        (accuracy, "Accuracy", ("top1", "top5", "miou", "pixel_accuracy")),
        (rate, "Learning rate", ("learning_rate",)),
    ):
        _frame(axes, title, end)
        for run in runs:
            for metric in metrics:
                if f"{run}/{metric}" in series:
                    _line(axes, series[f"{run}/{metric}"], run, metric, colors[run])
        if axes is not rate and axes.lines:
            _legend(axes)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    accuracy.set_ylim(0, 1)
    rate.set_ylim(bottom=0)
    return figure


def _run(name: str) -> str:
    return name.rpartition("/")[0]


def _frame(axes: Any, title: str, end: float) -> None:
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel("step", color=_GRAY, fontsize=9, loc="right")
    axes.set_xlim(0, end * 1.02)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_GRAY, labelsize=9)


def _legend(axes: Any) -> None:
    """Below the panel, where it hides no line."""
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.15), "ncols": 2}
    axes.legend(**where, frameon=False, fontsize=8, columnspacing=1.2, handlelength=1.6)


def _line(axes: Any, points: np.ndarray, run: str, metric: str, color: str) -> None:
    step, value = points.T
    if metric in ("loss", "top1", "miou") and len(step) > _SMOOTHED:
        axes.plot(step, value, color=color, alpha=0.25, linewidth=0.8)
        value = running_mean(value, len(value) // 50)
    style: dict[str, Any] = {"color": color, "linewidth": 1.6}
    second = metric in ("top5", "pixel_accuracy")
    style["linestyle"] = "--" if second else "-"
    if len(step) < 12:  # few enough to be told apart, or a single one
        style.update({"marker": "o", "markersize": 4.5, "clip_on": False})
        style["markerfacecolor"] = "white" if second else color
    axes.plot(step, value, label=_label(run, metric, points[-1, 1]), **style)


def _label(run: str, metric: str, last: float) -> str:
    names = {"miou": "mean IoU", "pixel_accuracy": "pixels"}
    names |= {f"top{k}": f"top-{k}" for k in (1, 5)}
    return f"{run} {names[metric]}: {last:.1%}" if metric in names else f"{run}: {last:.3g}"


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over up to 2 * width + 1 points around each."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    place = np.arange(len(values))
    first, last = np.maximum(place - width, 0), np.minimum(place + width + 1, len(values))
    return (total[last] - total[first]) / (last - first)
