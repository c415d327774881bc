"""A run's copy on Weights & Biases, for those who name a project in `config.report.wandb`.

The package is imported here alone, and only then. A run that goes on continues the same page there:
its id lies in the workdir. What the page has already is not sent again.
"""

import importlib.util
import json
import sys
import uuid
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import UInt8
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.report.writers import write_whole

ID_FILE = "wandb.json"


def check(config: ConfigDict) -> None:
    """Raises ConfigError where the package is asked for and not installed."""
    project = config.report.wandb
    found = importlib.util.find_spec("wandb") if project else None
    # Its own folder of runs, where this was started, looks like a package without an origin.
    if project and (found is None or found.origin is None):
        raise ConfigError(
            f"report.wandb={project!r} needs the package wandb: type pip install "
            '"jaxfdsl[wandb]", or --config.report.wandb= to do without.'
        )


def begin(config: ConfigDict, workdir: epath.Path) -> "WandbWriter | None":
    """The writer of a run; None where no project is named. Raises ConfigError where wandb refuses
    to start, as without a login.
    """
    if not config.report.wandb:
        return None
    check(config)
    import wandb

    bucket = "://" in str(workdir)
    try:
        run = wandb.init(
            project=config.report.wandb,
            name=workdir.name,
            id=_run_id(workdir),
            resume="allow",
            dir=None if bucket else str(workdir),
            config=json.loads(config_lib.to_json(config)),
        )
    except wandb.errors.Error as error:
        raise ConfigError(
            f"report.wandb={config.report.wandb!r}: wandb does not start "
            f"({' '.join(str(error).split())}); type `wandb login` first, or WANDB_MODE=offline "
            "before the command, or --config.report.wandb= to do without."
        ) from error
    return WandbWriter(run, wandb.Image)


class WandbWriter:
    """Writes scalars and pictures; `image_type` is `wandb.Image`."""

    def __init__(self, run: Any, image_type: Any):
        self._run, self._image_type = run, image_type

    def scalar(self, step: int, name: str, value: float) -> None:
        """One number."""
        self._log(step, name, value)

    def image(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """One picture."""
        self._log(step, name, self._image_type(pixels))

    def text(self, step: int, name: str, text: str) -> None:
        """Nothing: the config, which is all text that a run tells, is on the page already."""

    def flush(self) -> None:
        """Nothing: what was logged is sent by a process of wandb's own."""

    def close(self) -> None:
        """Ends the page's run: as failed where an exception is on its way."""
        self._run.finish(exit_code=int(sys.exc_info()[0] is not None))

    def _log(self, step: int, name: str, value: Any) -> None:
        if step >= self._run.step:  # steps never go back there, and a resumed run repeats some
            self._run.log({name: value}, step=step)


def _run_id(workdir: epath.Path) -> str:
    """The id in the workdir; a new one, noted there, at the first start."""
    path = workdir / ID_FILE
    try:
        return str(json.loads(path.read_text())["id"])
    except (OSError, ValueError, KeyError, TypeError):
        made = uuid.uuid4().hex[:8]
    write_whole(path, json.dumps({"id": made}) + "\n")
    return made
