"""The main recipe with smaller sizes starts, and what cannot work is refused in one sentence."""

import os
import shutil
import subprocess
import sys

import pytest

from jaxfdsl import load_config, train
from jaxfdsl.config import ConfigDict, ConfigError, accuracy_eval, formula_source

SMALL = {
    "batch_size": 16,
    "epochs": 0.0,
    "steps": 2,
    "checkpoint_every": 1,
    "schedule.warmup_epochs": 0.01,  # 5 steps
    "data.sources.exfractaldb.num_classes": 8,
    "data.sources.exfractaldb.size": 32,
    "evals.held_out.num_examples": 16,
    "model.image_size": 32,
    "model.patch_size": 16,
    "model.width": 32,
    "model.depth": 1,
    "model.num_heads": 2,
    "report.gallery": False,
    "report.tensorboard": False,
}


def small(**changes) -> ConfigDict:
    return load_config("configs/vitb_exfractal.py", **{**SMALL, **changes})


def refusal(config: ConfigDict, workdir) -> str:
    with pytest.raises(ConfigError) as caught:
        train.run(config, str(workdir))
    assert not list(workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))
    return str(caught.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The workdir of the small run, finished after two steps."""
    workdir = tmp_path_factory.mktemp("finished")
    summary = train.run(small(), str(workdir))
    assert summary["finished"] and summary["steps"] == 2
    return workdir


def test_a_finished_run_says_so_and_where_its_results_are(finished, capsys):
    assert train.run(small(), str(finished))["finished"]
    said = capsys.readouterr().out
    assert "finished" in said and str(finished) in said


def test_the_workdir_of_another_experiment_is_refused(finished):
    words = refusal(small(**{"optimizer.learning_rate": 0.5}), finished)
    assert "holds another experiment: optimizer.learning_rate is 0.5 here" in words
    assert "--workdir" in words


def test_steps_at_or_below_the_restored_step_are_refused(finished):
    words = refusal(small(steps=1), finished)
    assert "is at step 2 already" in words and "--config.steps=N" in words


def test_a_batch_that_the_devices_do_not_divide_is_refused(tmp_path):
    words = refusal(small(batch_size=20), tmp_path)
    assert "type --config.batch_size=16 or 24." in words


def test_an_image_that_the_patch_does_not_divide_is_refused(tmp_path):
    words = refusal(small(**{"model.image_size": 40}), tmp_path)
    assert "type --config.model.image_size=32 or 48." in words


def test_a_data_dir_without_the_data_set_is_refused(tmp_path):
    changes = {"data.data_dir": str(tmp_path), "batch_size": 16, "model.width": 64}
    words = refusal(load_config("configs/finetune.py", **changes), tmp_path / "run")
    assert "holds no prepared data set 'cifar10'" in words and "data_dir=" in words


def test_a_category_file_with_a_wrong_column_count_is_named(tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    rows = ["1,2,3,4,5,6,7,8,9,10,11,12,1", "1,2,3,4"]
    (folder / "00000.csv").write_text("\n".join(rows) + "\n")
    source = "data.sources.exfractaldb"
    own = {f"{source}.name": "exfractaldb", f"{source}.table": str(folder)}
    words = refusal(small(**own), tmp_path / "run")
    assert "00000.csv, line 2: 4 columns" in words


def test_an_evaluation_of_more_than_there_is_is_refused_before_the_run(tmp_path):
    config = small()
    config.evals.seen = accuracy_eval(
        formula_source("exfractaldb-21k", num_classes=8, instances=2, size=32), num_examples=20_000
    )
    words = refusal(config, tmp_path / "run")
    assert "evals.seen.num_examples=20000 is more than exfractaldb-21k's 16" in words
    assert not (tmp_path / "run").exists()


def test_an_unknown_option_of_a_formula_is_told_the_nearest(tmp_path):
    words = refusal(small(**{"data.sources.exfractaldb.options.num_point": 9}), tmp_path)
    assert "has no option 'num_point' (did you mean 'num_points'?)" in words


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_afresh(finished, tmp_path, capsys):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    for meta in (workdir / "checkpoints").glob("*/meta/metadata"):
        meta.unlink()
    for _ in range(2):
        words = refusal(small(), workdir)
        assert "no checkpoint that can be read, only unreadable-1, unreadable-2" in words
        assert str(workdir) in words and "--workdir" in words
    assert "rises for 5 steps and the run has 2: it ends within" in capsys.readouterr().out


def test_an_unknown_data_set_is_told_the_nearest_name(tmp_path):
    words = refusal(small(**{"data.sources.exfractaldb.name": "exfractldb-21k"}), tmp_path)
    assert "exfractaldb-21k" in words.replace("exfractldb-21k", "", 1)


def test_the_command_prints_the_sentence_on_stderr_and_ends_with_2(tmp_path):
    command = [sys.executable, "-m", "jaxfdsl.main", "--config=configs/vitb_exfractal.py"]
    command += [f"--workdir={tmp_path / 'run'}", "--config.model.image_size=100"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "model.image_size=100 is not a multiple of model.patch_size=16: "
        "type --config.model.image_size=96 or 112."
    )
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
