"""Preparing a data set again: after a kill, after more was downloaded, from other files."""

import os
import pathlib
import signal
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.core.utils import shard_utils

from jaxfdsl.config import ConfigError
from jaxfdsl.data import prepare
from jaxfdsl.data.prepare import imagenet, shards
from tests import imagenet_tars

COUNTS = imagenet.Counts(train=12, classes=3, most=4, validation=5)
KILLED = """
import os, signal, sys
from jaxfdsl.data import prepare
from jaxfdsl.data.prepare import shards
from tensorflow_datasets.core.utils import shard_utils
shard_utils.ShardConfig.calculate_number_shards = lambda *sizes, **options: 3
write, calls = shards.write_shard, []
def until_the_third(path, records, bar):
    calls.append(path)
    if len(calls) == 3:
        next(records)
        with open(f"{path}.part", "w") as file:
            file.write("half of a file")
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path, records, bar)
shards.write_shard = until_the_third
prepare.imagenet2012(*sys.argv[1:], allow_partial=True, threads=1)
"""


def run(tars, data_dir):
    return prepare.imagenet2012(str(tars), str(data_dir), counts=COUNTS, threads=2)


def sizes(folder):
    splits = tfds.builder_from_directory(folder).info.splits
    return {name: split.num_examples for name, split in splits.items()}


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(pathlib.Path(folder).iterdir())}


@pytest.fixture(autouse=True)
def three_files(monkeypatch):
    monkeypatch.setattr(
        shard_utils.ShardConfig, "calculate_number_shards", lambda *sizes, **options: 3
    )


def test_a_killed_run_continues_to_the_same_bytes(tmp_path):
    imagenet_tars.write(tmp_path / "tars")
    killed, data_dir = tmp_path / "killed", str(tmp_path / "killed")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "tars"), data_dir]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (killed / "imagenet2012").exists()
    assert not list(killed.rglob("dataset_info.json"))
    finished = {path.name: path.stat().st_ino for path in killed.rglob("*.array_record-*-of-00003")}
    assert len(finished) == 2
    continued, unbroken = run(tmp_path / "tars", killed), run(tmp_path / "tars", tmp_path / "once")
    assert contents(continued) == contents(unbroken)
    assert {name: os.stat(f"{continued}/{name}").st_ino for name in finished} == finished
    assert [path.name for path in killed.iterdir()] == ["imagenet2012"]


@pytest.mark.parametrize("last", ["train.array_record-00001-of-00003", "dataset_info.json"])
def test_a_set_is_readable_only_once_it_is_whole(tmp_path, monkeypatch, last):
    imagenet_tars.write(tmp_path / "tars")
    final, move = tmp_path / "imagenet2012" / "5.1.0", os.replace

    def stop_at_the_last(source, target):
        if str(target).startswith(str(final)) and str(target).endswith(last):
            raise KeyboardInterrupt
        move(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop_at_the_last)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "tars", tmp_path)
    assert (final / "imagenet2012-train.array_record-00000-of-00003").exists()
    assert not (final / "dataset_info.json").exists()
    monkeypatch.setattr(shards, "write_shard", None)  # nothing is left to write
    assert run(tmp_path / "tars", tmp_path) == str(final)
    assert sizes(final) == {"train": 12, "validation": 5}
    assert len(list(tfds.builder_from_directory(final).as_data_source("train"))) == 12


def test_one_split_now_and_the_other_later(tmp_path, capsys):
    tars = tmp_path / "tars"
    imagenet_tars.write(tars)
    train = (tars / "ILSVRC2012_img_train.tar").rename(tmp_path / "later.tar")
    final = run(tars, tmp_path)
    assert sizes(final) == {"validation": 5}
    train.rename(tars / "ILSVRC2012_img_train.tar")
    assert run(tars, tmp_path) == final
    assert sizes(final) == {"validation": 5, "train": 12}
    before = contents(final)
    capsys.readouterr()
    assert run(tars, tmp_path) == final
    assert contents(final) == before
    assert "holds the split train already" in capsys.readouterr().out


def test_another_tar_begins_anew(tmp_path):
    imagenet_tars.write(tmp_path / "tars", {3: b"broken"})
    with pytest.raises(ConfigError, match="1 of 12 images"):
        run(tmp_path / "tars", tmp_path)
    imagenet_tars.write(tmp_path / "tars")
    assert sizes(run(tmp_path / "tars", tmp_path)) == {"train": 12, "validation": 5}
