"""Which samples stand in which batch: shares, phases, repeats and shards."""

import itertools

import numpy as np
import pytest

from jaxfdsl.config import ConfigError
from jaxfdsl.data.plan import Plan, phase_counts, split_batch

SHARES = {"formula": 0.75, "real": 0.25}


def plan(shard_index=0, shard_count=1, shares=SHARES, starts=(0,), repeats=1, size=48):
    counts = phase_counts(shares, starts, size, shard_count)
    return Plan(counts, starts, repeats, shard_index, shard_count)


def test_shares_become_exact_counts():
    assert split_batch({"a": 0.25, "b": 0.75}, 256) == {"a": 64, "b": 192}
    assert split_batch({"a": 0.1, "b": 0.9}, 40, shards=4) == {"a": 4, "b": 36}
    assert split_batch({"a": 1 / 3, "b": 2 / 3}, 6) == {"a": 2, "b": 4}
    assert split_batch({"a": 0.0, "b": 1.0}, 8) == {"b": 8}


@pytest.mark.parametrize(
    ("shares", "batch_size", "shards", "words"),
    [
        ({"a": 0.1, "b": 0.9}, 256, 1, "--config.batch_size=260 (any multiple of 10)"),
        ({"a": 1.0}, 12, 8, "--config.batch_size=16 (any multiple of 8)"),
        ({"a": 0.5, "b": 0.5}, 3, 8, "--config.batch_size=16"),
        ({"a": 0.75, "b": 0.5}, 8, 1, "sum to 1.25: type shares that sum to 1"),
        ({"a": 3.0, "b": 1.0}, 8, 1, "(a 0.75, b 0.25)"),
        ({"a": -0.5, "b": 1.5}, 8, 1, "type shares above 0"),
    ],
)
def test_shares_that_cannot_be_met_say_what_to_type(shares, batch_size, shards, words):
    with pytest.raises(ConfigError) as error:
        split_batch(shares, batch_size, shards)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("shares", "starts", "words"),
    [
        ({"a": (0.5, 1.0), "b": (0.5, 0.0)}, (0,), "has 2 numbers"),
        ({"a": 1.0}, (5, 10), "begin with 0 and rise"),
        ({"a": 1.0}, (0, 10, 10), "begin with 0 and rise"),
        ({"a": 1.0, "b": (0.0, 0.0)}, (0, 10), "leave the source out"),
        ({"a": (1.0, 0.5), "b": (0.0, 0.25)}, (0, 10), "sum to 0.75"),
    ],
)
def test_phases_that_do_not_fit_say_what_to_type(shares, starts, words):
    with pytest.raises(ConfigError) as error:
        phase_counts(shares, starts, 8)
    assert words in str(error.value)


@pytest.mark.parametrize("shards", [1, 2, 3, 4, 8])
def test_every_shard_holds_exactly_its_part_of_every_source(shards):
    """Shares of 75 and 25 % on 1, 2, 3, 4 and 8 hosts; together they hold what one host holds."""
    for step, (name, count) in itertools.product((0, 7), (("formula", 72), ("real", 24))):
        whole = plan(size=96).places(name, step)[0]
        parts = [plan(i, shards, size=96).places(name, step)[0] for i in range(shards)]
        assert {len(part) for part in parts} == {count // shards}
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_stream_of_a_source_goes_on_through_phases_without_a_gap():
    shares = {"formula": (1.0, 0.75, 0.5), "real": (0.0, 0.25, 0.5)}
    phased = plan(shares=shares, starts=(0, 3, 5))
    counts = [dict(phased.counts_at(step)) for step in range(7)]
    assert counts[2:6] == [
        {"formula": 48},
        {"formula": 36, "real": 12},
        {"formula": 36, "real": 12},
        {"formula": 24, "real": 24},
    ]
    for name in shares:
        seen = [phased.places(name, s)[0] for s in range(7) if name in phased.counts_at(s)]
        np.testing.assert_array_equal(np.concatenate(seen), np.arange(sum(map(len, seen))))


@pytest.mark.parametrize("shards", [1, 3])
def test_repeated_augmentation_shows_each_image_three_times_in_its_batch(shards):
    parts = [plan(i, shards, {"real": 1.0}, repeats=3) for i in range(shards)]
    images, samples = (
        np.concatenate([np.concatenate([p.places("real", s)[i] for p in parts]) for s in range(4)])
        for i in (0, 1)
    )
    values, times = np.unique(images, return_counts=True)
    assert (values == np.arange(64)).all() and (times == 3).all()
    assert (samples == np.arange(4 * 48)).all()  # each view has a crop of its own
    # Mixup pairs neighbours: never an image with itself, and others in every view.
    pairs = np.sort(images.reshape(-1, 2), axis=1)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert len(np.unique(pairs, axis=0)) > 0.8 * len(pairs)


def test_a_batch_that_three_does_not_divide_shows_some_images_twice():
    counts = phase_counts({"real": 1.0}, (0,), 256)
    images = [Plan(counts, repeats=3).places("real", step)[0] for step in range(2)]
    times = [np.unique(batch, return_counts=True) for batch in images]
    assert [len(values) for values, _ in times] == [86, 86]
    assert sorted(set(times[0][1])) == [2, 3]
    assert times[1][0][0] == 86
