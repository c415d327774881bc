"""`jaxfdsl evaluate` on an image folder that the run never knew, its training data not at hand."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from jaxfdsl import cli, experiment, load_config
from jaxfdsl import config as c
from jaxfdsl.checkpoint import Checkpoints

SMALL = {"batch_size": 16, "steps": 9, "schedule.warmup_steps": 0, "dtype": "float32"} | {
    "data.sources.fractals.num_classes": 8,
    "model.width": 32,
    "model.depth": 1,
    "model.num_heads": 2,
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with one checkpoint, at step 4, whose category table is gone."""
    folder = tmp_path_factory.mktemp("run")
    config = load_config("demo", **SMALL)
    parts = experiment.build(config)
    saved = Checkpoints(folder / "checkpoints", keep=1, tell=print)
    saved.save(4, parts.start(), {})
    saved.close()
    config.data.sources.fractals.table = "/gone.npz"
    (folder / "config.json").write_text(c.to_json(config))
    return folder


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Three classes: reddish, greenish and bluish noise; one test picture is broken."""
    folder, chance = tmp_path_factory.mktemp("set"), np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 5)):
        for number, name in enumerate(("red", "green", "blue")):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = chance.integers(0, 120, (40, 36, 3)).astype(np.uint8)
                pixels[..., number] += 80
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    (folder / "val" / "red" / "0.png").write_bytes(b"no picture")
    return folder


def told(capsys, *words):
    cli.run(["evaluate", *map(str, words)])
    return dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())


def test_any_data_is_evaluated_and_the_results_are_kept(workdir, photographs, capsys, caplog):
    name, data = photographs.name.replace("-", "_"), f"--data=folder:{photographs}"
    (workdir / "evaluation.json").write_text('{"10": {"old": 1.0}, "4": {"older": 0.5}}')
    with caplog.at_level(logging.WARNING):
        options = ("--k=3,5", "--shots=1,10", "--crop=0.875", "--max_corrupt=0.1")
        found = told(capsys, "--workdir", workdir, data, *options)
    assert found.pop("step") == "4"
    kinds = {key.split("/")[0].removeprefix(f"{name}_") for key in found}
    assert kinds == {"knn", "linear_probe", "few_shot"}
    # Colours are told apart by weights that were never trained.
    assert float(found[f"{name}_knn/top1_k3"]) == float(found[f"{name}_few_shot/top1_10shot"]) == 1
    assert "0.png (image" in caplog.text
    kept = json.loads((workdir / "evaluation.json").read_text())
    assert list(kept) == ["4", "10"] and kept["10"] == {"old": 1.0}
    assert kept["4"].pop("older") == 0.5
    assert {key: f"{value:.4f}" for key, value in kept["4"].items()} == found


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "--data=cifar10: type tfds:NAME, folder:PATH, parquet:PATH or store:PATH"),
        (["--evals=knn,kn"], "--evals=kn is not known: type some of knn,linear_probe"),
        (["--k=1,x"], "--k=1,x: type whole numbers"),
        (["--k=37", "--evals=knn"], "k=(37,) goes beyond the 36 training images"),
        (["--evals=accuracy"], "source has 3 classes and the model has 8"),
        (["--num_train=40"], "num_train=40 is more than"),
        (["--test_split=dev"], "dev"),
        (["--evals=knn", "--k=3"], "cannot be decoded: mend them, or type --max_corrupt=0.13"),
    ],
    ids=["data", "evals", "numbers", "k", "classes", "too many", "split", "corrupt"],
)
def test_a_mistake_is_one_sentence_in_the_words_of_the_verb(
    workdir, photographs, capsys, words, sentence
):
    data = f"--data=folder:{photographs}" if words else "--data=cifar10"
    with pytest.raises(SystemExit) as caught:
        cli.run(["evaluate", str(workdir), data, *words])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and sentence in said and len(said.splitlines()) == 1
    assert "--config" not in said


def test_a_run_must_be_named(capsys):
    with pytest.raises(SystemExit):
        cli.run(["evaluate"])
    assert "type jaxfdsl evaluate --workdir WORKDIR" in capsys.readouterr().err
