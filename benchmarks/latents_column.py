"""What does a column of latents save a latent denoiser, and what does it cost in accuracy?

    python benchmarks/latents_column.py --out runs/latents_column
    python benchmarks/latents_column.py --image_size 256 --batch 64 --out DIR

The autoencoder is Stable Diffusion's with random weights (--autoencoder PATH: published ones),
pictures are random photographs. Times are medians of whole training steps, rows and their way to
the device included, of a run that encodes in every step and of one that reads the column, in turns.
Errors are the largest difference from latents encoded in float32, over the largest latent: of the
column, and of the autoencoder in bfloat16. Prints a table; DIR/latents_column.json has it.
"""

import argparse
import dataclasses
import io
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict
from PIL import Image

from jaxfdsl import config as c
from jaxfdsl import experiment, sharding
from jaxfdsl.costs import autoencoding, flops
from jaxfdsl.data import store
from jaxfdsl.interop import autoencoder as interop
from jaxfdsl.models import autoencoder
from jaxfdsl.models.autoencoder import Design
from jaxfdsl.representations import command, latent_writing, writing


def weights(folder: pathlib.Path) -> pathlib.Path:
    """A file of Stable Diffusion's arrays, random."""
    rng, state, shapes = np.random.default_rng(0), {}, autoencoder.shapes(Design())
    for name, ours in interop.table(Design()).items():
        shape = shapes[ours]
        shape = (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]
        state[name] = rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[1:]))
    folder.mkdir()
    safetensors.numpy.save_file(state, folder / interop.FILES[0])
    return folder


def pictures(path: pathlib.Path, count: int, size: int) -> str:
    """A store of smooth random JPEGs a quarter larger than what is seen."""
    with store.Writer(path, classes=("a", "b")) as out:
        for row in range(count):
            small = np.random.default_rng(row).integers(0, 256, (8, 9, 3), dtype=np.uint8)
            image = Image.fromarray(small).resize((size * 3 // 2, size * 5 // 4))
            file = io.BytesIO()
            image.save(file, "JPEG", quality=92)
            out.add(file.getvalue(), label=row % 2)
    return str(path)


def run_in(args: argparse.Namespace, path: str, vae: str, name: str) -> ConfigDict:
    """A run on the store's pictures, or on their latents."""
    config = c.default_config()
    config.update(batch_size=args.batch, steps=1000)
    config.model.update(variant=args.variant, image_size=args.image_size, patch_size=2)
    config.model.autoencoder = vae
    config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3, flip_lr=True)
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.data.update(condition="label", latents=name)
    config.data.sources.images = c.store_source(path)
    return config


def stepper(parts: experiment.Experiment) -> Callable[[int], float]:
    """Seconds of a step, rows included."""
    state, key = parts.start(), jax.random.key(0)

    def step(number: int) -> float:
        nonlocal state
        begun = time.perf_counter()
        rows = sharding.put_rows(parts.mesh, parts.batches.rows(number))
        state, metrics = parts.train_step(state, key, rows, parts.tables)
        jax.block_until_ready(metrics["loss"])
        return time.perf_counter() - begun

    return step


def errors(parts: experiment.Experiment, path: str, vae: str, size: int) -> dict[str, float]:
    """Of the column, and of the autoencoder in bfloat16."""
    made = interop.load(vae)
    source = parts.batches.sources["images"]
    few = np.arange(4, dtype=np.int64)
    pixels = source.with_pictures().rows(few)["image"]
    images = jnp.asarray(pixels, jnp.float32) / 127.5 - 1
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), made.params)
    encode = jax.jit(made.encode)
    exact, rough = (np.asarray(encode(params, images)[0]) for params in (made.params, half))
    column = source.rows(few)["image"][:, 0, ..., : made.channels].astype(np.float32)
    largest = np.abs(exact).max()
    return {
        "float16 column": float(np.abs(column - exact).max() / largest),
        "bfloat16 autoencoder": float(np.abs(rough - exact).max() / largest),
    }


def measured(args: argparse.Namespace, folder: pathlib.Path) -> dict[str, Any]:
    """All of the table."""
    vae = args.autoencoder or str(weights(folder / "vae"))
    path = pictures(folder / "pictures", args.images, args.image_size)
    how = dataclasses.replace(writing.How(), flip=True)
    begun = time.perf_counter()
    records = command.opened(path, "", "")
    latent_writing.write(records, "latent:sd", vae, args.image_size, how)
    seconds = time.perf_counter() - begun
    runs = {name: experiment.build(run_in(args, path, vae, name)) for name in ("", "sd")}
    steps = {name: stepper(parts) for name, parts in runs.items()}
    took: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(1 + args.steps):
        for name, step in steps.items():
            took[name].append(step(number))
    median = {name: statistics.median(times[1:]) for name, times in took.items()}  # first: compiles
    design, side = runs["sd"].autoencoder, args.image_size
    assert design is not None
    dit = experiment.denoiser_design(
        runs["sd"].config, 2, "float32", *experiment.latents.side_and_channels(runs["sd"].config)
    )
    encoding, training = autoencoding.encoding(design.design, side), flops.training(dit)
    return {
        "device": jax.devices()[0].device_kind,
        "model": f"{args.variant}/2, {side} pixels, batch {args.batch}",
        "s a step, encoding": median[""],
        "s a step, reading": median["sd"],
        "times faster": median[""] / median["sd"],
        "times fewer FLOP": (encoding + training) / training,
        "embed s an image, compiling too": seconds / args.images,
        "bytes an image": records.mapped("latent:sd")[0].nbytes,
        **errors(runs["sd"], path, vae, side),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--autoencoder", default="")
    parser.add_argument("--variant", default="dit_b")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--out", default="runs/latents_column")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(args, pathlib.Path(folder))
    for name, value in found.items():
        print(f"{name:<34} {value if isinstance(value, str) else format(value, '.4g')}")
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "latents_column.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
