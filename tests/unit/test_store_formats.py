"""Stores from others' files and back: equal bytes, equal fields, and what is odd is said."""

import csv
import io
import json
import tarfile

import numpy as np
import pytest

from jaxfdsl import cli
from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.store import exporting, importing
from tests.photographs import encoded, photograph

CAPTIONS = ["a dog", "ein Bär, mit Komma", 'with "quotes"\nand a line', "猫", "a dog", "", "last"]
COUNT = 20
NAMES = ("label", "group", "seed")


@pytest.fixture(scope="module")
def pictures():
    return [
        encoded(photograph(row, 9, 7), "JPEG" if row // 3 == 2 else "PNG") for row in range(COUNT)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory, pictures):
    """Three seeds a caption, two of the last, which a filter shortened; classes have names."""
    path = tmp_path_factory.mktemp("formats") / "made"
    classes = ["ant", "bee", "cat", "dog", "elk"]
    card = {"generator": "a model", "licence": "cc0-1.0"}
    with store.Writer(path, card=card, classes=classes, shard_images=6) as writer:
        for row, picture in enumerate(pictures):
            writer.add(
                picture,
                label=row % 5,
                group=row // 3,
                seed=row % 3,
                caption=CAPTIONS[row // 3],
                source="sd15" if row < 10 else "",
            )
    return store.open(path)


def same(one, other):
    """All fields of all rows."""
    rows = np.arange(len(one))
    assert len(one) == len(other) and one.read(rows) == other.read(rows)
    for name in NAMES:
        np.testing.assert_array_equal(one.column(name), other.column(name))
    assert one.captions(rows) == other.captions(rows)
    assert [one[row]["source"] for row in rows] == [other[row]["source"] for row in rows]
    assert one.classes == other.classes


@pytest.mark.parametrize(
    ("to", "how"),
    [
        ("folder", {"kind": "csv", "file": "images.csv"}),
        ("webdataset", {"kind": "webdataset"}),
        ("parquet", {"kind": "parquet"}),
    ],
)
def test_a_round_trip_gives_equal_bytes_and_fields(made, tmp_path, to, how):
    if to == "parquet":
        pytest.importorskip("pyarrow")
    exporting.export(made, to, tmp_path / "out", shard_images=8)
    if "file" in how:
        how = {**how, "file": str(tmp_path / "out" / how["file"])}
    told = []
    count = importing.run(tmp_path / "out", tmp_path / "back", tell=told.append, **how)
    back = store.open(tmp_path / "back")
    same(made, back)
    assert count == COUNT
    assert [line[:28] for line in told] == ["empty captions, left out: 3,"] * (to != "webdataset")
    assert back.card.items() >= made.card.items()  # the card comes along


def test_stablereps_layout_comes_back_with_its_groups(made, tmp_path, pictures):
    exporting.export(made, "folder", tmp_path / "out", shard_images=8)
    text = (tmp_path / "out/captions.csv").read_bytes().decode()
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["caption"] for line in lines] == CAPTIONS
    # The same relative path in the folder of each seed.
    assert (tmp_path / "out" / "2" / lines[0]["path"]).read_bytes() == pictures[2]
    told = []
    importing.run(
        tmp_path / "out", tmp_path / "back", "csv",
        file=str(tmp_path / "out/captions.csv"), tell=told.append,
    )  # fmt: skip
    back = store.open(tmp_path / "back")
    assert back.read(range(COUNT)) == pictures
    np.testing.assert_array_equal(back.column("seed"), np.arange(COUNT) % 3)
    np.testing.assert_array_equal(back.column("group"), np.arange(COUNT) // 3)
    assert back.captions(range(COUNT)) == made.captions(range(COUNT))
    assert "images that are not there: 1, first" in told[1] and "(line 9 of" in told[1]


@pytest.fixture
def stablerep(tmp_path, pictures):
    """Two seeds of three captions: JPEGs are named, PNGs were generated; no header."""
    for seed in range(2):
        for line in range(3):
            path = tmp_path / "sd" / f"seed{seed}" / f"000{line}" / "x.png"
            path.parent.mkdir(parents=True)
            path.write_bytes(pictures[3 * line + seed])
    return tmp_path


def imported(folder, lines, **how):
    (folder / "list.csv").write_bytes(b"".join(line + b"\n" for line in lines))
    told = []
    out = folder / f"store{len(list(folder.glob('store*')))}"
    importing.run(folder / "sd", out, "csv", file=str(folder / "list.csv"), tell=told.append, **how)
    return store.open(out), told


def test_repeated_captions_are_groups_of_their_own_unless_merged(stablerep):
    lines = [b"0000/x.jpg,a dog", b"0001/x.jpg,a cat", b"0002/x.jpg,a dog"]
    apart, told = imported(stablerep, lines)
    assert not told and apart.layout.captions == 2
    assert apart.column("group").tolist() == [0, 0, 1, 1, 2, 2]
    assert apart.column("seed").tolist() == [0, 1] * 3
    merged, _ = imported(stablerep, lines, merge_captions=True)
    assert merged.column("group").tolist() == [0, 0, 1, 1, 0, 0]


def test_odd_captions_are_kept_as_documented(stablerep):
    long = b"long " * 100_000
    lines = [b"path,caption", b"0000/x.jpg, ", b"0001/x.jpg,caf\xe9", b"0002/x.jpg," + long]
    opened, told = imported(stablerep, lines)
    assert opened.captions([0, 2, 4]) == ["", "caf\ufffd", long.decode()]
    assert opened.column("group").tolist() == [0, 0, 1, 1, 2, 2]
    assert told == [
        "empty captions, left out: 2, first line 2 of list.csv",
        "captions that are not UTF-8, mended with U+FFFD: 2, first line 3 of list.csv",
    ]


def test_images_that_are_not_there_are_named(stablerep):
    opened, told = imported(stablerep, [b"0000/x.jpg,a", b"0009/x.jpg,b"])
    assert len(opened) == 2
    assert "images that are not there: 2" in told[0] and "seed0/0009/x.jpg (line 2 of" in told[0]
    assert told[1].startswith("lines of the CSV without any image: 1")
    with pytest.raises(ConfigError, match=r"line 2 of list\.csv has 1 fields and not 2"):
        imported(stablerep, [b"0000/x.jpg,a", b"0001/x.jpg"])
    with pytest.raises(ConfigError, match="has none of the images"):
        imported(stablerep, [b"0008/x.jpg,a", b"0009/x.jpg,b"])


def test_a_killed_import_goes_on_with_the_same_images(made, tmp_path, monkeypatch):
    exporting.export(made, "webdataset", tmp_path / "out", shard_images=8)
    add, added = store.Writer.add, []

    def stopping(writer, *arguments, **options):
        if len(added) == 13:
            raise KeyboardInterrupt
        added.append(1)
        add(writer, *arguments, **options)

    how = {"kind": "webdataset", "shard_images": 4, "tell": lambda _: None}
    with monkeypatch.context() as patch:
        patch.setattr(store.Writer, "add", stopping)
        with pytest.raises(KeyboardInterrupt):
            importing.run(tmp_path / "out", tmp_path / "back", **how)
    assert len(store.open(tmp_path / "back")) == 13
    for _ in range(2):  # and what is finished stays as it is
        importing.run(tmp_path / "out", tmp_path / "back", **how)
        same(made, store.open(tmp_path / "back"))
    (tmp_path / "out" / "train-000009.tar").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"holds another data set \(imported"):
        importing.run(tmp_path / "out", tmp_path / "back", **how)


def test_a_killed_export_writes_what_is_missing(made, tmp_path, monkeypatch):
    exporting.export(made, "folder", tmp_path / "out", shard_images=8)
    before = {p: p.read_bytes() for p in sorted((tmp_path / "out").rglob("*")) if p.is_file()}
    (tmp_path / "out" / "1" / "000000" / "000000003.png").write_bytes(b"damaged")  # row 10
    (tmp_path / "out" / "rows" / "train-00002.csv").unlink()
    placed = []
    place = exporting.formats.place
    monkeypatch.setattr(
        exporting.formats, "place", lambda path, data: placed.append(path) or place(path, data)
    )
    exporting.export(made, "folder", tmp_path / "out", shard_images=8)
    assert len(placed) == 12  # rows 8 to 19
    assert {p: p.read_bytes() for p in before} == before
    with pytest.raises(ConfigError, match="holds another data set"):
        exporting.export(made, "webdataset", tmp_path / "out", shard_images=8)


def test_tars_and_parquet_of_others(tmp_path, pictures):
    with tarfile.open(tmp_path / "00000.tar", "w") as tar:
        members = {
            "a/1.jpg": pictures[6], "a/1.txt": b"one", "a/1.json": b'{"width": 9, "seed": 4}',
            "a/2.txt": b"two", "a/3.mask.png": b"m", "a/3.PNG": pictures[0], "a/3.cls": b"7",
        }  # fmt: skip
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    told = []
    importing.run(tmp_path, tmp_path / "tars", "webdataset", tell=told.append)
    opened = store.open(tmp_path / "tars")
    assert opened.read([0, 1]) == [pictures[6], pictures[0]]
    assert [opened[0][name] for name in NAMES] == [-1, 0, 4] and opened[0]["caption"] == "one"
    assert [opened[1][name] for name in NAMES] == [7, -1, -1] and opened[1]["caption"] == ""
    assert told == ["keys without an image: 1, first a/2 in 00000.tar"]
    whole = (tmp_path / "00000.tar").read_bytes()
    (tmp_path / "00000.tar").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(ConfigError, match=r"00000\.tar is truncated or no tar"):
        importing.run(tmp_path, tmp_path / "again", "webdataset")

    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    info = {"features": {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}}
    struct = [{"bytes": one, "path": None} for one in pictures[:3]]
    table = pa.table({"image": struct, "text": ["a", "b", None], "label": [1, None, 0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": info})})
    (tmp_path / "hub").mkdir()
    pq.write_table(table, tmp_path / "hub" / "train.parquet", row_group_size=2)
    importing.run(tmp_path / "hub", tmp_path / "rows", "parquet", tell=told.append)
    opened = store.open(tmp_path / "rows")
    assert opened.read(range(3)) == pictures[:3] and opened.classes == ("x", "y")
    assert opened.captions(range(3)) == ["a", "b", ""] and opened.column("label").tolist() == [
        1,
        -1,
        0,
    ]
    assert opened.column("group").tolist() == [0, 1, -1]


def test_parts_become_one_store(made, tmp_path):
    for part in range(2):  # of two processes that made every second caption
        card = {**made.card, "part": f"{part}/2"}
        with store.Writer(tmp_path / f"sd.part-{part}", card=card, classes=made.classes) as writer:
            for row in range(COUNT):
                if made[row]["group"] % 2 == part:
                    given = made[row]
                    writer.add(given.pop("image"), **given)
    count = importing.run(tmp_path / "sd.part-*", tmp_path / "sd.part-all", "stores")
    whole = store.open(tmp_path / "sd.part-all")
    order = np.argsort(np.arange(COUNT) // 3 % 2, kind="stable")
    assert count == COUNT and whole.read(range(COUNT)) == made.read(order)
    assert whole.captions(range(COUNT)) == made.captions(order) and whole.classes == made.classes
    np.testing.assert_array_equal(whole.column("group"), made.column("group")[order])
    assert whole.card["parts"] == 2 and "part" not in whole.card
    with pytest.raises(ConfigError, match="both have the group 0"):
        importing.run(tmp_path, tmp_path / "doubled", "stores")


def test_the_commands(made, tmp_path, capsys):
    def said(*words):
        cli.run(["store", *map(str, words)])
        return capsys.readouterr().out

    out = tmp_path / "out"
    assert "20 images" in said("export", made.path, "--to", "webdataset", "--out", out)
    line = said("import", out, "--webdataset", "--out", tmp_path / "back", "--card", "licence=mit")
    assert "20 images" in line
    page = said("info", tmp_path / "back")
    assert "licence         mit" in page and "guidance        not stated" in page
    assert "groups          7 of 2 to 3 images" in page and "3 images have none" in page
    assert "20 images in 1 shards are as they were written" in said("check", tmp_path / "back")
    assert "18 of 20 images" in said("index", tmp_path / "back", "--group_size", "3")
    assert "17 of 20 images" in said("index", tmp_path / "back", "--captioned")
    opened = store.open(tmp_path / "back")
    assert opened.indexes == ("captioned", "groups-of-3") and len(opened.index("captioned")) == 17
    for words, wanted in [
        (["wipe", out], "type one of import, export"),
        (["import", out, "--out", "x"], "type one of --csv=FILE"),
        (["import", out, "--csv", "list.csv"], "type --out=DIR"),
        (["export", made.path, "--to", "zip", "--out", tmp_path / "zip"], "--to=zip: type one of"),
        (["check", out], "is no store"),
    ]:
        with pytest.raises(SystemExit):
            cli.run(["store", *map(str, words)])
        assert wanted in capsys.readouterr().err
