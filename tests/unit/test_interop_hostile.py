"""Files that are no weights, or worse: each gives one sentence, and none runs anything."""

import functools
import json
import os
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxfdsl.config import default_config
from jaxfdsl.interop import weights
from jaxfdsl.models import transfer, vit
from tests import reference_weights as reference
from tests import torch_files
from tests.torch_files import Made

CASES = json.loads(reference.FILE.read_text())["cases"]
TIMM = reference.state_of(CASES["token"])


@functools.cache
def fresh(scan_blocks=False):
    cfg = default_config().model
    cfg.update(image_size=24, patch_size=8, width=24, depth=2, num_heads=3, scan_blocks=scan_blocks)
    return jax.eval_shape(vit.build(cfg, 7, "float32").init, jax.random.key(0))


def refusal(path) -> str:
    with pytest.raises(ValueError) as caught:
        weights.load(path, num_heads=3)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch.hub", "load"),
        ("collections", "OrderedDict.__reduce__"),
        ("argparse", "Namespace.__init__"),
    ],
)
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(
    tmp_path, module, name, zipped, monkeypatch
):
    called = []
    monkeypatch.setattr(os, "system", called.append)
    tree = {"state_dict": TIMM, "args": Made(module, name, (f"touch {tmp_path / 'ran'}",))}
    torch_files.save(tmp_path / "a.pth", tree, zipped=zipped)
    said = refusal(tmp_path / "a.pth")
    assert f"asks for {module}.{name}, which is no part of a state dict; where PyTorch is" in said
    assert f"c = torch.load('{tmp_path / 'a.pth'}', 'cpu', weights_only=False)" in said
    assert not called and not (tmp_path / "ran").exists()


def test_allowed_names_cannot_be_changed_for_later_files(tmp_path):
    # BUILD on what GLOBAL gave: attributes of a function or a class of this program.
    for module, name in [
        ("torch._utils", "_rebuild_tensor_v2"),
        ("collections", "OrderedDict"),
        ("argparse", "Namespace"),
    ]:
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            changed = f"\x80\x02c{module}\n{name}\n}}X\x08\x00\x00\x00__call__K\x01sb.".encode(
                "latin1"
            )
            archive.writestr("archive/data.pkl", changed)
        assert "damaged or not whole" in refusal(tmp_path / "a.pth")
    torch_files.save(tmp_path / "b.pth", {"model": TIMM, "args": torch_files.namespace(a=1)})
    weights.load(tmp_path / "b.pth", num_heads=3)


def test_a_dict_keeps_none_of_the_attributes_that_it_brings(tmp_path):
    # torch gives its OrderedDicts `_metadata`; `get` would stand for the method.
    state = {"get": 1, "items": 2, "_metadata": {"": {"version": 1}}}
    tree = Made("collections", "OrderedDict", ([["model", TIMM]],), state)
    torch_files.save(tmp_path / "a.pth", tree)
    loaded, _ = weights.load(tmp_path / "a.pth", num_heads=3)
    np.testing.assert_array_equal(loaded["norm"]["bias"], TIMM["norm.bias"])


def test_files_that_are_no_weights_are_called_what_they_are(tmp_path):
    path = tmp_path / "a.safetensors"
    for content, words in [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Google Drive", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "type git lfs pull"),
        (b"\x89PNG\r\n\x1a\n", "begins as no .safetensors, .pth or .npz does"),
        (b"PK\x03\x04", "is damaged or not whole"),
        (b"\x80\x02}.", "is damaged or not whole"),
        (b"PK\x05\x06" + bytes(18), "an archive without data.pkl or arrays"),
    ]:
        path.write_bytes(content)
        assert words in refusal(path)


def contents(tmp_path) -> dict[str, bytes]:
    safetensors.numpy.save_file(TIMM, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **reference.state_of(CASES["big_vision"]))
    torch_files.save(tmp_path / "a.pth", {"model": TIMM, "args": torch_files.namespace(a=[1])})
    torch_files.save(tmp_path / "b.pth", {"state_dict": TIMM}, zipped=False)
    names = ("a.safetensors", "a.npz", "a.pth", "b.pth")
    return {name: (tmp_path / name).read_bytes() for name in names}


def test_cut_files_give_a_sentence_and_renamed_ones_are_read(tmp_path):
    for content in contents(tmp_path).values():
        for length in (1, 9, 200, len(content) // 2, len(content) - 1):
            (tmp_path / "cut").write_bytes(content[:length])
            assert str(tmp_path / "cut") in refusal(tmp_path / "cut")
        for other in ("x.pth", "x.npz", "x.safetensors", "x"):
            (tmp_path / other).write_bytes(content)
            weights.load(tmp_path / other, num_heads=3)


def test_mutated_files_crash_nothing(tmp_path):
    random = np.random.default_rng(0)
    path = tmp_path / "mutated"
    refused = 0
    for name, content in contents(tmp_path).items():
        size = 20_000 if name.endswith("npz") else len(content)
        for round_ in range(100):
            changed = bytearray(content)
            # Half of them where names, shapes and places are written.
            reach = min(size, 6000) if round_ % 2 else len(changed)
            for place in random.integers(0, reach, random.integers(1, 6)):
                changed[-1 - place if round_ % 4 == 3 else place] = random.integers(256)
            path.write_bytes(changed)
            try:
                loaded, _ = weights.load(path, num_heads=3)
                transfer.adapt(loaded, fresh(), keep_heads=True)
            except ValueError as error:
                assert str(path) in str(error) or " there and " in str(error)
                assert "\n" not in str(error)
                refused += 1
    assert 100 < refused < 400


@pytest.mark.parametrize("scan_blocks", [False, True])
def test_all_that_does_not_fit_is_listed_at_once(tmp_path, scan_blocks):
    extra = {"attn_pool.latent": np.ones((1, 1, 24), np.float32)}
    extra |= {f"blocks.{i}.attn.q_norm.weight": np.ones(8, np.float32) for i in range(2)}
    extra |= {"blocks.9.norm1.bias": np.ones(24, np.float32)}
    wrong = {"blocks.1.attn.qkv.weight": np.ones((70, 24), np.float32)}
    state = {name: x for name, x in (TIMM | extra | wrong).items() if name != "norm.bias"}
    torch_files.save(tmp_path / "a", state)
    loaded, _ = weights.load(tmp_path / "a", num_heads=3)
    with pytest.raises(ValueError) as caught:
        transfer.adapt(loaded, fresh(scan_blocks))
    assert str(caught.value) == (
        "attn_pool.latent is (1, 1, 24) there and absent here, "
        "blocks.0.attn.q_norm.weight is (8,) there and absent here (and 1 block like it), "
        "blocks_1/attn/qkv/kernel is (70, 24) there and (24, 3, 3, 8) here, "
        "blocks_9/norm1/bias is (24,) there and absent here, "
        "norm/bias is absent there and (24,) here"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm.bias": np.full(24, np.nan, np.float32)}, "not all values are finite in norm/bias"),
        ({"norm.bias": np.ones(24, np.int32)}, "norm/bias is of int32, and weights are floats"),
        ({"reg_token": np.ones((1, 4, 24), np.float32)}, "do not have (reg_token)"),
        ({"dist_token": np.ones((1, 1, 24), np.float32)}, "do not have (dist_token)"),
        ({"pos_embed": np.ones((1, 12, 24), np.float32)}, "which is no square of patches"),
        ({"pos_embed": None, "pos": np.ones(2, np.float32)}, "it has no pos_embed, but pos"),
    ],
)
def test_weights_that_cannot_be_right_are_refused(tmp_path, change, words):
    state = {name: value for name, value in (TIMM | change).items() if value is not None}
    safetensors.numpy.save_file(state, tmp_path / "a")
    assert words in refusal(tmp_path / "a")


def test_models_that_compute_otherwise_are_refused(tmp_path):
    big_vision = reference.state_of(CASES["big_vision"])
    big_vision["MAPHead_0/probe"] = np.ones((1, 1, 24), np.float32)
    np.savez(tmp_path / "a.npz", **big_vision)
    assert "it pools by attention (MAPHead_0)" in refusal(tmp_path / "a.npz")
    state = reference.state_of(CASES["huggingface"])
    safetensors.numpy.save_file(state, tmp_path / "model.safetensors")
    config = {"num_attention_heads": 4, "hidden_act": "quick_gelu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = refusal(tmp_path)
    assert "num_attention_heads is 4 there and must be 3 here, hidden_act is 'quick_gelu'" in said
