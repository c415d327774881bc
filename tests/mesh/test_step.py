"""The training step on one device and on eight: same images, same losses, same updates."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import checkpoint, experiment, sharding, step
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.config import ConfigError
from jaxfdsl.objectives.classify import Classify
from jaxfdsl.objectives.segment import Segment
from tests.mesh.cases import (
    MESHES,
    ONE,
    batch_of,
    built,
    devices,
    given,
    rows_of,
    tiny,
    trained,
)

EIGHT, CUT, BOTH = MESHES["data"], MESHES["fsdp"], MESHES["fsdp+tensor"]


@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_gives_the_losses_of_one_device(name):
    losses, state = trained(MESHES[name], 20)
    expected, alone = trained(ONE, 20)
    assert len(set(expected)) == 20
    np.testing.assert_allclose(losses, expected, rtol=1e-5)

    def close(a, b):
        np.testing.assert_allclose(a, b, atol=2e-4)  # Adam turns tiny gradients into full steps

    jax.tree.map(close, jax.device_get(state["params"]), jax.device_get(alone["params"]))


def test_a_checkpoint_of_eight_devices_goes_on_on_one(tmp_path):
    _, state = trained(BOTH, 20)
    saved = Checkpoints(tmp_path, keep=1, tell=print)
    saved.save(20, state, {})
    saved.close()
    eight, one = built(BOTH), built(ONE)
    saved = Checkpoints(tmp_path, keep=1, tell=print)
    found = saved.restore(checkpoint.like(one.state, one.laid))
    saved.close()
    assert found is not None and {len(x.devices()) for x in jax.tree.leaves(found)} == {1}
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), jax.device_get(state))
    following = int(found["step"])
    assert following == 20
    rows = (parts.batches.rows(following) for parts in (one, eight))
    jax.tree.map(np.testing.assert_array_equal, *rows)


def as_users(program, *arguments):
    """A program with all of XLA's optimizations, which the other tests do without: they round."""
    options = {"xla_backend_optimization_level": 3}
    if jax.__version_info__ < (0, 11):
        options["xla_cpu_use_fusion_emitters"] = True
    options = options if jax.default_backend() == "cpu" else {}
    return program.lower(*arguments).compile(compiler_options=options)


def test_drawing_beside_the_step_gives_the_same_bits():
    shape, ends = EIGHT, []
    for draw in ("fused", "beside"):
        config = tiny(shape, depth=1)
        del config.data.sources["b"]  # all of it is long to compile
        config.data.sources.a.share = 1.0
        config.draw = draw
        parts = experiment.build(config, devices(shape))
        key, state, losses = jax.random.key(0), parts.start(), []
        train_step = parts.train_step
        first = (state, key, rows_of(parts, 0), parts.tables)
        if draw == "beside":
            drawn = as_users(train_step.draw_batch, key, state["step"], *first[2:])
            learn = as_users(train_step.learn, state, key, drawn(key, state["step"], *first[2:]))
            train_step = step.Beside(drawn, learn)
        else:
            train_step = as_users(train_step, *first)
        for number in range(20):
            state, metrics = train_step(state, key, rows_of(parts, number), parts.tables)
            losses.append(float(metrics["loss"]))
        ends.append((losses, jax.device_get(state)))
    assert len(set(losses)) == 20
    jax.tree.map(np.testing.assert_array_equal, *ends)


@functools.cache
def drawer(shape):
    """What a step draws, before it is cropped and augmented."""
    parts = built(shape)

    def crop(part, key, rows):
        return part

    def augment(batch, key, rows, tables):
        return batch | {"row": rows}

    return step.make_draw_batch(parts.batches.fields, crop, augment, parts.mesh)


def drawn(shape, rows):
    parts = built(shape)
    rows = sharding.put_rows(parts.mesh, rows)
    return jax.device_get(drawer(shape)(jax.random.key(0), jnp.int32(7), rows, parts.tables))


def test_a_step_draws_the_same_bytes_on_one_and_eight_devices():
    one, eight = (drawn(shape, built(shape).batches.rows(7)) for shape in (ONE, EIGHT))
    assert one["image"].dtype == np.uint8 and one["image"].std() > 1
    assert len(set(one["label"])) > 4 and one["label"].max() >= 6
    jax.tree.map(np.testing.assert_array_equal, eight, one)


def test_processes_whose_devices_are_not_neighbours_draw_the_same_images():
    """A TPU's mesh may run through the hosts, here 0 0 1 1 0 0 1 1: each feeds its own devices."""
    batches, places = built(EIGHT).batches, [0, 1, 4, 5, 2, 3, 6, 7]
    parts = [dataclasses.replace(batches, shard_index=i, shard_count=2).rows(7) for i in range(2)]

    def placed(*parts):  # as make_array_from_process_local_data does: in order, on its devices
        pieces = np.concatenate(parts).reshape(8, -1, *parts[0].shape[1:])
        return pieces[np.argsort(places)].reshape(-1, *parts[0].shape[1:])

    found = drawn(EIGHT, jax.tree.map(placed, *parts))
    expected = drawn(EIGHT, batches.rows(7))
    assert found["row"].tolist() == list(range(32))  # what the keys of augmentations are made of
    for name in ("image", "label"):
        blocks = found[name].reshape(8, 4, *found[name].shape[1:])[places]
        np.testing.assert_array_equal(blocks.reshape(found[name].shape), expected[name])
    sources = found["label"].reshape(-1, 2) >= 6
    np.testing.assert_array_equal(sources[:, 0], sources[:, 1])  # the pairs that mixup mixes


BOTH_HEADS = {"head": 10, "patch_head": 11}


def test_accumulation_over_microbatches_is_the_step_of_the_whole_batch():
    """Four parts, rows without weight unevenly among them, one device and eight, two objectives."""
    objectives = {"classify": (1.0, Classify(0.1)), "segment": (0.5, Segment())}
    results = []
    for shape, accumulate in ((ONE, 1), (ONE, 4), (EIGHT, 4)):
        config = tiny(shape, drop_path=0.0)  # its draws differ with the parts
        config.optimizer.update(name="sgd", learning_rate=0.1, clip_norm=0.0, ema=0.0)
        config.accumulate = accumulate
        mesh, state, train_step = given(config, objectives, BOTH_HEADS)
        rows = jax.device_put(batch_of(), sharding.batched(mesh))
        state, metrics = train_step(state, jax.random.key(0), rows, {})
        results.append((jax.device_get(state["params"]), jax.device_get(metrics)))
    assert {"top1", "miou", "pixel_accuracy"} <= set(results[0][1])
    for params, metrics in results[1:]:
        for name, value in results[0][1].items():
            np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, results[0][0]
        )


class Contrast(Classify):
    """An objective that compares the images of a batch with each other."""

    cross_sample = True


def test_accumulation_is_refused_where_a_loss_is_of_the_whole_batch():
    config = tiny(ONE)
    config.accumulate = 4
    with pytest.raises(ConfigError, match=r"accumulate=4 .*objective\.contrast .*accumulate=1\.$"):
        given(config, {"contrast": (1.0, Contrast())}, {"head": 10}, start=False)


def test_a_step_that_is_not_finite_is_skipped_and_counted():
    config = tiny(BOTH)
    mesh, state, train_step = given(
        config, {"classify": (1.0, Classify())}, {"head": 10}, skip=True
    )
    good = jax.device_put(batch_of(), sharding.batched(mesh))
    bad = good | {"image": good["image"].at[9, 3, 4, 1].set(jnp.inf)}
    state, metrics = train_step(state, jax.random.key(0), good, {})
    assert metrics["skipped"] == 0 and np.isfinite(metrics["loss"])
    before = jax.device_get(state)
    state, metrics = train_step(state, jax.random.key(0), bad, {})
    assert metrics["skipped"] == 1 and not np.isfinite(metrics["loss"])
    after = jax.device_get(state)
    assert (before["step"], after["step"]) == (1, 2)
    for part in ("params", "opt_state", "ema"):
        jax.tree.map(np.testing.assert_array_equal, after[part], before[part])
    state, metrics = train_step(state, jax.random.key(0), good, {})
    assert metrics["skipped"] == 0 and np.isfinite(metrics["loss"])
    moved = np.asarray(state["params"]["norm"]["scale"]) - after["params"]["norm"]["scale"]
    assert np.abs(moved).max() > 0
