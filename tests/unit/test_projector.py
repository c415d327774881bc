"""The projector against its formulas in float64 NumPy, and its place in a model."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxfdsl import config as c
from jaxfdsl.costs import flops
from jaxfdsl.models import transfer, vit
from jaxfdsl.models.projector import Projection, Projector

SMALL = {"hidden": 12, "output": 5, "layers": 3}


def model(norm, views=1):
    cfg = c.default_config().model
    cfg.update(image_size=8, patch_size=4, width=8, depth=1, num_heads=2, pool="mean")
    return vit.build(cfg, {"projector": Projection(**SMALL, norm=norm, views=views)}, "float32")


def random_params(built):
    """Norms that scale and shift, and biases."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(built.init, jax.random.key(0))
    return jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), shapes)


def reference(params, x, norm, views):
    """StableRep's: linear, norm, ReLU; twice; linear. The projector sees one view after another."""
    p = jax.tree.map(lambda value: np.asarray(value, np.float64), params)
    if norm == "batch":
        made = np.empty((len(x), SMALL["output"]))
        for j in range(views):
            made[j::views] = _layers(p, x[j::views], lambda h: (h.mean(0), h.var(0), 1e-5), _relu)
        return made
    rows = _layers(p, x, lambda h: (h.mean(1)[:, None], h.var(1)[:, None], 1e-6), _gelu)
    return rows


def _layers(p, x, statistics, activation):
    for i in range(2):
        x = x @ p[f"fc{i}"]["kernel"] + p[f"fc{i}"]["bias"]
        mean, variance, epsilon = statistics(x)
        x = (x - mean) / np.sqrt(variance + epsilon)
        x = activation(x * p[f"norm{i}"]["scale"] + p[f"norm{i}"]["bias"])
    return x @ p["fc2"]["kernel"] + p["fc2"]["bias"]


def _relu(x):
    return np.maximum(x, 0)


def _gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


@pytest.mark.parametrize(("norm", "views"), [("batch", 3), ("batch", 1), ("layer", 3)])
def test_the_projection_is_that_of_the_formulas(norm, views):
    built = model(norm, views)
    params = random_params(built)
    images = np.random.default_rng(1).normal(size=(12, 8, 8, 3)).astype(np.float32)
    out = jax.jit(lambda params, images: built.apply(params, images, train=True))(params, images)
    features = np.asarray(out["features"], np.float64)
    expected = reference(params["projector"], features, norm, views)
    assert expected.std() > 0.1
    np.testing.assert_allclose(out["projection"], expected, atol=2e-5)
    if views == 3 and norm == "batch":  # the views have statistics of their own
        together = reference(params["projector"], features, norm, 1)
        assert np.abs(together - expected).max() > 0.1


def test_the_published_projector_is_4096_4096_256_with_biases():
    fields = c.default_config().model.projector
    built = vit.build(c.default_config().model, {"projector": Projection(**fields)}, "float32")
    shapes = jax.eval_shape(built.init, jax.random.key(0))["projector"]
    kernels = [shapes[f"fc{i}"]["kernel"].shape for i in range(3)]
    assert kernels == [(192, 4096), (4096, 4096), (4096, 256)]
    assert all("bias" in shapes[f"fc{i}"] for i in range(3)) and sorted(shapes)[-1] == "norm1"
    with_one, without = (
        flops.forward(vit.design_of(c.default_config().model, heads, "float32"))
        for heads in ({"projector": Projection(**fields)}, {})
    )
    assert with_one - without == 2 * (192 * 4096 + 4096 * 4096 + 4096 * 256)
    first = Projector(192, Projection(hidden=64), rngs=nnx.Rngs(0)).fc0.kernel[...]
    assert abs(float(jnp.abs(first).max()) - 192**-0.5) < 1e-4  # torch's uniform


def test_a_pre_trained_trunk_leaves_its_projector_behind():
    built = model("layer")
    loaded = random_params(built)
    cfg = c.default_config().model
    cfg.update(image_size=8, patch_size=4, width=8, depth=1, num_heads=2, pool="mean")
    fresh = jax.eval_shape(vit.build(cfg, 10, "float32").init, jax.random.key(0))
    params, phrases = transfer.adapt(loaded, fresh)
    assert "projector" not in params and phrases == ["head new (10 classes)"]
    again, phrases = transfer.adapt(loaded, jax.eval_shape(built.init, jax.random.key(0)))
    assert phrases == ["projector new"] and "fc2" in again["projector"]
