"""Rules for where parameters lie, and meshes."""

import dataclasses
import itertools

import jax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxfdsl import sharding
from jaxfdsl.config import ConfigError, default_config, formula_source, validate

MESH = {"data": 2, "fsdp": 4, "tensor": 2}


@pytest.mark.parametrize(
    ("path", "shape", "expected"),
    [
        ("blocks_3/attn/qkv/kernel", (768, 3, 12, 64), P("fsdp", None, "tensor")),
        ("blocks_3/attn/qkv/bias", (3, 12, 64), P(None, "tensor")),
        ("blocks_3/attn/proj/kernel", (12, 64, 768), P("tensor", None, "fsdp")),
        ("blocks/mlp/fc1/kernel", (12, 768, 3072), P(None, "fsdp", "tensor")),
        ("blocks/norm1/scale", (12, 768), P()),
        ("patch_embed/kernel", (16, 16, 3, 768), P(None, None, None, "fsdp")),
        ("pos_embed", (1, 197, 768), P()),
        ("head/kernel", (768, 21000), P("fsdp", "tensor")),
        # An axis that its mesh axis does not divide stays whole.
        ("head/kernel", (768, 1001), P("fsdp")),
        ("blocks_0/attn/qkv/kernel", (194, 3, 3, 64), P()),
        # Without a rule: the largest axis, when the array is worth a collective.
        ("text/embedding", (1000, 512), P("fsdp")),
        ("text/embedding", (100, 512), P()),
    ],
)
def test_rules(path, shape, expected):
    assert sharding.spec(path, shape, MESH) == expected


def test_minus_one_takes_what_is_left_under_auto_axes():
    cfg = default_config().mesh
    cfg.update(fsdp=2, tensor=2)
    mesh = sharding.make_mesh(cfg)
    assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert set(mesh.axis_types) == {AxisType.Auto}
    assert sharding.batch_parts(mesh) == 4
    assert sharding.make_mesh(default_config().mesh, jax.devices()[:1]).size == 1
    cfg.update(data=3)
    with pytest.raises(ValueError, match=r"data 3, fsdp 2, tensor 2.* 8 devices"):
        sharding.make_mesh(cfg)


def test_an_image_is_not_cut_over_processes():
    config = default_config()
    config.update(batch_size=32, steps=1)
    config.data.sources.a = formula_source("fractaldb-1k")
    config.mesh.tensor = 4
    validate(config, num_devices=16, num_processes=4)
    with pytest.raises(ConfigError, match=r"mesh\.tensor=4 .* have 2 each: .*mesh\.tensor=2\.$"):
        validate(config, num_devices=16, num_processes=8)


@dataclasses.dataclass(frozen=True)
class Chip:
    """What JAX tells of one chip of a TPU slice."""

    id: int
    process_index: int
    coords: tuple[int, int, int]
    device_kind: str
    slice_index: int = 0
    platform: str = "tpu"
    core_on_chip: int = 0


def tpu_slice(kind, shape):
    """The chips of a slice whose hosts have 2 x 2 x 1 of them each."""
    starts = (range(0, n, step) for n, step in zip(shape, (2, 2, 1), strict=True))
    cells = [(x, y) for x in (0, 1) for y in (0, 1)]
    places = [
        (host, (x + a, y + b, z))
        for host, (x, y, z) in enumerate(itertools.product(*starts))
        for a, b in cells
    ]
    return [Chip(i, host, coords, kind) for i, (host, coords) in enumerate(places)]


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("TPU v5 lite", (4, 8, 1)), ("TPU v5", (4, 4, 4)), ("TPU v6 lite", (4, 8, 1))],
)
@pytest.mark.parametrize("tensor", [1, 2, 4])
@pytest.mark.parametrize("fsdp", [1, 2, 8])
def test_no_image_is_cut_over_two_hosts_of_a_tpu_slice(kind, shape, tensor, fsdp):
    chips = tpu_slice(kind, shape)
    mesh = sharding.make_mesh({"data": -1, "fsdp": fsdp, "tensor": tensor}, chips)
    assert sorted(chip.id for chip in mesh.devices.flat) == list(range(len(chips)))
    for image in mesh.devices.reshape(-1, tensor):
        assert len({chip.process_index for chip in image}) == 1
