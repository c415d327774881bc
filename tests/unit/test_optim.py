"""Learning rates, decay masks and single steps against their formulas."""

import jax
import numpy as np
import pytest

from jaxfdsl import optim
from jaxfdsl.config import default_config
from jaxfdsl.interop import timm as names
from jaxfdsl.models import blocks, vit


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


def test_the_average_of_the_parameters_forgets_its_start_when_it_warms_up():
    cfg = configured(ema=0.9, ema_warmup=True)
    decay, kept = optim.ema_decay(cfg), 1.0
    for t in range(100):  # TensorFlow's num_updates: 1/10, 2/11, ... 81/90 = .9 and so on
        assert float(decay(np.int32(t))) == pytest.approx(min(0.9, (1 + t) / (10 + t)), rel=1e-6)
        kept *= float(decay(np.int32(t)))
    assert kept < 1e-10 and optim.ema_decay(configured(ema=0.9))(np.int32(0)) == 0.9
    assert optim.ema_decay(configured()) is None


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


def test_lamb_takes_steps_of_the_size_of_what_decays():
    """You et al., arXiv 1904.00962, algorithm 2, in float64."""
    cfg = configured(name="lamb", weight_decay=0.5)
    after = two_steps(cfg)
    for name in PARAMS:
        x, g = PARAMS[name].astype(np.float64), GRADS[name].astype(np.float64)
        for _ in range(2):
            step = g / (np.abs(g) + 1e-6)  # the gradient is constant, so that m = g and v = g ** 2
            if name == "kernel":
                step = step + 0.5 * x
                step = step * np.linalg.norm(x) / np.linalg.norm(step)
            x = x - 0.1 * step
        np.testing.assert_allclose(after[name], x, rtol=1e-5)


def test_adafactor_keeps_rows_and_columns_and_a_short_first_moment():
    """Shazeer and Stern, arXiv 1804.04235, algorithm 4, changed as Zhai et al., arXiv 2106.04560,
    3.4: first moment in bfloat16, second moment's decay capped (here at 0.3, from step 2 on)."""
    random = np.random.default_rng(0)
    params = {"kernel": random.normal(size=(40, 48)), "bias": random.normal(size=48)}
    grads = [{k: random.normal(size=x.shape) for k, x in params.items()} for _ in range(3)]
    optimizer = optim.build(
        configured(name="adafactor", b2=0.3, weight_decay=0.5), lambda step: 0.1
    )
    x = jax.tree.map(np.float32, params)
    state = optimizer.init(x)
    for g in grads:
        updates, state = optimizer.update(jax.tree.map(np.float32, g), state, x)
        x = jax.tree.map(lambda p, u: p + u, x, updates)
    shapes = {x.shape for x in jax.tree.leaves(state)}
    assert {(40,), (48,)} < shapes
    for name, expected in params.items():
        rows = columns = moment = 0.0
        for t, g in enumerate(g[name] for g in grads):
            decay = min(1 - (t + 1) ** -0.8, 0.3)
            square = g**2 + 1e-30
            if name == "kernel":
                rows = decay * rows + (1 - decay) * square.mean(1, keepdims=True)
                columns = decay * columns + (1 - decay) * square.mean(0, keepdims=True)
                second = rows * columns / rows.mean()
            else:
                rows = second = decay * rows + (1 - decay) * square
            moment = 0.9 * moment + 0.1 * g / np.sqrt(second)
            expected = expected - 0.1 * (moment + (0.5 * expected if name == "kernel" else 0))
            moment = moment.astype(jax.numpy.bfloat16).astype(np.float64)
        np.testing.assert_allclose(x[name], expected, atol=1e-3)
        assert np.abs(x[name] - params[name]).max() > 0.03


def transformer(seed, depth=2):
    """Loose blocks of width 48 with 2 heads, and a head."""
    random = np.random.default_rng(seed)
    shapes = {
        "attn": {"qkv": {"kernel": (48, 3, 2, 24), "bias": (3, 2, 24)},
                 "proj": {"kernel": (2, 24, 48), "bias": (48,)}},
        "mlp": {"fc1": {"kernel": (48, 96), "bias": (96,)}, "fc2": {"kernel": (96, 48)}},
        "norm1": {"scale": (48,)},
    }  # fmt: skip

    def values(shapes):
        return jax.tree.map(
            lambda s: random.normal(size=s).astype(np.float32),
            shapes,
            is_leaf=lambda s: isinstance(s, tuple),
        )

    trunk = {f"blocks_{i}": values(shapes) for i in range(depth)}
    return trunk | {"head": values({"kernel": (48, 10), "bias": (10,)})}


def stepped(cfg, params, grads):
    optimizer = optim.build(cfg, lambda step: 1.0)

    def steps(params, state):
        for g in grads:
            updates, state = optimizer.update(g, state, params)
            params = jax.tree.map(lambda p, u: p + u, params, updates)
        return params

    return jax.jit(steps)(params, optimizer.init(params))


@pytest.mark.parametrize("name", ["lamb", "adafactor", "muon"])
def test_stacked_blocks_are_updated_as_loose_ones_are(name):
    cfg = configured(name=name, layer_decay=0.8, clip_norm=1.0)
    params, *grads = (transformer(seed) for seed in range(3))
    # Layers of unlike sizes: one norm over all of them would show.
    params["blocks_1"] = jax.tree.map(lambda x: 5 * x, params["blocks_1"])
    loose = blocks.stack_blocks(stepped(cfg, params, grads))
    stacked = stepped(cfg, blocks.stack_blocks(params), map(blocks.stack_blocks, grads))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), stacked, loose
    )


def test_muon_orthogonalises_each_matrix_of_a_block_and_no_other():
    params, grads = transformer(0), transformer(1)
    after = stepped(configured(name="muon", weight_decay=0.0), params, [grads])
    step = jax.tree.map(lambda p, a: np.asarray(p - a, np.float64), params, after)
    one, g = step["blocks_1"], grads["blocks_1"]
    matrices = [(one["attn"]["qkv"]["kernel"][:, i], g["attn"]["qkv"]["kernel"][:, i], 48)
                for i in range(3)]  # fmt: skip
    matrices.append((one["attn"]["proj"]["kernel"], g["attn"]["proj"]["kernel"], 48))
    matrices += [(one["mlp"][f]["kernel"], g["mlp"][f]["kernel"], 96) for f in ("fc1", "fc2")]
    for found, gradient, side in matrices:
        shape = (-1, 48) if found.shape[-1] == 48 else (48, -1)
        u, sizes, v = np.linalg.svd(gradient.reshape(shape).astype(np.float64), full_matrices=False)
        inside = u.T @ found.reshape(shape) @ v.T / (0.2 * side**0.5)
        # Jordan 2024: five steps bring all singular values but the smallest to about 0.7 to 1.2.
        ones = np.diag(inside)[sizes > 0.02 * np.linalg.norm(sizes)]
        assert len(ones) > 40 and ones.min() > 0.65 and ones.max() < 1.25
        np.testing.assert_allclose(inside, np.diag(np.diag(inside)), atol=1e-3)
    for found, gradient in (
        (one["attn"]["qkv"]["bias"], g["attn"]["qkv"]["bias"]),
        (step["head"]["kernel"], grads["head"]["kernel"]),
    ):
        np.testing.assert_allclose(found, np.sign(gradient), rtol=1e-3)  # Adam's first step
