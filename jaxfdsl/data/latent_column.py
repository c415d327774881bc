"""Latents in place of pictures: the column `latent:NAME` that `jaxfdsl embed --autoencoder` wrote.

A row is float16[v, s, s, 2 C]: the mean and then the deviation of what an autoencoder encodes an
image as, not scaled; v is 2 where the mirror image's stand behind those of the image. A picture
that cannot be read has NaN. Worker processes load this module: nothing in it touches a device.
"""

import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data.records import Records
from jaxfdsl.data.store import columns

KIND = "latent"
Rows = Float16[np.ndarray, "n v s s c"]


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a run asks of the columns of its sources."""

    name: str  # config.data.latents
    autoencoder: str  # its path, for the command that writes the column
    image_size: int
    flip: bool  # whether images are mirrored at random

    @property
    def column(self) -> str:
        """latent:NAME"""
        return f"{KIND}:{self.name}"

    def command(self, records: Records, canvas: int) -> str:
        """What writes such a column of pictures that a source brings to that canvas (0: none)."""
        words = ["--autoencoder", shlex.quote(self.autoencoder), "--name", self.name]
        words += ["--image_size", f"{self.image_size}"]
        words += ["--size", f"{canvas}"] * bool(canvas) + ["--flip"] * self.flip
        return " ".join(["jaxfdsl embed", records.typed, *words])


@dataclasses.dataclass(frozen=True)
class Latents:
    """A column that fits a run."""

    wanted: Wanted
    weights: str  # sha256 of the autoencoder
    digest: str  # sha256 of the column
    again: str  # the command that writes it anew

    def read(
        self, records: Records, rows: Int64[np.ndarray, " n"]
    ) -> tuple[Rows, Float32[np.ndarray, " n"]]:
        """Those of rows, the mirror images' where the run wants them; and 1 of each that there is.
        Of a picture that cannot be read they are 0."""
        values = _mapped(records, self.wanted.column, self.digest)
        found = values[records.in_store(rows), : 1 + self.wanted.flip]
        there = np.isfinite(found[:, 0, 0, 0, 0])
        found[~there] = 0
        return found, there.astype(np.float32)


class Absent(ConfigError):
    """There is no such column yet."""


def wanted(config: ConfigDict) -> Wanted | None:
    """None for a run that encodes in every step."""
    if not config.data.latents:
        return None
    name, model = config.data.latents.removeprefix(f"{KIND}:"), config.model
    return Wanted(name, model.autoencoder, model.image_size, config.augment.flip_lr)


def of_records(records: Records, asked: Wanted, canvas: int, field: str) -> Latents:
    """The column of a source's pictures, which it brings to a canvas of so many pixels (0: none).

    Raises ConfigError, which says what to type, where it is not there (`Absent`) or does not fit.
    """
    said = f"data.latents={asked.name!r}: {field}"
    try:
        file = records.sidecar(asked.column)
    except ConfigError as error:
        raise ConfigError(f"{said}: {error}") from error
    if file is None:
        raise ConfigError(
            f"{said} is of a kind that keeps no columns: import the pictures into a store "
            "(jaxfdsl store import), or type --config.data.latents=''."
        )
    again = asked.command(records, canvas)
    if not file.is_file() or not file.with_suffix(".json").is_file():
        raise Absent(f"{said} has no column {asked.column} ({file}): write it by {again}.")
    about = columns.described(file)
    _check(about, records, asked, canvas, f"{said} has a column of", f"{again} --replace")
    _mapped(records, asked.column, about["sha256"])  # refuses a file that was cut short
    return Latents(asked, about["made_by"]["weights"], about["sha256"], f"{again} --replace")


def _check(
    about: Mapping[str, Any], records: Records, asked: Wanted, canvas: int, said: str, again: str
) -> None:
    made_by = about.get("made_by", {})
    shape = about.get("shape", ())
    if about.get("dtype") != "float16" or len(shape) != 5 or not made_by.get("weights"):
        raise ConfigError(f"{said} {about.get('dtype')}{shape}, no latents: write {again}.")
    size, side = made_by.get("image_size"), made_by.get("canvas")
    if size != asked.image_size:
        raise ConfigError(
            f"{said} images of {size} pixels, and model.image_size={asked.image_size}: type "
            f"--config.model.image_size={size}, or write it again by {again}."
        )
    if side != canvas:
        raise ConfigError(
            f"{said} pictures brought to a canvas of {side} pixels (0: none), and the source has "
            f"size={canvas}: type its size={side}, or write it again by {again}."
        )
    if asked.flip and shape[1] != 2:
        raise ConfigError(
            f"{said} no mirror images, and augment.flip_lr=True: type "
            f"--config.augment.flip_lr=False, or write it again by {again}."
        )
    if made_by.get("images") != records.pictures:
        raise ConfigError(f"{said} other pictures than are there now: write it again by {again}.")


@functools.lru_cache(maxsize=8)
def _mapped(records: Records, column: str, digest: str) -> np.ndarray:
    values = records.mapped(column)
    file = pathlib.Path(getattr(values, "filename", ""))
    if columns.described(file).get("sha256") != digest:
        raise ConfigError(f"{file} was changed while it was in use: begin again.")
    return values
