"""The order of samples: permutations, their fairness, and their exact values."""

import math

import numpy as np
import pytest

from jaxfdsl.data.shuffle import hash64, permute, sample_order


@pytest.mark.parametrize("length", [1, 2, 3, 10, 17, 1000, 4097])
def test_every_index_appears_once_an_epoch(length):
    for epoch in range(3):
        positions = np.arange(length) + epoch * length
        assert sorted(sample_order(positions, length, seed=5)) == list(range(length))


def test_epochs_and_seeds_have_orders_of_their_own():
    positions = np.arange(2000)
    orders = [*sample_order(positions, 1000, 0).reshape(2, 1000)]
    orders += [*sample_order(positions, 1000, 1).reshape(2, 1000)]
    for first in range(4):
        for second in range(first):
            same = np.sum(orders[first] == orders[second])
            assert same < 10  # 1 is expected by chance


def test_all_orders_of_five_are_equally_likely():
    trials = 60_000
    keys = np.repeat(hash64(np.arange(trials)), 5)
    orders = permute(np.tile(np.arange(5), trials), 5, keys).reshape(trials, 5)
    _, counts = np.unique(orders @ 5 ** np.arange(5), return_counts=True)
    expected = trials / math.factorial(5)
    chi_square = np.sum((counts - expected) ** 2 / expected)
    assert len(counts) == 120
    assert chi_square < 160  # 119 degrees of freedom, p = .007


def test_neighbours_do_not_stay_neighbours():
    order = permute(np.arange(100_000), 100_000, hash64(3))
    steps = np.diff(order) % 100_000
    counts, _ = np.histogram(steps, bins=100, range=(0, 100_000))
    assert np.sum((counts - 1000) ** 2 / 1000) < 135  # 99 degrees of freedom, p = .009


def test_the_order_of_21_million_images_is_fixed_for_ever():
    """A change here changes the data of every resumed run."""
    positions = np.array([0, 1, 8191, 20_999_999, 21_000_000])
    found = sample_order(positions, 21_000_000, seed=0)
    np.testing.assert_array_equal(found, [7359809, 2018358, 18082990, 3709998, 4340949])


def test_a_position_outside_is_refused():
    with pytest.raises(IndexError, match=r"permutation of 10 lie in \[0, 10\)"):
        permute(np.array([10]), 10, hash64(0))
