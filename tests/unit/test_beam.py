"""`materialise --to tfds --beam`, where Apache Beam is installed: an environment of its own.

pip install "jaxfdsl[beam]" pytest-xdist beartype && python -m pytest tests/unit/test_beam.py
"""

import json
import pathlib
import sys

import numpy as np
import pytest

from jaxfdsl import cli, generators
from jaxfdsl.config import ConfigError

pytestmark = pytest.mark.filterwarnings("default")  # of Beam and of what it pins
ASKED = ["--classes", "8", "--instances", "5", "--size", "32", "--shard_images", "16"]
DRAWN = ["--option", "pattern=point", "--option", "num_points=2000"]
WORDS = ["fractaldb-1k", "--to", "tfds", *ASKED, *DRAWN]
LOCAL = ["--beam", "runner=DirectRunner"]


@pytest.fixture(scope="module", autouse=True)
def beam():
    """The module under test; skipped where Beam is missing."""
    pytest.importorskip("apache_beam")
    from jaxfdsl.data.materialise import beam

    return beam


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def direct(tmp_path_factory):
    """What the writer without Beam leaves."""
    out = tmp_path_factory.mktemp("direct") / "set"
    cli.run(["materialise", *WORDS, "--out", str(out)])
    return contents(out)


def test_the_pipeline_writes_the_same_bytes(direct, tmp_path, capsys):
    cli.run(["materialise", *WORDS, *LOCAL, "--out", str(tmp_path / "set")])
    assert "40 images of fractaldb-1k, files 6" in capsys.readouterr().out
    assert contents(tmp_path / "set") == direct


@pytest.mark.parametrize("stopped", ["write", "publish"])
def test_a_pipeline_that_stopped_goes_on_where_it_was(beam, direct, tmp_path, monkeypatch, stopped):
    out, written = tmp_path / "set", []
    with monkeypatch.context() as patched:
        if stopped == "write":
            original = beam._Write.process

            def stopping(self, number):
                if number == 1:
                    raise RuntimeError("no machine left")
                yield from original(self, number)

            patched.setattr(beam._Write, "process", stopping)
        else:
            patched.setattr(beam.shards, "describe", None)
        with pytest.raises(Exception, match=r"no machine left|not callable"):
            cli.run(["materialise", *WORDS, *LOCAL, "--out", str(out)])
    assert not json.loads((out / "manifest.json").read_text())["complete"]
    there = {path.name for path in out.glob("incomplete.beam.*/*.json")}
    original = beam.shards.write_shard

    def counting(path, *more):
        written.append(f"{path.name}.json")
        return original(path, *more)

    monkeypatch.setattr(beam.shards, "write_shard", counting)
    cli.run(["materialise", *WORDS, *LOCAL, "--out", str(out)])
    assert len(written) == 3 - len(there) and not there & set(written)
    assert contents(out) == direct


def test_a_finished_set_is_left_as_it_is_and_another_one_refused(beam, direct, tmp_path, capsys):
    out = tmp_path / "set"
    for name, data in direct.items():
        if data:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(data)
    cli.run(["materialise", *WORDS, *LOCAL, "--out", str(out)])
    assert contents(out) == direct
    other = [*WORDS, "--option", "color=hue"]
    with pytest.raises(SystemExit):
        cli.run(["materialise", *other, *LOCAL, "--out", str(out)])
    assert "holds another data set" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.run(["materialise", "fractaldb-1k", "--to", "parquet", *LOCAL, "--out", str(out)])
    assert "type --to tfds" in capsys.readouterr().err
    assert contents(out) == direct
    with pytest.raises(SystemExit):
        cli.run(["materialise", *WORDS, "--beam", "runner=Nowhere", "--out", str(tmp_path / "new")])
    assert "Unexpected pipeline runner: Nowhere" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    with pytest.raises(ConfigError, match="is endless"):
        beam.write("fractaldb-1k", tmp_path / "new", instances=None)


def test_every_image_is_in_one_file(beam, tmp_path):
    db = generators.load("fractaldb-1k", num_classes=8, instances=5)
    keys = [beam.images.key(db, index) for index in range(len(db))]
    order = beam.shards.hash_order("train", keys)
    plan = beam.Plan(b"", str(tmp_path), "", len(order), 3)
    beam._put(plan.order, order.astype("<i8").tobytes())
    files = np.concatenate([beam._indices(plan, number) for number in range(3)])
    assert sorted(files) == list(range(40))
    np.testing.assert_array_equal(files, order)


def test_tfds_s_own_writer_takes_the_builder_and_gives_the_same_images(direct, tmp_path):
    import tensorflow_datasets as tfds
    from apache_beam.options.pipeline_options import PipelineOptions

    from jaxfdsl.data.materialise import tfds_builder

    sizes = {"num_classes": 8, "instances": 5, "size": 32}
    builder = tfds_builder.FormulaImages(
        "fractaldb-1k", data_dir=tmp_path, pattern="point", num_points=2000, **sizes
    )
    options = PipelineOptions(["--runner=DirectRunner"])
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(beam_options=options))
    assert "tensorflow" not in sys.modules
    for name, data in direct.items():
        if data:
            (tmp_path / "direct" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "direct" / name).write_bytes(data)
    folders = tmp_path, tmp_path / "direct"
    ours = [tfds.builder("fractaldb_1k", data_dir=one).as_data_source("train") for one in folders]
    assert len(ours[0]) == len(ours[1]) == 40
    for there, here in zip(*ours, strict=True):
        assert there["key"] == here["key"] and there["label"] == here["label"]
        np.testing.assert_array_equal(there["image"], here["image"])
