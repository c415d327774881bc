"""A run that starts from the weights of another one, of other classes and another size."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxfdsl import checkpoint, experiment, load_config, train
from jaxfdsl.config import ConfigError
from jaxfdsl.experiment import Experiment
from jaxfdsl.interop import timm
from jaxfdsl.run import resume

SMALL = {
    "batch_size": 16,
    "steps": 4,
    "log_every": 1,
    "checkpoint_every": 4,
    "schedule.warmup_steps": 0,
    "model.image_size": 16,
    "model.width": 16,
    "model.depth": 1,
    "model.num_heads": 2,
    "data.sources.fractals.name": "fractaldb-1k",
    "data.sources.fractals.num_classes": 5,
    "data.sources.fractals.size": 16,
    "data.sources.fractals.options.num_points": 200,
    "report.gallery": False,
    "report.tensorboard": False,
}


def config_of(**changes):
    config = load_config("configs/demo.py", **{**SMALL, **changes})
    del config.evals.held_out
    return config


def run(workdir, **changes):
    return train.run(config_of(**changes), str(workdir))


def begun(**changes):
    """The weights that a run would start from, and what it would say of them."""
    state, line = resume.initial_state(experiment.build(config_of(**changes)))
    jax.tree.map(np.testing.assert_array_equal, state["ema"], state["params"])
    return jax.device_get(state["params"]), line


def test_weights_move_and_what_cannot_move_is_replaced_and_said(tmp_path, capsys):
    run(tmp_path / "first")
    first, origin = checkpoint.load_params(tmp_path / "first")
    capsys.readouterr()
    other = {
        "data.sources.fractals.num_classes": 7,
        "model.image_size": 32,
        "optimizer.learning_rate": 0.0,
        "optimizer.ema": 0.5,
        "init_from": str(tmp_path / "first"),
    }
    run(tmp_path / "second", **other)
    said = capsys.readouterr().out
    assert f"Weights from {origin}: positions resized from 4 to 16 tokens; " in said
    assert "head new (7 classes)." in said
    second, _ = checkpoint.load_params(tmp_path / "second")
    jax.tree.map(np.testing.assert_array_equal, second["blocks_0"], first["blocks_0"])
    assert second["head"]["bias"].shape == (7,)
    assert second["pos_embed"].shape == (1, 16, 16)
    again, line = begun(**{**other, "init_from": str(tmp_path / "second"), "init_head": "keep"})
    assert "head kept (7 classes)." in line
    np.testing.assert_array_equal(again["head"]["kernel"], second["head"]["kernel"])
    # The same weights as timm writes them, from a folder.
    (tmp_path / "timm").mkdir()
    safetensors.numpy.save_file(timm.to_timm(first), tmp_path / "timm" / timm.FILE)
    third, line = begun(**{**other, "init_from": str(tmp_path / "timm")})
    assert f"Weights from {tmp_path / 'timm' / timm.FILE}: positions" in line
    trunk = {name: value for name, value in second.items() if name != "head"}
    jax.tree.map(np.testing.assert_array_equal, {k: third[k] for k in trunk}, trunk)


def test_longer_runs_continue_and_other_weights_are_refused(tmp_path, capsys, monkeypatch):
    run(tmp_path)
    assert run(tmp_path, steps=6, log_every=2)["steps"] == 6
    assert f"Continuing {tmp_path} at step 4 of 6." in capsys.readouterr().out
    assert json.loads((tmp_path / "config.json").read_text())["steps"] == 6
    monkeypatch.setattr(Experiment, "start", None)  # refused before anything is compiled
    with pytest.raises(ConfigError, match=r"init_from=.*: no checkpoint in .*; type the workdir"):
        run(tmp_path / "new", init_from=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"blocks_0/attn/proj/bias is \(16,\) there and \(32,\)"):
        run(tmp_path / "new", init_from=str(tmp_path), **{"model.width": 32})
