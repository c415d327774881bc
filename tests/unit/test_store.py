"""The store: what is written is read back, whatever kills the writer or harms the files."""

import json
import os
import pathlib
import random
import resource
import subprocess
import sys

import numpy as np
import pytest

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.store import layout, shards

CARD = {"generator": "a model", "guidance": 2.0, "caption_source": "me", "licence": "cc0-1.0"}


def image(row: int) -> bytes:
    """Bytes that are the row's own; a store does not look into them."""
    return random.Random(row).randbytes(20 + row % 50)


def fields(row: int) -> dict:
    """Three images a caption; captions of four alphabets, every fifth group without one."""
    group = row // 3
    captions = ["a dög", "猫が好き", "x" * 500, 'with, "quotes"\nand a line', ""]
    caption = captions[group % 5] and f"{captions[group % 5]} {group % 40}"
    return {
        "label": row % 7 - 1,
        "group": group,
        "seed": 2**40 + row % 3,
        "caption": caption,
        "source": "ab"[row // 50 % 2],
    }


def write(path, count, start=0, **options):
    options = {"card": CARD, "shard_images": 8, **options}
    with store.Writer(path, **options) as writer:
        for row in range(start, count):
            writer.add(image(row), **fields(row))
    return store.open(path)


def check(opened, count):
    """Every row of a store is what was added, in any order."""
    assert len(opened) == count
    rows = np.random.default_rng(0).permutation(count)
    assert opened.read(rows) == [image(row) for row in rows.tolist()]
    said = [fields(row) for row in rows.tolist()]
    for name in ("label", "group", "seed"):
        np.testing.assert_array_equal(opened.column(name)[rows], [one[name] for one in said])
    assert opened.captions(rows) == [one["caption"] for one in said]
    sources = [opened.sources[number] for number in opened.column("source")[rows]]
    assert sources == [one["source"] for one in said]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A hundred rows in thirteen shards; nobody changes it."""
    path = tmp_path_factory.mktemp("store") / "mine"
    write(path, 100)
    return path


def test_rows_are_read_back_in_any_order(written):
    opened = store.open(written)
    check(opened, 100)
    assert opened[99] == {"image": image(99), **fields(99)} and opened[-100]["seed"] == 2**40
    with pytest.raises(IndexError):
        opened.read([100])
    distinct = {fields(row)["caption"] for row in range(100)} - {""}
    assert opened.layout.captions == len(distinct)  # each once
    text = (written / "captions" / "text.bin").read_bytes()
    assert len(text) == sum(len(one.encode()) for one in distinct)
    assert len(list(opened.verify())) == 13


def test_large_pictures_are_read_by_several_threads(written, monkeypatch):
    monkeypatch.setattr(sys.modules["jaxfdsl.data.store.reader"], "_THREADED_BYTES", 1)
    check(store.open(written), 100)


def test_numpy_reads_the_columns_and_they_are_not_in_memory(written):
    labels = np.load(written / "columns" / "label.npy", mmap_mode="r")
    np.testing.assert_array_equal(labels, np.arange(100) % 7 - 1)
    assert isinstance(store.open(written).column("label"), np.memmap)


def test_grain_reads_the_shards_and_the_rows(written):
    import grain

    opened = store.open(written)
    records = grain.sources.ArrayRecordDataSource(opened.files)
    assert len(records) == 100 and records[57] == image(57)
    shuffled = grain.MapDataset.source(opened).shuffle(seed=1)
    seen = [shuffled[place] for place in range(100)]
    assert sorted(one["image"] for one in seen) == sorted(map(image, range(100)))
    assert sorted(one["caption"] for one in seen) == sorted(
        fields(r)["caption"] for r in range(100)
    )


def test_few_files_may_be_open(written):
    assert shards._most() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    readers = shards._Readers()
    opened = store.open(written)
    kept = shards._OPEN
    shards._OPEN = 2
    try:
        for number, file in enumerate(opened.files):
            assert readers.read(file, [0]) == [image(8 * number)]
        assert len(readers._kept) == 2
    finally:
        shards._OPEN = kept


def test_a_second_writer_goes_on_and_adds(tmp_path):
    path = tmp_path / "grown"
    write(path, 20)
    before = {file: pathlib.Path(file).read_bytes() for file in store.open(path).files}
    old = store.open(path)
    grown = write(path, 45, start=20)
    check(grown, 45)
    assert all(pathlib.Path(file).read_bytes() == data for file, data in before.items())
    check(old, 20)  # whoever had it open sees what was there
    assert old.layout.fingerprint != grown.layout.fingerprint
    once = write(tmp_path / "once", 45)
    assert once.layout.captions == grown.layout.captions


def test_an_error_in_the_maker_keeps_the_rows_that_are_whole(tmp_path):
    with pytest.raises(ZeroDivisionError), store.Writer(tmp_path, shard_images=8) as writer:
        for row in range(11):
            writer.add(image(row), **fields(row))
        assert (writer.done, len(writer)) == (8, 11)
        raise ZeroDivisionError
    opened = store.open(tmp_path)
    check(opened, 11)
    assert not opened.layout.closed
    with store.Writer(tmp_path):
        pass
    assert store.open(tmp_path).layout.closed


KILLS = """
import os, random, signal, sys, traceback
from jaxfdsl.data import store

path, moments = sys.argv[1], random.Random(0)

def image(row):
    return random.Random(row).randbytes(20 + row % 50)

def write(told):
    with store.Writer(path, shard_images=5) as writer:
        assert writer.done == len(store.open(path)) and writer.done % 5 == 0
        for row in range(writer.done, 400):
            os.write(told, b".")
            writer.add(image(row), group=row // 3, seed=row % 3, caption=f"caption {row // 4}")

def check(least):
    left = store.open(path)
    assert len(left) >= least
    assert left.read(range(len(left))) == [image(row) for row in range(len(left))]
    assert left.captions(range(len(left))) == [f"caption {row // 4}" for row in range(len(left))]
    assert left.column("group").tolist() == [row // 3 for row in range(len(left))]
    list(left.verify())

def started(function, *arguments):
    pid = os.fork()
    if pid:
        return pid
    try:
        function(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

def ended(pid):
    assert os.waitpid(pid, 0)[1] == 0

done = 0
for _ in range(15):
    heard, told = os.pipe()
    pid = started(write, told)
    for _ in range(moments.randrange(25)):  # rows, whatever the load; the writer does not wait
        os.read(heard, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if os.path.exists(f"{path}/store.json"):
        ended(started(check, done))
        done = len(store.open(path))
ended(started(write, told))
ended(started(check, 400))
assert "jax" not in sys.modules
"""


def test_a_writer_killed_at_any_moment_loses_no_closed_shard_and_doubles_nothing(tmp_path, root):
    path = tmp_path / "killed"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", KILLS, str(path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    opened = store.open(path)
    assert opened.read(range(400)) == [image(row) for row in range(400)] and len(opened) == 400
    assert opened.layout.captions == 100 and len(opened.files) == 80 and opened.layout.closed
    assert not list(path.rglob("*.part"))


@pytest.mark.parametrize("moment", range(7))
def test_what_a_crash_left_behind_store_json_does_not_count(tmp_path, monkeypatch, moment):
    """Stops the second shard at each of the steps that close it."""
    steps = iter(range(100))

    def stopping(function):
        def call(*args, **options):
            if next(steps) == moment:
                raise KeyboardInterrupt
            return function(*args, **options)

        return call

    writer = store.Writer(tmp_path, card=CARD, shard_images=8)
    for row in range(15):
        writer.add(image(row), **fields(row))
    module = sys.modules["jaxfdsl.data.store.writer"]
    with monkeypatch.context() as patch:
        patch.setattr(module.columns, "append", stopping(module.columns.append))
        patch.setattr(layout.Layout, "save", stopping(layout.Layout.save))
        with pytest.raises(KeyboardInterrupt):
            writer.add(image(15), **fields(15))
    with pytest.raises(ConfigError, match="writing it has failed: open it again"):
        writer.close()
    check(store.open(tmp_path), 8)
    check(write(tmp_path, 24, start=8), 24)


def test_two_writers_at_once_are_refused(tmp_path):
    with store.Writer(tmp_path / "one") as writer:
        writer.add(image(0))
        with pytest.raises(ConfigError, match=rf"being written by process {os.getpid()} on"):
            store.Writer(tmp_path / "one")
    with store.Writer(tmp_path / "one") as writer:
        assert writer.done == 1


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def altered(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("file", ["images/00001.array_record", "columns/group.npy",
                                  "captions/text.bin", "captions/ends.npy"])  # fmt: skip
def test_a_truncated_file_is_named_and_refused(tmp_path, file):
    write(tmp_path, 20)
    truncated(tmp_path / file)
    for opening in (store.open, store.Writer):
        with pytest.raises(ConfigError) as error:
            opening(tmp_path)
        assert f"{tmp_path / file} is truncated" in str(error.value)
    (tmp_path / file).unlink()
    with pytest.raises(ConfigError, match=f"{file} is gone"):
        store.open(tmp_path)


def test_an_altered_file_is_named_and_refused(tmp_path):
    write(tmp_path, 20)
    shard = tmp_path / "images" / "00002.array_record"
    whole = shard.read_bytes()
    altered(shard)
    for use in (lambda: list(store.open(tmp_path).verify()), lambda: store.Writer(tmp_path)):
        with pytest.raises(ConfigError, match=r"00002\.array_record is altered"):
            use()
    shard.write_bytes(whole)
    data = bytearray(whole)
    data[64:4096] = bytes(4032)
    shard.write_bytes(bytes(data))
    with pytest.raises(ConfigError, match=r"00002\.array_record is truncated or altered"):
        store.open(tmp_path).read(range(20))
    shard.write_bytes(whole)
    column = tmp_path / "columns" / "label.npy"
    data = bytearray(column.read_bytes())
    data[-1] ^= 1
    column.write_bytes(bytes(data))
    with pytest.raises(ConfigError, match="altered in the rows 16 to 19"):
        list(store.open(tmp_path).verify())


def test_other_formats_and_folders_are_refused(tmp_path, written):
    with pytest.raises(ConfigError, match="is no store, as it has no store"):
        store.open(tmp_path)
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ConfigError, match="holds other files"):
        store.Writer(tmp_path)
    said = json.loads((written / "store.json").read_text())
    (tmp_path / "store.json").write_text(json.dumps({**said, "format": 2}))
    for opening in (store.open, store.Writer):
        with pytest.raises(ConfigError, match="has the format 2, and this version reads format 1"):
            opening(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(ConfigError, match=r"store\.json cannot be read"):
        store.open(tmp_path)
    with pytest.raises(ConfigError, match=r"holds another data set \(guidance 2.0, not 7.5\)"):
        store.Writer(written, card={**CARD, "guidance": 7.5})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": 2**31}, "label=2147483648 does not fit"),
        ({"group": -2}, "group=-2 does not fit"),
        ({"image": b""}, "the picture has no bytes"),
        ({"caption": "\ud800"}, "is no UTF-8 text"),
    ],
)
def test_rows_that_cannot_be_kept_are_refused_and_leave_no_trace(tmp_path, row, words):
    with store.Writer(tmp_path) as writer:
        writer.add(b"first", caption="one")
        with pytest.raises(ConfigError, match=words):
            writer.add(**{"image": b"x", **row})
        writer.add(b"second", caption=" ")  # blanks are no caption
    opened = store.open(tmp_path)
    assert opened.read([0, 1]) == [b"first", b"second"] and opened.captions([0, 1]) == ["one", ""]


def test_sidecar_columns_and_indexes(tmp_path):
    opened = write(tmp_path, 20)
    values = np.random.default_rng(0).normal(3, 2, (20, 5)).astype(np.float32)
    values[3, 2] = np.nan
    store.write_column(tmp_path, "rep:dinov2", values, {"encoder": "dinov2"})
    store.write_index(tmp_path, "best", [5, 1, 19], {"by": "hand"})
    np.testing.assert_array_equal(opened.column("rep:dinov2"), values)
    np.testing.assert_array_equal(opened.index("best"), [5, 1, 19])
    assert opened.columns[-1] == "rep:dinov2" and opened.indexes == ("best",)
    said = json.loads((tmp_path / "rep" / "dinov2.json").read_text())
    finite = values[np.isfinite(values)].astype(np.float64)
    assert said["made_by"] == {"encoder": "dinov2"} and said["statistics"]["not_finite"] == 1
    assert said["statistics"]["mean"] == pytest.approx(finite.mean())
    assert said["statistics"]["deviation"] == pytest.approx(finite.std())
    list(opened.verify())
    altered(tmp_path / "rep" / "dinov2.npy")
    with pytest.raises(ConfigError, match=r"rep/dinov2\.npy is altered"):
        list(opened.verify())
    for name, rows, words in [("a/b", [0], "no name"), ("x", [], "empty"), ("x", [0, 0], "once")]:
        with pytest.raises(ConfigError, match=words):
            store.write_index(tmp_path, name, rows, {})
    for name, count, words in [("rep:x", 19, "19 values"), ("mine", 20, "is no column")]:
        with pytest.raises(ConfigError, match=words):
            store.write_column(tmp_path, name, np.zeros(count), {})
    with pytest.raises(ConfigError, match=r"type one of \['dinov2'\]"):
        opened.column("rep:dino")
    grown = write(tmp_path, 30, start=20)
    with pytest.raises(ConfigError, match="has 20 rows and the store 30"):
        grown.column("rep:dinov2")


def test_the_card_says_what_is_known_and_what_is_not(tmp_path):
    write(tmp_path / "whole", 3)
    page = (tmp_path / "whole" / "README.md").read_text()
    assert all(f"{name.replace('_', ' ')}: {value}" in page for name, value in CARD.items())
    assert "inherit its biases" in page and "not stated" not in page
    write(tmp_path / "bare", 3, card={"generator": "sd15"})
    page = (tmp_path / "bare" / "README.md").read_text()
    assert "- licence: not stated" in page and "- caption source: not stated" in page
