"""The text tower over eight devices: each sees its own captions, however the kernels are cut."""

import functools

import jax
import numpy as np
import pytest

from jaxfdsl import sharding
from jaxfdsl.models import text
from tests.mesh.cases import MESHES, devices

DESIGN = text.TextDesign(
    width=32,
    depth=1,
    num_heads=2,
    context=12,
    vocabulary=64,
    output=16,
    dtype=np.dtype("float32"),
)


@pytest.fixture(scope="module")
def alone():
    tower = text.build(DESIGN)
    params = tower.init(jax.random.key(0))
    tokens = np.random.default_rng(0).integers(1, 64, (16, 12)).astype(np.int32)
    compiled = jax.jit(tower.apply).lower(params, tokens).compile()
    return tower, params, tokens, np.asarray(compiled(params, tokens)), compiled.cost_analysis()


@pytest.mark.parametrize("shape", [(1, 8, 1), (1, 4, 2)])
def test_a_device_works_on_its_own_captions_alone(alone, shape):
    tower, params, tokens, expected, cost = alone
    mesh = sharding.make_mesh(dict(zip(sharding.AXES, shape, strict=True)), devices(shape))
    laid = jax.device_put(params, sharding.params_shardings(params, mesh))

    def constrain(x, heads=0):
        return jax.lax.with_sharding_constraint(x, sharding.activations(mesh, x.shape, heads))

    apply = jax.jit(functools.partial(tower.apply, constrain=constrain))
    given = jax.device_put(tokens, sharding.batched(mesh))
    compiled = apply.lower(laid, given).compile()
    np.testing.assert_allclose(np.asarray(compiled(laid, given)), expected, atol=1e-5)
    assert compiled.cost_analysis()["flops"] < cost["flops"] / 8 * 1.25


def test_captions_that_devices_do_not_divide_are_read_all_the_same(alone):
    tower, params, tokens, expected, _ = alone
    shape = MESHES["data"]
    mesh = sharding.make_mesh(dict(zip(sharding.AXES, shape, strict=True)), devices(shape))

    def constrain(x, heads=0):
        return jax.lax.with_sharding_constraint(x, sharding.activations(mesh, x.shape, heads))

    apply = jax.jit(functools.partial(tower.apply, constrain=constrain))
    compiled = apply.lower(params, tokens[:6]).compile()
    np.testing.assert_allclose(np.asarray(compiled(params, tokens[:6])), expected[:6], atol=1e-5)
