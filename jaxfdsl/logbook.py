"""What a run tells while it goes: metric lines, the status line, and where the time went."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath

from jaxfdsl.config import ConfigError


class Meter:
    """Averages of the steps since the last line, images per second, and the share of the time
    that the loop stood waiting for input. Its clock starts when the first step is done, so that
    compilation does not count, and stands still inside `paused`."""

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._restart(None)

    def _restart(self, now: float | None) -> None:
        self._since = now
        self._waited, self._timed = 0.0, 0
        self._seen: list[Mapping[str, Any]] = []

    def add(self, metrics: Mapping[str, jax.typing.ArrayLike]) -> None:
        """Takes one step's metrics, which have arrived."""
        self._seen.append(metrics)
        if self._since is None:
            self._since, self._waited = time.monotonic(), 0.0  # what came before was compilation
        else:
            self._timed += 1

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts what runs inside as waiting for input."""
        start = time.monotonic()
        yield
        self._waited += time.monotonic() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what runs inside out of the rates."""
        start = time.monotonic()
        yield
        if self._since is not None:
            self._since += time.monotonic() - start

    def line(self) -> dict[str, float]:
        """The averages and rates since the last line, and starts over."""
        now = time.monotonic()
        line = {
            f"train/{k}": float(np.mean([m[k] for m in self._seen], dtype=float))
            for k in self._seen[-1]
        }
        line["train/learning_rate"] = float(self._seen[-1]["learning_rate"])
        if self._since is not None and self._timed:
            elapsed = max(now - self._since, 1e-9)
            line["train/images_per_second"] = self._timed * self._batch_size / elapsed
            line["train/input_wait"] = self._waited / elapsed
        self._restart(now)
        return line


class Logbook:
    """Writes a run's metrics and status from its first process; silent on the others."""

    def __init__(self, config: Any, workdir: epath.Path, *, start: int, total: int):
        from jaxfdsl.report import status, writers

        self.meter = Meter(config.batch_size)
        self._config, self._total = config, total
        self._lead = jax.process_index() == 0
        self._writer = self._status = None
        if self._lead:
            self._writer = writers.MetricsWriter(
                workdir, tensorboard=config.report.tensorboard, restored_step=start
            )
        if self._lead and config.report.status:
            self._status = status.Status(total)

    def step_done(self, step: int, metrics: Mapping[str, jax.typing.ArrayLike]) -> None:
        """Fetches the metrics of the step that made state `step`, and writes when a line is due.

        Raises ConfigError when the loss or its gradient is not finite, before anything is saved.
        """
        values = jax.device_get(dict(metrics))
        self.meter.add(values)
        if not (np.isfinite(values["loss"]) and np.isfinite(values["grad_norm"])):
            rate = self._config.optimizer.learning_rate
            raise ConfigError(
                f"loss={values['loss']} and grad_norm={values['grad_norm']} at step {step}: lower "
                f"--config.optimizer.learning_rate={rate} or type --config.optimizer.clip_norm=1."
            )
        if step % self._config.log_every and step != self._total:
            return
        line = self.meter.line()
        self.write(step, line)
        if self._status:
            speed = line.get("train/images_per_second")
            self._status.update(step, {"loss": line["train/loss"], "img/s": speed})

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes values that belong to a step."""
        if self._writer:
            self._writer.write(step, values)

    def close(self) -> None:
        """Ends the status line and closes the files."""
        for sink in (self._status, self._writer):
            if sink:
                sink.close()


def say(text: str) -> None:
    """Prints a line, once whatever the number of processes."""
    if jax.process_index() == 0:
        print(text, flush=True)
