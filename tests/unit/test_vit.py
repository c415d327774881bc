"""The ViT against a plain float64 one that knows timm's parameter names, and against timm."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.config import default_config
from jaxfdsl.interop import timm as names
from jaxfdsl.models import variants, vit
from jaxfdsl.models.attention import choose

ERF = np.vectorize(math.erf)


def small(**changes):
    cfg = default_config().model
    cfg.update(image_size=24, patch_size=8, width=24, depth=2, num_heads=3, **changes)
    return cfg


def randomised(model: vit.Model) -> dict:
    """Parameters with every bias, scale and token away from its starting value."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda x: random.normal(0, 0.3, x.shape).astype(np.float32), shapes)


def images() -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=(4, 24, 24, 3)), jnp.float32)


def logits_of(model, params, *, train=False, key=None):
    def apply(params, key):
        return model.apply(params, images(), train=train, key=key)["logits"]

    return np.asarray(jax.jit(apply)(params, key))


def norm(x, state, name):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference(state, image, *, num_heads, depth, patch):
    """One image (S, S, 3) to logits, as timm's VisionTransformer computes them, in float64."""
    state = {name: value.astype(np.float64) for name, value in state.items()}
    side = image.shape[0] // patch
    kernel = state["patch_embed.proj.weight"]  # (D, C, p, p)
    tokens = []
    for i in range(side):
        for j in range(side):
            cut = image[i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
            tokens.append(np.einsum("hwc,dchw->d", cut, kernel) + state["patch_embed.proj.bias"])
    x = np.stack(tokens)
    if "cls_token" in state:
        x = np.concatenate([state["cls_token"][0], x])
    x = x + state["pos_embed"][0]
    width = x.shape[1] // num_heads
    for b in range(depth):
        qkv = linear(norm(x, state, f"blocks.{b}.norm1"), state, f"blocks.{b}.attn.qkv")
        q, k, v = qkv.reshape(len(x), 3, num_heads, width).transpose(1, 2, 0, 3)
        mixed = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(width)) @ v
        mixed = mixed.transpose(1, 0, 2).reshape(x.shape)
        x = x + linear(mixed, state, f"blocks.{b}.attn.proj")
        hidden = linear(norm(x, state, f"blocks.{b}.norm2"), state, f"blocks.{b}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + ERF(hidden / math.sqrt(2)))
        x = x + linear(hidden, state, f"blocks.{b}.mlp.fc2")
    if "cls_token" in state:
        return linear(norm(x, state, "norm")[0], state, "head")
    return linear(norm(x.mean(0), state, "fc_norm"), state, "head")


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_logits_equal_a_plain_float64_vit(pool):
    model = vit.build(small(pool=pool), 7, "float32")
    params = randomised(model)
    state = names.to_timm(params)
    with jax.default_matmul_precision("highest"):
        logits = logits_of(model, params)
    expected = [reference(state, x, num_heads=3, depth=2, patch=8) for x in np.asarray(images())]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(logits, np.stack(expected), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_logits_equal_timm(pool):
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    options = {} if pool == "token" else {"class_token": False, "global_pool": "avg"}
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=24, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=7, **options
    )
    model = vit.build(small(pool=pool), 7, "float32")
    params = randomised(model)
    state = {name: torch.from_numpy(value) for name, value in names.to_timm(params).items()}
    theirs.load_state_dict(state, strict=True)
    with torch.no_grad():
        expected = theirs.eval()(
            torch.from_numpy(np.asarray(images()).transpose(0, 3, 1, 2).copy())
        ).numpy()
    logits = logits_of(model, params)
    np.testing.assert_allclose(logits, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_timm_names_go_there_and_back(pool):
    params = randomised(vit.build(small(pool=pool), 7, "float32"))
    back = names.from_timm(names.to_timm(params), num_heads=3)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    with pytest.raises(ValueError, match=r"not parameters .*: dist_token, head_dist\.bias"):
        names.from_timm({"head_dist.bias": np.zeros(2), "dist_token": np.zeros(2)}, num_heads=3)


@functools.cache
def gradients(scan=False, remat="none"):
    """The loss and its gradient, by timm's names, of one start however it is computed."""
    model = vit.build(small(scan_blocks=scan, remat=remat, drop_path=0.5), 7, "float32")
    params = jax.jit(model.init)(jax.random.key(3))

    def loss(params):
        outputs = model.apply(params, images(), train=True, key=jax.random.key(5))
        return jnp.mean(outputs["logits"] ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    return value, names.to_timm(params), names.to_timm(gradient)


@pytest.mark.parametrize(
    ("scan", "remat"),
    [(False, "dots"), (False, "full"), (True, "none"), (True, "dots"), (True, "full")],
)
def test_scans_and_recomputed_activations_give_the_same_loss_and_gradient(scan, remat):
    value, params, gradient = gradients()
    found = gradients(scan, remat)
    assert value > 1e-4 and max(np.abs(x).max() for x in gradient.values()) > 1e-3
    np.testing.assert_allclose(found[0], value, rtol=1e-6)
    for ours, theirs in ((found[1], params), (found[2], gradient)):
        assert sorted(ours) == sorted(theirs)
        for name in theirs:
            np.testing.assert_allclose(ours[name], theirs[name], atol=1e-6, err_msg=name)


def test_cudnn_is_chosen_for_the_heads_that_it_takes():
    widths = {name: size.width // size.num_heads for name, size in variants.VARIANTS.items()}
    assert widths["vit_g"] == 88
    half, full = jnp.dtype("bfloat16"), jnp.dtype("float32")
    assert {choose("auto", width, half, "gpu") for width in widths.values()} == {"cudnn"}
    others = [(88, full, "gpu"), (90, half, "gpu"), (136, half, "gpu"), (88, half, "tpu")]
    assert {choose("auto", *other) for other in others} == {"xla"}
    assert choose("xla", 88, half, "gpu") == "xla"


def test_bfloat16_keeps_float32_parameters_and_logits():
    model = vit.build(small(), 7, "bfloat16")
    params = randomised(model)
    logits = logits_of(model, params)
    exact = logits_of(vit.build(small(), 7, "float32"), params)
    assert logits.dtype == jnp.float32
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    error = np.abs(logits - exact).max() / np.abs(exact).max()
    assert 1e-5 < error < 0.05


def test_drop_path_zeroes_whole_samples_and_keeps_the_mean():
    x = jnp.ones((4096, 2, 3))
    dropped = np.asarray(vit.drop_path(x, 0.25, jax.random.key(0)))
    per_sample = dropped.reshape(4096, -1)
    assert (per_sample == per_sample[:, :1]).all()
    np.testing.assert_allclose(np.unique(per_sample), [0, 1 / 0.75], rtol=1e-6)
    assert abs((per_sample == 0).mean() - 0.25) < 0.02
    # A sample's fate is its row's, whatever the size of the batch around it.
    part = np.asarray(vit.drop_path(x[:16], 0.25, jax.random.key(0)))
    np.testing.assert_array_equal(part, dropped[:16])


def test_drop_path_acts_in_training_alone():
    model = vit.build(small(drop_path=0.9), 7, "float32")
    params = randomised(model)
    key = jax.random.key(0)
    evaluated = logits_of(model, params)
    np.testing.assert_array_equal(logits_of(model, params, key=key), evaluated)
    assert np.abs(logits_of(model, params, train=True, key=key) - evaluated).max() > 0.1
