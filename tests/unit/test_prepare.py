"""ImageNet's tars as array_record files: what stock TFDS reads, and what is refused."""

import io
import os
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image
from tensorflow_datasets.core.utils import shard_utils

from jaxfdsl import cli
from jaxfdsl.config import ConfigError
from jaxfdsl.data import prepare
from jaxfdsl.data.prepare import imagenet, split
from tests import imagenet_tars
from tests.imagenet_tars import LABELS, encoded

COUNTS = imagenet.Counts(train=12, classes=3, most=4, validation=5)
RAW = {"image": tfds.decode.SkipDecoding()}


def run(tars, data_dir, **options):
    defaults = {"counts": COUNTS, "threads": 2}
    return prepare.imagenet2012(str(tars), str(data_dir), **(defaults | options))


def rows_of(data_dir, part):
    """By file name, through the name in TFDS's catalogue."""
    read = tfds.data_source("imagenet2012", split=part, data_dir=data_dir, decoders=RAW)
    return {row["file_name"].decode(): row for row in read}


def test_stock_tfds_reads_images_byte_for_byte_and_odd_ones_as_rgb(tmp_path, capsys):
    odd = {2: encoded("PNG"), 7: encoded(mode="CMYK"), 9: encoded(mode="L")}
    images = imagenet_tars.write(tmp_path / "tars", odd)
    run(tmp_path / "tars", tmp_path)
    assert "train: images 12, files 1, re-encoded 2, left out 0" in capsys.readouterr().out
    rows = rows_of(tmp_path, "train")
    assert {name: row["label"] for name, row in rows.items()} == {
        name: LABELS[name[:9]] for name in images if name[:9] in LABELS
    }
    for name, row in rows.items():
        if name not in ("n01440764_2.JPEG", "n01443537_3.JPEG"):
            assert row["image"] == images[name]
            continue
        with Image.open(io.BytesIO(row["image"])) as opened:
            assert (opened.format, opened.mode) == ("JPEG", "RGB")
            lower = np.asarray(opened)[16:].astype(int)
            assert np.abs(lower - imagenet_tars.COLOUR).max() <= 2
    assert "tensorflow" not in sys.modules


def test_validation_labels_are_the_published_ones(tmp_path):
    images = imagenet_tars.write(tmp_path / "tars")
    run(tmp_path / "tars", tmp_path)
    names = tfds.builder("imagenet2012", data_dir=tmp_path).info.features["label"].names
    rows = rows_of(tmp_path, "validation")
    assert {name: row["image"] for name, row in rows.items()} == {
        name: data for name, data in images.items() if "val" in name
    }
    # Sea snake, alp, Shetland sheepdog, soup bowl, cradle.
    published = ["n01751748", "n09193705", "n02105855", "n04263257", "n03125729"]
    assert [names[rows[name]["label"]] for name in sorted(rows)] == published


def test_files_are_those_of_tfds_own_writer(tmp_path, monkeypatch):
    class Written(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("5.1.0")

        def _info(self):
            features = {
                "file_name": tfds.features.Text(),
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=1000),
            }
            features = tfds.features.FeaturesDict(features)
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for name, image in images.items():
                if name[:9] in LABELS:
                    yield name, {"file_name": name, "image": image, "label": LABELS[name[:9]]}

    monkeypatch.setattr(
        shard_utils.ShardConfig, "calculate_number_shards", lambda *sizes, **options: 3
    )
    images = imagenet_tars.write(tmp_path / "tars")
    ours = tfds.builder_from_directory(run(tmp_path / "tars", tmp_path))
    theirs = Written(data_dir=tmp_path, file_format="array_record")
    theirs.download_and_prepare()
    records = [list(made.as_data_source("train", decoders=RAW)) for made in (ours, theirs)]
    assert records[0] == records[1]
    infos = [made.info.splits["train"] for made in (ours, theirs)]
    assert infos[0].shard_lengths == infos[1].shard_lengths == [4, 4, 4]
    assert infos[0].num_bytes == infos[1].num_bytes
    reader = ArrayRecordReader(str(infos[0].filepaths[0]))
    assert "group_size:1," in reader.writer_options_string()
    reader.close()


def test_images_that_cannot_be_decoded_are_named_left_out_and_bounded(tmp_path, capsys):
    whole = encoded(seed=3)
    odd = {3: whole[: int(0.9 * len(whole))], 8: b"no picture"}
    imagenet_tars.write(tmp_path / "tars", odd)
    with pytest.raises(ConfigError) as error:
        run(tmp_path / "tars", tmp_path, max_corrupt=0.1)
    words = str(error.value)
    assert "2 of 12 images of train cannot be decoded, more than --max_corrupt=0.1" in words
    assert "n01440764_3.JPEG (image file is truncated" in words
    assert "n15075141_0.JPEG (no image that Pillow knows)" in words
    assert not list(tmp_path.rglob("dataset_info.json"))
    builder = tfds.builder_from_directory(run(tmp_path / "tars", tmp_path, max_corrupt=0.166667))
    assert "left out 2: n01440764_3.JPEG" in capsys.readouterr().out
    assert len(builder.as_data_source("train")) == builder.info.splits["train"].num_examples == 10


def test_a_truncated_jpeg_is_found_without_decoding_it_at_full_size():
    whole = encoded(seed=1)
    assert split.as_jpeg(whole) == (whole, False)
    for share in (0.5, 0.9, 0.99):
        with pytest.raises(split.BrokenImage):
            split.as_jpeg(whole[: int(share * len(whole))])


def test_refusals_of_tars(tmp_path, monkeypatch):
    tars = tmp_path / "tars"
    with pytest.raises(ConfigError, match=r"holds neither ILSVRC2012_img_train.tar nor ILSVRC"):
        run(tmp_path, tmp_path)
    imagenet_tars.write(tars)
    with pytest.raises(ConfigError, match=r"12 images of 3 classes, at most 4 of one; complete, 1"):
        run(tars, tmp_path, counts=None)
    with pytest.raises(ConfigError, match=r"val.tar holds 5 images of 5 classes"):
        run(tars, tmp_path, counts=imagenet.Counts(12, 3, 4, 6))
    with pytest.raises(ConfigError, match=r"--max_corrupt=2: type a share from 0 to 1"):
        run(tars, tmp_path, max_corrupt=2.0)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=10))
        with pytest.raises(ConfigError, match=r"GB are needed: type --data_dir=DIR on a larger"):
            run(tars, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"type --data_dir=DIR with a folder of yours"):
        run(tars, tmp_path / "file")
    train = tars / "ILSVRC2012_img_train.tar"
    train.write_bytes(train.read_bytes()[:-14_000])
    with pytest.raises(ConfigError, match="is cut short or no tar file"):
        run(tars, tmp_path)
    train.write_bytes(imagenet_tars.tar_of({"cats.tar": imagenet_tars.tar_of({})}))
    with pytest.raises(ConfigError, match=r"'cats.tar', which is no class of ImageNet"):
        run(tars, tmp_path)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["imagenet"], "'imagenet' cannot be prepared: type one of imagenet2012, cifar10"),
        (["folder", "mine"], "Type `jaxfdsl prepare folder NAME DIR`"),
        (["cifar10", "dir"], "'dir' is too much: type --tars=DIR"),
        (["cifar100", "--tars=none"], "holds no cifar-100-binary.tar.gz: type the folder"),
        (["imagenet2012", "--data_dir=gs://bucket"], "type a local folder, and copy"),
    ],
)
def test_the_command_answers_in_a_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    imagenet_tars.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        cli.run(["prepare", *words])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
    assert sorted(os.listdir(tmp_path)) == sorted(imagenet.TARS.values())


def test_the_command_writes(tmp_path, capsys):
    images = imagenet_tars.write(tmp_path / "tars")
    words = ["--tars", str(tmp_path / "tars"), "--data_dir", str(tmp_path), "--allow_partial"]
    cli.run(["prepare", "imagenet2012", *words, "--threads=1"])
    assert f"{tmp_path}/imagenet2012/5.1.0 is ready" in capsys.readouterr().out
    read = tfds.data_source("imagenet2012", split="train", data_dir=tmp_path)
    row = next(row for row in read if row["file_name"] == b"n01443537_2.JPEG")
    with Image.open(io.BytesIO(images["n01443537_2.JPEG"])) as image:
        np.testing.assert_array_equal(row["image"], np.asarray(image))


def test_the_layout_is_that_of_a_real_copy(tmp_path, tfds_dir):
    imagenet_tars.write(tmp_path / "tars")
    real = pathlib.Path(tfds_dir) / "imagenet2012" / "5.1.0"
    made = pathlib.Path(run(tmp_path / "tars", tmp_path))
    for name in ("features.json", "label.labels.txt"):
        assert (made / name).read_text() == (real / name).read_text()
    assert {path.name for path in made.iterdir()} == {path.name for path in real.iterdir()}
