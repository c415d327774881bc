"""`jaxfdsl replay`: the images that a run saw at one step, before augmentation."""

import json

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

from jaxfdsl import whole_file
from jaxfdsl.config import ConfigError
from jaxfdsl.config import path as config_path
from jaxfdsl.data import batches


def run(workdir: str, step: int, *, images: int = 64, out: str = "") -> None:
    """Draws `images` of each source and prints their recipes, one JSON a line.

    Raises ConfigError for a folder that is no workdir, and for a step that no run has.
    """
    if step >= 2**31:
        raise ConfigError(f"--step={step}: type a number below 2147483648.")
    config = config_path.of_workdir(workdir)
    config.data.latents = ""  # the pictures themselves
    data = batches.from_config(config)
    folder = epath.Path(out or epath.Path(workdir) / "replay")
    for name, rows in data.rows(step).items():
        first = {key: value[:images] for key, value in rows.items()}
        source = data.sources[name]
        path = folder / f"step{step}_{name}.png"
        with whole_file.written(path) as file:
            fields = jax.jit(source.fields)(first, source.table)
            Image.fromarray(sheet(np.asarray(fields["image"]))).save(file, "PNG")
        labels = np.asarray(fields["label"]).tolist()
        for place in range(len(labels)):
            small = {k: v[place].tolist() for k, v in first.items() if np.ndim(v) <= 2}
            print(json.dumps({"source": name, "label": labels[place], **small}))
        print(f"{len(labels)} images of {name} at step {step}: {path}")


def sheet(images: UInt8[np.ndarray, "N S S C"]) -> UInt8[np.ndarray, "H W 3"]:
    """All images as one picture, nearly square, RGB."""
    columns = int(np.ceil(np.sqrt(len(images))))
    missing = -len(images) % columns
    filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
    rows, (side, _, channels) = len(filled) // columns, images.shape[1:]
    grid = filled.reshape(rows, columns, side, side, channels).swapaxes(1, 2)
    grid = grid.reshape(rows * side, columns * side, channels)
    return np.broadcast_to(grid, (*grid.shape[:2], 3)) if channels == 1 else grid
