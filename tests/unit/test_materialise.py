"""Formula sets as files: read back by each format's own reader, pixel for pixel and in order."""

import contextlib
import csv
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import sys
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from jaxfdsl import cli, generators
from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.materialise import TARGETS, formats
from jaxfdsl.data.materialise import images as drawing
from jaxfdsl.data.materialise.write import materialise
from jaxfdsl.data.prepare import shards
from jaxfdsl.data.store import Writer
from jaxfdsl.generators import dataset

COUNT, CLASSES = 40, 8
ASKED = ["--classes", "8", "--instances", "5", "--size", "32", "--option", "pattern=point"]


@pytest.fixture(scope="module")
def drawn():
    """The forty images, one pixel a point, and their data set."""
    db = generators.load(
        "fractaldb-1k", num_classes=CLASSES, instances=5, size=32, pattern="point", num_points=2000
    )
    assert len(db) == COUNT
    # One program for this, the fingerprint and every batch.
    return db, np.asarray(db.draw(np.arange(64) % COUNT)["image"])[:COUNT]


def pixels(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG" and image.mode == "L"  # grey stays grey
    return np.asarray(image)[..., None]


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def written(db, to, out):
    return materialise(db, to, out, shard_images=16)


def readme_lines(folder: pathlib.Path, library: str) -> dict:
    """What the lines of the written README define."""
    blocks = re.findall(
        r"(\w+):\n\n```python\n(.*?)\n```", (folder / "README.md").read_text(), re.S
    )
    space: dict = {}
    exec(dict(blocks)[library].replace("DIR", str(folder)), space)
    return space


def check_recipe(row, index):
    assert (row["category"], row["instance"]) == (index % CLASSES, index // CLASSES)
    assert row["label"] == index % CLASSES


def test_webdataset_tars_hold_the_set_in_order(drawn, tmp_path):
    db, images = drawn
    written(db, "webdataset", tmp_path)
    found = []
    for path in sorted(tmp_path.glob("train-00000?.tar")):
        with tarfile.open(path) as tar:
            found += [(one.name, tar.extractfile(one).read(), one.mtime) for one in tar]
    assert [name.partition(".")[2] for name, *_ in found] == ["png", "cls", "json"] * COUNT
    assert {mtime for *_, mtime in found} == {0}
    for index in range(COUNT):
        (name, image, _), (_, label, _), (_, recipe, _) = found[3 * index : 3 * index + 3]
        assert name == f"{index % CLASSES:05d}_{index // CLASSES:05d}.png"
        np.testing.assert_array_equal(pixels(image), images[index])
        assert int(label) == index % CLASSES
        check_recipe(json.loads(recipe), index)
        assert json.loads(recipe).keys() >= {"size", "family", "version"}
    told = json.loads((tmp_path / "_info.json").read_text())["splits"]["train"]  # timm's reader
    assert told["num_samples"] == COUNT and told["shard_lengths"] == [16, 16, 8]


def test_parquet_has_the_hubs_image_and_class_label(drawn, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    db, images = drawn
    written(db, "parquet", tmp_path)
    files = sorted((tmp_path / "data").glob("train-0000?-of-00003.parquet"))
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    assert len(rows) == COUNT
    for index, row in enumerate(rows):
        np.testing.assert_array_equal(pixels(row["image"]["bytes"]), images[index])
        check_recipe(row, index)
    metadata = parquet.read_schema(files[0]).metadata
    features = json.loads(metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": [f"0000{n}" for n in range(8)], "_type": "ClassLabel"}
    assert json.loads(metadata[b"jaxfdsl"])["family"] == "fractaldb"


def test_a_folder_a_class_with_its_recipes(drawn, tmp_path):
    db, images = drawn
    written(db, "folder", tmp_path)
    assert sum(path.is_file() for path in (tmp_path / "train").rglob("*")) == COUNT
    rows = []
    for path in sorted((tmp_path / "recipes").glob("*.csv")):
        rows += list(csv.DictReader(path.read_text().splitlines()))
    for index, row in enumerate(rows):
        assert row["file_name"] == f"train/{index % CLASSES:05d}/{index // CLASSES:05d}.png"
        data = (tmp_path / row["file_name"]).read_bytes()
        np.testing.assert_array_equal(pixels(data), images[index])
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        check_recipe({k: int(row[k]) for k in ("label", "category", "instance")}, index)


def test_array_records_in_the_order_of_the_set(drawn, tmp_path):
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    db, images = drawn
    written(db, "arrayrecord", tmp_path)
    paths = sorted(map(str, tmp_path.glob("train.array_record-*")))
    with ArrayRecordDataSource(paths) as source:
        records = source.__getitems__(range(COUNT))
    for index, record in enumerate(records):
        fields = tf_example_pb2.Example.FromString(record).features.feature
        np.testing.assert_array_equal(pixels(fields["image"].bytes_list.value[0]), images[index])
        numbers = ("label", "category", "instance", "index")
        row = {name: fields[name].int64_list.value[0] for name in numbers}
        check_recipe(row, index)
        assert row["index"] == index
    lines = readme_lines(tmp_path, "Grain")
    assert len(lines["data"]) == COUNT and lines["fields"]["index"].int64_list.value[0] == 0


def test_stock_tfds_reads_every_pixel_in_its_own_order(drawn, tmp_path):
    db, images = drawn
    written(db, "tfds", tmp_path)
    builder = tfds.builder("fractaldb_1k", data_dir=tmp_path)
    assert builder.info.features["label"].num_classes == CLASSES
    assert builder.info.supervised_keys == ("image", "label")
    rows = list(builder.as_data_source("train"))
    for row in rows:
        np.testing.assert_array_equal(row["image"], images[row["index"]])
        check_recipe(row, row["index"])
    order = [int(row["index"]) for row in rows]
    assert sorted(order) == list(range(COUNT)) and order != sorted(order)
    lines = readme_lines(tmp_path, "TFDS")
    np.testing.assert_array_equal(lines["image"], images[order[0]])
    assert len(lines["data"]) == COUNT and lines["label"] == order[0] % CLASSES


def test_a_store_has_categories_as_groups_in_the_order_of_the_set(drawn, tmp_path):
    db, images = drawn
    written(db, "store", tmp_path)
    opened = store.open(tmp_path)
    assert len(opened) == COUNT and len(opened.files) == 3 and len(opened.classes) == CLASSES
    for index, data in enumerate(opened.read(range(COUNT))):
        np.testing.assert_array_equal(pixels(data), images[index])
    for name in ("label", "group"):
        np.testing.assert_array_equal(opened.column(name), np.arange(COUNT) % CLASSES)
    np.testing.assert_array_equal(opened.column("seed"), np.arange(COUNT) // CLASSES)
    assert "drawn from formulas" in (tmp_path / "README.md").read_text()
    lines = readme_lines(tmp_path, "Grain")
    assert len(lines["data"]) == COUNT and lines["label"] in range(CLASSES)


class Killed(BaseException):
    """What no handler catches."""


@contextlib.contextmanager
def killed_in_the_second_shard(monkeypatch, to):
    """The first file is whole; the second one stops in its midst, and leaves its beginning."""
    calls = []
    others = {"tfds": (shards, "write_shard"), "store": (Writer, "_close_shard")}
    kind, name = others[to] if to in others else (formats.FORMATS[to], "write")
    with monkeypatch.context() as patched:
        original = getattr(kind, name)

        def stopping(*arguments):
            calls.append(1)
            if len(calls) < 2:
                return original(*arguments)
            places = [one for one in arguments if isinstance(one, pathlib.Path)]
            places += [one._part() for one in arguments if isinstance(one, Writer)]
            pathlib.Path(f"{places[0]}".removesuffix(".part") + ".part").write_bytes(b"half")
            raise Killed

        patched.setattr(kind, name, stopping)
        yield


@pytest.mark.parametrize("to", TARGETS)
def test_a_killed_run_continues_to_the_same_bytes(drawn, tmp_path, monkeypatch, to):
    db, _ = drawn
    with killed_in_the_second_shard(monkeypatch, to), pytest.raises(Killed):
        written(db, to, tmp_path / "killed")
    assert not json.loads((tmp_path / "killed" / "manifest.json").read_text())["complete"]
    written(db, to, tmp_path / "killed")
    manifest = written(db, to, tmp_path / "once")
    assert contents(tmp_path / "killed") == contents(tmp_path / "once")
    assert manifest.complete and sum(f["images"] for f in manifest.files.values()) == COUNT
    for name, file in manifest.files.items():
        data = (tmp_path / "once" / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file["sha256"], file["bytes"])


def test_only_what_is_missing_or_damaged_is_written_again(drawn, tmp_path, monkeypatch):
    db, _ = drawn
    written(db, "folder", tmp_path)
    before = contents(tmp_path)
    made = []
    original = formats.Folder.write

    def counting(self, part, samples):
        made.append(part.name)
        original(self, part, samples)

    monkeypatch.setattr(formats.Folder, "write", counting)
    (tmp_path / "train" / "00001" / "00002.png").write_bytes(b"damaged")  # image 17
    written(db, "folder", tmp_path)
    assert made == ["train-00001.csv.part"]
    assert contents(tmp_path) == before


def test_scenes_keep_their_labels_and_masks(tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "BATCH", 4)  # one small program for all three
    monkeypatch.setattr(dataset, "FINGERPRINT_IMAGES", 4)
    db = generators.load("segrcdb", num_classes=5, instances=3, size=32)
    drawn = db.draw(np.arange(4) % 3)
    images, masks, labels = (np.asarray(drawn[name]) for name in ("image", "mask", "label"))
    written(db, "folder", tmp_path / "folder")
    written(db, "tfds", tmp_path / "tfds")
    rows = {
        int(r["index"]): r
        for r in tfds.builder("segrcdb", data_dir=tmp_path / "tfds").as_data_source("train")
    }
    lines = list(
        csv.DictReader((tmp_path / "folder/recipes/train-00000.csv").read_text().splitlines())
    )
    for index in range(3):
        own = labels[index][labels[index] >= 0].tolist()
        np.testing.assert_array_equal(rows[index]["image"], images[index])
        np.testing.assert_array_equal(rows[index]["mask"][..., 0], masks[index])
        assert [int(one) for one in rows[index]["label"]] == own
        mask = Image.open(tmp_path / f"folder/masks/train/{index:07d}.png")
        np.testing.assert_array_equal(np.asarray(mask), masks[index])
        assert [int(one) for one in lines[index]["label"].split()] == own


@pytest.mark.parametrize(
    "words, said",
    [
        (["exfractalbd-1k", "--to", "folder"], "did you mean 'exfractaldb-1k'"),
        (["fractaldb-1k", "--to", "parkett"], "did you mean 'parquet'"),
        (["fractaldb-1k", "--to", "folder", "--instances", "0"], "--instances=0: type 1 or more"),
        (["fractaldb-1k", "--to", "folder", "--shard_images", "0"], "--shard_images=0"),
        (["fractaldb-1k", "--to", "folder", "--beam", "runner=SparkRunner"], "type --to tfds"),
        (["fractaldb-1k", "--to", "tfds", "--beam", "runner=SparkRunner"], '"jaxfdsl[beam]"'),
        (["fractaldb-1k", "--to", "tfds", "--beam", "runer=SparkRunner"], "names no runner"),
        (["fractaldb-1k", "--to", "folder", "--option", "pattern"], "type --option name=value"),
        (["fractaldb-1k", "--to", "folder", "--option", "size=8"], "type --size=8"),
        (["fractaldb-1k", "--to", "folder", "--option", "patern=point"], "no option 'patern'"),
        (["segrcdb", "--to", "store", "--instances", "3"], "a store has one label an image"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.setitem(sys.modules, "apache_beam", None)  # as where the extra is not installed
    with pytest.raises(SystemExit):
        cli.run(["materialise", *words, "--out", str(tmp_path / "new")])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_something_else_is_left_alone(drawn, tmp_path, monkeypatch):
    db, _ = drawn
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ConfigError, match="holds other files"):
        written(db, "folder", tmp_path / "mine")
    written(db, "webdataset", tmp_path / "tars")
    before = contents(tmp_path / "tars")
    with pytest.raises(ConfigError, match="holds another data set"):
        written(db, "arrayrecord", tmp_path / "tars")
    assert contents(tmp_path / "tars") == before
    with pytest.raises(ConfigError, match="type a local folder"):
        written(db, "folder", "gs://bucket/set")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ConfigError, match="GB free"):
        written(db, "folder", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_endless_set_needs_a_number(tmp_path):
    db = generators.load("fractaldb-1k", instances=None)
    with pytest.raises(ConfigError, match="is endless: type --instances"):
        materialise(db, "folder", tmp_path)


def test_the_command_writes_and_tells(tmp_path, capsys):
    words = ["fractaldb-1k", "--to", "webdataset", *ASKED, "--option", "num_points=2000"]
    cli.run(["materialise", *words, "--out", str(tmp_path / "new")])
    assert "40 images of fractaldb-1k" in capsys.readouterr().out
    told = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert told["command"].startswith("jaxfdsl materialise fractaldb-1k --to webdataset")
    assert len(told["fingerprint"]) == 64 and "jax" in told["versions"]
    assert os.listdir(tmp_path / "new").count("README.md") == 1
