"""Learning rates, decay masks and single steps against their formulas."""

import jax
import numpy as np
import pytest

from jaxfdsl import optim
from jaxfdsl.config import default_config
from jaxfdsl.interop import timm as names
from jaxfdsl.models import vit


def configured(**changes):
    cfg = default_config().optimizer
    cfg.update(**changes)
    return cfg


def rate(step, **changes):
    cfg = default_config().schedule
    cfg.update(**changes)
    return float(optim.schedule(cfg, 1e-3, warmup_steps=10, total_steps=110)(step))


def test_cosine_rises_from_the_first_value_and_falls_to_the_last():
    values = [rate(t, warmup_from=1e-4, final=1e-5) for t in (0, 5, 10, 35, 60, 110)]
    quarter = 1e-5 + (1e-3 - 1e-5) * (1 + np.cos(np.pi / 4)) / 2
    expected = [1e-4, 5.5e-4, 1e-3, quarter, 5.05e-4, 1e-5]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_constant_stays_and_no_warm_up_starts_at_the_peak():
    np.testing.assert_allclose([rate(t, name="constant") for t in (0, 10, 90)], [0, 1e-3, 1e-3])
    cosine = optim.schedule(default_config().schedule, 1e-3, warmup_steps=0, total_steps=100)
    np.testing.assert_allclose([cosine(0), cosine(50), cosine(100)], [1e-3, 5e-4, 0], atol=1e-9)


@pytest.mark.parametrize("scan", [False, True])
def test_decay_spares_what_timm_spares(scan):
    cfg = default_config().model
    cfg.update(width=16, depth=2, num_heads=2, image_size=32, scan_blocks=scan)
    params = jax.eval_shape(vit.build(cfg, 5, "float32").init, jax.random.key(0))
    mask = jax.tree.map(lambda m, x: np.full(x.shape, m), optim.decay_mask(params), params)
    decayed = {name for name, value in names.to_timm(mask).items() if value.all()}
    block = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    expected = {f"blocks.{i}.{layer}.weight" for i in range(2) for layer in block}
    assert decayed == expected | {"patch_embed.proj.weight", "head.weight"}


PARAMS = {"kernel": np.asarray([1.0, -2.0], np.float32), "bias": np.asarray([3.0], np.float32)}
GRADS = {"kernel": np.asarray([0.5, 0.25], np.float32), "bias": np.asarray([-1.0], np.float32)}


def two_steps(cfg):
    optimizer = optim.build(cfg, lambda step: 0.1)
    params, state = PARAMS, optimizer.init(PARAMS)
    for _ in range(2):
        updates, state = optimizer.update(GRADS, state, params)
        params = jax.tree.map(lambda p, u: p + u, params, updates)
    return params


def test_adamw_decays_beside_the_gradient():
    # With a constant gradient Adam's bias-corrected step is its sign.
    after = two_steps(configured(name="adamw", weight_decay=0.5))
    kernel, bias = PARAMS["kernel"], PARAMS["bias"]
    for _ in range(2):
        kernel = kernel - 0.1 * (np.sign(GRADS["kernel"]) + 0.5 * kernel)
        bias = bias - 0.1 * np.sign(GRADS["bias"])
    np.testing.assert_allclose(after["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(after["bias"], bias, rtol=1e-5)


def test_sgd_decays_through_the_gradient_and_its_momentum():
    after = two_steps(configured(name="sgd", weight_decay=0.5, momentum=0.9))
    kernel, velocity = PARAMS["kernel"], 0
    for _ in range(2):
        velocity = 0.9 * velocity + GRADS["kernel"] + 0.5 * kernel
        kernel = kernel - 0.1 * velocity
    np.testing.assert_allclose(after["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(after["bias"], PARAMS["bias"] + 0.1 * (1 + 1.9), rtol=1e-5)


def test_clipping_scales_all_gradients_by_one_factor():
    cfg = configured(name="sgd", weight_decay=0.0, momentum=0.0, clip_norm=0.1)
    after = two_steps(cfg)
    size = np.sqrt(sum((g**2).sum() for g in GRADS.values()))
    for name in PARAMS:
        expected = PARAMS[name] - 2 * 0.1 * GRADS[name] * 0.1 / size
        np.testing.assert_allclose(after[name], expected, rtol=1e-5)


def test_layers_learn_slower_towards_the_embedding():
    shapes = {"bias": np.zeros(2, np.float32)}
    ends = {"patch_embed": shapes, "pos_embed": np.zeros(3, np.float32), "norm": shapes}
    loose = {**ends, "head": shapes, **{f"blocks_{i}": shapes for i in range(3)}}
    scales = optim.layer_scales(loose, 0.5)
    expected = {"patch_embed": 4, "blocks_0": 3, "blocks_1": 2, "blocks_2": 1, "norm": 0, "head": 0}
    assert {k: scales[k]["bias"] for k in expected} == {k: 0.5**n for k, n in expected.items()}
    assert scales["pos_embed"] == 0.5**4
    stacked = optim.layer_scales({**ends, "blocks": {"bias": np.zeros((3, 2), np.float32)}}, 0.5)
    assert stacked["blocks"]["bias"].tolist() == [[0.125], [0.25], [0.5]]
    assert stacked["pos_embed"] == 0.5**4


def test_layer_decay_scales_the_whole_step_decay_included():
    params = {"pos_embed": PARAMS, "norm": PARAMS, "blocks_0": PARAMS}
    grads = {name: GRADS for name in params}
    steps = {}
    for decay in (1.0, 0.5):
        cfg = configured(name="sgd", weight_decay=0.5, layer_decay=decay)
        optimizer = optim.build(cfg, lambda step: 0.1)
        steps[decay], _ = optimizer.update(grads, optimizer.init(params), params)
    for name, power in {"pos_embed": 2, "blocks_0": 1, "norm": 0}.items():
        for leaf in PARAMS:
            expected = 0.5**power * steps[1.0][name][leaf]
            np.testing.assert_allclose(steps[0.5][name][leaf], expected, rtol=1e-6)
