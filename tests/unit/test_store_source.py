"""A store as a source: its images decoded, in groups of one caption, with tokens."""

import numpy as np
import pytest

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import batches, decode, sources, store
from jaxfdsl.data.decode import View
from jaxfdsl.data.sources import Group
from jaxfdsl.data.tokens import Bytes
from tests.photographs import encoded, photograph

COUNTS = (3, 5, 4, 3, 7, 6, 3)  # images of each caption, 31 in all


def build(path, *, train=True, seed=0, view=None, group=None, **fields):
    entry = config.store_source(str(path), **{"size": 16, **fields})
    group = {} if group is None else {"group": Group(group)}
    field = "data.sources.made"
    return sources.build(entry, seed=seed, train=train, field=field, view=view, **group)


def rows():
    """(group, seed) of each row: seeds are the outer loop, as a generator may have it."""
    return [(g, s) for s in range(max(COUNTS)) for g, count in enumerate(COUNTS) if s < count]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Pictures with captions and without labels."""
    path = tmp_path_factory.mktemp("source") / "made"
    with store.Writer(path, shard_images=10) as writer:
        for row, (group, seed) in enumerate(rows()):
            data = encoded(photograph(row, 20, 20), "PNG")
            writer.add(data, group=group * 10, seed=seed, caption=f"caption {group}", source="x")
    return path


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Twelve pictures of three named classes, without groups."""
    path = tmp_path_factory.mktemp("source") / "labelled"
    with store.Writer(path, classes=["cat", "dog", "owl"]) as writer:
        for row in range(12):
            writer.add(encoded(photograph(row, 20, 20), "PNG"), label=row % 3)
    return path


def test_every_image_comes_once_an_epoch(labelled):
    source = build(labelled)
    assert source.num_examples == 12 and source.class_names == ("cat", "dog", "owl")
    seen = source.rows(np.arange(24))
    np.testing.assert_array_equal(np.sort(seen["index"][:12]), np.arange(12))
    np.testing.assert_array_equal(np.sort(seen["index"][12:]), np.arange(12))
    np.testing.assert_array_equal(seen["label"], seen["index"] % 3)
    for image, index in zip(seen["image"], seen["index"], strict=True):
        expected = decode.canvas(encoded(photograph(int(index), 20, 20), "PNG"), 16)
        np.testing.assert_array_equal(image, expected)
    assert source.targets == ("label",)


def test_crops_are_cut_on_the_host(made):
    source = build(made, size=0, view=View(8, "random_resized"))
    assert source.cropped and source.rows(np.arange(4))["image"].shape == (4, 8, 8, 3)


def test_a_store_without_labels_has_none_to_learn(made):
    source = build(made)
    assert source.targets == () and source.num_classes == 0
    assert set(source.rows(np.arange(31))["label"].tolist()) == {-1}
    for group in range(len(COUNTS)):  # a gallery's rows are recipes then
        index = source.rows_of(group, 3)["index"].tolist()
        assert [rows()[row] for row in index] == [(group, seed) for seed in range(3)]
    assert len(source.rows_of(len(COUNTS), 3)["index"]) == 0


def test_a_list_of_classes_and_an_index_keep_a_part(labelled, tmp_path):
    (tmp_path / "list.txt").write_text("owl\ncat\n")
    source = build(labelled, classes=str(tmp_path / "list.txt"), train=False)
    assert source.class_names == ("owl", "cat") and source.num_examples == 8
    store.write_index(labelled, "few", [7, 2, 9], {"by": "hand"})
    source = build(labelled, index="few", train=False)
    whole = build(labelled, train=False)
    seen = source.rows(np.arange(3))
    np.testing.assert_array_equal(seen["label"], np.array([1, 2, 0])[seen["index"]])
    assert source.where(0).startswith("image 7 of ") and source.fingerprint != whole.fingerprint
    store.write_index(labelled, "few", [7, 2, 8], {"by": "hand"})
    assert build(labelled, index="few", train=False).fingerprint != source.fingerprint


def test_groups_share_a_caption_and_no_image_comes_twice_in_one(made):
    source = build(made, group=3)
    assert source.num_examples == 31
    positions = np.arange(3 * len(COUNTS) * 40)
    index = source.rows(positions)["index"].reshape(-1, 3)
    group = np.array([g for g, _ in rows()])[index]
    assert (group == group[:, :1]).all()
    assert all(len(set(views)) == 3 for views in index.tolist())
    # Every caption once before any comes again, each time in another order.
    visits = group[:, 0].reshape(40, len(COUNTS))
    assert (np.sort(visits, axis=1) == np.arange(len(COUNTS))).all()
    assert len({tuple(order) for order in visits.tolist()}) > 30
    # Every image of a caption is as likely as the others: 40 visits of three of seven.
    seen = np.bincount(index.ravel(), minlength=31)
    own = [seen[row] for row, (g, _) in enumerate(rows()) if g == 4]
    assert sum(own) == 120 and min(own) > 5 and max(own) < 30
    captions = source.captions(positions[:30])
    assert captions == [f"caption {g}" for g in group.ravel()[:30]]


def test_groups_are_a_pure_function_of_the_position(made):
    source = build(made, group=3, seed=5)
    whole = source.rows(np.arange(60))["index"]
    backwards = np.concatenate(
        [source.rows(np.arange(s, s + 5))["index"] for s in range(55, -1, -5)]
    )
    np.testing.assert_array_equal(backwards.reshape(12, 5)[::-1].ravel(), whole)
    assert (build(made, group=3, seed=6).rows(np.arange(60))["index"] != whole).any()


def test_a_batch_is_whole_groups_on_any_number_of_processes(made):
    source = build(made, group=3)

    def rows(index, count):
        part = batches.Batches({"made": source}, {"made": 1.0}, 24, index, count, group=Group(3))
        return part.rows(7)["made"]["index"]

    whole = rows(0, 1).reshape(8, 3)
    group = np.array([g for g, _ in globals()["rows"]()])[whole]
    assert (group == group[:, :1]).all()
    split = np.concatenate([rows(0, 4), rows(1, 4), rows(2, 4), rows(3, 4)])  # 6 images each
    np.testing.assert_array_equal(split, whole.ravel())


def test_too_few_images_of_a_caption_are_refused_with_its_name(made):
    with pytest.raises(ConfigError) as error:
        build(made, group=4)
    said = str(error.value)
    assert "the caption 'caption 0' has 3 images, fewer than data.group_size=4" in said
    assert "(so have 3 of 7)" in said and "--config.data.group_size=3" in said
    store.write_index(made, "four", [r for r, (g, _) in enumerate(rows()) if COUNTS[g] >= 4], {})
    assert build(made, group=4, index="four").num_examples == 22


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_examples": 6}, "would cut groups apart"),
        ({"index": "worst"}, "the index 'worst' is not there"),
        ({"path": "/nowhere"}, "/nowhere is no store"),
    ],
)
def test_what_cannot_be_is_refused(made, fields, words):
    with pytest.raises(ConfigError, match=words):
        build(fields.pop("path", made), group=2, **fields)


def test_images_without_a_group_are_refused_by_recipe(labelled):
    with pytest.raises(ConfigError, match=r"image 0 of .* has no group"):
        build(labelled, group=2)


def test_tokens_are_those_of_each_caption(made, labelled):
    source = build(made, group=3).with_tokenizer(Bytes(context=16), "data.sources.made")
    made_rows = source.rows(np.arange(9))
    np.testing.assert_array_equal(
        made_rows["tokens"], Bytes(context=16)(source.captions(np.arange(9)))
    )
    assert made_rows["tokens"].dtype == np.int32 and "tokens" in source.targets
    with pytest.raises(
        ConfigError, match=r"data\.sources\.x: .* has no caption, as 12 of 12 images"
    ):
        build(labelled).with_tokenizer(Bytes(), "data.sources.x")


def test_a_group_of_several_captions_has_none_to_be_compared_with(tmp_path):
    with store.Writer(tmp_path) as writer:
        for row in range(6):
            data = encoded(photograph(row, 20, 20), "PNG")
            writer.add(data, group=row % 2, caption="one" if row == 5 else f"of {row % 2}")
    grouped = build(tmp_path, group=3)
    with pytest.raises(ConfigError, match=r"image 5 .* has another caption than the first"):
        grouped.with_tokenizer(Bytes(context=16), "data.sources.made")
    assert build(tmp_path).with_tokenizer(Bytes(context=16), "data.sources.made").tokenizer


def test_a_store_that_changes_under_a_run_is_noticed(tmp_path):
    def add(count):
        with store.Writer(tmp_path) as writer:
            for row in range(count):
                writer.add(encoded(photograph(row, 20, 20), "PNG"))

    add(3)
    source = build(tmp_path, size=0, view=View(8))
    add(2)
    sources_module = __import__("jaxfdsl.data.store.source", fromlist=["_open"])
    sources_module._open.cache_clear()  # as a process that starts later has it
    with pytest.raises(ConfigError, match="was changed while it was in use"):
        source.rows(np.arange(2))
    assert build(tmp_path).num_examples == 5
