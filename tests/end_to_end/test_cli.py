"""The verbs on a finished run: they tell the same numbers and draw the same images as the run."""

import json
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import cli, generators, load_config, train
from jaxfdsl.data import batches

SMALL = {
    "batch_size": 16,
    "steps": 2,
    "schedule.warmup_steps": 0,
    "data.sources.fractals.num_classes": 8,
    "evals.held_out.num_examples": 16,
    "model.width": 32,
    "model.depth": 1,
    "model.num_heads": 2,
    "dtype": "float32",
    "report.gallery": False,
    "report.tensorboard": False,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    return workdir, train.run(load_config("demo", **SMALL), str(workdir))


def test_evaluate_repeats_the_last_evaluation(finished, capsys):
    workdir, summary = finished
    cli.run(["evaluate", str(workdir)])
    out, error = capsys.readouterr()
    assert error == ""
    told = dict(line.split(" ", 1) for line in out.splitlines())
    assert told["step"] == "2 of 2"
    assert told["held_out/top1"] == f"{summary['held_out/top1']:.4f}"


def test_evaluate_leaves_the_folder_of_a_live_run_alone(finished, tmp_path, capsys):
    workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "live")
    saving = tmp_path / "live" / "checkpoints" / "3.orbax-checkpoint-tmp" / "params"
    saving.mkdir(parents=True)
    cli.run(["evaluate", str(tmp_path / "live")])
    assert saving.is_dir() and "step 2 of 2" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "live" / "checkpoints")
    with pytest.raises(SystemExit):
        cli.run(["evaluate", str(tmp_path / "live")])
    assert "holds no checkpoint: type the workdir" in capsys.readouterr().err
    assert not (tmp_path / "live" / "checkpoints").exists()


def test_replay_draws_the_images_of_a_step(finished, capsys):
    workdir, _ = finished
    cli.run(["replay", str(workdir), "--step=1", "--images=4"])
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:4]]
    data = batches.from_config(load_config("demo", **SMALL))
    source, rows = data.sources["fractals"], data.rows(1)["fractals"]
    assert [item["recipe"] for item in told] == rows["recipe"][:4].tolist()
    image = np.asarray(jax.jit(source.fields)(rows, source.table)["image"])
    sheet = np.asarray(Image.open(workdir / "replay" / "step1_fractals.png"))
    side = source.size
    assert (sheet[:side, :side] == image[0]).all() and (sheet[side:, side:] == image[3]).all()


def test_gallery_writes_rows_of_categories(tmp_path, capsys):
    out = tmp_path / "g.png"
    command = ["gallery", "fractaldb-1k", "--rows=2", "--columns=3", "--size=32", f"--out={out}"]
    cli.run(command)
    assert "1000 categories" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.width > 3 * 32


def test_a_mistake_ends_with_a_sentence_and_status_2(tmp_path, capsys):
    for command in (["evaluate", str(tmp_path)], ["gallery", "fractldb-1k"]):
        with pytest.raises(SystemExit) as caught:
            cli.run(command)
        assert caught.value.code == 2
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_search_saves_a_table_that_loads(tmp_path, capsys):
    out = tmp_path / "mine.npz"
    cli.run(["search", "exfractaldb", "--classes=2", "--seed=3", f"--out={out}"])
    assert f"2 categories of exfractaldb, seed 3: {out}" in capsys.readouterr().out
    found = generators.load("exfractaldb", table=out)
    again = generators.load("exfractaldb", num_classes=2, search_seed=3)
    np.testing.assert_array_equal(found.categories.maps, again.categories.maps)


def test_doctor_names_versions_devices_and_speed(capsys):
    cli.run(["doctor", "--name=exfractaldb-1k", "--images=8"])
    told = capsys.readouterr().out
    assert f"jax {jax.__version__}" in told and "devices 8 x cpu" in told
    assert "images/s of exfractaldb-1k" in told
