"""The recipe that mixes formulas with ImageNet, at reduced sizes, on real ImageNet pictures."""

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxfdsl import experiment, load_config, train

REDUCED = {
    "batch_size": 64,
    "steps": 4,
    "accumulate": 2,
    "log_every": 1,
    "schedule.warmup_steps": 0,
    "model.variant": "vit_ti",
    "model.width": 32,
    "model.depth": 1,
    "model.num_heads": 2,
    "model.image_size": 16,
    "model.patch_size": 8,
    "optimizer.ema": 0.9,
    "optimizer.layer_decay": 0.75,
    "data.sources.exfractaldb.num_classes": 20,
    "data.sources.exfractaldb.size": 16,
    "report.gallery": False,
    "report.tensorboard": False,
}


def mixed(tfds_dir, way, **changes):
    recipe = f"configs/vitb_exfractal_imagenet.py:{way}"
    config = load_config(recipe, **{**REDUCED, "data.data_dir": tfds_dir, **changes})
    with config.unlocked():
        del config.evals.held_out
    return config


def test_every_batch_holds_the_shares_of_its_phase_and_every_picture_comes_once(tfds_dir):
    config = mixed(tfds_dir, "phases", **{"data.repeats": 1, "data.phase_starts": (0, 2)})
    batches = experiment.build(config).batches
    rows = [batches.rows(step) for step in range(7)]
    assert [set(part) for part in rows[:3]] == [
        {"exfractaldb"},
        {"exfractaldb"},
        {"exfractaldb", "imagenet"},
    ]
    assert [len(part["exfractaldb"]["recipe"]) for part in rows[:3]] == [64, 64, 48]
    assert rows[2]["imagenet"]["image"].shape == (16, 16, 16, 3)
    seen = np.concatenate([part["imagenet"]["index"] for part in rows[2:]])
    assert len(seen) == 80 and len(set(seen[:66])) == 66  # the train split has 66


def test_the_recipe_trains_and_is_tested_on_real_pictures(tfds_dir, tmp_path):
    summary = train.run(mixed(tfds_dir, "mixed"), str(tmp_path))
    assert summary["finished"] and summary["steps"] == 4
    assert np.isfinite(summary["imagenet/loss"])
    # ImageNet's classes follow the 20 of the formulas: a model that always answers with the class
    # of the first of the 34 validation pictures is right on those of that class.
    parts = experiment.build(mixed(tfds_dir, "mixed"))
    records = tfds.builder("imagenet2012", data_dir=tfds_dir).as_data_source("validation")
    labels = np.array([record["label"] for record in records])
    params = parts.start()["params"]
    kernel, bias = (params["head"][name] for name in ("kernel", "bias"))
    answer = jnp.zeros_like(bias).at[20 + labels[0]].set(1.0)
    params = {**params, "head": {"kernel": jnp.zeros_like(kernel), "bias": answer}}
    scores = dict(parts.evaluators["imagenet"](params))
    assert scores["top1"] == pytest.approx(np.mean(labels == labels[0]))
