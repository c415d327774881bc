"""A profile of a few steps, and the operations that took the most time in it.

JAX writes traces as `plugins/profile/<time>/<host>.xplane.pb`: planes (a device or the host) of
lines (a stream of a GPU, a thread of the host) of events. Viewers are xprof and, for the
`.trace.json.gz` beside it, ui.perfetto.dev.
"""

import dataclasses
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError

# What an operation or a GPU's kernel is, by its name; the first that fits.
_KINDS = (
    ("communication", r"all[-_]?(reduce|gather|to[-_]?all)|reduce[-_]?scatter|permute|nccl"),
    ("attention", r"fmha|flash|sdpa|attention"),
    ("matrix product", r"gemm|\bdot|_dot|matmul|cutlass|cublas|nvjet|xmma"),
    ("convolution", r"conv(?!ert)"),
    ("scatter", r"scatter"),
    ("sort", r"sort"),
    ("random", r"rng|threefry|random"),
    ("reduction", r"reduce|norm"),
    ("fusion", r"fusion"),
    ("copy", r"memcpy|memset|copy|transpose|bitcast|slice|concatenate|broadcast"),
)
_CONTROL = re.compile(r"(while|call|conditional|async[-_].*|tuple|parameter)(\.\d+)?$")

_Span = tuple[float, float, str, str]  # start, minus the duration, name, program


@dataclasses.dataclass(frozen=True)
class Operation:
    """All runs of one operation of one program in a trace."""

    kind: str
    name: str
    program: str
    calls: int
    seconds: float  # over all devices and streams
    share: float  # of all operations' time


def check(config: ConfigDict, total_steps: int) -> None:
    """Raises ConfigError for a window that is empty or not inside the run."""
    start, count = config.report.profile_start, config.report.profile_steps
    if start and not count:
        raise ConfigError(
            f"report.profile_start={start} and report.profile_steps=0 profile nothing: type "
            "--config.report.profile_steps=5."
        )
    if count and start + count > total_steps:
        raise ConfigError(
            f"report.profile_start={start} and report.profile_steps={count} end at step "
            f"{start + count}, beyond the run's {total_steps}: type --config.report.profile_start="
            f"{max(0, total_steps - count)} --config.report.profile_steps="
            f"{min(count, total_steps)}."
        )


class Window:
    """Traces `profile_steps` steps from `profile_start` on, in a run's first process."""

    def __init__(self, config: ConfigDict, workdir: epath.Path, tell: Callable[[str], None]):
        first, count = config.report.profile_start, config.report.profile_steps
        self._steps = range(first, first + count) if jax.process_index() == 0 else range(0)
        self._folder, self._tell = workdir / "profile", tell
        self._tracing = False

    def before(self, step: int, state: Any) -> None:
        """Begins the trace where it is due, once the steps that led to `state` are done; a run that
        was resumed inside the window takes what is left of it."""
        if step in self._steps and not self._tracing:
            jax.block_until_ready(state)
            jax.profiler.start_trace(str(self._folder))
            self._tracing = True

    def ends(self, step: int) -> bool:
        """Whether this step is the last one of the window."""
        return self._tracing and step == self._steps[-1]

    def end(self, metrics: Any) -> None:
        """Waits for the step that gave `metrics`, and prints where the time went."""
        jax.block_until_ready(metrics)
        self.close()
        self._tell("\n".join(_told(self._folder)))

    def close(self) -> None:
        """Ends a trace that is still running."""
        if self._tracing:
            self._tracing = False
            self._steps = range(0)
            jax.profiler.stop_trace()


def _told(folder: epath.Path, count: int = 10) -> list[str]:
    """The lines that a run prints about its trace."""
    found = operations(folder)
    if not found:
        return [f"The profile is in {folder}; it holds no operations of a device."]
    kinds: dict[str, float] = {}
    for row in found:
        kinds[row.kind] = kinds.get(row.kind, 0.0) + row.share
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    lines = [f"The profile is in {folder}. Time of the operations: "]
    lines[0] += ", ".join(f"{kind} {share:.0%}" for kind, share in ordered) + "."
    for row in found[:count]:
        timed = f"{row.share:6.1%} {1e3 * row.seconds:10.3f} ms {row.calls:6d} x"
        lines.append(f"{timed}  {row.kind:14}  {row.name[:60]}")
    return lines


def top_operations(folder: epath.PathLike, count: int = 10) -> list[Operation]:
    """The operations of the newest trace below `folder` that took the most time, longest first."""
    return operations(folder)[:count]


def operations(folder: epath.PathLike) -> list[Operation]:
    """Every operation of the newest trace below `folder`, longest first; [] without a trace.

    What runs inside another one (the body of a loop) counts there alone, where a trace shows it.
    """
    traces = sorted(epath.Path(folder).glob("plugins/profile/*/*.xplane.pb"))
    totals: dict[tuple[str, str], tuple[int, float]] = {}
    with warnings.catch_warnings():  # of types of JAX's that do not name their module
        warnings.simplefilter("ignore", DeprecationWarning)
        for name, program, nanoseconds in _events(traces[-1]) if traces else ():
            calls, total = totals.get((name, program), (0, 0.0))
            totals[name, program] = calls + 1, total + nanoseconds
    whole = sum(total for _, total in totals.values()) or 1.0
    rows = [
        Operation(kind_of(name), name, program, calls, total / 1e9, total / whole)
        for (name, program), (calls, total) in totals.items()
    ]
    return sorted(rows, key=lambda row: (-row.seconds, row.name))


def kind_of(name: str) -> str:
    """What kind of work an operation does, by its name; "other" where that does not tell."""
    lowered = name.lower()
    found = (kind for kind, pattern in _KINDS if re.search(pattern, lowered))
    return next(found, "other")


def _events(path: epath.Path) -> Iterator[tuple[str, str, float]]:
    """(operation, program, nanoseconds of its own) of each run of an operation on any device."""
    planes = list(jax.profiler.ProfileData.from_serialized_xspace(path.read_bytes()).planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:")]
    for plane in devices or planes:
        lines = list(plane.lines)
        # A TPU's plane also sums its operations up to modules and steps, on lines of their own;
        # the threads of a CPU run operations between other events.
        of_tpu = [line for line in lines if line.name == "XLA Ops"]
        of_device = of_tpu or [line for line in lines if line.name.startswith("Stream")]
        for line in of_device or lines:
            yield from _own_times(_spans(line.events, everything=bool(of_device)))


def _spans(events: Any, everything: bool) -> list[_Span]:
    found = []
    for event in events:
        stats = dict(event.stats)
        if everything or "hlo_op" in stats:
            program = str(stats.get("hlo_module", ""))
            found.append((event.start_ns, -event.duration_ns, event.name, program))
    return sorted(found)


def _own_times(spans: Sequence[_Span]) -> Iterator[tuple[str, str, float]]:
    """Each operation of a line without those that ran inside it."""
    running: list[list[Any]] = []  # [end, name, program, own time]
    for start, negative, name, program in [*spans, (math.inf, 0.0, "", "")]:
        while running and running[-1][0] <= start:
            _, ended, of, own = running.pop()
            if not _CONTROL.match(ended):
                yield ended, of, max(own, 0.0)
        if running:
            running[-1][3] += negative
        running.append([start - negative, name, program, -negative])
