"""CIFAR's archives and image folders as array_record files, read by stock TFDS."""

import pathlib
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxfdsl import cli
from jaxfdsl.config import ConfigError
from jaxfdsl.data import prepare
from jaxfdsl.data import tfds as reader
from jaxfdsl.data.prepare import cifar, shards
from tests.imagenet_tars import encoded, tar_of

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
COUNTS = {"train": 50, "test": 10}
RAW = {"image": tfds.decode.SkipDecoding()}


def cifar10_files() -> tuple[dict[str, bytes], np.ndarray]:
    """The archive's files, ten images each, and their images uint8[60,32,32,3], test last."""
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), np.uint8)
    rows = [
        bytes([place % 10]) + image.transpose(2, 0, 1).tobytes()
        for place, image in enumerate(images)
    ]
    names = [f"data_batch_{part}.bin" for part in range(1, 6)] + ["test_batch.bin"]
    files = {name: b"".join(rows[10 * i : 10 * i + 10]) for i, name in enumerate(names)}
    files["batches.meta.txt"] = ("\n".join(NAMES) + "\n\n").encode()
    return files, images


def write_cifar10(folder: pathlib.Path, files: dict[str, bytes]) -> str:
    folder.mkdir(exist_ok=True)
    packed = tar_of({f"cifar-10-batches-bin/{name}": files[name] for name in files}, "w:gz")
    folder.joinpath("cifar-10-binary.tar.gz").write_bytes(packed)
    return str(folder)


def test_cifar10_keeps_every_pixel_id_and_name(tmp_path):
    files, images = cifar10_files()
    prepare.cifar10(write_cifar10(tmp_path / "tars", files), str(tmp_path), counts=COUNTS)
    builder = tfds.builder("cifar10:3.0.2", data_dir=tmp_path)
    assert builder.info.features["label"].names == NAMES
    for split, first, count in (("train", 0, 50), ("test", 50, 10)):
        rows = {row["id"].decode(): row for row in builder.as_data_source(split)}
        assert sorted(rows) == [f"{split}_{place:05d}" for place in range(count)]
        for place in range(count):
            row = rows[f"{split}_{place:05d}"]
            assert row["label"] == place % 10
            np.testing.assert_array_equal(row["image"], images[first + place])
    assert "tensorflow" not in sys.modules


def test_cifar10_is_in_the_order_that_everyone_has(tmp_path):
    """The first of tfds.load("cifar10", split="train"), as printed in many tutorials."""
    data = np.zeros((50_000, 3073), np.uint8).tobytes()
    (order,) = shards.order_in_files(cifar._Images("train", data, ["label"], ""))
    assert order[:5] == [16399, 1680, 47917, 17307, 27051]


def test_cifar100_has_coarse_and_fine_labels(tmp_path):
    coarse, fine = ([f"{kind}{n}" for n in range(count)] for kind, count in (("c", 20), ("f", 100)))
    rows = b"".join(bytes([n // 5, n]) + bytes([n]) * 3072 for n in range(100))
    files = {
        "train.bin": rows,
        "test.bin": rows,
        "coarse_label_names.txt": "\n".join(coarse).encode(),
        "fine_label_names.txt": "\n".join(fine).encode(),
    }
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(tar_of(files, "w:gz"))
    prepare.cifar100(str(tmp_path), str(tmp_path), counts={"train": 100, "test": 100})
    builder = tfds.builder("cifar100", data_dir=tmp_path)
    name = builder.info.features
    for row in builder.as_data_source("test"):
        number = int(row["image"][0, 0, 0])
        assert name["label"].int2str(int(row["label"])) == f"f{number}"
        assert name["coarse_label"].int2str(int(row["coarse_label"])) == f"c{number // 5}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"data_batch_3.bin": b""}, r"holds 40 train images, 4 to 4 of a label; complete, 50"),
        ({"test_batch.bin": b"\x00" * 3073 * 10}, r"holds 10 test images, 0 to 10 of a label"),
        ({"test_batch.bin": b"\x0a" * 3073}, r"a label of test is 10, of 10 classes"),
        ({"test_batch.bin": b"\x00" * 4000}, r"its test images are cut short"),
        ({"batches.meta.txt": None}, r"holds no batches.meta.txt: download the binary version"),
    ],
)
def test_cifar10_archives_that_are_not_whole_are_refused(tmp_path, change, sentence):
    files = {k: v for k, v in (cifar10_files()[0] | change).items() if v is not None}
    tars = write_cifar10(tmp_path / "tars", files)
    with pytest.raises(ConfigError, match=sentence):
        prepare.cifar10(tars, str(tmp_path), counts=COUNTS)
    assert not (tmp_path / "cifar10").exists()


def test_an_archive_that_was_cut_is_refused(tmp_path):
    tars = write_cifar10(tmp_path / "tars", cifar10_files()[0])
    archive = pathlib.Path(tars) / "cifar-10-binary.tar.gz"
    archive.write_bytes(archive.read_bytes()[:-5_000])
    with pytest.raises(ConfigError, match=r"cannot be unpacked .*: download it again"):
        prepare.cifar10(tars, str(tmp_path), counts=COUNTS)


def test_a_set_that_is_not_there_is_named_with_the_way_to_it(tmp_path):
    with pytest.raises(ConfigError, match=r"jaxfdsl prepare cifar100 --tars=DIR --data_dir=/"):
        reader.find("cifar100", str(tmp_path), "data")
    with pytest.raises(ConfigError, match=r"another environment, .* tfds build flowers --file_f"):
        reader.find("flowers", str(tmp_path), "data")
    files, _ = cifar10_files()
    made = prepare.cifar10(write_cifar10(tmp_path, files), str(tmp_path), counts=COUNTS)
    assert reader.find("cifar10", str(tmp_path), "data") == made


def write_folder(root: pathlib.Path, names: list[str]) -> dict[str, bytes]:
    images = {}
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        images[name] = encoded("PNG" if path.suffix == ".png" else "JPEG", seed=seed)
        path.write_bytes(images[name])
    return images


def test_a_folder_with_splits_is_copied_as_it_is(tmp_path, capsys):
    names = ["train/cat/1.jpg", "train/cat/2.PNG", "train/ant/1.JPEG", "val/bee/x.png"]
    images = write_folder(tmp_path / "pictures", names)
    for extra in ("train/cat/notes.txt", "train/.hidden/1.jpg", ".DS_Store"):
        (tmp_path / "pictures" / extra).parent.mkdir(exist_ok=True)
        (tmp_path / "pictures" / extra).touch()
    words = ["folder", "mine", str(tmp_path / "pictures"), "--data_dir", str(tmp_path)]
    cli.run(["prepare", *words])
    assert f"{tmp_path}/mine/1.0.0 is ready: name='mine'" in capsys.readouterr().out
    builder = tfds.builder_from_directory(tmp_path / "mine" / "1.0.0")
    assert builder.info.features["label"].names == ["ant", "bee", "cat"]
    expected = {"train": {"cat/1.jpg": 2, "cat/2.PNG": 2, "ant/1.JPEG": 0}, "val": {"bee/x.png": 1}}
    for split, labels in expected.items():
        rows = {r["file_name"].decode(): r for r in builder.as_data_source(split, decoders=RAW)}
        assert {name: row["label"] for name, row in rows.items()} == labels
        assert all(row["image"] == images[f"{split}/{name}"] for name, row in rows.items())
    read = tfds.data_source("mine", split="val", data_dir=tmp_path)
    assert read[0]["image"].shape == (24, 32, 3)


def test_a_folder_of_classes_alone_is_one_split(tmp_path):
    write_folder(tmp_path / "voc", ["train/1.jpg", "train/2.jpg", "boat/1.jpg"])  # trains
    builder = tfds.builder_from_directory(prepare.folder("v", str(tmp_path / "voc"), str(tmp_path)))
    assert builder.info.features["label"].names == ["boat", "train"]
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {"train": 3}


def test_a_split_that_would_renumber_the_classes_is_refused(tmp_path):
    write_folder(tmp_path / "pictures", ["train/bee/1.jpg", "train/cat/1.jpg"])
    prepare.folder("mine", str(tmp_path / "pictures"), str(tmp_path))
    write_folder(tmp_path / "pictures", ["val/ant/1.jpg"])
    with pytest.raises(ConfigError, match="was written with other classes: remove the folder"):
        prepare.folder("mine", str(tmp_path / "pictures"), str(tmp_path))


@pytest.mark.parametrize(
    ("name", "files", "sentence"),
    [
        ("My-Set", ["cat/1.jpg"], "type a name of small letters"),
        ("mine", ["cat/notes.txt"], "holds no image in a folder of its class"),
        ("mine", ["train/cat/1.jpg", "val/1.jpg"], "val holds no image in a folder of its"),
        ("mine", ["train/cat/1.jpg", "my val/cat/1.jpg"], "'my val' cannot be a split"),
    ],
)
def test_folders_that_hold_no_data_set_are_refused(tmp_path, name, files, sentence):
    write_folder(tmp_path / "pictures", files)
    with pytest.raises(ConfigError, match=sentence):
        prepare.folder(name, str(tmp_path / "pictures"), str(tmp_path))
    with pytest.raises(ConfigError, match="is no folder: type one that holds train/class"):
        prepare.folder("mine", str(tmp_path / "none"), str(tmp_path))
