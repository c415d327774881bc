"""Corrupt pictures: named once, counted, and too many end the run."""

import numpy as np
import pytest

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import sources
from jaxfdsl.data.corrupt import Corrupt
from tests.photographs import image_folder


@pytest.fixture
def source(tmp_path):
    """Twenty pictures, of which three are no pictures any more."""
    image_folder(tmp_path, {"train": {"a": 10, "b": 10}})
    for name in ("a/003.jpg", "a/007.jpg", "b/005.jpg"):
        file = tmp_path / "train" / name
        file.write_bytes(file.read_bytes()[:100])
    entry = config.folder_source(str(tmp_path), size=30)
    return sources.build(entry, seed=0, train=True, field="data.sources.real")


def test_each_corrupt_picture_is_named_once(source, tmp_path):
    told = []
    watch = Corrupt(0.15, told.append)
    for start in range(0, 60, 8):
        watch.see("real", source, source.rows(np.arange(start, start + 8)))
    assert watch.count("real") == len(told) == 3
    assert sorted(line.split()[0] for line in told) == [
        str(tmp_path / "train" / name) for name in ("a/003.jpg", "a/007.jpg", "b/005.jpg")
    ]
    assert "(3 of 20 so far)" in told[2]


def test_more_than_the_stated_share_ends_the_run(source):
    watch = Corrupt(0.1, lambda line: None)
    with pytest.raises(ConfigError) as error:
        watch.see("real", source, source.rows(np.arange(20)))
    words = str(error.value)
    assert "data.max_corrupt=0.1 is passed: 3 of the 20 images of real" in words
    assert "--config.data.max_corrupt=0.3" in words


def test_rows_that_fill_up_a_batch_are_no_corrupt_pictures(source):
    told = []
    rows = {"index": np.array([-1, 2]), "valid": np.array([0, 1], np.float32)}
    Corrupt(0.0, told.append).see("real", source, rows)
    assert not told


def test_without_a_corrupt_picture_nothing_is_said(source):
    told = []
    good = source.rows(np.arange(20))
    good = {name: value[good["valid"] == 1] for name, value in good.items()}
    Corrupt(0.0, told.append).see("real", source, good)
    assert not told
