"""The multi-positive loss against the authors' formulas in plain float64 NumPy, and its limits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.objectives import contrast
from jaxfdsl.objectives.contrast import Contrast, multi_positive

FIXTURE = np.sin(1.3 * np.arange(48).reshape(8, 6) + 0.5).astype(np.float32)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def stable_rep(x, groups, temperature):
    """StableRep's code: -1e9 on the diagonal, p the mask over its row sums, mean over anchors."""
    count = len(x)
    logits = unit(x) @ unit(x).T / temperature - 1e9 * np.eye(count)
    mask = (groups[:, None] == groups[None]) * (1 - np.eye(count))
    p = mask / np.maximum(mask.sum(1, keepdims=True), 1)
    logits = logits - logits.max(1, keepdims=True)
    log_q = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -(p * log_q).sum(1).mean()


def nt_xent(x, temperature):
    """SimCLR's equation 1, rows 2k and 2k + 1 being two views of one image."""
    z = unit(x)
    losses = []
    for i in range(len(z)):
        j = i ^ 1
        others = [np.exp(z[i] @ z[k] / temperature) for k in range(len(z)) if k != i]
        losses.append(-np.log(np.exp(z[i] @ z[j] / temperature) / sum(others)))
    return np.mean(losses)


def sup_con_out(x, labels, temperature):
    """SupCon's equation 2, the sum over positives outside the logarithm."""
    z = unit(x)
    losses = []
    for i in range(len(z)):
        others = sum(np.exp(z[i] @ z[a] / temperature) for a in range(len(z)) if a != i)
        positives = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        terms = [np.log(np.exp(z[i] @ z[p] / temperature) / others) for p in positives]
        losses.append(-np.mean(terms))
    return np.mean(losses)


jitted = jax.jit(multi_positive, static_argnames=("temperature", "block", "mesh"))


def sums_of(x, groups, valid=None, **options):
    return jitted(jnp.asarray(x), jnp.asarray(groups, jnp.int32), valid, **options)


def loss(x, groups, valid=None, **options):
    sums = sums_of(x, groups, valid, **options)
    return sums["loss"] / sums["anchors"]


@pytest.mark.parametrize("block", [0, 4])
@pytest.mark.parametrize(
    ("size", "temperature", "expected"),
    [(2, 0.1, 7.984623505), (2, 0.5, 2.111412918), (4, 0.1, 13.08126743), (4, 0.5, 3.130741703)],
)
def test_the_fixture(size, temperature, expected, block):
    groups = np.arange(8) // size
    found = float(loss(FIXTURE, groups, temperature=temperature, block=block))
    assert found == pytest.approx(expected, rel=1e-6)
    assert stable_rep(FIXTURE, groups, temperature) == pytest.approx(expected, rel=1e-8)


def test_groups_of_two_are_simclr_and_labels_are_supcon():
    x = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    found = loss(x, np.arange(16) // 2, temperature=0.2)
    assert float(found) == pytest.approx(nt_xent(x, 0.2), rel=1e-6)
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 1, 0, 3, 3, 1, 0])
    outputs, batch = {"projection": jnp.asarray(x)}, {"label": jnp.asarray(labels)}
    found, metrics = jax.jit(Contrast(temperature=0.2, positives="label").loss)(outputs, batch)
    assert float(found) == pytest.approx(sup_con_out(x, labels, 0.2), rel=1e-6)
    assert metrics["contrast_loss"] == found
    others = np.bincount(labels)[labels] - 1
    assert float(metrics["contrast_floor"]) == pytest.approx(np.log(others).mean(), rel=1e-6)


@pytest.mark.parametrize("block", [0, 2])
def test_the_limits(block):
    groups = np.arange(8) // 4
    alike = np.ones((8, 6), np.float32)
    assert float(loss(alike, groups, block=block)) == pytest.approx(np.log(7), rel=1e-6)
    tight = np.where(np.arange(8)[:, None] < 4, 1.0, -1.0) * alike
    sums = sums_of(tight, groups, block=block)
    for name in ("loss", "floor"):  # log(m - 1), and not 0
        assert float(sums[name]) / 8 == pytest.approx(np.log(3), rel=1e-6)
    assert sums["top1"] == 8 and sums_of(alike, groups, block=block)["top1"] == 0


def test_the_order_of_the_batch_and_the_names_of_its_groups_do_not_matter():
    order = np.random.default_rng(1).permutation(8)
    groups = np.arange(8) // 4
    expected = loss(FIXTURE, groups)
    assert float(loss(FIXTURE[order], groups[order])) == pytest.approx(float(expected), rel=1e-6)
    assert loss(FIXTURE, 70 - 3 * groups) == expected


def test_no_gradient_comes_through_the_logit_of_an_image_with_itself():
    place, groups = jnp.arange(8), jnp.arange(8) // 4
    rows = contrast._Rows(contrast.normalised(jnp.asarray(FIXTURE)), place, groups, jnp.ones(8))
    seen = contrast._Seen.of(rows, rows, 0.1)

    def total(logits):
        return jnp.sum(dataclasses.replace(seen, logits=logits).losses()[0])

    slope = np.asarray(jax.grad(total)(seen.logits))
    assert (np.diag(slope) == 0).all()
    assert (np.abs(slope[~np.eye(8, dtype=bool)]) > 0).all()
    np.testing.assert_allclose(slope.sum(1), 0, atol=1e-6)  # q and p both sum to 1


CASES = {
    "groups": (np.arange(24) // 4, np.ones(24)),
    "unreadable": (np.arange(24) // 4, np.isin(np.arange(24), [3, 8, 9, 10, 17]) == 0),
    "labels": (np.array([0, 0, 1, 2, -1, 2, 2, 1] * 3) + np.arange(24) // 20, np.ones(24)),
}


def matrix(x, groups, valid):
    """The loss from the whole matrix, for JAX to differentiate."""
    x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
    among = ~jnp.eye(len(x), dtype=bool) & (valid > 0)[None]
    log_q = jax.nn.log_softmax(jnp.where(among, x @ x.T / 0.1, -1e9), axis=1)
    match = among & (groups[:, None] == groups[None]) & (groups >= 0)[None]
    p = match / jnp.maximum(match.sum(1, keepdims=True), 1)
    return -jnp.sum(jnp.sum(p * log_q, axis=1) * valid) / jnp.sum(valid)


@pytest.mark.parametrize("name", CASES)
def test_anchors_in_blocks_give_the_value_and_the_gradient_of_the_whole_matrix(name):
    groups, valid = CASES[name]
    x = jnp.asarray(np.random.default_rng(2).normal(size=(24, 7)), jnp.float32)
    valid, groups = jnp.asarray(valid, jnp.float32), jnp.asarray(groups, jnp.int32)

    @jax.jit
    def every(x):
        made = [jax.value_and_grad(matrix)(x, groups, valid)]
        for block in (0, 1, 5, 24):
            made += [jax.value_and_grad(loss)(x, groups, valid, block=block)]
        return made

    (expected, slope), *blockwise = jax.device_get(every(x))
    assert np.abs(slope).max() > 1e-3
    for found, gradient in blockwise:
        np.testing.assert_allclose(found, expected, rtol=2e-6)
        np.testing.assert_allclose(gradient, slope, atol=5e-7)


def test_an_unreadable_image_is_neither_anchor_nor_candidate_nor_positive():
    groups, valid = CASES["unreadable"]
    x = np.random.default_rng(3).normal(size=(24, 7)).astype(np.float32)
    found = loss(x, groups, jnp.asarray(valid, jnp.float32))
    assert float(found) == pytest.approx(stable_rep(x[valid], groups[valid], 0.1), rel=1e-6)
    # The third group has one image left, which counts with a loss of 0, as in the authors' code.
    assert (groups[valid] == 2).sum() == 1
