"""Contrast on several devices: the numbers of one, groups that span devices, and what travels."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxfdsl import config as c
from jaxfdsl import experiment, sharding
from jaxfdsl.models.projector import Projection, Projector
from jaxfdsl.objectives.contrast import multi_positive
from tests.mesh.cases import MESHES, ONE, collectives, devices, rows_of

EIGHT, BOTH = MESHES["data"], MESHES["fsdp+tensor"]
ROWS = 48


def mesh_of(shape):
    sizes = c.ConfigDict(dict(zip(sharding.AXES, shape, strict=True)))
    return sharding.make_mesh(sizes, devices(shape))


def inputs():
    random = np.random.default_rng(0)
    valid = (np.arange(ROWS) % 11 != 5).astype(np.float32)
    return random.normal(size=(ROWS, 6)).astype(np.float32), np.arange(ROWS) // 4, valid


def program(block, mesh):
    def total(x, groups, valid):
        sums = multi_positive(x, groups, valid, block=block, mesh=mesh)
        return sums["loss"] / sums["anchors"], sums

    return jax.jit(jax.value_and_grad(total, has_aux=True))


@pytest.mark.parametrize("shape", [EIGHT, BOTH], ids=["data", "fsdp+tensor"])
@pytest.mark.parametrize("block", [0, 2])
def test_sharded_rows_give_the_loss_and_the_gradient_of_one_device(shape, block):
    (loss, sums), slope = jax.device_get(program(0, None)(*inputs()))
    mesh = mesh_of(shape)
    arguments = jax.device_put(inputs(), sharding.batched(mesh))
    compiled = program(block, mesh).lower(*arguments).compile()
    found, gradient = compiled(*arguments)
    for name, value in sums.items():
        np.testing.assert_allclose(found[1][name], value, rtol=2e-6, err_msg=name)
    np.testing.assert_allclose(found[0], loss, rtol=2e-6)
    np.testing.assert_allclose(gradient, slope, atol=2e-7)
    # Anchors stay where they are: no device ever holds the logits of all, or of more than a block.
    text, parts = compiled.as_text(), sharding.batch_parts(mesh)
    assert f"f32[{ROWS},{ROWS}]" not in text
    held = {int(n) for n in re.findall(rf"f32\[(\d+),{ROWS}\]", text)}
    assert max(held) <= (block or ROWS // parts)


def test_candidates_are_gathered_once_and_nothing_travels_inside_the_loop():
    mesh = mesh_of(EIGHT)
    arguments = jax.device_put(inputs(), sharding.batched(mesh))
    compiled = program(2, mesh).lower(*arguments).compile()
    gathered = re.findall(r"= (\S+) all-gather(?:-start)?\(", compiled.as_text())
    shapes = [re.match(r"(\w+)\[([\d,]*)\]", one).groups() for one in gathered]
    assert [shape for shape in shapes if shape[1] == f"{ROWS},6"] == [("f32", f"{ROWS},6")]
    assert "reduce-scatter" not in collectives(compiled)
    text = compiled.as_text()
    loops = {body for body in re.findall(r"\bbody=%?([\w.\-]+)", text)}
    assert loops  # one over the anchors forward, one backward
    for name in loops:
        body = re.search(rf"^%?{re.escape(name)} .*?^\}}", text, re.M | re.S)
        assert body and not re.search("all-gather|all-reduce", body[0])


def test_batch_norm_of_views_is_that_of_the_whole_batch_where_groups_span_devices():
    head = Projection(hidden=16, output=4, norm="batch", views=6)  # on devices of 3 rows
    graph, params = nnx.split(Projector(8, head, rngs=nnx.Rngs(0)))
    x = np.random.default_rng(0).normal(size=(24, 8)).astype(np.float32)

    @jax.jit
    def total(params, x):
        def loss(params, x):
            made = nnx.merge(graph, params)(x, lambda x: x)
            return jnp.sum(jnp.sin(made)), made

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(params, x)

    (_, expected), slopes = jax.device_get(total(params, x))
    (_, found), gradients = total(params, jax.device_put(x, sharding.batched(mesh_of(EIGHT))))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for one, other in zip(jax.tree.leaves(gradients), jax.tree.leaves(slopes), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def drawn(shape):
    """What a tiny run on formulas draws, in groups of 4 on devices of 2 rows."""
    config = c.default_config()
    config.update(batch_size=16, steps=10, dtype="float32")
    config.mesh.update(dict(zip(sharding.AXES, shape, strict=True)))
    config.model.update(image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
    config.model.projector.update(hidden=16, output=8, norm="batch")
    config.objective.contrast.update(weight=1.0, block=1)
    config.objective.classify.weight = 0.5
    config.data.group_size = 4
    config.augment.update(crop="pad", flip_lr=True)
    points = {"pattern": "point", "num_points": 200}
    config.data.sources.a = c.formula_source(
        "fractaldb-1k", num_classes=6, size=16, options=points, instances=8
    )
    parts = experiment.build(config, devices(shape))
    batch = parts.draw_batch(jax.random.key(0), jnp.int32(0), rows_of(parts, 0), parts.tables)
    return jax.device_get(batch)


def test_groups_on_eight_devices_are_those_of_one():
    batch, spread = drawn(ONE), drawn(EIGHT)
    np.testing.assert_array_equal(batch["group"], np.arange(16) // 4)
    for name, value in batch.items():
        np.testing.assert_array_equal(spread[name], value, err_msg=name)
    assert (batch["label"].reshape(4, 4) == batch["label"][::4, None]).all()
