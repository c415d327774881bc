"""The metrics of a run: `metrics.jsonl`, which is the truth, and its copies elsewhere."""

import contextlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8

from jaxfdsl.report.tensorboard import EventWriter

FILE = "metrics.jsonl"


class MetricsWriter:
    """Appends one JSON object a line, `{"step": 50, "train/loss": 2.3, ...}`.

    Lines of steps after `restored_step` belong to a run that was cut off and are dropped, so that a
    resumed run leaves the file that an unbroken one would leave. TensorBoard has a copy, and so has
    `online`, a writer with the methods of `EventWriter`.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        *,
        tensorboard: bool = True,
        restored_step: int = 0,
        online: Any = None,
    ):
        folder = epath.Path(workdir)
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        _truncate(self._path, restored_step)
        # A bucket knows no appending: gcsfs would begin the file anew, and show it once closed.
        bucket = "://" in str(folder)
        self._file = None if bucket else self._path.open("a")
        self._text = self._path.read_text() if bucket and self._path.exists() else ""
        events = EventWriter(folder, restored_step + 1) if tensorboard else None
        self._copies = [copy for copy in (events, online) if copy]

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """One line of numbers; one that is not finite becomes null, for which JSON has no word."""
        numbers = {name: float(value) for name, value in values.items()}
        line = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        text = json.dumps({"step": int(step), **line}) + "\n"
        if self._file:
            self._file.write(text)
            self._file.flush()
        else:
            self._text += text
            self._path.write_text(self._text)
        for copy in self._copies:
            for name, value in numbers.items():
                copy.scalar(step, name, value)
            copy.flush()

    def image(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """A picture, for the copies alone."""
        for copy in self._copies:
            copy.image(step, name, pixels)

    def text(self, step: int, name: str, text: str) -> None:
        """A text in Markdown, for the copies alone."""
        for copy in self._copies:
            copy.text(step, name, text)

    def close(self) -> None:
        """Closes the files; what a full disk refused has been raised by `write`."""
        for file in (self._file, *self._copies):
            with contextlib.suppress(OSError):
                if file:
                    file.close()


def read(workdir: epath.PathLike) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, in order, as far as they are whole; [] without the file."""
    path = epath.Path(workdir) / FILE
    if not path.exists():
        return []
    lines = []
    for text in path.read_bytes().splitlines():
        try:
            line = json.loads(text)
        except ValueError:  # the last line of a killed run may be cut
            break
        lines += [line] if isinstance(line, dict) else []
    return lines


def _truncate(path: epath.Path, step: int) -> None:
    if not path.exists():
        return
    kept = [line for line in read(path.parent) if line["step"] <= step]
    write_whole(path, "".join(json.dumps(line) + "\n" for line in kept))


def write_whole(path: epath.Path, text: str) -> None:
    """Writes a text file so that a run which is killed, or a full disk, leaves the old one."""
    fresh = path.with_name(f"{path.name}.tmp")
    fresh.write_text(text)
    fresh.replace(path)
