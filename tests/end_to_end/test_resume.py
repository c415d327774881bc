"""A run that is killed, stopped or damaged and started again ends as one that never was."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from jaxfdsl import checkpoint

STEPS = 100
OVERRIDES = {
    "steps": STEPS,
    "batch_size": 8,
    "log_every": 1,
    "eval_every": 0,
    "checkpoint_every": 15,
    "seed": 3,
    "model.image_size": 16,
    "model.width": 16,
    "model.depth": 1,
    "model.num_heads": 2,
    "model.drop_path": 0.1,
    "schedule.warmup_steps": 5,
    "augment.crop": "pad",
    "data.sources.fractals.name": "fractaldb-1k",
    "data.sources.fractals.num_classes": 5,
    "data.sources.fractals.size": 16,
    "data.sources.fractals.options.num_points": 200,
    "evals.held_out.num_examples": 16,
    "report.gallery": False,
    "report.drawing": False,
}


def start(root: pathlib.Path, workdir: pathlib.Path) -> subprocess.Popen:
    flags = [f"--config.{name}={value}" for name, value in OVERRIDES.items()]
    command = [sys.executable, "-m", "jaxfdsl.main", f"--workdir={workdir}", *flags]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    out = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=out, stderr=out, text=True)


def finish(process: subprocess.Popen) -> str:
    out, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    return out


def wait_for_step(process: subprocess.Popen, workdir: pathlib.Path, step: int) -> None:
    """Returns once the metrics of `step` are written."""
    deadline, path = time.monotonic() + 300, workdir / "metrics.jsonl"
    while f'"step": {step},' not in (path.read_text() if path.exists() else ""):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def final(workdir: pathlib.Path):
    """The average of the parameters at the end, and the lines of metrics without their timings."""
    params, origin = checkpoint.load_params(workdir)
    assert f"/{STEPS}/" in origin
    lines = [json.loads(text) for text in (workdir / "metrics.jsonl").read_text().splitlines()]
    times = ("images_per_second", "step_seconds", "input_wait", "evaluation", "checkpoint")
    timed = {f"train/{name}" for name in times}
    return params, [{k: v for k, v in line.items() if k not in timed} for line in lines]


@pytest.fixture
def unbroken(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    out = finish(start(root, workdir))
    assert f"Finished: {STEPS} steps" in out
    return final(workdir)


def test_kill_9_and_a_signal_change_no_bit(root, tmp_path, unbroken):
    process = start(root, tmp_path)
    wait_for_step(process, tmp_path, 37)  # the save of step 30 waited for that of 15
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "summary.json").exists()

    written = re.findall(r'"step": (\d+),', (tmp_path / "metrics.jsonl").read_text())
    process = start(root, tmp_path)
    wait_for_step(process, tmp_path, int(written[-1]) + 10)
    process.terminate()
    out = finish(process)
    assert re.search(rf"Continuing {tmp_path} at step (15|30|45) of {STEPS}", out)
    assert "Stopped at step" in out and "the same command continues" in out
    step = int(out.split("Stopped at step ")[1].split()[0])
    assert (tmp_path / "checkpoints" / str(step)).is_dir()

    assert f"Continuing {tmp_path} at step {step} of {STEPS}" in finish(start(root, tmp_path))
    params, lines = final(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, unbroken[0])
    assert lines == unbroken[1]
