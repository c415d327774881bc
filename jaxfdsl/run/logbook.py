"""What a run tells while it goes: metric lines and the status line."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from PIL import Image

from jaxfdsl import config as config_lib
from jaxfdsl.run.meter import Meter
from jaxfdsl.run.nonfinite import Watch


class Logbook:
    """Writes a run's metrics and status from its first process; silent on the others.

    `rows(n)` are this process's rows of the batch of step n, for a report of what went wrong.
    """

    def __init__(
        self,
        config: Any,
        workdir: epath.Path,
        *,
        start: int,
        total: int,
        rows: Callable[[int], Any] = lambda step: {},
        mfu_at_one: float | None = None,
    ):
        from jaxfdsl.report import status, weights_and_biases, writers

        self.meter = Meter(config.batch_size, mfu_at_one)
        self._config, self._total = config, total
        self._watch = Watch(config, workdir, rows, say)
        self._on_device: tuple[int, Mapping[str, Any]] | None = None
        lead = jax.process_index() == 0
        self._writer = self._status = None
        if lead:
            self._writer = writers.MetricsWriter(
                workdir,
                tensorboard=config.report.tensorboard,
                restored_step=start,
                online=weights_and_biases.begin(config, workdir),
            )
            if start == 0:
                self._introduce(self._writer, workdir)
        if lead and config.report.status:
            self._status = status.Status(total)

    def _introduce(self, writer: Any, workdir: epath.Path) -> None:
        """What the run is, for those who look at a copy of its metrics: config and gallery."""
        writer.text(0, "config", f"```json\n{config_lib.to_json(self._config)}\n```")
        path = workdir / "gallery.png"
        if self._config.report.gallery and path.exists():
            with path.open("rb") as file, Image.open(file) as image:
                writer.image(0, "gallery", np.asarray(image.convert("RGB")))

    def step_done(self, step: int, metrics: Mapping[str, jax.typing.ArrayLike]) -> None:
        """Takes the metrics of the step that made state `step`, still on the device, and settles
        those of the step before: fetched so late, they hold up nothing."""
        before, self._on_device = self._on_device, (step, metrics)
        if before:
            self._settle(*before)

    def settle(self) -> None:
        """Waits for the metrics of the last step, before anything is made of its state.

        Raises ConfigError when its loss or gradient is not finite and the run has to stop.
        """
        last, self._on_device = self._on_device, None
        if last:
            self._settle(*last)

    def _settle(self, step: int, metrics: Mapping[str, jax.typing.ArrayLike]) -> None:
        values = jax.device_get(dict(metrics))
        self.meter.add(values)
        self._watch.see(step, values)
        if step % self._config.log_every and step != self._total:
            return
        line = self.meter.line()
        self.write(step, line)
        if self._status:
            shown = {"loss": "loss", "images_per_second": "img/s", "mfu": "MFU"}
            found = {name: line.get(f"train/{key}") for key, name in shown.items()}
            self._status.update(step, found | {"skipped": line.get("train/skipped") or None})

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
