"""Where parameters, optimisers' moments and the average lie, and how much of them on a device."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxfdsl import optim, sharding
from jaxfdsl import state as state_lib
from jaxfdsl.config import default_config
from jaxfdsl.models import vit
from tests.mesh.cases import MESHES, built, devices, tiny

SHAPE = MESHES["fsdp+tensor"]

# Stacked blocks: the layer axis, the first one, is never cut.
CUT = {
    "blocks/attn/qkv/kernel": P(None, "fsdp", None, "tensor"),
    "blocks/attn/qkv/bias": P(None, None, "tensor"),
    "blocks/attn/proj/kernel": P(None, "tensor", None, "fsdp"),
    "blocks/mlp/fc1/kernel": P(None, "fsdp", "tensor"),
    "blocks/mlp/fc1/bias": P(None, "tensor"),
    "blocks/mlp/fc2/kernel": P(None, "tensor", "fsdp"),
    "patch_embed/kernel": P(None, None, None, "fsdp"),
    "head/kernel": P("fsdp", "tensor"),
    "head/bias": P("tensor"),
}
WHOLE = ("attn/proj/bias", "mlp/fc2/bias", "norm1/bias", "norm1/scale", "norm2/bias", "norm2/scale")
SPECS = CUT | {f"blocks/{name}": P() for name in WHOLE}
SPECS |= dict.fromkeys(("cls_token", "pos_embed", "norm/bias", "norm/scale"), P())
SPECS |= {"patch_embed/bias": P()}

MATRICES = [name for name in SPECS if "blocks" in name and "kernel" in name]
# Adafactor's means over the longer and over the shorter of the two long sides of a matrix; those
# with a side below 32 have a full second moment, and placeholders here.
ROWS = {"mlp/fc1/kernel": P(None, "fsdp"), "mlp/fc2/kernel": P(None, "fsdp")}
COLUMNS = {"mlp/fc1/kernel": P(None, "tensor"), "mlp/fc2/kernel": P(None, "tensor")}
FACTORED = [f"blocks/{name}" for name in ROWS]


def expected(name):
    """{(moment, parameter): spec} of an optimiser."""
    every = dict(SPECS)
    rest = {k: v for k, v in every.items() if k not in MATRICES}
    short = {k: v for k, v in every.items() if k not in FACTORED} | dict.fromkeys(FACTORED, P())
    none = dict.fromkeys(every, P())
    moments = {
        "adamw": {"mu": every, "nu": every},
        "sgd": {"trace": every},
        "lamb": {"mu": every, "nu": every},
        "adafactor": {
            "v": short,
            "v_row": none | {f"blocks/{k}": v for k, v in ROWS.items()},
            "v_col": none | {f"blocks/{k}": v for k, v in COLUMNS.items()},
            "ema": every,
        },
        # Muon's own momentum is the one moment of the blocks' matrices.
        "muon": {"mu": every, "nu": rest},
    }[name]
    return {(moment, leaf): s for moment, specs in moments.items() for leaf, s in specs.items()}


def named(path):
    """("mu", "blocks/norm1/scale") of a leaf's path; ("count", "") of what has no parameter."""
    names = [getattr(e, "name", None) for e in path]
    last = max(i for i, name in enumerate(names) if name)
    return names[last], "/".join(e.key for e in path[last + 1 :])


def prepared(name):
    """A mesh, an optimiser, the shapes of a state with it, and where its leaves lie."""
    config = tiny(SHAPE, scan_blocks=True)
    mesh = sharding.make_mesh(config.mesh, devices(SHAPE))
    config.optimizer.update(name=name, layer_decay=0.8)
    optimizer = optim.build(config.optimizer, lambda step: 1e-2)
    model = vit.build(config.model, 10, "float32")

    def create(key):
        return state_lib.create(model.init(key), optimizer, ema=True)

    state = jax.eval_shape(create, jax.random.key(0))
    return optimizer, state, state_lib.shardings(state, mesh)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb", "adafactor", "muon"])
def test_every_leaf_of_a_state_lies_as_its_parameter_does(name):
    _, state, laid = prepared(name)
    for part in ("params", "ema"):
        leaves = jax.tree_util.tree_leaves_with_path(laid[part])
        assert {"/".join(e.key for e in path): s.spec for path, s in leaves} == SPECS
    leaves = jax.tree_util.tree_leaves_with_path(laid["opt_state"])
    found = {named(path): s.spec for path, s in leaves}
    assert {key: spec for key, spec in found.items() if key[1]} == expected(name)
    assert all(spec == P() for key, spec in found.items() if not key[1])
    jax.tree.map(lambda s, x: s.shard_shape(x.shape), laid, state)  # raises where one does not fit


@pytest.mark.parametrize("name", ["lamb", "adafactor", "muon"])
def test_whole_parameter_optimisers_take_the_step_of_one_device(name):
    optimizer, state, laid = prepared(name)
    random = np.random.default_rng(0)
    params, grads = (
        jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), state["params"])
        for _ in range(2)
    )

    def steps(params, grads):
        updates, moments = optimizer.update(grads, optimizer.init(params), params)
        return optimizer.update(updates, moments, params)

    alone = jax.jit(steps)(params, grads)
    out = (laid["params"], laid["opt_state"])
    cut = jax.jit(steps, out_shardings=out)(*jax.device_put((params, grads), (laid["params"],) * 2))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), cut, alone)


@pytest.mark.parametrize("name", ["fsdp", "fsdp+tensor"])
def test_a_device_holds_its_part_of_the_state(name):
    state = built(MESHES[name]).start()
    cut = dict(zip(sharding.AXES, MESHES[name], strict=True))
    for leaf in jax.tree.leaves(state):
        axes = [axis for axis in leaf.sharding.spec if axis]
        parts = np.prod([cut[axis] for axis in axes], dtype=int)
        assert {s.data.nbytes for s in leaf.addressable_shards} == {leaf.nbytes // parts}


@pytest.mark.parametrize("fsdp", [8, 64])
def test_bytes_a_device_fall_as_the_devices_rise(fsdp):
    """ViT-B: what is whole everywhere (norms, biases, positions) is a third of a percent."""
    config = default_config()
    config.model.update(variant="vit_b", scan_blocks=True)
    model = vit.build(config.model, 1000, "float32")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    mesh = jax.sharding.AbstractMesh((1, fsdp, 1), sharding.AXES)
    laid = sharding.params_shardings(shapes, mesh)
    own = jax.tree.map(lambda s, x: np.prod(s.shard_shape(x.shape)), laid, shapes)
    share = sum(jax.tree.leaves(own)) / sum(x.size for x in jax.tree.leaves(shapes))
    assert 1 / fsdp < share < 1 / fsdp + 0.0035
