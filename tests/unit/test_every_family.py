"""What holds for every family: the same bytes however they are drawn, programs for every processor,
memory that does not grow with the batch.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxfdsl import generators
from jaxfdsl.generators import catalog, dataset
from tests import programs

SMALL = {  # fewer points and lines where only equality counts
    "fractaldb": {"num_points": 20_000},
    "svd_fractal": {"num_points": 20_000},
    "perturbed": {"num_points": 20_000},
    "rcdb": {"polygons": (1, 40)},
    "visualatom": {"polygons": (1, 40)},
    "segrcdb": {"objects": 5, "polygons": (1, 40)},
}
ONE_OF_EACH = {entry.family: name for name, entry in reversed(catalog.DATASETS.items())}


def load(family: str, **options):
    """A published set of the family with few categories."""
    name, entry = ONE_OF_EACH[family], catalog.DATASETS[ONE_OF_EACH[family]]
    name = f"{name}-{entry.sizes[0]}" if entry.sizes else name
    return generators.load(name, num_classes=40, instances=None, **options)


def recipes_of(db, count: int):
    each = np.arange(count)
    return np.stack([each * 7 % db.num_recipes, each * 11], 1).astype(np.uint32)


@functools.cache
def drawer(platform: str):
    draw = functools.partial(dataset.draw_recipes, platform=platform)
    return jax.jit(draw, static_argnums=(0, 1))


def equal(some, other, count=None):
    assert some.keys() == other.keys()
    for name in some:
        np.testing.assert_array_equal(np.asarray(some[name])[:count], np.asarray(other[name]))


def test_every_family_has_a_published_set():
    assert set(ONE_OF_EACH) == set(catalog.FAMILIES)


@pytest.mark.parametrize("family", catalog.FAMILIES)
def test_bytes_do_not_hang_on_batch_platform_path_or_devices(family):
    db = load(family, size=48, **SMALL.get(family, {}))
    recipes = recipes_of(db, 12)
    whole = jax.jit(db.fields)(recipes, db.table)  # one after the other, as a CPU draws
    assert whole["image"].shape == (12, 48, 48, db.channels)
    assert len({np.asarray(image).tobytes() for image in whole["image"]}) > 8
    # As a GPU draws, one image on each of three devices; as a TPU draws, two at once.
    mesh = jax.make_mesh(
        (3,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:3]
    )
    draw = functools.partial(dataset.draw_recipes, db.family, 48, platform="gpu")
    one_each = jax.shard_map(
        draw, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"), check_vma=False
    )
    equal(whole, jax.jit(one_each)(jnp.asarray(recipes[:3]), db.table), 3)
    equal(whole, programs.draw(db, recipes[:2], "tpu"), 2)


@pytest.mark.parametrize("family", catalog.FAMILIES)
@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_the_program_lowers_for_machines_that_are_not_here(family, platform):
    db = load(family)
    recipes = jax.ShapeDtypeStruct((256, 2), jnp.uint32)
    kind = "gpu" if platform == "cuda" else platform
    traced = drawer(kind).trace(db.family, db.size, recipes, db.table)
    program = traced.lower(lowering_platforms=(platform,)).as_text()
    assert "f64" not in program and "custom_call" not in program
    if platform == "tpu":  # whose scatter is serial: whole windows may be written, no single points
        scatters = re.findall(r"stablehlo\.scatter.*", program)
        assert all("update_window_dims" in scatter for scatter in scatters)


@pytest.mark.parametrize("family", ["fractaldb", "visualatom", "svd_fractal"])
def test_memory_beside_the_images_is_that_of_one_image(family):
    # benchmarks/draw_memory.py has all families.
    db = load(family)
    recipes = jax.ShapeDtypeStruct((512, 2), jnp.uint32)
    compiled = drawer("cpu").lower(db.family, db.size, recipes, db.table).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 4 * 2**20
