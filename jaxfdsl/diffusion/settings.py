"""How samples are made of a denoiser, which options say so, and what of that is refused."""

import dataclasses
import difflib
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.models.sampler import METHODS

# Options of the verb that are of a run alone, and of a formula alone.
OWN = (
    "recipes", "images", "guidance", "sample_steps", "method", "weaker", "step", "batch",
    "licence",
)  # fmt: skip
OF_FORMULAS = ("classes", "instances", "size", "beam", "option")


@dataclasses.dataclass(frozen=True)
class Settings:
    """`guidance` w is away from the model without a condition, or from the one at `weaker`: another
    step of the run (digits), or the workdir of another one. 1 is the model alone."""

    guidance: float = 1.0
    steps: int = 25
    method: str = "heun"
    weaker: str = ""

    def check(self, name: Callable[[str], str] = str) -> None:
        """Raises ConfigError for what cannot be; `name` says how a field is typed."""
        if not (math.isfinite(self.guidance) and self.guidance >= 0):
            raise ConfigError(f"{name('guidance')}={self.guidance:g}: type 0 or more; 1 is none.")
        if self.steps < 1:
            raise ConfigError(f"{name('steps')}={self.steps}: type 1 or more, such as 25.")
        if self.method not in METHODS:
            near = difflib.get_close_matches(self.method, METHODS, n=1)
            hint = near[0] if near else f"one of {', '.join(METHODS)}"
            raise ConfigError(f"{name('method')}={self.method!r} is not known: type {hint}.")
        if self.weaker and self.guidance == 1:
            raise ConfigError(
                f"{name('weaker')}={self.weaker!r} has no part in {name('guidance')}=1: type a "
                "guidance of 1.5, say, or leave it out."
            )


def flag(name: str) -> str:
    """The option of `jaxfdsl materialise` for a field: a bare `--steps` would be of training."""
    return "--sample_steps" if name == "steps" else f"--{name}"


def check_entry(entry: ConfigDict, field: str) -> None:
    """Raises ConfigError for the first value of a `kind: "diffusion"` entry that cannot be."""
    if not entry.get("path"):
        raise ConfigError(f"{field}.path='' names no run: type --config.{field}.path=WORKDIR.")
    usual = Settings()
    names = [one.name for one in dataclasses.fields(usual)]
    made = Settings(**{name: entry.get(name, getattr(usual, name)) for name in names})
    made.check(lambda name: f"{field}.{name}")
    if entry.get("images", 0) < 0:
        raise ConfigError(f"{field}.images={entry['images']}: type a number, or 0 for no end.")


def is_run(name: str) -> bool:
    """Whether a name is the place of a run, and not a formula data set's name."""
    return (pathlib.Path(name).expanduser() / "checkpoints").is_dir() or os.sep in name


def refuse(options: Any) -> None:
    """Raises ConfigError for an option of runs beside a formula's name."""
    for field in OWN:
        if getattr(options, field) is not None:
            raise ConfigError(
                f"--{field} is for samples of a run, and {options.name} is no folder of one: type "
                "the workdir of a denoiser's run, or leave it out."
            )
