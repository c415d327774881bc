"""Where a run's time goes: rates and shares, one set for each line of metrics."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from jaxfdsl.costs import devices, flops
from jaxfdsl.experiment import Experiment


class Meter:
    """Averages of the steps since the last line, and what became of the time.

    Its clock starts when the first step is done, so that compilation does not count. A line has
    - `train/images_per_second` and `train/step_seconds`, of the time outside `paused`;
    - `train/mfu`: the model's FLOP a second (`costs.flops`) over what the devices can do, where
      that is known;
    - `train/input_wait`: the share of a step in which the loop stood waiting for its batch;
    - `train/drawing`: the share of a step that drawing takes when it is done alone;
    - `train/evaluation` and `train/checkpoint`: shares of all time since the last line. Of a
      checkpoint, what held up the loop: the rest is written while it goes on;
    - `train/skipped`: steps whose update was left out, with `nonfinite="skip"`;
    - the mean of each of the step's own metrics, over the steps that were not left out.
    """

    def __init__(self, batch_size: int, mfu_at_one: float | None = None):
        self._batch_size = batch_size
        self._mfu_at_one = mfu_at_one  # at one image a second
        self.draw_seconds: float | None = None  # what drawing a batch alone takes
        self._restart(None)

    def _restart(self, now: float | None) -> None:
        self._since = now
        self._waited, self._timed = 0.0, 0
        self._paused: dict[str, float] = {}
        self._seen: list[Mapping[str, Any]] = []

    def add(self, metrics: Mapping[str, jax.typing.ArrayLike]) -> None:
        """Takes one step's metrics, which have arrived."""
        self._seen.append(metrics)
        if self._since is None:  # what came before was compilation
            self._since, self._waited, self._paused = time.monotonic(), 0.0, {}
        else:
            self._timed += 1

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts what runs inside as waiting for input."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self, what: str) -> Iterator[None]:
        """Leaves what runs inside out of the rates: "evaluation", "checkpoint", or other things."""
        start = time.monotonic()
        yield
        self._paused[what] = self._paused.get(what, 0.0) + time.monotonic() - start

    def line(self) -> dict[str, float]:
        """The averages, rates and shares since the last line, and starts over."""
        now = time.monotonic()
        taken = [m for m in self._seen if not m.get("skipped")]
        line = {f"train/{k}": _mean([m[k] for m in taken]) for k in self._seen[-1]}
        line["train/learning_rate"] = float(self._seen[-1]["learning_rate"])
        if "skipped" in self._seen[-1]:
            line["train/skipped"] = float(sum(float(m["skipped"]) for m in self._seen))
        if self._since is not None and self._timed:
            line |= self._rates(max(now - self._since, 1e-9))
        self._restart(now)
        return line

    def _rates(self, elapsed: float) -> dict[str, float]:
        """`elapsed` is all time since the last line, in seconds."""
        training = max(elapsed - sum(self._paused.values()), 1e-9)
        seconds = training / self._timed
        rates = {"images_per_second": self._batch_size / seconds, "step_seconds": seconds}
        if self._mfu_at_one is not None:
            rates["mfu"] = self._mfu_at_one * self._batch_size / seconds
        rates["input_wait"] = self._waited / training
        if self.draw_seconds is not None:
            rates["drawing"] = self.draw_seconds / seconds
        for what in ("evaluation", "checkpoint"):
            rates[what] = self._paused.get(what, 0.0) / elapsed
        return {f"train/{name}": value for name, value in rates.items()}


def _mean(values: list[jax.typing.ArrayLike]) -> float:
    """Of the finite values; not a number if there is none."""
    found = np.asarray(values, float)
    found = found[np.isfinite(found)]
    return float(np.mean(found)) if found.size else float("nan")


def mfu_at_one(parts: Experiment) -> float | None:
    """Model FLOP utilisation at one image a second; None where the devices' peak is not known."""
    design, device = parts.model.design, parts.mesh.devices.flat[0]
    if device.platform == "gpu" and str(design.dtype) == "float32":
        return None  # it hangs on the precision that XLA chooses
    peak = devices.peak(device.device_kind)
    text = parts.model.text.design if parts.model.text else None
    return flops.training(design, text) / (peak * parts.mesh.size) if peak else None


def drawing_seconds(parts: Experiment, key: jax.Array, step: int, rows: Any) -> float | None:
    """Seconds that drawing a batch takes on its own: the least of three, after two; None where
    the images do not fit beside the state. Every process calls it at the same step.
    """
    number = np.int32(step)

    def timed() -> float:
        start = time.monotonic()
        jax.block_until_ready(parts.draw_batch(key, number, rows, parts.tables))
        return time.monotonic() - start

    try:
        return min([timed() for _ in range(5)][2:])
    except jax.errors.JaxRuntimeError:
        return None
