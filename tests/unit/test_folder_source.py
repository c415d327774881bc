"""Image folders, as PyTorch's ImageFolder reads them."""

import pickle

import numpy as np
import pytest

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import batches, decode, folder, sources
from jaxfdsl.data.decode import View
from tests.photographs import encoded, image_folder, photograph

VIEW = View(16, "random_resized")


def build(path, *, train=True, seed=0, view=VIEW, **fields):
    entry = config.folder_source(str(path), **fields)
    return sources.build(entry, seed=seed, train=train, field="data.sources.real", view=view)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Three classes of 4, 5 and 6 pictures, and two of them in the other split."""
    counts = {"train": {"cat": 4, "dog": 5, "ant": 6}, "val": {"dog": 2, "cat": 3}}
    path = image_folder(tmp_path_factory.mktemp("folder"), counts)
    path.joinpath("train/cat/notes.txt").write_text("no picture")
    path.joinpath("train/dog/more").mkdir()
    path.joinpath("train/dog/more/LAST.JPEG").write_bytes(encoded(photograph(99)))
    return path


def test_classes_are_the_sorted_folders_of_all_splits(small):
    train, val = build(small), build(small, split="val", train=False)
    assert train.class_names == val.class_names == ("ant", "cat", "dog")
    assert (train.num_classes, train.num_examples, val.num_examples) == (3, 16, 5)
    rows = val.rows(np.arange(5))
    np.testing.assert_array_equal(np.bincount(rows["label"]), [0, 3, 2])
    assert "dog/more/LAST.JPEG (image 15" in train.where(15)


def test_every_image_comes_once_an_epoch_and_its_pixels_are_the_files(small):
    source = build(small, view=None, size=30)
    assert not source.cropped and not source.decodes
    for epoch in range(2):
        rows = source.rows(np.arange(16) + 16 * epoch)
        np.testing.assert_array_equal(np.sort(rows["index"]), np.arange(16))
        for image, index, label in zip(rows["image"], rows["index"], rows["label"], strict=True):
            path = source.where(int(index)).partition(" (image")[0]
            assert path.split("/train/")[1].startswith(source.class_names[label])
            with open(path, "rb") as file:
                np.testing.assert_array_equal(image, decode.canvas(file.read(), 30))


def test_a_crop_is_a_function_of_seed_position_and_sample_alone(small):
    source = build(small)
    assert source.cropped and source.size == 16
    positions = np.arange(40)
    whole = source.rows(positions)
    for cut in (1, 7, 25):
        parts = [source.rows(positions[:cut]), source.rows(positions[cut:])]
        for name, value in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), value)
    again = source.rows(positions, samples=positions + 1)
    np.testing.assert_array_equal(again["index"], whole["index"])
    changed = (again["image"] != whole["image"]).any((1, 2, 3))
    assert changed.mean() > 0.9  # the same pictures, other boxes
    other = build(small, seed=1).rows(positions)
    assert (np.sort(other["index"][:16]) == np.arange(16)).all()
    assert (other["index"] != whole["index"]).any()


def test_worker_processes_cut_the_same_crops(small):
    made = batches.Batches({"real": build(small)}, {"real": 1.0}, 8)
    for step, rows in made.iterator(3, 7, num_workers=2):
        for name, value in made.rows(step)["real"].items():
            np.testing.assert_array_equal(rows["real"][name], value)
    assert step == 6


def test_evaluation_sees_each_picture_once_in_one_order_that_mixes_the_classes(small):
    source = build(small, train=False)
    rows = source.rows(np.arange(16))
    np.testing.assert_array_equal(np.sort(rows["index"]), np.arange(16))
    assert len(set(rows["label"][:8].tolist())) == 3  # the listing is sorted by class
    np.testing.assert_array_equal(
        source.rows(np.arange(16), np.arange(16) + 9)["image"], rows["image"]
    )


def test_without_a_view_pictures_are_centre_squares_of_224(small):
    rows = build(small, view=None).rows(np.arange(2))
    assert rows["image"].shape == (2, 224, 224, 3)


def test_images_of_one_class_can_be_looked_at(small):
    source = build(small, view=None)
    np.testing.assert_array_equal(source.rows_of(2, 4)["label"], [2, 2, 2, 2])
    assert source.rows_of(1, 9)["image"].shape == (4, 224, 224, 3)


def test_a_file_that_goes_away_keeps_its_row_and_moves_no_other(tmp_path):
    image_folder(tmp_path, {"train": {"a": 3, "b": 2}})
    source = build(tmp_path, train=False, size=30)
    there = source.rows(np.arange(5))
    source = pickle.loads(pickle.dumps(build(tmp_path, train=False, size=31)))
    (tmp_path / "train/a/001.jpg").unlink()
    rows = source.rows(np.arange(5))
    np.testing.assert_array_equal(rows["index"], there["index"])
    np.testing.assert_array_equal(rows["valid"], rows["index"] != 1)
    assert source.where(1).startswith(str(tmp_path / "train/a/001.jpg"))


def test_the_fingerprint_goes_by_names_not_by_place(tmp_path):
    counts = {"train": {"a": 2, "b": 1}}
    here, there = (build(image_folder(tmp_path / place, counts)) for place in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    (tmp_path / "there/train/b/000.jpg").rename(tmp_path / "there/train/b/001.jpg")
    folder.list_folder.cache_clear()
    assert build(tmp_path / "there").fingerprint != here.fingerprint
    assert build(tmp_path / "here", num_examples=2).fingerprint != here.fingerprint


def test_class_folders_may_lie_right_in_the_path(tmp_path):
    image_folder(tmp_path, {"": {"a": 2, "b": 1}})
    assert build(tmp_path, split="").num_examples == 3
    with pytest.raises(ConfigError, match="or '' for class folders right in the path"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"split": "test"},
            "split='test' is not a folder of {path}: type "
            "--config.data.sources.real.split=NAME, one of ['train', 'val'].",
        ),
        ({"split": "val"}, "has no picture of the class 'ant', which another split has"),
        ({"num_examples": 12, "skip_examples": 6}, "images 6 to 17 of 16"),
    ],
)
def test_splits_and_parts_that_are_not_there_are_refused(small, fields, words):
    with pytest.raises(ConfigError) as error:
        build(small, **fields)
    assert words.format(path=small) in str(error.value)


def test_a_path_that_is_not_there_is_refused_with_its_neighbour(small):
    with pytest.raises(ConfigError) as error:
        build(small.parent / (small.name + "x"))
    assert f"did you mean {small}?" in str(error.value)
    with pytest.raises(ConfigError, match="path='' is not a folder"):
        build("")


def test_empty_folders_and_classes_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ConfigError, match="holds no class folder with pictures"):
        build(tmp_path)
    image_folder(tmp_path, {"train": {"a": 1}})
    (tmp_path / "train/b").mkdir()
    with pytest.raises(ConfigError, match=r"class folder .*train/b holds no picture"):
        build(tmp_path)


def test_an_evaluation_split_without_a_class_is_told_once(small, caplog):
    folder._tell_missing.cache_clear()
    for _ in range(2):
        build(small, split="val", train=False)
    told = [
        record for record in caplog.messages if "no picture of 1 of the 3 classes: ant" in record
    ]
    assert len(told) == 1
