"""Runs that go wrong: a loss that is not finite, a full disk; and what is kept of the best."""

import contextlib
import dataclasses
import json
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import checkpoint, cli, distributed, experiment, load_config, train
from jaxfdsl import config as config_lib
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.config import ConfigError
from jaxfdsl.costs import flops
from jaxfdsl.run import meter

SMALL = {
    "steps": 8,
    "batch_size": 8,
    "log_every": 1,
    "eval_every": 0,
    "checkpoint_every": 100,
    "dtype": "float32",
    "optimizer.name": "sgd",
    "schedule.name": "constant",
    "schedule.warmup_steps": 0,
    "model.image_size": 16,
    "model.width": 16,
    "model.depth": 1,
    "model.num_heads": 2,
    "augment.crop": "none",
    "data.sources.fractals.name": "fractaldb-1k",
    "data.sources.fractals.num_classes": 5,
    "data.sources.fractals.size": 16,
    "data.sources.fractals.options.num_points": 200,
    "report.gallery": False,
    "report.tensorboard": False,
    "report.status": False,
}


@pytest.fixture(autouse=True, scope="module")
def compiled_once():
    """All runs here are of one program."""
    built, build = [], experiment.build

    def shared(config):
        if not built:
            built.append(build(config))
        return dataclasses.replace(built[0], config=config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "build", shared)
        yield


@pytest.fixture
def scores(monkeypatch):
    """What the evaluations find, by step, in place of evaluations."""
    found = {}

    def evaluate(parts, state):
        return {"held_out/top1": found.get(int(state["step"]), 0.0), "held_out/loss": 1.0}

    monkeypatch.setattr(train, "evaluate", evaluate)
    return found


def stopped_at(monkeypatch, step):
    """As if SIGTERM came during that step."""

    @contextlib.contextmanager
    def preemption():
        yield lambda now: now >= step

    monkeypatch.setattr(distributed, "preemption", preemption)


def diverging_at(monkeypatch, step):
    """As if the weights that this step is given held no number."""
    build = experiment.build

    def built(config):
        parts = build(config)
        spoil = jax.jit(
            lambda params: jax.tree.map(lambda x: x * jnp.nan, params),
            out_shardings=parts.laid["params"],
        )

        def train_step(state, *rest):
            if int(state["step"]) == step:
                state = {**state, "params": spoil(state["params"])}
            return parts.train_step(state, *rest)

        return dataclasses.replace(parts, train_step=train_step)

    monkeypatch.setattr(experiment, "build", built)


def run(workdir, **changes):
    return train.run(load_config("demo", **{**SMALL, **changes}), str(workdir))


def steps_in(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*"))


def losses_of(workdir):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line["train/loss"] for line in lines if "train/loss" in line]


@pytest.mark.parametrize("terminated", [False, True])
def test_no_state_after_a_loss_that_is_not_finite_is_saved(
    tmp_path, monkeypatch, scores, capsys, terminated
):
    changes = {"checkpoint_every": 1, "eval_every": 1, "best_metric": "held_out/top1"}
    diverging_at(monkeypatch, 1)
    if terminated:
        changes = {}
        stopped_at(monkeypatch, 2)
    with pytest.raises(ConfigError, match=r"loss=nan .* in the step from 1 to 2: "):
        run(tmp_path / "run", **changes)
    assert steps_in(tmp_path / "run") == ([] if terminated else [1])
    if terminated:
        return
    weights = jax.tree.leaves(checkpoint.load_params(tmp_path / "run")[0])
    assert all(np.isfinite(x).all() for x in weights)
    # Its batch is drawn again where nothing but the config is left.
    rows = json.loads((tmp_path / "run" / "nonfinite-step1.json").read_text())["rows"]
    (tmp_path / "copy").mkdir()
    (tmp_path / "run" / "config.json").rename(tmp_path / "copy" / "config.json")
    capsys.readouterr()
    cli.run(["replay", str(tmp_path / "copy"), "--step", "1"])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [row["recipe"] for row in told] == rows["fractals"]["recipe"]
    drawn = experiment.build(load_config("demo", **SMALL)).batches.rows(1)
    assert rows == {"fractals": {"recipe": drawn["fractals"]["recipe"].tolist()}}


def test_the_best_checkpoint_is_kept_whatever_comes_after_it(tmp_path, monkeypatch, scores, capsys):
    scores.update({2: 0.5, 3: 0.9, 4: 0.3, 5: 0.8, 6: 0.95})
    keep = {"eval_every": 1, "keep_checkpoints": 1, "best_metric": "held_out/top1"}
    with monkeypatch.context() as patch:
        stopped_at(patch, 4)
        run(tmp_path, **keep)
    assert steps_in(tmp_path) == [3, 4]
    scores.pop(6)
    run(tmp_path, **keep)
    assert steps_in(tmp_path) == [3, 8]  # 0.8 is no improvement, after the restart either
    said = capsys.readouterr().out.splitlines()[-1]
    assert f"The best held_out/top1 was 0.9000 at step 3: --config.init_from={tmp_path}" in said
    assert "/checkpoints/3/" in checkpoint.load_params(tmp_path / "best.json")[1]
    assert "/checkpoints/8/" in checkpoint.load_params(tmp_path)[1]


def test_an_evaluation_that_sigterm_left_out_is_made_by_the_next_start(
    tmp_path, monkeypatch, scores
):
    with monkeypatch.context() as patch:
        stopped_at(patch, 4)
        assert not run(tmp_path, eval_every=4)["finished"]
    assert steps_in(tmp_path) == [4]
    run(tmp_path, eval_every=4)
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert [line["step"] for line in lines if "held_out/top1" in line] == [4, 8]


def test_a_metric_to_watch_that_is_not_there_is_refused(tmp_path, scores):
    watched = {"eval_every": 1, "best_metric": "heldout/top1"}
    with pytest.raises(ConfigError, match=r"evals \(held_out\): .*best_metric=held_out/top1\."):
        run(tmp_path, **watched)
    with pytest.raises(ConfigError, match=r"type --config\.eval_every=N"):
        run(tmp_path, best_metric="held_out/top1")
    with pytest.raises(ConfigError, match=r"measures top1, top5, loss: .*best_metric=held_out/top"):
        run(tmp_path, **watched | {"best_metric": "held_out/top2"})
    assert not tmp_path.exists() or not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match=r"and one of held_out/top1, held_out/loss"):
        run(tmp_path, **watched | {"best_metric": "held_out/top5"})
    assert steps_in(tmp_path) == [1]


def test_a_run_goes_on_once_there_is_room_again(tmp_path, monkeypatch, scores, capsys):
    every = {"checkpoint_every": 2, "keep_checkpoints": 1}
    run(tmp_path / "whole", **every)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    save = Checkpoints.save

    def full_at_4(self, step, *arguments):
        if step == 4:
            self.check(wait=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
        save(self, step, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", full_at_4)
        try:
            with pytest.raises(ConfigError, match=r"step 4 could not .* whole one is step 2: "):
                run(tmp_path / "full", **every)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    # Elsewhere, as writes that failed may still be under way in this process.
    half = shutil.ignore_patterns("*.orbax-checkpoint-tmp")
    shutil.copytree(tmp_path / "full", tmp_path / "again", ignore=half)
    assert run(tmp_path / "again", **every)["finished"]
    assert "at step 2 of 8" in capsys.readouterr().out
    assert losses_of(tmp_path / "again") == losses_of(tmp_path / "whole")
    params = [checkpoint.load_params(tmp_path / name)[0] for name in ("again", "whole")]
    jax.tree.map(np.testing.assert_array_equal, *params)


def test_what_else_does_not_fit_on_the_disk_is_one_sentence(tmp_path, monkeypatch, scores):
    def refuse(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "metrics.jsonl"))

    monkeypatch.setattr(train.Logbook, "write", refuse)
    with pytest.raises(ConfigError) as caught:
        run(tmp_path)
    assert str(caught.value).startswith(
        f"{tmp_path / 'metrics.jsonl'} could not be written (No space left on device): free some"
    )


def test_timing_the_drawing_and_a_profile_change_nothing(tmp_path, monkeypatch, scores, capsys):
    window = {"report.profile_start": 3, "report.profile_steps": 2}
    monkeypatch.setattr(meter.devices, "peak", lambda kind: 1e9)
    monkeypatch.setattr(train, "_WORTH_TIMING", 8)
    run(tmp_path / "plain", **{"report.drawing": False})
    run(tmp_path / "timed", **window)
    assert losses_of(tmp_path / "timed") == losses_of(tmp_path / "plain")
    line = json.loads((tmp_path / "timed" / "metrics.jsonl").read_text().splitlines()[4])
    assert line["train/drawing"] > 0
    image = flops.training(experiment.build(load_config("demo", **SMALL)).model.design)
    utilised = line["train/images_per_second"] * image / (8 * 1e9)  # of eight devices
    assert line["train/mfu"] == pytest.approx(utilised)
    said = capsys.readouterr().out.splitlines()
    first = next(i for i, line in enumerate(said) if line.startswith("The profile is in "))
    assert all(" 2 x " in line or "ms" in line for line in said[first + 1 : first + 11])


def test_the_config_of_a_workdir_is_the_config_of_its_run():
    c = config_lib
    config = c.default_config()
    real = c.folder_source("pictures", share=(0.25, 0.5), num_examples=10)
    options = {"num_points": 200, "mean": 0.5}
    config.data.sources.drawn = c.formula_source("fractaldb", share=(0.75, 0.5), options=options)
    config.data.sources.real = real
    config.data.update(phase_starts=(0, 10))
    config.evals.held_out = c.accuracy_eval(c.held_out(config.data.sources.drawn), num_examples=8)
    config.evals.masks = c.segmentation_eval(c.formula_source("segrcdb"), num_examples=8)
    config.evals.several = c.mean_average_precision_eval(c.tfds_source("voc/2007"))
    config.evals.knn = c.knn_eval(c.parquet_source("a"), c.parquet_source("b"), k=(1, 5))
    config.evals.probe = c.linear_probe_eval(real, real, learning_rates=(1.0, 1e3))
    config.evals.shots = c.few_shot_eval(real, real, l2=(1.0, 10.0))
    config.update(steps=10, best_metric="held_out/top1", eval_every=2)
    again = c.from_json(c.to_json(config))
    assert again.to_dict() == config.copy_and_resolve_references().to_dict()
    assert c.to_json(again) == c.to_json(config)
