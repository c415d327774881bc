"""Random weights of a small autoencoder in files such as are published."""

import json

import numpy as np
import safetensors.numpy

from jaxfdsl.interop import autoencoder as interop
from jaxfdsl.models import autoencoder
from jaxfdsl.models.autoencoder import Design

SMALL = {"block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
SMALL_DESIGN = Design((8, 16), 1, 4)


def theirs(design: Design, seed: int = 0) -> dict[str, np.ndarray]:
    """Random arrays, as diffusers names and shapes them."""
    rng, state = np.random.default_rng(seed), {}
    shapes = autoencoder.shapes(design)
    for name, ours in interop.table(design).items():
        shape = shapes[ours]
        shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        state[name] = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("f")
    return state


def write(folder, state, config):
    folder.mkdir(parents=True)
    safetensors.numpy.save_file(state, folder / interop.FILES[0])
    (folder / "config.json").write_text(json.dumps(config))
    return folder
