"""Weights of other programs: the logits that those compute, and every layout they are found in."""

import functools
import json

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from jaxfdsl.config import default_config
from jaxfdsl.interop import timm, weights
from jaxfdsl.models import transfer, vit
from tests import reference_weights as reference
from tests import torch_files

CASES = json.loads(reference.FILE.read_text())["cases"]
TIMM = reference.state_of(CASES["token"])


@functools.cache
def model(pool="token", epsilon=1e-6):
    cfg = default_config().model
    cfg.update(image_size=24, patch_size=8, width=24, depth=2, num_heads=3, pool=pool)
    cfg.norm_epsilon = epsilon
    return vit.build(cfg, reference.CLASSES, "float32")


@functools.cache
def program(pool, epsilon):
    def apply(params, images):
        with jax.default_matmul_precision("highest"):
            return model(pool, epsilon).apply(params, images, train=False)

    shapes = jax.eval_shape(model(pool, epsilon).init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((3, 24, 24, 3), "float32")
    return jax.jit(apply).lower(shapes, images).compile()


def outputs(loaded, pool="token", epsilon=1e-6):
    fresh = jax.eval_shape(model(pool, epsilon).init, jax.random.key(0))
    if "head" not in loaded:
        head = {name: np.zeros(x.shape, x.dtype) for name, x in fresh["head"].items()}
        loaded = loaded | {"head": head}
    params, changes = transfer.adapt(loaded, fresh, keep_heads=True)
    assert changes == ["head kept (7 classes)"]
    return program(pool, epsilon)(params, reference.images())


def logits(loaded, pool="token", epsilon=1e-6):
    return np.asarray(outputs(loaded, pool, epsilon)["logits"])


def write(path, case):
    state = reference.state_of(CASES[case])
    if case == "big_vision":
        np.savez(path, **{f"params/{name}": value for name, value in state.items()})
    elif case.startswith("huggingface"):
        path.mkdir()
        safetensors.numpy.save_file(state, path / "model.safetensors")
        config = {"model_type": "vit", "num_attention_heads": 3, "layer_norm_eps": 1e-12}
        if "dinov2" in case:
            config |= {"model_type": "dinov2", "layer_norm_eps": 1e-6, "use_swiglu_ffn": False}
        (path / "config.json").write_text(json.dumps(config))
    else:
        safetensors.numpy.save_file(state, path)


@pytest.mark.parametrize("case", ["token", "mean", "dinov2", "huggingface", "big_vision"])
def test_logits_are_those_of_the_library_that_wrote_the_weights(tmp_path, case):
    suffix = {"huggingface": "", "big_vision": ".npz"}.get(case, ".safetensors")
    write(tmp_path / f"weights{suffix}", case)
    loaded, origin = weights.load(tmp_path / f"weights{suffix}", num_heads=3)
    said = "epsilon 1e-12 and here 1e-06, which moves logits a little: --config.model.norm_epsilon="
    assert (f"{said}1e-12 gives theirs)" in origin) == (not suffix)
    expected = np.asarray(CASES[case]["logits"])
    found = logits(loaded, "mean" if case == "mean" else "token")
    assert np.abs(expected).max() > 0.5
    # timm reads big_vision's files into a model with the exact GELU, as ours.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_another_epsilon_gives_the_logits_of_folders_that_have_it(tmp_path):
    write(tmp_path / "a", "huggingface small")
    loaded, origin = weights.load(tmp_path / "a", num_heads=3, norm_epsilon=1e-12)
    assert origin.endswith("(Hugging Face's names)")
    expected = np.asarray(CASES["huggingface small"]["logits"])
    np.testing.assert_allclose(logits(loaded, epsilon=1e-12), expected, rtol=0, atol=1e-5)
    assert np.abs(logits(loaded) - expected).max() > 0.1


def test_dinov2_of_hugging_face_gives_its_features(tmp_path):
    write(tmp_path / "a", "huggingface dinov2")
    loaded, origin = weights.load(tmp_path / "a", num_heads=3)
    assert origin.endswith("(Hugging Face's names)")
    expected = np.asarray(CASES["huggingface dinov2"]["features"])
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(outputs(loaded)["features"], expected, rtol=0, atol=1e-5)
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    for change, words in [
        ({"use_swiglu_ffn": True}, "use_swiglu_ffn is True there and must be False here"),
        ({"model_type": "dinov2_with_registers"}, "must be 'vit or dinov2' here"),
    ]:
        (tmp_path / "a" / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=words):
            weights.load(tmp_path / "a", num_heads=3)


def same(loaded, expected=TIMM):
    expected = timm.from_timm(expected, num_heads=3)
    jax.tree.map(np.testing.assert_array_equal, loaded, expected)


def prefixed(prefix):
    return {prefix + name: value for name, value in TIMM.items()}


# Of the authors' scripts: timm's CheckpointSaver (ExFractalDB, RCDB, VisualAtom, with DDP), those
# of FractalDB-ViT, OFDB and DeiT, and what torch.compile and self-supervised training leave.
PUBLISHED = {
    "state_dict": {
        "epoch": 299,
        "arch": "deit_base_patch16_224",
        "state_dict": prefixed("module."),
        "optimizer": {"state": {0: {"step": 9, "exp_avg": np.ones((24, 3), np.float32)}}},
        "version": 2,
        "args": torch_files.namespace(batch_size=64, opt="adamw"),
        "metric": torch_files.Made("numpy.core.multiarray", "scalar", ("f8", "x")),
    },
    "state_dict_ema": {"state_dict": {"a": np.ones(2, np.float32)}, "state_dict_ema": TIMM},
    "model": {"model": TIMM, "lr_scheduler": {"last_epoch": 3, "_step_count": 4}, "epoch": 3},
    "model_ema": {"model": {"a": np.ones(2, np.float32)}, "model_ema": TIMM, "scaler": {}},
    "teacher": {"student": {}, "teacher": prefixed("backbone.")},
    "": prefixed("_orig_mod."),
}


@pytest.mark.parametrize("part", PUBLISHED)
@pytest.mark.parametrize("zipped", [True, False])
def test_published_checkpoints_are_read_without_torch(tmp_path, part, zipped):
    torch_files.save(tmp_path / "a.pth.tar", PUBLISHED[part], zipped=zipped)
    loaded, origin = weights.load(tmp_path / "a.pth.tar", num_heads=3)
    same(loaded)
    assert origin == str(tmp_path / "a.pth.tar") + (f" ({part})" if part else "")


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch_itself(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    import argparse

    state = {f"module.{name}": torch.from_numpy(value) for name, value in TIMM.items()}
    state["module.pos_embed"] = torch.nn.Parameter(state["module.pos_embed"])
    name = "module.blocks.0.mlp.fc1.weight"
    state[name] = state[name].T.contiguous().T  # strides that are not C's
    state["module.head.weight"] = torch.cat([torch.zeros(1, 24), state["module.head.weight"]])[1:]
    tree = {"state_dict": state, "args": argparse.Namespace(lr=0.1, device=torch.device("cpu"))}
    path = tmp_path / "a.pth"
    torch.save(tree, path, _use_new_zipfile_serialization=zipped)
    same(weights.load(path, num_heads=3)[0])
    half = {name: value.to(torch.bfloat16) for name, value in state.items()}
    torch.save(half, path, _use_new_zipfile_serialization=zipped)
    rounded = {n: x.astype(ml_dtypes.bfloat16).astype(np.float32) for n, x in TIMM.items()}
    same(weights.load(path, num_heads=3)[0], rounded)


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_reads_the_files_of_these_tests(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    # All but the scalar, which is none that NumPy would make.
    tree = {k: v for k, v in PUBLISHED["state_dict"].items() if k != "metric"}
    torch_files.save(tmp_path / "a.pth", tree, zipped=zipped)
    found = torch.load(tmp_path / "a.pth", weights_only=False)
    assert found["args"].batch_size == 64 and found["optimizer"]["state"][0]["step"] == 9
    assert sorted(found["state_dict"]) == sorted(tree["state_dict"])
    for name, value in tree["state_dict"].items():
        np.testing.assert_array_equal(found["state_dict"][name].numpy(), value)


def test_other_precisions_become_float32(tmp_path):
    for dtype in (np.float16, ml_dtypes.bfloat16):
        rounded = {name: value.astype(dtype) for name, value in TIMM.items()}
        safetensors.numpy.save_file(rounded, tmp_path / "a")
        np.savez(tmp_path / "b.npz", **as_big_vision(dtype))
        expected = {name: value.astype(np.float32) for name, value in rounded.items()}
        same(weights.load(tmp_path / "a", num_heads=3)[0], expected)
        loaded, _ = weights.load(tmp_path / "b.npz", num_heads=3)
        assert {x.dtype for x in jax.tree.leaves(loaded)} == {np.dtype("float32")}


def as_big_vision(dtype=np.float32):
    state = reference.state_of(CASES["big_vision"])
    return {name: value.astype(dtype) for name, value in state.items()}


def test_a_folder_may_hold_what_torch_wrote(tmp_path):
    state = reference.state_of(CASES["huggingface"])
    torch_files.save(tmp_path / "pytorch_model.bin", state)
    assert weights.is_foreign(tmp_path)
    loaded, origin = weights.load(tmp_path, num_heads=3)
    assert origin == f"{tmp_path / 'pytorch_model.bin'} (Hugging Face's names)"
    write(tmp_path / "other", "huggingface")
    jax.tree.map(np.testing.assert_array_equal, loaded, weights.load(tmp_path / "other", 3)[0])


def test_layouts_of_one_library_are_one(tmp_path):
    state = as_big_vision()
    np.savez(tmp_path / "plain.npz", **state)
    expected, _ = weights.load(tmp_path / "plain.npz", num_heads=3)
    # Stacked for a scan, under the training state's prefix.
    stacked = {f"opt/target/{n}": x for n, x in state.items() if "encoderblock" not in n}
    for name in [name for name in state if "encoderblock_0" in name]:
        blocks = [state[name.replace("_0/", f"_{i}/", 1)] for i in range(2)]
        stacked["opt/target/" + name.replace("encoderblock_0", "encoderblock")] = np.stack(blocks)
    np.savez(tmp_path / "scan.npz", **stacked)
    # vit_jax, whose positions have a row for the class token.
    older = {}
    for name, value in state.items():
        name = name.replace("LayerNorm_1", "LayerNorm_2").replace("MlpBlock_0", "MlpBlock_3")
        older[name.replace("DotProductAttention_0", "DotProductAttention_1")] = value
    positions = np.pad(older.pop("pos_embedding"), ((0, 0), (1, 0), (0, 0)))
    older["Transformer/posembed_input/pos_embedding"] = positions
    np.savez(tmp_path / "vit_jax.npz", **older)
    for name in ("scan.npz", "vit_jax.npz"):
        loaded, origin = weights.load(tmp_path / name, num_heads=3)
        assert origin.endswith(
            "(big_vision's names, where GELU is its tanh formula and here exact)"
        )
        jax.tree.map(np.testing.assert_array_equal, loaded, expected)


@pytest.mark.parametrize("case", ["huggingface", "huggingface dinov2"])
def test_names_of_transformers_in_memory_are_those_on_disk(case):
    from jaxfdsl.interop import huggingface

    state = reference.state_of(CASES[case])
    newer = {}
    for name, value in state.items():
        for new, old in huggingface.NEWER.items():
            if ("encoder." in new) == ("dinov2" in case):
                for i in "01":
                    name = name.replace(old.format(i=i) + ".", new.format(i=i) + ".")
        newer[name] = value
    known = {"huggingface": "vit.layers.1.attention.q_proj.weight"}
    assert known.get(case, "encoder.layer.1.attention.q_proj.weight") in newer
    newer["pooler.dense.weight"] = np.ones((24, 24), np.float32)
    there, here = (huggingface.to_timm_names(s) for s in (newer, state))
    jax.tree.map(np.testing.assert_array_equal, there, here)


def test_pooling_that_is_not_ours_is_said(tmp_path):
    state = {
        name.replace("norm.", "fc_norm."): value for name, value in TIMM.items() if "." in name
    }
    state = TIMM | {name: x for name, x in state.items() if name.startswith("fc_norm.")}
    state = {name: x for name, x in state.items() if not name.startswith("norm.")}
    safetensors.numpy.save_file(state, tmp_path / "a")
    loaded, origin = weights.load(tmp_path / "a", num_heads=3)
    same(loaded)
    assert "(where patches are averaged beside a class token, and here one or the oth" in origin


def test_blocks_of_dinov2_may_lie_in_chunks(tmp_path):
    state = reference.state_of(CASES["dinov2"])
    chunked = {name.replace("blocks.", "blocks.0."): value for name, value in state.items()}
    chunked["mask_token"] = np.ones((1, 24), np.float32)
    there, here = timm.folded(chunked), timm.folded(state)
    jax.tree.map(np.testing.assert_array_equal, there, here)
