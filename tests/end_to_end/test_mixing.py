"""The recipe that mixes formulas with ImageNet, at reduced sizes, on real ImageNet pictures."""

import numpy as np

from jaxfdsl import experiment, load_config, train

REDUCED = {
    "batch_size": 32,
    "steps": 4,
    "accumulate": 2,
    "log_every": 1,
    "schedule.warmup_steps": 0,
    "model.variant": "vit_ti",
    "model.width": 32,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.image_size": 32,
    "model.patch_size": 8,
    "optimizer.ema": 0.9,
    "optimizer.layer_decay": 0.75,
    "data.sources.exfractaldb.num_classes": 20,
    "data.sources.exfractaldb.size": 32,
    "evals.held_out.num_examples": 24,
    "report.gallery": False,
    "report.tensorboard": False,
}


def mixed(tfds_dir, way, **changes):
    recipe = f"configs/vitb_exfractal_imagenet.py:{way}"
    return load_config(recipe, **{**REDUCED, "data.data_dir": tfds_dir, **changes})


def test_every_batch_holds_the_shares_of_its_phase_and_every_picture_comes_once(tfds_dir):
    config = mixed(tfds_dir, "phases", **{"data.repeats": 1, "data.phase_starts": (0, 2)})
    batches = experiment.build(config).batches
    rows = [batches.rows(step) for step in range(11)]
    assert [set(part) for part in rows[:3]] == [
        {"exfractaldb"},
        {"exfractaldb"},
        {"exfractaldb", "imagenet"},
    ]
    assert [len(part["exfractaldb"]["recipe"]) for part in rows[:3]] == [32, 32, 24]
    assert rows[2]["imagenet"]["image"].shape == (8, 32, 32, 3)
    seen = np.concatenate([part["imagenet"]["index"] for part in rows[2:]])
    assert len(seen) == 72 and len(set(seen[:66])) == 66  # the train split has 66


def test_the_recipe_trains_and_is_tested_on_real_pictures(tfds_dir, tmp_path, capsys):
    summary = train.run(mixed(tfds_dir, "mixed"), str(tmp_path))
    assert summary["finished"] and summary["steps"] == 4
    # 34 pictures of the validation split, whose classes follow the 20 of the formulas.
    assert summary["imagenet/top1"] * 34 % 1 < 1e-4 or summary["imagenet/top1"] * 34 % 1 > 1 - 1e-4
    assert summary["imagenet/loss"] < 2 * np.log(1020)
    assert np.isfinite(summary["held_out/loss"])
