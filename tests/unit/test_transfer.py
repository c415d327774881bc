"""Weights of one model as the start of another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxfdsl.config import default_config
from jaxfdsl.models import transfer, vit


def model(num_classes=5, **changes):
    cfg = default_config().model
    cfg.update(image_size=32, patch_size=8, width=16, depth=2, num_heads=2)
    cfg.update(**changes)
    return vit.build(cfg, num_classes, "float32")


@functools.cache
def params(num_classes=5, seed=0, **changes):
    return jax.jit(model(num_classes, **changes).init)(jax.random.key(seed))


def shapes(**changes):
    return jax.eval_shape(model(**changes).init, jax.random.key(0))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_positions_are_resized_as_pillow_resizes_pictures():
    # Pillow's bicubic filter is the antialiased one with a = -1/2 that timm asks torch for.
    grid = np.random.default_rng(0).normal(size=(14, 14, 3)).astype(np.float32)
    for side in (7, 24):
        resized = transfer.resize_positions(
            jnp.asarray(grid).reshape(1, 196, 3), side * side, prefix=0, new_prefix=0
        )
        for channel in range(3):
            picture = Image.fromarray(grid[..., channel]).resize((side, side), Image.BICUBIC)
            ours = np.asarray(resized).reshape(side, side, 3)[..., channel]
            np.testing.assert_allclose(ours, np.asarray(picture), atol=1e-5)


def without_head(tree):
    return {name: value for name, value in tree.items() if name != "head"}


def test_same_shapes_change_nothing_but_the_head():
    loaded, fresh = params(), params(seed=1)
    adapted, changes = transfer.adapt(loaded, fresh)
    assert changes == ["head new (5 classes)"]
    equal(adapted["head"], fresh["head"])
    equal(without_head(adapted), without_head(loaded))


def test_a_denoiser_is_no_start_of_a_vision_transformer():
    plain = {"patches": {"kernel": np.zeros((4, 2))}}
    assert transfer.adapt(plain, plain) == (plain, [])
    with pytest.raises(ValueError, match="weights of a denoiser, and the run trains a vision"):
        transfer.adapt(plain, shapes())


def test_a_new_model_needs_no_arrays_yet():
    adapted, _ = transfer.adapt(params(), shapes(num_classes=7))
    assert adapted["head"] == shapes(num_classes=7)["head"]
    equal(without_head(adapted), without_head(params()))


def test_other_classes_and_sizes_get_a_new_head_and_resized_positions():
    loaded, fresh = params(), params(num_classes=7, image_size=48, seed=1)
    adapted, changes = transfer.adapt(loaded, fresh)
    assert changes == [
        "positions resized from 17 to 37 tokens",
        "head new (7 classes)",
    ]
    equal(adapted["head"], fresh["head"])
    equal(adapted["blocks_1"], loaded["blocks_1"])
    assert adapted["pos_embed"].shape == (1, 37, 16)
    np.testing.assert_array_equal(adapted["pos_embed"][:, 0], loaded["pos_embed"][:, 0])


def test_class_token_and_mean_pooling_convert_into_each_other():
    token, mean = params(), params(pool="mean", seed=1)
    adapted, changes = transfer.adapt(token, mean)
    assert "class token dropped" in changes
    np.testing.assert_array_equal(adapted["pos_embed"], token["pos_embed"][:, 1:])
    adapted, changes = transfer.adapt(mean, token)
    assert "class token new" in changes
    np.testing.assert_array_equal(adapted["pos_embed"][:, 1:], mean["pos_embed"])
    np.testing.assert_array_equal(adapted["pos_embed"][:, 0], 0)


def test_stacked_and_single_blocks_convert_into_each_other():
    single, stacked = params(), params(scan_blocks=True, seed=1)
    there, _ = transfer.adapt(single, stacked)
    back, _ = transfer.adapt(there, params(seed=2))
    equal(without_head(back), without_head(single))


def test_another_width_is_refused_by_name():
    with pytest.raises(ValueError, match=r"blocks_0/attn/proj/bias is \(16,\) there and \(32,\)"):
        transfer.adapt(shapes(), shapes(width=32))
    with pytest.raises(ValueError, match=r"blocks_2/.* is absent there"):
        transfer.adapt(shapes(), shapes(depth=3))
