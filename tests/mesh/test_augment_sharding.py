"""Drawing, joining and augmenting on several devices: the same values, and nothing is moved."""

import re

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxfdsl import config
from jaxfdsl.data import augment, join

COLLECTIVES = r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"


def mesh_of(count):
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])


@pytest.mark.parametrize("crop", ["none", "pad", "random_resized"])
def test_augmentation_moves_nothing_between_devices(crop):
    fields = config.default_config().augment
    fields.update({"crop": crop, "flip_lr": True, "flip_ud": True})
    images = np.random.default_rng(0).integers(0, 256, (16, 24, 24, 3), np.uint8)
    key = jax.random.key(0)

    def function(images):
        return augment.train(images, key, fields, 16)

    expected = jax.jit(function)(images)
    sharding = NamedSharding(mesh_of(8), P("data"))
    compiled = (
        jax.jit(function, in_shardings=sharding, out_shardings=sharding).lower(images).compile()
    )
    found = compiled(jax.device_put(images, sharding))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert not re.findall(COLLECTIVES, compiled.as_text())


def test_joining_sources_moves_nothing_and_keeps_the_order():
    parts = [
        {
            "image": np.full((count, 4, 4, 3), 100, np.uint8),
            "label": np.arange(count, dtype=np.int32),
        }
        for count in (24, 8)
    ]

    def function(parts):
        return join.join(parts, (24, 8))

    expected = function(parts)
    for count in (2, 8):
        sharding = NamedSharding(mesh_of(count), P("data"))
        compiled = (
            jax.jit(function, in_shardings=sharding, out_shardings=sharding).lower(parts).compile()
        )
        found = compiled(jax.device_put(parts, sharding))
        np.testing.assert_array_equal(found["label"], expected["label"])
        assert not re.findall(COLLECTIVES, compiled.as_text())


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_shards_augment_their_rows_as_the_whole_batch_would(devices):
    fields = config.default_config().augment
    fields.update({"crop": "pad", "flip_lr": True})
    images = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), np.uint8)
    key = jax.random.key(0)

    def function(images, rows):
        return augment.train(images, key, fields, 16, rows)

    rows = np.arange(16, dtype=np.int32)
    spec = P("data")
    sharded = jax.shard_map(
        function, mesh=mesh_of(devices), in_specs=(spec, spec), out_specs=spec, check_vma=False
    )
    found = jax.jit(sharded)(images, rows)
    np.testing.assert_array_equal(found, jax.jit(function)(images, rows))
