"""What travels between devices in a training step: an exact budget for each way to cut it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import config as c
from jaxfdsl import experiment, sharding
from jaxfdsl.objectives.classify import Classify
from tests.mesh.cases import MESHES, collectives, compiled, given, rows_of, tiny

# Of a ViT with two blocks, as this version of XLA compiles it for a CPU. It has no reduce-scatter
# there: what GPUs and TPUs scatter is an all-reduce and a slice here, and gathers of one shape that
# forward and backward pass share are made once, which remat and scans prevent.
JAX_VERSION = (0, 10)
LOOP = {
    # The number of valid rows; then all gradients, the loss and the metrics at once.
    "data": {"all-reduce": 2},
    # Four matrices a block, the patch embedding and the head.
    "fsdp": {"all-gather": 10, "all-reduce": 12},
    # Two forward and two backward a block, and the softmax over cut classes.
    "tensor": {"all-reduce": 15},
    "fsdp+tensor": {"all-gather": 16, "all-reduce": 22, "collective-permute": 2},
}
# The body of the loop over blocks counts once, forward and backward.
SCAN = {
    "data": {"all-reduce": 3},
    "fsdp": {"all-gather": 10, "all-reduce": 5},
    "tensor": {"all-reduce": 13},
    "fsdp+tensor": {"all-gather": 10, "all-reduce": 21, "collective-permute": 2},
}

pinned = pytest.mark.skipif(
    jax.__version_info__[:2] != JAX_VERSION,
    reason=f"counted with jax {JAX_VERSION[0]}.{JAX_VERSION[1]}: others partition otherwise",
)


@pinned
@pytest.mark.parametrize("name", MESHES)
def test_a_step_sends_what_its_mesh_needs_and_no_more(name):
    assert collectives(compiled(MESHES[name])) == LOOP[name]


def lowered(shape, **model):
    """The step of a batch of floats that is given."""
    config = tiny(shape, **model)
    objectives = {"classify": (1.0, Classify(0.1))}
    mesh, state, train_step = given(config, objectives, {"head": 10}, start=False)
    batch = {"image": np.zeros((32, 16, 16, 3), np.float32), "valid": np.ones(32, np.float32)}
    batch |= {"label": np.zeros(32, np.int32), "label_b": np.zeros(32, np.int32)}
    batch |= {"label_weight": np.ones(32, np.float32)}
    rows = jax.device_put(batch, sharding.batched(mesh))
    return train_step.lower(state, jax.random.key(0), rows, {})


@pinned
@pytest.mark.parametrize("name", MESHES)
def test_a_scanned_step_sends_what_its_mesh_needs_and_no_more(name):
    assert collectives(lowered(MESHES[name], scan_blocks=True).compile()) == SCAN[name]


@pytest.mark.parametrize("name", MESHES)
def test_drawing_interleaving_and_mixing_add_nothing(name):
    found = collectives(compiled(MESHES[name]))
    assert found == collectives(lowered(MESHES[name]).compile())
    assert not found.get("all-to-all") and (found.get("all-gather", 0) > 0) == ("fsdp" in name)


def test_rendered_and_real_images_meet_where_they_are(tmp_path):
    for i in range(8):
        file = tmp_path / "train" / f"class {i % 2}" / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((24, 24, 3), 30 * i, np.uint8)).save(file)
    config = tiny(MESHES["data"])
    config.data.sources["b"] = c.folder_source(str(tmp_path), size=24, share=0.5)
    parts = experiment.build(config)
    arguments = (jax.random.key(0), jnp.int32(0), rows_of(parts, 0), parts.tables)
    program = parts.draw_batch.lower(*arguments).compile()
    assert collectives(program) == {}
    labels = np.asarray(program(*arguments)["label"])
    assert (labels < 6).sum() == (labels >= 6).sum() == 16
