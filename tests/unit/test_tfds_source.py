"""Real images from array_record files, without TensorFlow."""

import dataclasses
import hashlib
import io
import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import batches, decode, sources, stored, tfds
from tests.photographs import encoded, photograph


def cifar10(data_dir, *, train=True, seed=0, **fields):
    entry = config.tfds_source("cifar10", data_dir=str(data_dir), **{"size": 32, **fields})
    return sources.build(entry, seed=seed, train=train, field="data.sources.real")


@pytest.fixture(scope="module")
def test_split(tfds_dir):
    return cifar10(tfds_dir, split="test", train=False)


def test_the_cifar10_test_split_has_1000_images_of_each_class(test_split):
    rows = test_split.rows(np.arange(10_000))
    np.testing.assert_array_equal(np.bincount(rows["label"]), np.full(10, 1000))
    np.testing.assert_array_equal(rows["index"], np.arange(10_000))
    assert rows["image"].shape == (10_000, 32, 32, 3)
    assert rows["valid"].all()
    assert test_split.num_classes == 10
    assert not {"tensorflow", "torch"} & set(sys.modules)


def test_images_of_one_class_can_be_looked_at(test_split):
    rows = test_split.rows_of(3, 5)
    np.testing.assert_array_equal(rows["label"], np.full(5, 3))
    assert test_split.rows_of(3, 0)["image"].shape == (0, 32, 32, 3)


def test_held_out_and_training_parts_are_disjoint_and_complete(tfds_dir):
    held_out = cifar10(tfds_dir, num_examples=5_000, train=False)
    rest = cifar10(tfds_dir, skip_examples=5_000, seed=3)
    index = [part._select(np.arange(part.num_examples)) for part in (held_out, rest)]
    assert [len(part) for part in index] == [5_000, 45_000]
    np.testing.assert_array_equal(np.sort(np.concatenate(index)), np.arange(50_000))
    assert held_out.fingerprint != rest.fingerprint


def test_rows_are_the_same_cached_and_read_a_batch_at_a_time(tfds_dir, monkeypatch):
    cached = cifar10(tfds_dir, split="test")
    monkeypatch.setattr(stored, "CACHE_BYTES", 0)
    reading = cifar10(tfds_dir, split="test")
    assert not cached.decodes and reading.decodes
    positions = np.array([5, 9_999, 10_000, 123_456])
    for name, value in cached.rows(positions).items():
        np.testing.assert_array_equal(reading.rows(positions)[name], value)


def test_worker_processes_make_the_same_batches(tfds_dir, monkeypatch):
    monkeypatch.setattr(stored, "CACHE_BYTES", 0)
    part = cifar10(tfds_dir, split="test", num_examples=64)
    made = batches.Batches({"real": part}, {"real": 1.0}, 16)
    for step, rows in made.iterator(3, 7, num_workers=2):
        for name, value in made.rows(step)["real"].items():
            np.testing.assert_array_equal(rows["real"][name], value)
    assert step == 6


def test_large_images_are_resized_by_the_shorter_side_and_cut_at_the_centre(tfds_dir):
    entry = config.tfds_source("imagenet2012", data_dir=tfds_dir, size=64)
    source = sources.build(entry, seed=0, train=False)
    rows = source.rows(np.arange(66))
    assert rows["image"].shape == (66, 64, 64, 3)
    assert rows["valid"].all()
    wide = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8), (100, 1)))
    halved = decode.canvas(encoded(wide, "PNG"), 50)[:, :, 0].astype(int)
    np.testing.assert_allclose(halved[25, 5:45], 51 + 2 * np.arange(5, 45), atol=1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A prepared set like VOC: pictures with lists of labels, one of them corrupt."""
    folder = tmp_path_factory.mktemp("tfds")

    class SmallScenes(tensorflow_datasets.core.GeneratorBasedBuilder):
        VERSION = tensorflow_datasets.core.Version("1.0.0")
        name = "small_scenes"
        pkg_dir_path = folder

        def _info(self):
            classes = tensorflow_datasets.features.ClassLabel(names=["boat", "car", "dog"])
            features = {
                "image": tensorflow_datasets.features.Image(),
                "labels": tensorflow_datasets.features.Sequence(classes),
                "kind": classes,
            }
            features = tensorflow_datasets.features.FeaturesDict(features)
            return self.dataset_info_from_configs(features=features, description="-")

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for row, labels in enumerate(([2, 0], [], [1], [0, 1, 2])):
                data = encoded(photograph(row))
                data = data[:200] if row == 2 else data
                yield row, {"image": io.BytesIO(data), "labels": labels, "kind": len(labels) % 3}

    SmallScenes(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def small_scenes(folder, **fields):
    entry = config.tfds_source("small_scenes", data_dir=str(folder), size=30, **fields)
    return sources.build(entry, seed=0, train=False, field="data.sources.real")


def test_sequences_of_classes_are_padded_and_a_corrupt_image_keeps_its_row(scenes):
    source = small_scenes(scenes, label="labels")
    assert source.class_names == ("boat", "car", "dog")
    rows = source.rows(np.arange(4))
    found = {
        tuple(label): valid
        for label, valid in zip(rows["label"].tolist(), rows["valid"], strict=True)
    }
    assert found == {(0, 2, -1): 1, (-1, -1, -1): 1, (1, -1, -1): 0, (0, 1, 2): 1}
    assert not rows["image"][rows["valid"] == 0].any()
    row = int(rows["index"][rows["valid"] == 0][0])
    assert source.where(row).startswith(f"image {row} of small_scenes, split 'train'")


def test_the_label_is_chosen_by_name(scenes):
    kind, labels = small_scenes(scenes, label="kind"), small_scenes(scenes, label="labels")
    assert sorted(kind.rows(np.arange(4))["label"].tolist()) == [0, 0, 1, 2]
    assert kind.fingerprint != labels.fingerprint
    with pytest.raises(ConfigError) as error:
        small_scenes(scenes)
    assert "label='label' is not a class feature of 'small_scenes'" in str(error.value)
    assert "--config.data.sources.real.label=kind, or one of ['labels']" in str(error.value)


def test_the_fingerprint_of_a_canvas_is_that_of_version_0_1(test_split):
    text = '["cifar10", "3.0.2", "test", 32, 10000, 10000, 0]'
    assert test_split.fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_a_label_that_is_no_class_is_named_with_its_row(test_split):
    few = dataclasses.replace(test_split, num_classes=5, decodes=True)
    with pytest.raises(ConfigError, match=r"has the label \d, which is not one of the 5 classes"):
        few.rows(np.arange(20))


def test_a_missing_data_set_is_one_sentence_with_the_way_out(tmp_path):
    with pytest.raises(ConfigError) as error:
        cifar10(tmp_path)
    words = str(error.value)
    assert f"looked for {tmp_path}/cifar10/<version>/dataset_info.json" in words
    assert "--config.data.data_dir=DIR" in words
    assert f"jaxfdsl prepare cifar10 --tars=DIR --data_dir={tmp_path}" in words
    assert "\n" not in words


def test_a_tfrecord_data_set_is_named_with_its_conversion(tfds_dir, tmp_path):
    folder = tmp_path / "cifar10" / "3.0.2"
    shutil.copytree(pathlib.Path(tfds_dir) / "cifar10" / "3.0.2", folder)
    folder.chmod(0o755)
    for records in folder.glob("*.array_record*"):
        folder.joinpath(records.name.replace("array_record", "tfrecord")).touch()
        records.unlink()
    info = folder / "dataset_info.json"
    info.chmod(0o644)
    text = json.dumps({**json.loads(info.read_text()), "fileFormat": "tfrecord"})
    info.write_text(text.replace("array_record", "tfrecord"))
    with pytest.raises(ConfigError) as error:
        cifar10(tmp_path)
    assert f"{folder} holds tfrecord files" in str(error.value)
    assert f"--dataset_version_dir={folder} --out_file_format=array_record" in str(error.value)


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path):
    for version in ("3.0.2", "3.0.10"):
        (tmp_path / "set" / version).mkdir(parents=True)
        (tmp_path / "set" / version / "dataset_info.json").touch()
    assert tfds.find("set", str(tmp_path), "field").endswith("3.0.10")
    assert tfds.find("set:3.0.2", str(tmp_path), "field").endswith("3.0.2")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"split": "validation"}, "type one of ['test', 'train']"),
        ({"num_examples": 45_000, "skip_examples": 6_000}, "images 6000 to 50999 of 50000"),
    ],
)
def test_parts_that_are_not_there_are_refused(tfds_dir, fields, words):
    with pytest.raises(ConfigError) as error:
        cifar10(tfds_dir, **fields)
    assert words in str(error.value)
