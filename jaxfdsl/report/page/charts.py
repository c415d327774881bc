"""Line charts as inline SVG: colours come from the page's style, so that they suit the dark too.

A chart is drawn for a column of 340 pixels and scales with it. The page's script shows the values
under a finger or the mouse; without it the last values stand below.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float64
from matplotlib.ticker import EngFormatter, MaxNLocator

from jaxfdsl.report.curves import running_mean
from jaxfdsl.report.page import numbers
from jaxfdsl.report.page.markup import Markup, tag

COLORS = 8  # as many as style.css has; further lines take them again, dashed
_WIDTH, _HEIGHT = 340, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 24
_FEW = 13  # so few points are shown as points
_engineering = EngFormatter(sep="")


@dataclasses.dataclass(frozen=True)
class Line:
    """What one line shows; `color` counts the lines' colours from 0."""

    label: str
    points: Float64[np.ndarray, "n 2"]
    color: int
    dashed: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """One panel. `metric` decides how its numbers read; `detail` is the points that a line has."""

    title: str
    metric: str
    lines: Sequence[Line]
    across: str = "step"
    labels: bool = True  # below the panel; else only their colours and values
    detail: int = 160


def figure(chart: Chart) -> Markup:
    """The panel with its title and the last value of every line."""
    values = np.concatenate([line.points[:, 1] for line in chart.lines])
    share = numbers.is_share(chart.metric, values.tolist())
    shown = numbers.percent if share else numbers.plain
    return tag(
        "figure",
        tag("figcaption", tag("h4", chart.title), tag("span", "", class_="at")),
        _drawing(chart, values, share, shown),
        _legend(chart, shown),
        class_="chart",
        data_share="1" if share else None,
    )


def _legend(chart: Chart, shown: Callable[[float], str]) -> Markup:
    items = []
    for line in chart.lines:
        last = float(line.points[-1, 1])
        name = tag("span", line.label, class_="label") if chart.labels else None
        dot = tag("i", "", class_=_classes("dot", line))
        items.append(tag("li", dot, name, numbers.exact(last, shown(last)), title=line.label))
    return tag("ul", items, class_="legend")


def _classes(kind: str, line: Line) -> str:
    dashed = line.dashed or line.color >= COLORS
    return f"{kind} c{line.color % COLORS}{' dashed' if dashed else ''}"


def _drawing(
    chart: Chart, values: np.ndarray, share: bool, shown: Callable[[float], str]
) -> Markup:
    last = max(float(line.points[-1, 0]) for line in chart.lines)
    first = min(0.0, *(float(line.points[0, 0]) for line in chart.lines))
    across = _Scale(first, max(last, first + 1), _LEFT, _WIDTH - _RIGHT)
    low, high = _range(chart, values, share)
    up = _Scale(low, high, _HEIGHT - _BOTTOM, _TOP)
    grid: list[Markup] = []
    for tick in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high):
        if low <= tick <= high:
            y = up.at(tick)
            grid.append(tag("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
            text = f"{100 * tick:.4g}%" if share else _tick(tick)
            grid.append(tag("text", text, x=_LEFT - 7, y=round(y + 3.5, 1), text_anchor="end"))
    ticks = MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]).tick_values(first, last)
    for tick in ticks:
        if first <= tick <= last:
            x = across.at(tick)
            anchor = "end" if x > _WIDTH - 30 else "middle"
            text = _engineering(tick)
            grid.append(tag("text", text, x=x, y=_HEIGHT - 8, text_anchor=anchor))
    drawn = [_line(line, across, up, chart.detail, len(chart.lines)) for line in chart.lines]
    cursor = tag("line", x1=0, x2=0, y1=_TOP, y2=_HEIGHT - _BOTTOM, class_="cursor")
    said = ", ".join(f"{x.label} {shown(float(x.points[-1, 1]))}" for x in chart.lines[:8])
    return tag(
        "svg",
        grid,
        drawn,
        cursor,
        viewBox=f"0 0 {_WIDTH} {_HEIGHT}",
        role="img",
        aria_label=f"{chart.title} by {chart.across}; last values: {said}",
        data_x=f"{across.low:g} {across.high:.10g} {across.start} {across.end}",
        data_y=f"{up.low:.10g} {up.high:.10g} {up.start} {up.end}",
        data_across=chart.across,
    )


def _tick(value: float) -> str:
    if abs(value) >= 1e4:
        return _engineering(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("e-0", "e-")


@dataclasses.dataclass(frozen=True)
class _Scale:
    """From values `low` to `high` to pixels `start` to `end`."""

    low: float
    high: float
    start: int
    end: int

    def at(self, value: float) -> float:
        part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)


def _range(chart: Chart, values: np.ndarray, share: bool) -> tuple[float, float]:
    """What the axis shows: from zero where zero means something, all else as near as it goes."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and (share or "loss" not in chart.metric):
        low = 0.0
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1)
    room = 0.06 * (high - low)
    high = min(high + room, 1.0) if share and high <= 1 else high + room
    return (low if low == 0 else low - room), high


def _line(line: Line, across: _Scale, up: _Scale, detail: int, lines: int) -> list[Markup]:
    points, edges = thinned(line.points, detail)
    places = [(across.at(x), up.at(y)) for x, y in points]
    made = []
    if edges is not None and lines <= 2:
        lower = [(x, up.at(y)) for (x, _), y in zip(places, edges[:, 0], strict=True)]
        upper = [(x, up.at(y)) for (x, _), y in zip(places, edges[:, 1], strict=True)]
        made.append(tag("path", d=f"{_path(lower + upper[::-1])}Z", class_=_classes("band", line)))
    made.append(tag("path", d=_path(places), class_=_classes("line", line)))
    ends = places if len(places) < _FEW else places[-1:]
    return made + [tag("circle", cx=x, cy=y, r=2.8, class_=_classes("point", line))
                   for x, y in ends]  # fmt: skip


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def thinned(
    points: Float64[np.ndarray, "n 2"], detail: int
) -> tuple[Float64[np.ndarray, "m 2"], Float64[np.ndarray, "m 2"] | None]:
    """At most about `detail` points: the running mean of as many parts, and the least and the
    greatest value of each part. A line that is short enough stays as it is, without those."""
    if len(points) <= max(detail, 2):
        return points, None
    parts = np.array_split(points, detail)
    smooth = running_mean(points[:, 1], len(points) // 50)
    kept = np.cumsum([len(part) for part in parts]) - 1  # the last step is among them
    middle = np.stack([points[kept, 0], smooth[kept]], axis=1)
    return middle, np.array([[part[:, 1].min(), part[:, 1].max()] for part in parts])
