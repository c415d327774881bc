"""The segmentation loss on several devices: the same numbers, and only sums travel."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxfdsl.objectives.segment import Segment

COLLECTIVES = r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("


def inputs():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (16, 4, 4, 24)).astype(np.float32)
    masks = random.integers(0, 24, (16, 32, 32)).astype(np.int32)
    valid = (np.arange(16) != 5).astype(np.float32)
    return logits, {"mask": masks, "valid": valid}


def loss(logits, batch):
    return Segment().loss({"patch_logits": logits}, batch)


@pytest.mark.parametrize("shape", [(8, 1), (4, 2)], ids=["data", "classes"])
def test_sharded_images_and_classes_give_the_loss_of_one_device(shape):
    mesh = jax.make_mesh(shape, ("data", "tensor"), (AxisType.Auto,) * 2)
    logits, batch = inputs()
    function = jax.value_and_grad(loss, has_aux=True)
    expected = jax.jit(function)(logits, batch)
    whole = NamedSharding(mesh, P("data"))
    laid = NamedSharding(mesh, P("data", None, None, "tensor" if shape[1] > 1 else None))
    arguments = (jax.device_put(logits, laid), jax.device_put(batch, whole))
    compiled = jax.jit(function).lower(*arguments).compile()
    found = compiled(*arguments)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
    if shape[1] == 1:
        assert set(re.findall(COLLECTIVES, compiled.as_text())) == {"all-reduce"}
