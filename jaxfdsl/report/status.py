"""How a run is getting on: one line that renews itself on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

_CLEAR = "\r\x1b[K"  # to the line's beginning, then erase it


class Status:
    """Prints `step 1200/3000 40%  loss 2.31  4,812 img/s  51.3% MFU  eta 12m 10s`, by default to
    stdout."""

    def __init__(
        self,
        total_steps: int,
        *,
        stream: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total_steps
        self._stream = stream or sys.stdout
        self._clock = clock
        self._live = self._stream.isatty()
        self._mark: tuple[int, float] | None = None  # step and time of the update before
        self._pace: float | None = None  # seconds a step

    def update(self, step: int, values: Mapping[str, float | int | None]) -> None:
        """Shows the state after `step`; `values` are shown by name, None is left out.

        The time left counts from the first update on, so that compilation is not in it, and
        evaluations and checkpoints are.
        """
        now = self._clock()
        if self._mark and step > self._mark[0]:
            pace = (now - self._mark[1]) / (step - self._mark[0])
            self._pace = pace if self._pace is None else 0.7 * self._pace + 0.3 * pace
        self._mark = (step, now)
        share = 100 * step // max(self._total, 1)
        parts = [f"step {step}/{self._total} {share}%"]
        parts += [_shown(name, value) for name, value in values.items() if value is not None]
        if self._pace is not None and step < self._total:
            parts.append(f"eta {duration(self._pace * (self._total - step))}")
        self._print("  ".join(parts))

    def _print(self, line: str) -> None:
        self._stream.write(_CLEAR + line if self._live else line + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leaves the last line standing."""
        if self._live and self._mark:
            self._stream.write("\n")
            self._stream.flush()
        self._mark = None


def _shown(name: str, value: float | int) -> str:
    if name == "MFU":
        return f"{value:.1%} {name}"
    if name.endswith("/s"):
        return f"{value:,.0f} {name}" if value >= 10 else f"{value:.2f} {name}"
    return f"{name} {value:.4g}"


def duration(seconds: float | int) -> str:
    """Seconds as people say them: 42s, 3m 20s, 3h 00m, 2d 7h."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes:02d}m"
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds}s"
