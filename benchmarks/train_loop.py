"""The parts of train_step.py that ask what a run adds to its step: the loop, drawing and Python."""

import contextlib
import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import train_cases as cases
from train_cases import Case, Cost, Report, Stepper

from jaxfdsl import experiment, sharding, train
from jaxfdsl.data.batches import Batches
from jaxfdsl.run import logbook

IFS = (
    "fractaldb-1k",
    "exfractaldb-1k",
    "1p-frac",
    "ofdb2d-1k",
    "ofdb3d-1k",
    "svd_fractal-1k",
    "multix-1k",
)
CONTOURS = ("rcdb-1k", "visualatom-1k", "segrcdb")
HOW = {"least": min, "median": statistics.median, "mean": statistics.mean}
TARGETS = {**dict.fromkeys(IFS, 0.03), **dict.fromkeys(CONTOURS, 0.05)}  # of a step, on a GPU


def _run_with(config: Any, wrap: Callable[[Any], Callable[..., Any]]) -> None:
    """`train.run` in a folder that is thrown away, with `wrap(run)` in its train step's place."""
    built = experiment.build

    def wrapped(config: Any) -> Any:
        run = built(config)
        return dataclasses.replace(run, train_step=wrap(run))

    config.eval_every, config.checkpoint_every = 0, config.steps
    config.report.gallery = False
    patch = mock.patch.object(experiment, "build", wrapped)
    # Its status lines are written, and not shown among the tables.
    quiet = contextlib.redirect_stdout(io.StringIO())
    with tempfile.TemporaryDirectory() as folder, patch, quiet:
        train.run(config, folder)


class Turns:
    """Stands in a run's loop for its train step. After every `window` steps of the loop it stops
    the clock, and takes as many steps on a constant batch and draws as many batches.
    """

    def __init__(self, train_step: Callable[..., Any], others: dict[str, Any], window: int):
        self.train_step, self.window = train_step, window
        self.others = others
        self.costs: dict[str, list[Cost]] = {"loop": [], **{name: [] for name in others}}
        self.count = 0
        self._began = (0.0, 0.0)

    def __call__(self, state: Any, *rest: Any) -> Any:
        # The first window compiles.
        if self.count % self.window == 0 and self.count:
            jax.block_until_ready(state)
            now = time.perf_counter(), time.process_time()
            if self.count > self.window:
                spent = [(b - a) / self.window for a, b in zip(self._began, now, strict=True)]
                self.costs["loop"].append(Cost(*spent))
                turn = -1 if len(self.costs["loop"]) % 2 else 1
                for name in list(self.others)[::turn]:
                    self.costs[name].append(cases.cost(self.others[name], self.window))
            self._began = time.perf_counter(), time.process_time()
        self.count += 1
        return self.train_step(state, *rest)


def loop(case: Case, report: Report, windows: int = 8, window: int = 5) -> None:
    """A run's loop beside its step on one constant batch and its drawing, in turns."""
    config = cases.config_of(case)
    config.steps, config.log_every = (windows + 2) * window, window
    parts = cases.build(config)
    draw = parts.drawer()
    others = {"step": Stepper(parts, draw()), "draw": draw}
    for call in others.values():
        jax.block_until_ready(call())
    turns: list[Turns] = []

    def wrap(run: Any) -> Turns:
        turns.append(Turns(run.train_step, others, window))
        return turns[0]

    _run_with(config, wrap)
    costs = turns[0].costs
    row: dict[str, Any] = {"case": case.title, "source": case.source, "steps": window * windows}
    shown: dict[str, Any] = {"loop of": f"{case.title}, {case.source}"}
    for kind in Cost._fields:
        found = {name: [getattr(c, kind) for c in values] for name, values in costs.items()}
        each = zip(found["loop"], found["draw"], found["step"], strict=True)
        over = [loop / step - 1 - draw / step for loop, draw, step in each]
        least = {name: min(values) for name, values in found.items()}
        row[kind] = found
        row[f"{kind}_over"] = statistics.median(over)
        row[f"{kind}_over_of_least"] = (least["loop"] - least["draw"]) / least["step"] - 1
        for name in found:
            shown[f"{name}, {kind} ms"] = f"{1e3 * statistics.median(found[name]):.1f}"
        shown[f"over, {kind}"] = f"{row[f'{kind}_over']:+.1%}"
        shown[f"of least {kind}"] = f"{row[f'{kind}_over_of_least']:+.1%}"
    report.put("loop", row)
    report.line(shown)


def _now() -> Cost:
    """The clock, and what this thread has used of a core."""
    return Cost(time.perf_counter(), time.thread_time())


class Clocks:
    """Seconds spent in named pieces of the loop, call by call: by the clock, and of this thread
    alone, which a busy machine or a device that is waited for does not lengthen."""

    def __init__(self):
        self.spent: dict[str, list[Cost]] = {}

    def add(self, name: str, began: Cost) -> None:
        now = _now()
        spent = Cost(now.wall - began.wall, now.cpu - began.cpu)
        self.spent.setdefault(name, []).append(spent)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = _now()
            try:
                return function(*args, **kwargs)
            finally:
                self.add(name, began)

        return call

    def each(self, name: str, iterator: Callable[..., Iterator]) -> Callable[..., Iterator]:
        """A generator function whose every `next` is timed."""

        def made(*args: Any, **kwargs: Any) -> Iterator:
            values = iterator(*args, **kwargs)
            take = self.timed(name, lambda: next(values, None))
            while (value := take()) is not None:
                yield value

        return made


def python(case: Case, report: Report, steps: int = 400, skip: int = 20) -> None:
    """Where the host's time of a step goes in the real loop; the device's is waited for apart."""
    config = cases.config_of(case)
    config.steps = steps + skip
    clocks, starts = Clocks(), [_now()]

    def wrap(run: Any) -> Callable[..., Any]:
        dispatch = clocks.timed("dispatch", run.train_step)
        wait = clocks.timed("device", jax.block_until_ready)

        def train_step(*args: Any) -> Any:
            clocks.add("all", starts[-1])
            starts.append(_now())
            return wait(dispatch(*args))

        return train_step

    pieces = (
        (sharding, "put_rows", clocks.timed("put_rows", sharding.put_rows)),
        (Batches, "iterator", clocks.each("rows", Batches.iterator)),
        (logbook.Logbook, "step_done", clocks.timed("metrics", logbook.Logbook.step_done)),
    )
    for place, name, timed in pieces:
        patch = mock.patch.object(place, name, timed)
        patch.start()
    try:
        _run_with(config, wrap)
    finally:
        mock.patch.stopall()
    # From one step's start to the next: its dispatch, the metrics of the one before, new rows.
    clocks.spent["all"].pop(0)
    names = ("rows", "put_rows", "dispatch", "metrics", "device", "all")
    row: dict[str, Any] = {"case": case.title, "steps": steps}
    shown: dict[str, Any] = {"Python of": case.title}
    for name in names:
        wall, cpu = zip(*clocks.spent[name][skip : skip + steps - 1], strict=True)
        if name == "all":  # the device is waited for within it
            waits = clocks.spent["device"][skip : skip + steps - 1]
            wall = tuple(w - wait.wall for w, wait in zip(wall, waits, strict=True))
        row[name] = {how: Cost(of(wall), of(cpu))._asdict() for how, of in HOW.items()}
        for kind in Cost._fields:
            cells = (f"{1e3 * row[name][how][kind]:.2f}" for how in HOW)
            shown[f"{name}, {kind} ms"] = " / ".join(cells)
    print(f"\nleast / median / mean of {steps - 1} steps; cpu: of the loop's thread")
    report.put("python", row)
    report.line(shown)


def drawing(
    drawn: list[Case],
    model: Case,
    report: Report,
    rounds: int,
    at_once: int,
    left: Callable[[], float],
) -> None:
    """What drawing costs an image, alone, and its share of a step of `model` that draws first;
    `at_once` sets take turns with that step. Sets are left out once `left()` seconds are few."""
    stepper = Stepper(cases.build(cases.config_of(model)))
    jax.block_until_ready(stepper())
    for first in range(0, len(drawn), at_once):
        if left() < 30:
            return
        group = drawn[first : first + at_once]
        turns = {"step": lambda n: cases.cost(stepper, n)}
        for case in group:
            draw = cases.build(cases.config_of(case)).drawer()
            jax.block_until_ready(draw())
            turns[f"{case.source} {case.canvas}"] = lambda n, draw=draw: cases.cost(draw, n)
        costs = cases.alternate(turns, rounds)
        for case in group:
            spent = costs[f"{case.source} {case.canvas}"]
            _drawing_row(case, model, cases.middle(spent), cases.middle(costs["step"]), report)


def _drawing_row(asked: Case, model: Case, drawn: Cost, step: Cost, report: Report) -> None:
    row: dict[str, Any] = {"source": asked.source, "canvas": asked.canvas, "model": model.title}
    shown: dict[str, Any] = {"drawing": asked.source, "canvas": asked.canvas or "published"}
    for kind in Cost._fields:
        each, own = getattr(drawn, kind) / asked.batch, getattr(step, kind) / model.batch
        row |= {f"{kind}_draw": each, f"{kind}_step": own, f"{kind}_share": each / (each + own)}
        shown[f"{kind} ms an image"] = f"{1e3 * each:.3f}"
        shown[f"{model.variant} step, {kind} ms an image"] = f"{1e3 * own:.3f}"
        shown[f"share, {kind}"] = f"{each / (each + own):.2%}"
    target = TARGETS.get(asked.source)
    shown["at most, on a GPU"] = f"{target:.0%}" if target else ""
    report.put("drawing", row)
    report.line(shown)
