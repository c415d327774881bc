"""Batches of groups: whose images stand where, on any number of shards, and what is refused."""

import contextlib
import dataclasses
import importlib
import pkgutil

import jax
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import config as c
from jaxfdsl import experiment, objectives, sharding
from jaxfdsl.config import ConfigError
from jaxfdsl.config.validation.groups import CROSS_SAMPLE
from jaxfdsl.data import batches, sources
from jaxfdsl.data.batches import Batches
from jaxfdsl.data.formula import from_dataset
from jaxfdsl.data.sources import Group
from jaxfdsl.objectives.objective import Objective
from tests.unit.test_batches import Numbered


def formula(size, by="recipe", seed=0, **shape):
    """A source as `sources.build` makes it: in groups by recipe alone."""
    group = Group(size) if by == "recipe" else Group()
    return from_dataset(Numbered(**shape), seed=seed, group=group)


def one_source(size, batch, by="recipe", shard=(0, 1), **shape):
    return Batches(
        {"a": formula(size, by, **shape)}, {"a": 1.0}, batch, *shard, group=Group(size, by)
    )


def two_sources(shard_index=0, shard_count=1):
    """Groups of 3; 24 of the 36 rows are of a."""
    made = {"a": formula(3, instances=None), "b": formula(3, seed=1, num_classes=5)}
    shares = {"a": 2 / 3, "b": 1 / 3}
    return Batches(made, shares, 36, shard_index, shard_count, group=Group(3))


def drawn(batches, step):
    """(category, instance) of each row of the joined batch."""
    image = batches.fields(batches.rows(step), batches.tables)["image"]
    return np.asarray(image[:, 0, 0, :2], np.int64)


def test_a_group_is_different_instances_of_one_category():
    for instances in (7, None):
        source = formula(3, instances=instances)
        groups = source.rows(np.arange(3 * 400))["recipe"].reshape(400, 3, 2)
        assert (groups[:, :, 0] == groups[:, :1, 0]).all()
        assert all(len(set(group[:, 1].tolist())) == 3 for group in groups)
        # Every category as often: two groups of the seven instances an epoch, one a round.
        epoch = 20 if instances else 10
        counts = np.bincount(groups[: 20 * epoch, 0, 0].astype(int))
        assert (counts == 20 * epoch // 10).all()
    assert len(np.unique(groups.reshape(-1, 2), axis=0)) == 1200  # endless: none comes twice


def test_an_epoch_of_groups_shows_no_image_twice_and_the_next_one_other_groups():
    source = formula(3, instances=7)
    epochs = source.rows(np.arange(2 * 60))["recipe"].reshape(2, 60, 2)
    for epoch in epochs:
        assert len(np.unique(epoch, axis=0)) == 60  # of 70: one of seven instances is left over
    assert {frozenset(map(tuple, g)) for g in epochs[0].reshape(-1, 3, 2).tolist()} != {
        frozenset(map(tuple, g)) for g in epochs[1].reshape(-1, 3, 2).tolist()
    }
    batches = Batches({"a": source}, {"a": 1.0}, 30, group=Group(3))
    assert batches.num_examples == 70  # an epoch counts images, as without groups


def test_a_batch_shows_each_image_as_often_as_it_has_views():
    batches = one_source(4, 24, by="image", instances=None)
    plain = one_source(1, 6, instances=None)
    for step in (0, 5):
        recipes = batches.rows(step)["a"]["recipe"]
        np.testing.assert_array_equal(recipes, np.repeat(plain.rows(step)["a"]["recipe"], 4, 0))


@pytest.mark.parametrize("by", ["recipe", "image"])
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_the_batch_does_not_depend_on_the_number_of_shards(shards, by):
    """Groups of 3 in parts of 3, 6 and 12 rows of 12, and of 6 that span four parts of 3."""
    for size in (3, 6):
        whole = one_source(size, 12, by)
        parts = [one_source(size, 12, by, (index, shards)) for index in range(shards)]
        for step in (0, 9):
            joined = np.concatenate([drawn(part, step) for part in parts])
            np.testing.assert_array_equal(joined, drawn(whole, step))
            assert (joined.reshape(-1, size, 2)[:, :, 0] == joined[::size, None, 0]).all()


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_groups_of_several_sources_stay_neighbours(shards):
    found = np.concatenate([drawn(two_sources(i, shards), 4) for i in range(shards)])
    np.testing.assert_array_equal(found, drawn(two_sources(), 4))
    groups = found.reshape(12, 3, 2)
    assert (groups[:, :, 0] == groups[:, :1, 0]).all()
    assert all(len(set(group[:, 1].tolist())) == 3 for group in groups)


def test_a_run_that_starts_anywhere_sees_the_same_groups():
    batches = one_source(3, 24, instances=None)
    for step, rows in batches.iterator(1000, 1003, prefetch=2):
        np.testing.assert_array_equal(rows["a"]["recipe"], batches.rows(step)["a"]["recipe"])
    identity = [c.data_identity(config(**{"data.group_size": m}), {"a": "x"}) for m in (1, 4, 2)]
    assert "data.group_size" not in identity[0]
    assert c.changed_field(*identity[1:]) == "data.group_size"
    with pytest.raises(ConfigError, match=r"^batch_size=20 .*in groups of data\.group_size=3: "):
        one_source(3, 20)


def config(**values):
    """A tiny contrastive run on formulas."""
    made = c.default_config()
    made.update(batch_size=16, steps=10)
    made.model.update(image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
    made.model.projector.update(hidden=16, output=8)
    made.objective.classify.weight = 0.0
    made.objective.contrast.weight = 1.0
    made.data.group_size = 4
    points = {"pattern": "point", "num_points": 200}
    made.data.sources.a = c.formula_source(
        "fractaldb-1k", num_classes=6, size=16, options=points, instances=values.pop("instances", 8)
    )
    for name, value in values.items():
        holder, _, leaf = name.rpartition(".")
        (made[holder] if holder in made else c.field(made, holder))[leaf] = value
    return made


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"data.group_size": 1}, r"data\.group_size=1 leaves .*--config\.data\.group_size=4"),
        ({"accumulate": 2}, r"accumulate=2 cuts .*objective\.contrast .*accumulate=1\.$"),
        ({"data.repeats": 2}, r"data\.repeats=2 .*--config\.data\.repeats=1"),
        ({"augment.mixup": 0.8}, r"augment\.mixup=0\.8 .*--config\.augment\.mixup=0\.$"),
        ({"data.group_by": "caption"}, r"data\.group_by='caption' .*one of recipe, image\.$"),
        ({"objective.contrast.positives": "labels"}, r"--config\.objective\.contrast\.positives"),
        ({"objective.contrast.temperature": 0.0}, r"temperature=0\.0: type a number above 0"),
        ({"model.projector.norm": "bath"}, r"--config\.model\.projector\.norm=batch\.$"),
        (
            {"objective.align.weight": 1.0, "model.text.num_heads": 3},
            r"text\.width=512 does not divide .*text\.width=510 or 513\.$",
        ),
        ({"batch_size": 24, "data.group_size": 5}, r"^batch_size=24 .*batch_size=40 \("),
        ({"batch_size": 20}, r"^batch_size=20 does not divide over 8 devices"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_sentence(values, words):
    with pytest.raises(ConfigError, match=words) as caught:
        c.validate(config(**values), num_devices=8)
    assert "\n" not in str(caught.value)


def test_an_evaluation_of_classes_needs_a_classifier():
    made = config()
    made.evals.test = c.accuracy_eval(c.held_out(made.data.sources.a), num_examples=16)
    with pytest.raises(ConfigError, match=r"--config\.evals\.test\.kind=knn\.$"):
        c.validate(made, num_devices=8)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"instances": 3}, r"instances=3 are fewer than the data\.group_size=4 .*instances=4 or"),
        ({"augment.downsample": 0.05}, r"augment\.downsample=0\.05 .*have 16 already: type "),
    ],
)
def test_what_the_data_does_not_have_is_refused(values, words):
    with pytest.raises(ConfigError, match=words):
        experiment.build(config(**values))


@dataclasses.dataclass(frozen=True)
class Device:
    """A chip of a host."""

    id: int
    process_index: int


def test_a_group_spans_devices_only_where_those_of_a_process_are_neighbours():
    """A TPU's mesh may run through the hosts: each lays its rows on its own devices, in order."""
    for hosts, refused in (([0, 0, 1, 1], False), ([0, 1, 0, 1], True)):
        devices = np.array([Device(i, host) for i, host in enumerate(hosts)], object)
        mesh = jax.sharding.Mesh(devices.reshape(4, 1, 1), sharding.AXES)
        words = r"^data\.group_size=8 does not divide the 4 .* N a multiple of 32\.$"
        expected = pytest.raises(ConfigError, match=words) if refused else contextlib.nullcontext()
        with expected:
            experiment._check_groups(config(**{"data.group_size": 8}), mesh)
        experiment._check_groups(config(), mesh)  # groups of 4 on devices of 4


def test_sources_refuse_groups_that_they_cannot_make(tmp_path):
    file = tmp_path / "train" / "x" / "a.png"
    file.parent.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(file)
    entry = c.folder_source(str(tmp_path), size=16)
    words = r"data\.sources\.b\.kind='folder' .*--config\.data\.group_by=image\.$"
    asked = {"seed": 0, "train": True, "field": "data.sources.b"}
    with pytest.raises(ConfigError, match=words):
        sources.build(entry, **asked, group=Group(2))
    assert sources.build(entry, **asked, group=Group(2, "image")).num_examples == 1
    scenes = dataclasses.replace(Numbered(), scenes=True)
    from_dataset(scenes)  # as it is
    with pytest.raises(ConfigError, match=r"of multix-1k hold several: .*group_by=image\.$"):
        sources.build(c.formula_source("multix-1k", size=32), **asked, group=Group(2))
    several = Batches({"a": from_dataset(scenes)}, {"a": 1.0}, 8)
    with pytest.raises(ConfigError, match=r"^objective\.contrast\.positives='label' needs one"):
        experiment.objectives_of(config(**{"objective.contrast.positives": "label"}), several)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Unlabelled(sources.Source):
    """Pictures without labels."""

    targets: tuple[str, ...] = ()
    fingerprint = rows = rows_of = fields = None


def test_labels_that_are_not_there_are_no_positives():
    source = Unlabelled(name="photos", num_classes=0, size=8, channels=3, num_examples=4)
    by_label = {"contrast": (1.0, experiment.Contrast(positives="label"))}
    with pytest.raises(ConfigError, match=r"photos\) has no labels, which objective\.contrast"):
        experiment.evaluators.checks.check_targets("data.sources.b", source, by_label)
    by_group = {"contrast": (1.0, experiment.Contrast())}
    experiment.evaluators.checks.check_targets("data.sources.b", source, by_group)


def test_views_of_a_stored_image_are_cut_anew(tmp_path):
    for i in range(4):
        file = tmp_path / "train" / "x" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(noise).save(file)
    made = config(**{"data.group_by": "image", "data.group_size": 2, "batch_size": 8})
    made.augment.crop = "random_resized"
    made.data.sources = c.ConfigDict({"b": c.folder_source(str(tmp_path))})
    rows = batches.from_config(made).rows(3)["b"]
    pairs = rows["index"].reshape(4, 2)
    np.testing.assert_array_equal(pairs[:, 0], pairs[:, 1])
    assert sorted(pairs[:, 0]) == [0, 1, 2, 3]
    views = rows["image"].reshape(4, 2, -1)
    assert (views[:, 0] != views[:, 1]).any(1).all()


def test_objectives_that_compare_images_are_known_before_they_are_built():
    for module in pkgutil.iter_modules(objectives.__path__):
        importlib.import_module(f"{objectives.__name__}.{module.name}")
    own = [kind for kind in Objective.__subclasses__() if kind.__module__.startswith("jaxfdsl.")]
    assert {kind.__name__.lower() for kind in own if kind.cross_sample} == {*CROSS_SAMPLE}
