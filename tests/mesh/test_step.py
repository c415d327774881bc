"""The training step on one device and on eight: same images, same losses, no needless traffic."""

import collections
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxfdsl import checkpoint, experiment, sharding, step
from jaxfdsl import config as c
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.objectives.classify import Classify

COLLECTIVES = r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
ONE = {"data": 1, "fsdp": 1, "tensor": 1}
DATA = {"data": 8, "fsdp": 1, "tensor": 1}
FSDP = {"data": 2, "fsdp": 4, "tensor": 1}
TENSOR = {"data": 2, "fsdp": 2, "tensor": 2}


def tiny(mesh):
    config = c.default_config()
    config.update(batch_size=32, steps=100)
    config.mesh.update(mesh)
    config.model.update(image_size=16, patch_size=8, width=32, depth=2, num_heads=2, drop_path=0.2)
    config.optimizer.update(ema=0.9, clip_norm=1.0)
    config.augment.update(crop="pad", flip_lr=True, mixup=0.8)
    points = {"pattern": "point", "num_points": 300}
    for name, classes in (("a", 6), ("b", 4)):
        config.data.sources[name] = c.formula_source(
            "fractaldb-1k", num_classes=classes, size=16, options=points, share=0.5
        )
    return config


@functools.cache
def built(shape) -> experiment.Experiment:
    mesh = dict(shape)
    count = int(np.prod(list(mesh.values())))
    return experiment.build(tiny(mesh), jax.devices()[:count])


def run(mesh, steps=3):
    """Losses of some steps, and the state after them."""
    parts = built(tuple(mesh.items()))
    state, losses = parts.start(), []
    for number in range(steps):
        rows = sharding.put_rows(parts.mesh, parts.batches.rows(number))
        state, metrics = parts.train_step(state, jax.random.key(0), rows, parts.tables)
        losses.append(float(metrics["loss"]))
    return losses, state


@functools.cache
def on_one_device():
    losses, state = run(ONE)
    return losses, jax.device_get(state["params"])


@pytest.mark.parametrize("mesh", [DATA, FSDP, TENSOR], ids=["data", "fsdp", "tensor"])
def test_every_mesh_gives_the_losses_of_one_device(mesh):
    losses, state = run(mesh)
    expected, params = on_one_device()
    assert len(set(expected)) == 3
    np.testing.assert_allclose(losses, expected, rtol=1e-5)

    def close(a, b):
        np.testing.assert_allclose(a, b, atol=2e-4)  # Adam turns tiny gradients into full steps

    jax.tree.map(close, jax.device_get(state["params"]), params)


def test_parameters_moments_and_average_are_cut_alike():
    _, state = run(FSDP, steps=1)
    parts = built(tuple(FSDP.items()))
    block = {
        "attn/qkv/kernel": P("fsdp"),
        "attn/proj/kernel": P(None, None, "fsdp"),
        "mlp/fc1/kernel": P("fsdp"),
        "mlp/fc2/kernel": P(None, "fsdp"),
    }
    cut = {f"blocks_{i}/{name}": spec for i in range(2) for name, spec in block.items()}
    cut |= {"patch_embed/kernel": P(None, None, None, "fsdp"), "head/kernel": P("fsdp")}
    seen = collections.Counter()
    for start in (parts.start(), state):
        for path, leaf in jax.tree_util.tree_leaves_with_path(start):
            keys = [str(getattr(k, "key", getattr(k, "name", ""))) for k in path]
            name = next((n for n in cut if "/".join(keys).endswith(n)), None)
            expected = cut.get(name, P())
            assert leaf.sharding.is_equivalent_to(
                jax.NamedSharding(parts.mesh, expected), leaf.ndim
            ), (keys, leaf.sharding, expected)
            seen[name] += 1
    # Parameters, two moments and the average, before and after a step.
    assert {seen[name] for name in cut} == {8}


def test_a_checkpoint_of_eight_devices_goes_on_on_one(tmp_path):
    _, state = run(FSDP, steps=2)
    saved = Checkpoints(tmp_path, keep=1, tell=print)
    saved.save(2, state, {})
    saved.close()
    eight, one = (built(tuple(mesh.items())) for mesh in (FSDP, ONE))
    saved = Checkpoints(tmp_path, keep=1, tell=print)
    found = saved.restore(checkpoint.like(one.state, one.laid))
    saved.close()
    assert found is not None and {len(x.devices()) for x in jax.tree.leaves(found)} == {1}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(state))
    following = int(found["step"])
    assert following == 2
    rows = (parts.batches.rows(following) for parts in (one, eight))
    jax.tree.map(np.testing.assert_array_equal, *rows)


def as_floats(images):
    return jnp.repeat(images / jnp.float32(255), 3, axis=-1)


class Probe(Classify):
    """Classification that hands the images of the step out."""

    def inputs(self, batch, key):
        return as_floats(batch["image"])

    def loss(self, outputs, batch):
        loss, _ = super().loss(outputs, batch)
        return loss, {"image": batch["image"], "label": batch["label"]}


def probed(mesh):
    """The images that a training step draws, as it draws them."""
    parts = built(tuple(mesh.items()))
    train_step = step.make_train_step(
        model=parts.model,
        objectives={"probe": (1.0, Probe())},
        optimizer=parts.optimizer,
        rate=lambda step: 1e-3,
        ema=0.9,
        fields=parts.batches.fields,
        crop=lambda part, key, rows: part,
        augment=lambda batch, key, rows: batch,
        mesh=parts.mesh,
        laid=parts.laid,
    )
    rows = sharding.put_rows(parts.mesh, parts.batches.rows(7))
    _, metrics = train_step(parts.start(), jax.random.key(0), rows, parts.tables)
    return np.asarray(metrics["image"]), np.asarray(metrics["label"])


def test_a_step_draws_the_same_bytes_on_one_and_eight_devices():
    images, labels = probed(ONE)
    assert images.dtype == np.uint8 and images.std() > 1
    assert len(set(labels)) > 4 and labels.max() >= 6
    others = probed(DATA)
    np.testing.assert_array_equal(others[0], images)
    np.testing.assert_array_equal(others[1], labels)


def collectives(parts, train_step, rows):
    state = checkpoint.like(parts.state, parts.laid)
    rows = sharding.put_rows(parts.mesh, rows)
    lowered = train_step.lower(state, jax.random.key(0), rows, parts.tables)
    return collections.Counter(re.findall(COLLECTIVES, lowered.compile().as_text()))


def test_drawing_and_mixing_add_no_collective_and_fsdp_needs_no_all_to_all():
    parts = built(tuple(FSDP.items()))
    drawn = collectives(parts, parts.train_step, parts.batches.rows(0))
    batch = {"image": np.zeros((32, 16, 16, 1), np.uint8), "label": np.zeros(32, np.int32)}
    batch["valid"] = np.ones(32, np.float32)
    without = step.make_train_step(
        model=parts.model,
        objectives={"classify": (1.0, Classify())},
        optimizer=parts.optimizer,
        rate=lambda step: 1e-3,
        ema=0.9,
        fields=lambda rows, tables, crop: rows,
        crop=lambda part, key, rows: part,
        augment=lambda batch, key, rows: batch | {"image": as_floats(batch["image"])},
        mesh=parts.mesh,
        laid=parts.laid,
    )
    given = collectives(parts, without, batch)
    assert drawn == given
    assert drawn["all-gather"] and drawn["all-reduce"] + drawn["reduce-scatter"]
    assert not drawn["all-to-all"]


def test_accumulation_over_microbatches_is_the_step_of_the_whole_batch():
    """Four parts, rows without weight unevenly among them, one device and eight."""
    random = np.random.default_rng(0)
    batch = {
        "image": random.normal(0, 1, (32, 16, 16, 3)).astype(np.float32),
        "label": random.integers(0, 10, 32).astype(np.int32),
        "valid": (np.arange(32) % 8 != 3).astype(np.float32),
    }
    results = []
    for mesh, accumulate in ((ONE, 1), (ONE, 4), (DATA, 4)):
        config = tiny(mesh)
        config.model.drop_path = 0.0  # its draws differ with the parts
        config.optimizer.update(name="sgd", clip_norm=0.0, ema=0.0)
        parts = experiment.build(config, jax.devices()[: int(np.prod(list(mesh.values())))])
        train_step = step.make_train_step(
            model=parts.model,
            objectives={"classify": (1.0, Classify(0.1))},
            optimizer=parts.optimizer,
            rate=lambda step: 1e-3,
            ema=0.0,
            fields=lambda rows, tables, crop: rows,
            crop=lambda part, key, rows: part,
            augment=lambda batch, key, rows: batch,
            mesh=parts.mesh,
            laid=parts.laid,
            accumulate=accumulate,
        )
        rows = sharding.put_rows(parts.mesh, batch)
        state, metrics = train_step(parts.start(), jax.random.key(0), rows, parts.tables)
        results.append((jax.device_get(state["params"]), jax.device_get(metrics)))
    for params, metrics in results[1:]:
        for name in ("loss", "top1", "grad_norm"):
            np.testing.assert_allclose(metrics[name], results[0][1][name], rtol=1e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, results[0][0]
        )
