"""One run by one process of 8 devices and by two of 4, stopped there and continued by one."""

import json
import os
import re
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import checkpoint

STEPS = 16

RECIPE = f"""
from jaxfdsl import config as c

def get_config(folder):
    config = c.default_config()
    config.update(batch_size=32, steps={STEPS}, log_every=1, eval_every=4, checkpoint_every=100)
    config.report.update(gallery=False, tensorboard=False, status=False)
    config.model.update(image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
    config.augment.update(crop="random_resized", flip_lr=True, mixup=0.8)
    config.optimizer.name = "sgd"  # Adam makes whole steps of rounding errors
    config.data.repeats = 2
    points = {{"pattern": "point", "num_points": 200}}
    config.data.sources.formula = c.formula_source(
        "fractaldb-1k", num_classes=4, size=16, options=points, share=0.5
    )
    config.data.sources.real = c.folder_source(folder, share=0.5)
    held_out = c.held_out(config.data.sources.formula)
    config.evals.held_out = c.accuracy_eval(held_out, num_examples=40)
    return config
"""

# python -m jaxfdsl.main, which also writes what each step was given. The process that has `stop` in
# its environment asks itself to stop; all of them go slowly from then on, until they have agreed.
PROGRAM = """
import json, os, pathlib, signal, sys, time
from jaxfdsl import main, sharding

seen, put = [], sharding.put_rows

def recorded(mesh, rows):
    if "real" in rows:  # else a batch of an evaluation
        real = rows["real"]
        seen.append({"recipe": rows["formula"]["recipe"].tolist(), "real": real["index"].tolist(),
                     "pixels": real["image"].sum((1, 2, 3)).tolist()})
    if len(seen) == 5 and os.environ.get("stop"):
        os.kill(os.getpid(), signal.SIGTERM)
    if len(seen) >= 5 and "slow" in os.environ:
        time.sleep(0.2)
    return put(mesh, rows)

sharding.put_rows = recorded
try:
    main.run()
finally:
    pathlib.Path(os.environ["seen"]).write_text(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    random = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(10):
        place = folder / "train" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (40 + number, 30, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.jpg", quality=95)
    (folder / "recipe.py").write_text(RECIPE)
    return f"--config={folder / 'recipe.py'}:{folder}"


def start(program, *arguments, processes=1, devices=8, **variables):
    """Starts a program in several processes, which the three flags bring together."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices // processes)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}"]
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments, *together, f"--process_id={index}"],
            env=environment | {name: str(of(index)) for name, of in variables.items() if of(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]


def finish(started):
    """The exit status of each process, and what it said on stdout and stderr."""
    try:
        said = [process.communicate(timeout=240) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *words) for process, words in zip(started, said, strict=True)]


def seen_in(place, processes):
    """What each step was given, the processes' parts put together."""
    parts = [json.loads(place(i).read_text()) for i in range(processes)]
    return [
        {name: [row for part in step for row in part[name]] for name in step[0]}
        for step in zip(*parts, strict=True)
    ]


def values(workdir, name):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


def test_two_processes_do_what_one_does_and_one_goes_on_where_they_stopped(recipe, tmp_path):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    places = {name: lambda i, n=name: tmp_path / f"{n}{i}.json" for name in ("one", "two", "on")}
    one = start(PROGRAM, recipe, f"--workdir={straight}", seen=places["one"])
    # SIGTERM to the second process alone: both stop at one step, which is saved.
    asked = {"stop": lambda index: index == 1, "slow": lambda index: True}
    workdir = f"--workdir={stopped}"
    two = start(PROGRAM, recipe, workdir, processes=2, seen=places["two"], **asked)
    [(status, out, err)], both = finish(one), finish(two)
    assert status == 0, out + err
    assert [status for status, _, _ in both] == [0, 0], both
    [found] = re.findall(rf"Stopped at step (\d+) of {STEPS}, saved; the same command", both[0][1])
    step = int(found)
    assert 5 <= step < STEPS
    assert [p.name for p in (stopped / "checkpoints").iterdir() if p.name.isdigit()] == [found]

    expected = seen_in(places["one"], 1)
    assert [len(step["real"]) for step in expected] == [16] * STEPS
    assert seen_in(places["two"], 2) == expected[:step]
    losses = values(straight, "train/loss")
    assert len(losses) == STEPS
    np.testing.assert_allclose(values(stopped, "train/loss"), losses[:step], rtol=1e-5)
    scores = values(straight, "held_out/loss")
    np.testing.assert_allclose(values(stopped, "held_out/loss")[0], scores[0], rtol=1e-5)

    # The folder alone says what to continue, here on one process.
    [(status, out, err)] = finish(start(PROGRAM, workdir, seen=places["on"]))
    assert status == 0, out + err
    assert f"Continuing {stopped} at step {step} of {STEPS}." in out
    assert seen_in(places["on"], 1) == expected[step:]
    np.testing.assert_allclose(values(stopped, "held_out/loss"), scores, rtol=1e-5)
    ends = [checkpoint.load_params(folder)[0] for folder in (straight, stopped)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), *ends)


TOGETHER = """
import sys
import numpy as np
from jax.experimental import multihost_utils
from jaxfdsl import distributed
from jaxfdsl.distributed import launchers
from jaxfdsl.config import ConfigError

at, count, index = (text.partition("=")[2] for text in sys.argv[1:])
distributed.initialize(launchers.Given(at, int(count), int(index)), timeout=60)
distributed.agree("the same")
try:
    distributed.agree(f"config {index}")
except ConfigError as error:
    print(error, flush=True)
if index == "0":
    distributed.leave(2, "pictures cannot be decoded", patience=0.5)
multihost_utils.process_allgather(np.ones(1))  # of which the other knows nothing
"""


def test_processes_with_different_configs_stop_and_a_failure_in_one_ends_both():
    first, second = finish(start(TOGETHER, processes=2, devices=2))
    for _, out, _ in (first, second):
        assert "Process 1 was started with another config or --workdir than process 0" in out
    assert first[0] == 2 and "Process 0: pictures cannot be decoded" in first[2]
    assert second[0] != 0


ALONE = """
import sys
from jaxfdsl import distributed
from jaxfdsl.distributed import launchers

distributed.initialize(launchers.Given(sys.argv[1].partition("=")[2], 2, 0), timeout=1)
"""


def test_a_process_whose_others_do_not_come_says_where_it_waited():
    [(status, _, err)] = finish(start(ALONE))
    assert status == 2
    assert re.search(r"Not all processes came to 127\.0\.0\.1:\d+ \(flags\) within 1 seconds", err)
