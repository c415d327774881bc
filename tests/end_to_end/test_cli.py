"""The verbs on a finished run: they tell the same numbers and draw the same images as the run."""

import errno
import gc
import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import cli, generators, load_config, terminal, train
from jaxfdsl.cli import verbs
from jaxfdsl.data import batches
from jaxfdsl.data.materialise import command as write
from jaxfdsl.export import command as export
from jaxfdsl.generators import catalog
from tests import photographs

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


ONE = ("gallery", "exfractaldb-1k", "--rows=1", "--columns=1", "--size=16")
RUN = {  # what these examples tell; those of other verbs need data, or have a test of their own
    "gallery": "1000 categories",
    "search": "10 categories of exfractaldb, seed 7: mine.npz",
    "replay": "16 images of fractals at step 1",
    "evaluate": "held_out/top1",
    "export": "Step 2 of runs/demo for timm",
    "prepare": "is ready: name='flowers'",
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


def test_evaluate_tells_every_value_where_nothing_can_be_written(finished, tmp_path, capsys):
    workdir, summary = finished
    shutil.copytree(workdir, tmp_path / "theirs")
    (tmp_path / "theirs" / "evaluation.json.tmp").mkdir()  # as good as a folder of someone else
    with pytest.raises(SystemExit) as caught:
        cli.run(["evaluate", str(tmp_path / "theirs")])
    out, error = capsys.readouterr()
    assert caught.value.code == 1 and "evaluation.json.tmp" in error
    assert {line.split()[0] for line in out.splitlines()[1:]} == {k for k in summary if "/" in k}


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


def test_a_mistake_ends_with_a_sentence_and_status_2(tmp_path, capsys):
    far = ["replay", str(tmp_path), f"--step={10**23}"]
    for command in (["evaluate", str(tmp_path)], ["gallery", "fractldb-1k"], far):
        with pytest.raises(SystemExit) as caught:
            cli.run(command)
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and len(said) < 200


def test_search_saves_a_table_that_loads(tmp_path, capsys):
    out = tmp_path / "mine.npz"
    cli.run(["search", "exfractaldb", "--classes=2", "--seed=3", f"--out={out}"])
    assert f"2 categories of exfractaldb, seed 3: {out}" in capsys.readouterr().out
    found = generators.load("exfractaldb", table=out)
    again = generators.load("exfractaldb", num_classes=2, search_seed=3)
    np.testing.assert_array_equal(found.categories.maps, again.categories.maps)


def test_help_fits_a_screen_with_a_line_a_verb(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert caught.value.code == 0 and len(lines) <= 24 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(cli._VERBS)
    assert lines[-1] == "exit codes: 0 done, 1 the work failed, 2 bad input, 130 stopped by Ctrl-C"


@pytest.mark.parametrize("name", cli._VERBS)
def test_help_ends_with_an_example_that_works(name, finished, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        cli.run([name, "--help"])
    *_, head, example = capsys.readouterr().out.splitlines()
    assert head == "example:" and example == f"  {cli._VERBS[name].example}"
    verb, _ = verbs.parse(cli._VERBS, shlex.split(example)[1:], "")
    assert verb is cli._VERBS[name]
    if name not in RUN:
        return
    shutil.copytree(finished[0], tmp_path / "runs" / "demo")
    photographs.image_folder(tmp_path / "pictures" / "flowers", {"train": {"daisy": 2, "rose": 2}})
    monkeypatch.chdir(tmp_path)
    cli.run(shlex.split(example)[1:])
    told = capsys.readouterr()
    assert told.out and told.err == ""
    assert RUN[name] in told.out


def test_a_home_that_the_shell_left_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    _, options = verbs.parse(cli._VERBS, ["export", "runs/x", "--out=~/weights"], "0")
    assert (options.workdir, options.out) == ("runs/x", "/home/ada/weights")


def test_mistakes_are_told_with_what_was_meant(capsys):
    for command, said in [
        ("galery x", "jaxfdsl: 'galery' is no verb, is it gallery?; type jaxfdsl --help."),
        ("gallery x --collumns=3", "jaxfdsl gallery: --collumns is no option, is it --columns?"),
        ("gallery x --rows=0", "jaxfdsl gallery: --rows: type a whole number from 1 on, not 0"),
        ("gallery", "jaxfdsl gallery: the following arguments are required: name"),
        ("--versoin", "jaxfdsl: '--versoin' is no option, is it --version?"),
        ("", "usage: jaxfdsl VERB ..."),
    ]:
        with pytest.raises(SystemExit) as caught:
            cli.run(command.split())
        told = capsys.readouterr().err
        assert caught.value.code == 2 and told.startswith(said)
        assert len(told.splitlines()) == 1 or not command


def test_the_first_word_is_answered_without_loading_jax():
    code = "import sys, jaxfdsl.cli; print({'jax', 'numpy', 'etils', 'PIL'} & {*sys.modules})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "set()\n"


def stopped(*command) -> tuple[int, str]:
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as caught:
            cli.run([str(word) for word in command])
    finally:
        signal.signal(signal.SIGINT, before)
    return caught.value.code


def test_ctrl_c_leaves_nothing_broken(finished, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    old = tmp_path / "old.png"
    old.write_bytes(b"a picture")
    monkeypatch.setattr(Image.Image, "save", interrupt)
    assert stopped(*ONE, f"--out={old}") == 130
    assert capsys.readouterr().err == "Stopped by Ctrl-C; nothing half-written is left.\n"
    assert stopped("replay", finished[0], "--step=1", f"--out={tmp_path / 'replay'}") == 130
    monkeypatch.setattr(catalog, "search", interrupt)
    assert stopped("search", "fractaldb", f"--out={tmp_path / 't.npz'}") == 130
    monkeypatch.setattr(export, "_move_in", lambda _, partial, __: partial.mkdir() or interrupt())
    assert stopped("export", finished[0], f"--out={tmp_path / 'timm'}") == 130
    assert old.read_bytes() == b"a picture"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old.png", "replay"]
    capsys.readouterr()
    monkeypatch.setattr(write, "materialise", interrupt)
    assert stopped("materialise", "fractaldb-1k", "--to=tfds", f"--out={tmp_path / 'm'}") == 130
    assert "finished files are kept: the same command" in capsys.readouterr().err


def test_a_value_error_is_the_users_only_where_it_is_said_to_be(capsys):
    with pytest.raises(ValueError, match="shapes"), terminal.guarded():
        raise ValueError("shapes (3,) and (4,) do not fit")  # our mistake: with its traceback
    with pytest.raises(SystemExit) as caught, terminal.guarded(), terminal.as_typed():
        raise ValueError("size=1: give 16 to 4096")
    assert caught.value.code == 2 and capsys.readouterr().err == "size=1: give 16 to 4096\n"


def test_ctrl_c_in_a_callback_of_the_garbage_collector_is_not_lost(capsys):
    def once(*_):
        gc.callbacks.remove(once)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # or a collection of its own comes before `interruptible` listens
    gc.callbacks.append(once)
    try:
        with pytest.raises(SystemExit) as caught, terminal.interruptible("all is well."):
            gc.collect()
            time.sleep(10)
    finally:
        gc.enable()
        signal.signal(signal.SIGINT, before)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "Stopped by Ctrl-C; all is well.\n"


def test_ctrl_c_ends_training_with_a_line(tmp_path):
    # What runs in a shell's background ignores SIGINT, and so would its children.
    heard = "signal.signal(signal.SIGINT, signal.default_int_handler)"
    recipe = (
        f"import os, signal\n{heard}\ndef get_config():\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    (tmp_path / "recipe.py").write_text(recipe)
    words = ("-m", "jaxfdsl.main", f"--config={tmp_path / 'recipe.py'}")
    told = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert told.returncode == 130 and told.stdout == ""
    assert told.stderr == "Stopped by Ctrl-C; the same command continues from what was saved.\n"


def test_work_that_fails_has_another_status_than_bad_input(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "gallery.png")

    monkeypatch.setattr(Image.Image, "save", full)
    assert stopped(*ONE, f"--out={tmp_path / 'a.png'}") == 1
    assert capsys.readouterr().err == "No space left on device (gallery.png)\n"
    assert stopped(*ONE, f"--out={tmp_path}") == 2
    assert "it is a folder" in capsys.readouterr().err


class Screen(io.StringIO):
    def isatty(self):
        return True


def test_colours_and_bars_are_for_terminals(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(terminal, "SLOW", 0.0)
    monkeypatch.setattr(terminal, "EVERY", 0.0)
    written = {}
    for name, kind in (("screen", Screen), ("log", io.StringIO)):
        monkeypatch.setattr(sys, "stderr", kind())
        terminal.fail("No.")
        with terminal.progress(3, desc="drawn", unit="images") as bar:
            for _ in range(3):
                bar.update()
        written[name] = sys.stderr.getvalue()
    assert written["screen"].startswith("\x1b[31mNo.\x1b[0m\n\rdrawn:   0%|")
    assert written["screen"].endswith("\r")  # cleared
    assert written["log"].startswith("No.\ndrawn: 0 of 3 images, 00:00 gone")
    assert "\r" not in written["log"] and "|" not in written["log"]
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "stderr", Screen())
    terminal.fail("No.")
    assert sys.stderr.getvalue() == "No.\n"


def test_completion_knows_verbs_options_and_data_sets(monkeypatch, capsys):
    pytest.importorskip("shtab")
    for shell in ("bash", "zsh", "tcsh"):
        with pytest.raises(SystemExit) as caught:
            cli.run(["--print-completion", shell])
        script = capsys.readouterr().out
        assert caught.value.code == 0
        assert all(word in script for word in (*cli._VERBS, "columns"))
        assert "exfractaldb-1k" in script or shell == "tcsh"
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert stopped("--print-completion=zsh") == 2
    assert 'type pip install "jaxfdsl[completion]"' in capsys.readouterr().err
