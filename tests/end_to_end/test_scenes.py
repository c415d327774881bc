"""Scenes from the formula to a trained model: masks and several labels, with the recipes' own
settings and smaller sizes, and what cannot be learnt from them.
"""

import json

import pytest

from jaxfdsl import cli, load_config, train
from jaxfdsl.config import ConfigError, accuracy_eval, formula_source

SMALL = {
    "batch_size": 16,
    "epochs": 0.0,
    "checkpoint_every": 1000,
    "schedule.warmup_epochs": 0.0,
    "schedule.warmup_steps": 4,
    "optimizer.learning_rate": 3e-3,
    "evals.held_out.num_examples": 40,  # the last batch is not full
    "model.image_size": 32,
    "model.patch_size": 8,
    "model.width": 32,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.drop_path": 0.0,
    "log_every": 5,
    "report.tensorboard": False,
}
SEGRCDB = {
    "data.sources.segrcdb.num_classes": 4,
    "data.sources.segrcdb.size": 32,
    "data.sources.segrcdb.options.masks": "M3",
}
MULTIX = {"data.sources.multix.num_classes": 4, "data.sources.multix.size": 32}


def segrcdb(**changes):
    config = load_config("configs/segrcdb.py", **{**SMALL, **SEGRCDB, **changes})
    few = {"objects": 3, "vertices": (3, 20), "polygons": (2, 6)}
    with config.unlocked():
        config.data.sources.segrcdb.options.update(few)
    return config


def multix(**changes):
    config = load_config("configs/multix.py", **{**SMALL, **MULTIX, **changes})
    with config.unlocked():
        config.data.sources.multix.options.update({"num_points": 2000})
    return config


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def test_masks_and_labels_are_learnt_together_by_one_forward_pass(tmp_path, capsys):
    config = segrcdb(
        steps=20, **{"optimizer.learning_rate": 1e-2, "objective.classify.weight": 0.1}
    )
    with config.unlocked():
        config.evals.labels = accuracy_eval(config.evals.held_out.source, num_examples=16)
    summary = train.run(config, str(tmp_path))
    falling = losses(tmp_path)
    assert falling[-1] < 0.8 * falling[0]
    assert summary["held_out/loss"] < falling[0]
    assert 0 < summary["held_out/miou"] < summary["held_out/pixel_accuracy"] <= 1
    assert 0 <= summary["labels/top1"] <= 1
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert {"train/miou", "train/pixel_accuracy", "train/top1"} <= set(json.loads(lines[0]))
    assert f"held_out/miou {summary['held_out/miou']:.4f}" in capsys.readouterr().out
    assert (tmp_path / "gallery.png").exists() and (tmp_path / "curves.png").exists()
    cli.run(["replay", str(tmp_path), "--step", "3", "--images", "2"])
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert len(first["label"]) == 3 and first["recipe"][0] == 0


def test_a_model_learns_the_labels_of_drawn_scenes(tmp_path, capsys):
    summary = train.run(multix(steps=30, **{"report.gallery": False}), str(tmp_path))
    falling = losses(tmp_path)
    assert falling[-1] < falling[0]
    assert 0 <= summary["held_out/top1"] <= summary["held_out/top5"] == 1  # of four classes
    assert "held_out/top1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (
            multix,
            {"objective.segment.weight": 1.0},
            "data.sources.multix (multix-1k) has no masks, which objective.segment learns from: "
            "type --config.objective.segment.weight=0",
        ),
        (
            segrcdb,
            {"objective.segment.weight": 0.0, "objective.classify.weight": 1.0},
            "evals.held_out.kind='segmentation' scores what objective.segment trains, which is "
            "off: type --config.objective.segment.weight=1, or "
            "--config.evals.held_out.kind=accuracy.",
        ),
        (segrcdb, {"objective.segment.weight": 0.0}, "objective has the weights"),
        (segrcdb, {"objective.segment.weight": -1.0}, "objective.segment.weight=-1.0: type 0 or"),
        (
            multix,
            {"data.sources.multix.shuffle_labels": True},
            "data.sources.multix.shuffle_labels=True: the pictures of multix-1k hold several "
            "categories and have no label to shuffle",
        ),
    ],
)
def test_what_cannot_be_learnt_is_refused_in_a_sentence(make, changes, words, tmp_path):
    with pytest.raises(ConfigError) as caught:
        train.run(make(steps=6, **changes), str(tmp_path / "run"))
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_evaluation_of_masks_on_a_source_without_any_is_refused(tmp_path):
    config = segrcdb(steps=6)
    with config.unlocked():
        config.evals.held_out.source = formula_source("multix-1k", num_classes=4, size=32)
    with pytest.raises(ConfigError, match=r"evals.held_out.source \(multix-1k\) has no masks"):
        train.run(config, str(tmp_path / "run"))
