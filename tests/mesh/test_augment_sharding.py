"""Drawing, joining and augmenting on several devices: the same values, and nothing is moved."""

import re

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxfdsl import config
from jaxfdsl.data import augment, join

COLLECTIVES = r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"


def mesh_of(count):
    return jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=jax.devices()[:count])


ALL = {  # one field of every kind
    "crop": "random_resized", "flip_lr": True, "rand_augment": "rand-m9-mstd0.5-inc1",
    "erasing": 0.5, "mixup": 0.8, "cutmix": 1.0,
}  # fmt: skip


def augmented(images, rows):
    """Cropped and finished as the training step does; the third row of four is corrupt."""
    fields, key = config.default_config().augment, jax.random.key(0)
    fields.update({**ALL, "mixup_mode": "pair"})
    batch = {
        "image": augment.crop(images, key, fields, 16, rows),
        "label": rows,
        "valid": jnp.float32(rows % 4 != 2),
    }
    pairs = augment.finish(batch, key, fields, rows)
    fields.mixup_mode = "batch"
    return pairs | {"one_weight": augment.finish(batch, key, fields, rows)["label_weight"]}


def test_shards_augment_their_rows_as_the_whole_batch_would():
    images = np.random.default_rng(0).integers(0, 256, (16, 24, 24, 3), np.uint8)
    rows, spec = np.arange(16, dtype=np.int32), P("data")
    found = []
    for devices in (1, 8):
        sharded = jax.shard_map(
            augmented, mesh=mesh_of(devices), in_specs=(spec, spec), out_specs=spec, check_vma=False
        )
        compiled = jax.jit(sharded).lower(images, rows).compile()
        assert not re.findall(COLLECTIVES, compiled.as_text())
        found.append(jax.device_get(compiled(images, rows)))
    for name, value in found[0].items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)
    # Four pairs have a corrupt row: their weight is 1.
    assert len(set(found[0]["label_weight"].tolist())) == 5
    assert len(set(found[0]["one_weight"].tolist())) == 2


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
