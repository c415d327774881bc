"""Batches: counts, order, shards, labels and evaluation, on a formula set of numbered pixels."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import config as c
from jaxfdsl.config import ConfigError
from jaxfdsl.data.batches import Batches, eval_batches
from jaxfdsl.data.formula import HELD_OUT, from_dataset
from jaxfdsl.evaluators import checks
from jaxfdsl.models import vit


@dataclasses.dataclass(frozen=True)
class Numbered:
    """A data set whose pixels say which image it is: category in channel 0, instance in 1."""

    name: str = "numbered"
    num_classes: int = 10
    instances: int | None = 6
    size: int = 2
    channels: int = 3
    table: dict = dataclasses.field(default_factory=dict)
    scenes: bool = False
    has_mask: bool = False

    @property
    def num_recipes(self):
        return self.num_classes

    def recipes(self, indices):
        instance, category = np.divmod(np.asarray(indices), self.num_classes)
        return np.stack([category, instance], 1).astype(np.uint32)

    def fields(self, recipes, table):
        category, instance = recipes[:, 0], recipes[:, 1]
        pixel = jnp.stack([category, instance, 0 * category], 1).astype(jnp.uint8)
        image = jnp.broadcast_to(pixel[:, None, None, :], (len(recipes), 2, 2, 3))
        return {"image": image, "label": category.astype(jnp.int32)}

    def identity(self):
        return "numbered"


def formula(seed=0, train=True, held_out=False, shuffle_labels=False, **shape):
    flags = {"train": train, "held_out": held_out, "shuffle_labels": shuffle_labels}
    return from_dataset(Numbered(**shape), seed=seed, **flags)


def two_sources(shard_index=0, shard_count=1):
    sources = {"b": formula(seed=1, num_classes=5), "a": formula()}
    return Batches(sources, {"a": 0.75, "b": 0.25}, 32, shard_index, shard_count)


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_the_batch_does_not_depend_on_the_number_of_shards(shards):
    whole = two_sources()
    parts = [two_sources(index, shards) for index in range(shards)]
    for step in (0, 7):
        expected = whole.fields(whole.rows(step), whole.tables)
        pieces = [part.fields(part.rows(step), part.tables) for part in parts]
        for name in ("image", "label", "valid"):
            joined = np.concatenate([piece[name] for piece in pieces])
            np.testing.assert_array_equal(joined, expected[name])


@pytest.mark.parametrize("shards", [1, 2, 4, 8])
def test_every_shard_has_the_same_share_of_each_source(shards):
    for index in range(shards):
        rows = two_sources(index, shards).rows(3)
        assert {name: len(part["recipe"]) for name, part in rows.items()} == {
            "a": 24 // shards,
            "b": 8 // shards,
        }


def test_labels_of_the_second_source_follow_those_of_the_first():
    batches = two_sources()
    batch = batches.fields(batches.rows(0), batches.tables)
    from_b = np.arange(32) % 4 == 3  # gcd(24, 8) = 8 blocks of 3 + 1
    category = np.asarray(batch["image"][:, 0, 0, 0])
    np.testing.assert_array_equal(batch["label"], np.where(from_b, category + 10, category))
    assert batches.num_classes == 15


def test_sources_may_share_their_classes():
    both = {"a": formula(), "b": formula(seed=1)}
    batches = Batches(both, {"a": 0.75, "b": 0.25}, 32, label_space="shared")
    batch = batches.fields(batches.rows(0), batches.tables)
    np.testing.assert_array_equal(batch["label"], np.asarray(batch["image"][:, 0, 0, 0]))
    assert batches.num_classes == 10
    with pytest.raises(ConfigError, match=r"sources\.a has 10 and data\.sources\.b has 5: type"):
        dataclasses.replace(two_sources(), label_space="shared")
    named = {
        key: dataclasses.replace(source, class_names=(*"abcdefgh", *last))
        for (key, source), last in zip(both.items(), ("ij", "ji"), strict=True)
    }
    with pytest.raises(ConfigError, match=r"class 8 is 'i' in data\.sources\.a and 'j' in"):
        dataclasses.replace(batches, sources=named)
    third = {"first": formula(), **{f"second {key}": one for key, one in named.items()}}
    with pytest.raises(ConfigError, match=r"'i' in data\.sources\.second a and 'j' in"):
        shares = dict.fromkeys(third, 0.25) | {"first": 0.5}
        dataclasses.replace(batches, sources=third, shares=shares)


def test_an_evaluation_finds_its_classes_among_those_that_are_shared():
    config, names = c.default_config(), tuple("abcdefghij")
    config.data.label_space = "shared"
    for name in ("first", "second"):
        config.data.sources[name] = c.store_source(name)
    config.evals.test = c.accuracy_eval(c.store_source("third"))
    config.model.update(depth=1, width=16, num_heads=2)
    model = vit.build(config.model, 10, "float32")
    named = dataclasses.replace(formula(), class_names=names)
    trained = {"first": formula(seed=1), "second": named}  # the first has no names to compare
    assert checks.label_offset(config, trained, model, "test", named) == 0
    other = dataclasses.replace(named, class_names=names[::-1])
    with pytest.raises(ConfigError, match="number their classes differently"):
        checks.label_offset(config, trained, model, "test", other)
    config.data.label_space = "joined"
    assert checks.label_offset(config, trained, model, "test", named) == 10


def test_neighbours_that_may_be_mixed_are_of_one_source():
    plain = two_sources()
    paired = dataclasses.replace(plain, pairs=True)
    batches = [each.fields(each.rows(2), each.tables) for each in (plain, paired)]
    of_b = [np.asarray(batch["label"]) >= 10 for batch in batches]
    assert (of_b[0][::2] != of_b[0][1::2]).any()
    assert (of_b[1][::2] == of_b[1][1::2]).all() and of_b[1].sum() == of_b[0].sum() == 8
    images = [np.sort(np.asarray(batch["image"]).reshape(32, -1), axis=0) for batch in batches]
    np.testing.assert_array_equal(*images)


def test_an_epoch_of_a_finite_set_shows_every_image_once():
    batches = Batches({"a": formula()}, {"a": 1.0}, 20)
    seen = np.concatenate([batches.rows(step)["a"]["recipe"] for step in range(6)])
    epochs = seen.reshape(2, 60, 2)
    for epoch in epochs:
        assert len(np.unique(epoch, axis=0)) == 60
    assert np.any(epochs[0] != epochs[1])
    assert batches.num_examples == 60


def test_the_epoch_of_a_mixture_lasts_until_its_longest_source_is_through():
    assert two_sources().num_examples == 120  # 30 images of b at a quarter of each batch
    endless = {"a": formula(instances=None)}
    assert Batches(endless, {"a": 1.0}, 8).num_examples is None


def test_each_round_of_an_endless_set_shows_a_new_scattered_instance_of_every_category():
    source = formula(instances=None)
    recipes = source.rows(np.arange(2000)).pop("recipe").reshape(200, 10, 2)
    for recipe in recipes:
        assert sorted(recipe[:, 0]) == list(range(10))
    assert len({tuple(recipe[:, 0]) for recipe in recipes[:20]}) == 20
    assert len(np.unique(recipes.reshape(-1, 2), axis=0)) == 2000
    assert recipes[..., 1].max() < HELD_OUT
    # Neighbouring instances are alike (40 share FractalDB's weight row), so no round may keep to
    # a few.
    assert all(len(np.unique(recipe[:, 1] // 40 % 25)) > 4 for recipe in recipes)


def test_held_out_instances_lie_beyond_all_training_instances_and_are_the_same_for_every_seed():
    for instances in (6, None):
        first, again = (
            formula(instances=instances, train=False, held_out=True, seed=seed).rows(np.arange(30))
            for seed in (0, 1)
        )
        np.testing.assert_array_equal(first["recipe"], again["recipe"])
        np.testing.assert_array_equal(first["recipe"][:, 0], np.tile(np.arange(10), 3))
        assert (first["recipe"][:, 1] >= HELD_OUT).all()
        assert len(np.unique(first["recipe"], axis=0)) == 30


def test_shuffled_labels_are_fixed_but_tell_nothing_about_the_category():
    source = formula(instances=500, shuffle_labels=True)
    epochs = [source.rows(np.arange(5000) + 5000 * epoch) for epoch in (0, 1)]
    first, second = (
        dict(zip(map(tuple, rows["recipe"].tolist()), rows["label"], strict=True))
        for rows in epochs
    )
    assert first == second
    table = np.zeros((10, 10))
    np.add.at(table, (epochs[0]["recipe"][:, 0], epochs[0]["label"]), 1)
    assert np.sum((table - 50) ** 2 / 50) < 135  # 90 degrees of freedom, p = .0015
    drawn = source.fields(epochs[0], {})
    np.testing.assert_array_equal(drawn["label"], epochs[0]["label"])


def test_the_iterator_can_start_at_any_step():
    batches = two_sources()
    for step, rows in batches.iterator(1000, 1004, prefetch=3):
        for name, part in batches.rows(step).items():
            np.testing.assert_array_equal(rows[name]["recipe"], part["recipe"])
    assert step == 1003
    assert list(batches.iterator(5, 5)) == []


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_evaluation_sees_every_example_once(shards):
    source = formula(train=False)
    seen = []
    for shard in range(shards):
        parts = list(eval_batches(source, 0, 16, shard_index=shard, shard_count=shards))
        assert len(parts) == 4
        assert {len(rows["recipe"]) for rows in parts} == {16 // shards}
        seen += [rows["recipe"][rows["valid"] == 1] for rows in parts]
    assert len(np.concatenate(seen)) == 60
    assert len(np.unique(np.concatenate(seen), axis=0)) == 60


def test_evaluation_refuses_what_has_no_end():
    source = formula(train=False, held_out=True)
    with pytest.raises(ConfigError, match=r"--config\.evals\.held_out\.num_examples=10000"):
        next(eval_batches(source, 0, 16, field="evals.held_out"))
