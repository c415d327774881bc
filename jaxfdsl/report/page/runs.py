"""What a run left in its folder, as far as it can be read; what cannot be is said."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.report import run_file, writers
from jaxfdsl.report.page import numbers

Point = tuple[int, float]


@dataclasses.dataclass(frozen=True)
class Run:
    """One workdir. `name` tells it from the others of the page."""

    workdir: str
    name: str
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lines: Sequence[Mapping[str, float]] = ()  # of metrics.jsonl, without what is not finite
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of run.json
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    later: Mapping[str, list[Point]] = dataclasses.field(default_factory=dict)  # evaluation.json
    notes: tuple[str, ...] = ()  # what was missing or broken, a sentence each

    @property
    def series(self) -> dict[str, list[Point]]:
        """Every metric's (step, value), by name."""
        found: dict[str, list[Point]] = {}
        for line in self.lines:
            for name, value in line.items():
                if name != "step":
                    found.setdefault(name, []).append((int(line["step"]), value))
        return found

    @property
    def results(self) -> dict[str, list[Point]]:
        """What the evaluations measured, those of `jaxfdsl evaluate` too, by step."""
        own = {k: v for k, v in self.series.items() if not k.startswith("train/")}
        names = {**own, **self.later}
        return {k: sorted({**dict(self.later.get(k, [])), **dict(own.get(k, []))}.items())
                for k in names}  # fmt: skip

    @property
    def steps(self) -> int:
        """The last step that is known of."""
        ends = [int(line["step"]) for line in self.lines]
        return max([*ends, _whole(self.summary.get("steps"))], default=0)

    @property
    def total_steps(self) -> int:
        """How many the run was to take; 0 where that is not known."""
        known = (self.facts.get("total_steps"), self.config.get("steps"))
        finished = self.summary.get("steps") if self.summary.get("finished") else 0
        return next(filter(None, map(_whole, (*known, finished))), 0)

    @property
    def batch_size(self) -> int:
        """Images of a step; 0 where that is not known."""
        return _whole(self.config.get("batch_size"))

    @property
    def devices(self) -> str:
        """Those of the last start, "1 x cpu"; empty where that is not known."""
        starts = self.facts.get("starts")
        last = starts[-1] if isinstance(starts, list) and starts else {}
        return str(last.get("devices", "")) if isinstance(last, dict) else ""


def best(name: str, points: Sequence[Point]) -> Point:
    """The first of the best points: the least of a loss, the greatest of the rest."""
    sign = -1 if numbers.lower_is_better(name) else 1
    return max(points, key=lambda point: (sign * point[1], -point[0]))


def read_all(workdirs: Sequence[str]) -> list[Run]:
    """The runs of some folders. Raises ConfigError for a folder that holds none."""
    if not workdirs:
        raise ConfigError("report needs a run: type jaxfdsl report WORKDIR.")
    given = list(dict.fromkeys(os.path.expanduser(w) for w in workdirs))
    return [_read(workdir, name) for workdir, name in zip(given, _names(given), strict=True)]


def _names(workdirs: Sequence[str]) -> list[str]:
    """The last part of each path, or as many as tell them apart."""
    whole = [w if "://" in w else os.path.abspath(w) for w in workdirs]
    parts = [[part for part in w.split("/") if part] or ["/"] for w in whole]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(workdirs)


def _read(workdir: str, name: str) -> Run:
    folder = _opened(workdir)
    notes: list[str] = []
    config = _json(folder / "config.json", notes)
    lines, spoiled = _lines(folder, notes)
    notes += [f"{key} was not finite in {count} of {len(lines)} lines."
              for key, count in spoiled.items()]  # fmt: skip
    return Run(
        workdir=workdir,
        name=name,
        config=_filled(config, notes),
        lines=lines,
        facts=_json(folder / run_file.NAME, notes, needed=False),
        summary=_json(folder / "summary.json", notes, needed=False),
        later=_later(_json(folder / "evaluation.json", notes, needed=False)),
        notes=tuple(notes),
    )


def _opened(workdir: str) -> epath.Path:
    """The folder of a run. Raises ConfigError where it is none."""
    try:
        folder = epath.Path(workdir)
        there = folder.is_dir()
        found = [n for n in ("config.json", writers.FILE) if there and (folder / n).exists()]
    except Exception as error:  # a bucket's own errors are of many kinds
        raise ConfigError(
            f"{workdir} cannot be opened ({error}): type the workdir of a run that can."
        ) from error
    if not there:
        raise ConfigError(f"{folder} is not there: type the workdir of a run.")
    if not found:
        raise ConfigError(
            f"{folder} holds neither config.json nor {writers.FILE}: type the workdir of a run."
        )
    return folder


def _json(path: epath.Path, notes: list[str], *, needed: bool = True) -> dict[str, Any]:
    if not path.exists():
        notes += [f"{path.name} is missing."] if needed else []
        return {}
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        notes.append(f"{path.name} cannot be read.")
        return {}
    return value


def _filled(config: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """With the defaults of the fields that the run's version did not have."""
    if not config:
        return config
    try:
        return json.loads(config_lib.to_json(config_lib.from_json(json.dumps(config))))
    except (ValueError, TypeError, KeyError, AttributeError):
        notes.append("config.json is not of this version: it is shown as it is.")
        return config


def _lines(folder: epath.Path, notes: list[str]) -> tuple[list[dict[str, float]], dict[str, int]]:
    """The lines with their finite values, and how often each name had none."""
    try:
        found = writers.read(folder)
    except (OSError, ValueError, RecursionError):
        notes.append(f"{writers.FILE} cannot be read.")
        return [], {}
    lines, spoiled = [], dict[str, int]()
    for line in found:
        if not _is_number(line.get("step")):
            continue
        lines.append({name: float(value) for name, value in line.items() if _is_number(value)})
        for name in line.keys() - lines[-1].keys():
            spoiled[name] = spoiled.get(name, 0) + 1
    if not lines:
        notes.append("No metrics were logged yet.")
    return lines, dict(sorted(spoiled.items()))


def _later(steps: Mapping[str, Any]) -> dict[str, list[Point]]:
    found: dict[str, list[Point]] = {}
    for step, values in steps.items():
        if step.isdigit() and isinstance(values, dict):
            for name, value in values.items():
                if _is_number(value):
                    found.setdefault(name, []).append((int(step), float(value)))
    return found


def _is_number(value: Any) -> bool:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return known and abs(value) <= sys.float_info.max  # which is no NaN, and no longer integer


def _whole(value: Any) -> int:
    return int(value) if _is_number(value) else 0


def array(points: Sequence[Point]) -> np.ndarray:
    """float64[n, 2], in the order of steps."""
    return np.array(sorted(points), np.float64).reshape(-1, 2)
