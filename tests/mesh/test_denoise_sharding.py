"""A denoiser's steps on a mesh of eight devices and on one."""

import jax
import numpy as np

from jaxfdsl import config as c
from jaxfdsl import experiment, sharding
from tests.mesh.cases import ONE, devices


def trained(shape):
    """Losses of three steps, and the average of the parameters after them."""
    config = c.default_config()
    config.update(batch_size=16, steps=3)
    config.mesh.update(dict(zip(sharding.AXES, shape, strict=True)))
    config.model.update(image_size=16, patch_size=8, width=32, depth=1, num_heads=2)
    config.optimizer.update(ema=0.9, learning_rate=1e-2)
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.data.condition = "recipe"
    options = {"pattern": "point", "num_points": 300}
    config.data.sources.a = c.formula_source(
        "fractaldb-1k", num_classes=6, size=16, options=options
    )
    parts = experiment.build(config, devices(shape))
    state, losses = parts.start(), []
    for number in range(3):
        rows = sharding.put_rows(parts.mesh, parts.batches.rows(number))
        state, metrics = parts.train_step(state, jax.random.key(0), rows, parts.tables)
        losses.append(float(metrics["loss"]))
    return losses, state["ema"]


def test_a_mesh_gives_the_denoiser_of_one_device():
    losses, params = trained(ONE)
    there, cut = trained((2, 2, 2))
    np.testing.assert_allclose(there, losses, rtol=1e-5)
    assert losses[-1] != losses[0]
    fc1 = cut["blocks_0"]["fc1"]["kernel"].sharding.spec
    assert tuple(fc1) == ("fsdp", "tensor")
    for one, other in zip(jax.tree.leaves(params), jax.tree.leaves(cut), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
