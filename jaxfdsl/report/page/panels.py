"""Which curves stand in which panel: of one run by metric, of several one metric a panel."""

from collections.abc import Mapping, Sequence

from jaxfdsl.report.page.charts import Chart, Line
from jaxfdsl.report.page.runs import Run, array

MOST = 30  # panels on a page
GROUPS = ("Learning", "Optimiser", "Time")
_OPTIMISER = ("learning_rate", "grad_norm", "skipped")
_TIME = ("images_per_second", "mfu", "input_wait", "drawing")
_IN_THE_TABLE = ("train/step_seconds", "train/evaluation", "train/checkpoint")  # of what it took
_FIRST = ("loss", "top1", "top5", "miou", "pixel_accuracy", "map")
_TITLES = {
    "loss": "Loss",
    "top1": "Top-1 accuracy",
    "top5": "Top-5 accuracy",
    "miou": "Mean IoU",
    "pixel_accuracy": "Pixel accuracy",
    "map": "Mean average precision",
    "learning_rate": "Learning rate",
    "grad_norm": "Gradient norm",
    "skipped": "Skipped steps",
    "images_per_second": "Images a second",
    "mfu": "Model FLOP utilisation",
    "input_wait": "Waiting for input",
    "drawing": "Drawing",
}


def charts(runs: Sequence[Run]) -> dict[str, list[Chart]]:
    """The panels of each group, at most `MOST` in all."""
    made = _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)
    made = [chart for chart in made if chart.metric not in _IN_THE_TABLE]
    ordered = sorted(made, key=lambda chart: _place(chart.metric))[:MOST]
    return {
        group: found
        for group in GROUPS
        if (found := [chart for chart in ordered if _group(chart.metric) == group])
    }


def title(metric: str) -> str:
    """A metric's name for people; an evaluation's name stands before it."""
    run, _, name = metric.rpartition("/")
    known = _TITLES.get(name, name.replace("_", " "))
    return known if _group(metric) != "Learning" else f"{run} {_small(known)}".strip()


def _small(words: str) -> str:
    return words if words[1:2].isupper() else words[:1].lower() + words[1:]


def _of_one(run: Run) -> list[Chart]:
    """A panel for each last part of a name: training and evaluations on the same axes."""
    panels: dict[str, dict[str, Line]] = {}
    series = run.series
    owners = sorted({name.rpartition("/")[0] for name in series}, key=lambda o: (o != "train", o))
    for name, points in series.items():
        owner, _, metric = name.rpartition("/")
        line = Line(owner or metric, array(points), owners.index(owner))
        panels.setdefault(metric, {})[owner] = line
    return [
        Chart(
            _TITLES.get(metric, metric.replace("_", " ")),
            f"{next(iter(lines))}/{metric}",
            [lines[owner] for owner in owners if owner in lines],
        )
        for metric, lines in panels.items()
    ]


def _of_several(runs: Sequence[Run]) -> list[Chart]:
    series = [run.series for run in runs]
    across, factors = _across(runs)
    detail = max(24, 400 // len(runs)) if len(runs) > 2 else 160
    made = []
    for metric in dict.fromkeys(name for found in series for name in found):
        lines = []
        for place, (run, found) in enumerate(zip(runs, series, strict=True)):
            if metric in found:
                points = array(found[metric]) * (factors[place], 1)
                lines.append(Line(run.name, points, place))
        made.append(Chart(title(metric), metric, lines, across, labels=False, detail=detail))
    return made


def _across(runs: Sequence[Run]) -> tuple[str, list[int]]:
    """Steps, or images where a step is not the same in all runs; and what a step counts."""
    sizes = [run.batch_size for run in runs]
    if all(sizes) and len(set(sizes)) > 1:
        return "images", sizes
    return "step", [1] * len(runs)


def _group(metric: str) -> str:
    owner, _, name = metric.rpartition("/")
    if owner != "train":
        return "Learning"
    return "Optimiser" if name in _OPTIMISER else "Time" if name in _TIME else "Learning"


def _place(metric: str) -> tuple[int, int, bool, str]:
    owner, _, name = metric.rpartition("/")
    orders: Mapping[str, Sequence[str]]
    orders = {"Learning": _FIRST, "Optimiser": _OPTIMISER, "Time": _TIME}
    group = _group(metric)
    known = orders[group]
    place = known.index(name) if name in known else len(known)
    return GROUPS.index(group), place, owner == "train", metric
