"""Subsets of a data set's classes: kept, renumbered, refused by name."""

import json

import numpy as np
import pytest

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import class_list, sources
from tests.photographs import encoded, image_folder, photograph


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    counts = {"train": {"ant": 3, "bee": 4, "cat": 5, "dog": 2}}
    return image_folder(tmp_path_factory.mktemp("folder"), counts)


def build(path, names, tmp_path, **fields):
    file = tmp_path / "classes.txt"
    file.write_text(names)
    entry = config.folder_source(str(path), classes=str(file), size=30, **fields)
    return sources.build(entry, seed=0, train=True, field="data.sources.real")


def test_classes_of_a_list_are_kept_in_its_order(folder, tmp_path):
    source = build(folder, "# two of four\ndog\tDomestic dog\n\nbee  # makes honey\n", tmp_path)
    assert source.class_names == ("dog", "bee") and source.num_classes == 2
    assert source.num_examples == 6
    rows = source.rows(np.arange(6))
    np.testing.assert_array_equal(np.bincount(rows["label"]), [2, 4])
    np.testing.assert_array_equal(np.sort(rows["index"]), [3, 4, 5, 6, 12, 13])
    np.testing.assert_array_equal(rows["label"], np.where(rows["index"] > 11, 0, 1))


def test_parts_are_cut_from_the_kept_rows(folder, tmp_path):
    names = "cat\nbee"
    parts = [build(folder, names, tmp_path, num_examples=4)]
    parts.append(build(folder, names, tmp_path, skip_examples=4))
    index = [part.rows(np.arange(part.num_examples))["index"] for part in parts]
    np.testing.assert_array_equal(np.sort(np.concatenate(index)), np.arange(3, 12))
    assert len({part.fingerprint for part in parts}) == 2


def test_the_order_of_a_list_is_part_of_the_fingerprint(folder, tmp_path):
    one = build(folder, "bee\ncat", tmp_path).fingerprint
    other = build(folder, "cat\nbee", tmp_path).fingerprint
    assert one != other == build(folder, "cat # the same\n bee", tmp_path).fingerprint


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("ant\ncatt", "names 'catt', which is not one of the 4 classes: did you mean 'cat'?"),
        ("ant\nant", "names 'ant' twice"),
        ("# nothing", "names no class"),
    ],
)
def test_lists_that_do_not_fit_are_refused(folder, tmp_path, names, words):
    with pytest.raises(ConfigError) as error:
        build(folder, names, tmp_path)
    assert words in str(error.value)


def test_a_list_that_is_not_there_is_refused(folder):
    with pytest.raises(ConfigError, match=r"real\.classes='nowhere\.txt' cannot be read"):
        class_list.read_names("nowhere.txt", "data.sources.real")


def test_imagenet_classes_are_found_without_decoding(tfds_dir, tmp_path):
    everything = config.tfds_source("imagenet2012", data_dir=tfds_dir, size=32)
    labels = sources.build(everything, seed=0, train=False).rows(np.arange(66))["label"]
    two = np.unique(labels)[[3, 1]]
    known = sources.build(everything, seed=0, train=False).class_names
    file = tmp_path / "classes.txt"
    file.write_text("\n".join(known[number] for number in two))
    entry = config.tfds_source("imagenet2012", data_dir=tfds_dir, size=32, classes=str(file))
    source = sources.build(entry, seed=0, train=False)
    assert source.num_classes == 2
    rows = source.rows(np.arange(source.num_examples))
    np.testing.assert_array_equal(two[rows["label"]], labels[rows["index"]])
    assert source.num_examples == np.isin(labels, two).sum()


def test_a_picture_with_several_labels_is_kept_for_any_of_them(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    picture = encoded(photograph(0), "PNG")
    table = pa.table({"image": [picture] * 4, "label": [[0, 3], [1], [2, 3], []]})
    label = {"feature": {"names": ["ant", "bee", "cat", "dog"], "_type": "ClassLabel"}}
    info = json.dumps({"info": {"features": {"label": label}}})
    pq.write_table(table.replace_schema_metadata({"huggingface": info}), tmp_path / "train.parquet")
    (tmp_path / "classes.txt").write_text("dog\nant")
    classes = str(tmp_path / "classes.txt")
    entry = config.parquet_source(str(tmp_path), classes=classes, size=30)
    source = sources.build(entry, seed=0, train=True)
    rows = source.rows(np.arange(2))
    found = dict(zip(rows["index"].tolist(), map(tuple, rows["label"].tolist()), strict=True))
    assert found == {0: (0, 1), 2: (0, -1)}
