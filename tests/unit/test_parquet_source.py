"""Parquet files as the Hugging Face hub keeps image data sets."""

import json
import sys

import numpy as np
import pytest

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import decode, parquet, sources
from jaxfdsl.data.decode import View
from tests.photographs import encoded, photograph

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def build(path, *, train=True, seed=0, view=None, **fields):
    entry = config.parquet_source(str(path), **{"size": 30, **fields})
    return sources.build(entry, seed=seed, train=train, field="data.sources.real", view=view)


def write(path, labels, *, start=0, names=None, struct=True, group=3, column="label"):
    """A file of pictures with seeds from `start` on, in row groups of three."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = [encoded(photograph(start + row), "PNG") for row in range(len(labels))]
    if struct:
        pictures = [{"bytes": data, "path": None} for data in pictures]
    table = pa.table({"image": pictures, column: labels})
    if names:
        label = {"names": names, "_type": "ClassLabel"}
        label = {"feature": label, "_type": "List"} if isinstance(labels[0], list) else label
        info = {"info": {"features": {"image": {"_type": "Image"}, column: label}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, path, row_group_size=group)
    return path


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """Two training files of 7 and 5 rows and a test file of 4, with class names."""
    path = tmp_path_factory.mktemp("hub")
    names = ["cat", "dog", "ant"]
    write(path / "data/train-00000-of-00002.parquet", [0, 1, 2, 0, 1, 2, 0], names=names)
    write(path / "data/train-00001-of-00002.parquet", [1, 1, 1, 2, 2], names=names, start=7)
    write(path / "data/test-00000-of-00001.parquet", [1, 0, 0, 1], names=names, start=12)
    return path


def test_every_row_comes_once_an_epoch_with_its_own_picture(hub, monkeypatch):
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1)  # one row group is kept at a time
    source = build(hub)
    assert source.class_names == ("cat", "dog", "ant") and source.num_examples == 12
    rows = source.rows(np.arange(24))
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(rows["label"], labels[rows["index"]])
    for epoch in (rows["index"][:12], rows["index"][12:]):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(12))
    for image, index in zip(rows["image"], rows["index"], strict=True):
        expected = decode.canvas(encoded(photograph(int(index)), "PNG"), 30)
        np.testing.assert_array_equal(image, expected)
    assert source.where(8).startswith(f"row 1 of {hub}/data/train-00001-of-00002.parquet")


def test_a_test_split_counts_the_training_splits_classes(hub, tmp_path):
    assert build(hub, split="test", train=False).num_classes == 3
    write(tmp_path / "train.parquet", [0, 4, 2], struct=False)  # bytes alone, no class names
    write(tmp_path / "test.parquet", [1, 0])
    assert build(tmp_path).num_classes == 5
    test = build(tmp_path, split="test", train=False)
    assert test.num_classes == 5 and test.class_names is None
    assert build(tmp_path / "train.parquet").num_examples == 3


def test_lists_of_labels_are_padded(tmp_path):
    labels = [[2, 0], [], [1], [3, 1, 0]]
    names = ["boat", "car", "dog", "owl"]
    write(tmp_path / "train-0.parquet", labels, names=names, column="labels")
    source = build(tmp_path, label="labels", train=False)
    rows = source.rows(np.arange(4))
    padded = [[0, 2, -1, -1], [-1, -1, -1, -1], [1, -1, -1, -1], [0, 1, 3, -1]]
    np.testing.assert_array_equal(rows["label"], np.array(padded)[rows["index"]])
    assert rows["label"].dtype == np.int32 and source.class_names == tuple(names)


def test_crops_are_cut_on_the_host(hub):
    source = build(hub, size=0, view=View(16, "random_resized"))
    rows = source.rows(np.arange(12))
    assert source.cropped and rows["image"].shape == (12, 16, 16, 3) and rows["valid"].all()
    assert source.fingerprint != build(hub).fingerprint


def test_a_row_without_a_picture_is_corrupt(tmp_path):
    table = pa.table(
        {"image": [encoded(photograph(0)), None, b"\xff\xd8 broken"], "label": [0, 1, 0]}
    )
    pq.write_table(table, tmp_path / "train.parquet")
    rows = build(tmp_path, train=False).rows(np.arange(3))
    np.testing.assert_array_equal(rows["valid"], rows["index"] == 0)


@pytest.mark.parametrize(
    ("labels", "names", "words"),
    [
        ([0, 1, 2, 1], ["a", "b"], "row 2 of {file} (image 2 of split 'train') has the label 2"),
        ([0, -1], None, "row 1 of {file} (image 1 of split 'train') has the label -1"),
        ([0, None], None, "row 1 of {file} (image 1 of split 'train') has the label None"),
        (["cat", "dog"], None, "label='label' of {file} holds string"),
    ],
)
def test_labels_that_are_no_class_are_refused_with_their_row(tmp_path, labels, names, words):
    file = write(tmp_path / "train-0.parquet", labels, names=names)
    with pytest.raises(ConfigError) as error:
        build(tmp_path)
    assert words.format(file=file) in str(error.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"split": "validation"}, "type one of ['test', 'train']"),
        ({"label": "lable"}, "did you mean 'label'?"),
        ({"image": "pixels"}, "type one of ['image', 'label']"),
        ({"image": "label"}, "of encoded pictures"),
    ],
)
def test_what_is_not_there_is_refused(hub, fields, words):
    with pytest.raises(ConfigError) as error:
        build(hub, **fields)
    assert words in str(error.value)


def test_a_path_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not there: type the path of a Parquet file"):
        build(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="it holds no Parquet file"):
        build(tmp_path)


def test_without_pyarrow_the_command_to_install_it_is_named(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r'pip install "jaxfdsl\[data\]"'):
        build(hub)
