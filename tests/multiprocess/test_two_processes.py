"""The same run by one process and by two: the same samples in every step, the same losses."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

# Trains argv[1]'s folder of pictures mixed with fractals, and writes what each step was given.
PROGRAM = """
import json, pathlib, sys
import jax
folder, workdir, port, count, index = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
jax.config.update("jax_num_cpu_devices", 2 // count)
if count > 1:
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index)
from jaxfdsl import config as c, sharding, train

config = c.default_config()
config.update(batch_size=16, steps=4, log_every=1, checkpoint_every=100)
config.report.update(gallery=False, tensorboard=False, status=False)
config.model.update(image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
config.augment.update(crop="random_resized", flip_lr=True, mixup=0.8)
config.optimizer.name = "sgd"  # Adam makes whole steps of rounding errors
config.data.repeats = 2
points = {"pattern": "point", "num_points": 200}
config.data.sources.formula = c.formula_source(
    "fractaldb-1k", num_classes=4, size=16, options=points, share=0.5
)
config.data.sources.real = c.folder_source(folder, share=0.5)
seen, put = [], sharding.put_rows

def recorded(mesh, rows):
    real = rows["real"]
    seen.append({"recipe": rows["formula"]["recipe"].tolist(), "real": real["index"].tolist(),
                 "pixels": real["image"].sum((1, 2, 3)).tolist()})
    return put(mesh, rows)

sharding.put_rows = recorded
train.run(config, workdir)
(pathlib.Path(workdir).parent / f"seen{index}.json").write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        place = folder / "train" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (40 + number, 30, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.jpg", quality=95)
    return folder


def run(pictures, workdir, processes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: text for name, text in os.environ.items() if name != "XLA_FLAGS"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # they are compiled longer than they run
    command = [sys.executable, "-c", PROGRAM, str(pictures), str(workdir), str(port)]
    started = [
        subprocess.Popen(
            [*command, str(processes), str(index)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for index in range(processes)
    ]
    try:
        said = [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0] * processes, said
    parts = [json.loads((workdir.parent / f"seen{i}.json").read_text()) for i in range(processes)]
    seen = [
        {name: [row for part in parts for row in part[step][name]] for name in parts[0][step]}
        for step in range(4)
    ]
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return seen, [row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row]


def test_two_processes_see_and_learn_what_one_does(pictures, tmp_path):
    seen, losses = run(pictures, tmp_path / "one", 1)
    assert [len(step["real"]) for step in seen] == [8, 8, 8, 8]
    again, others = run(pictures, tmp_path / "two", 2)
    assert again == seen
    assert len(losses) == 4
    np.testing.assert_allclose(others, losses, rtol=1e-5)
