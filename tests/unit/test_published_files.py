"""One file of each published layout, by way of `config.init_from`, against the library's logits.

The names are those that the authors' scripts save: timm's CheckpointSaver (CVPR 2022, CVPR 2023),
`main.py` of DeiT, from which those of FractalDB-ViT, OFDB and 1p-Fractal come, `main_moco.py` of
MoCo v3, `util/misc.py` of StableRep.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import experiment, load_config
from jaxfdsl.config import ConfigError
from jaxfdsl.run import resume
from tests import reference_weights as reference
from tests import torch_files
from tests.torch_files import Made

CASES = json.loads(reference.FILE.read_text())["cases"]
TIMM = reference.state_of(CASES["token"])
TRUNK = {name: value for name, value in TIMM.items() if not name.startswith("head.")}
OTHER = {name: value + 1 for name, value in TIMM.items()}  # weights that must not be taken
ONES = np.ones((24,), np.float32)


def prefixed(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def optimizer(state):
    """AdamW's, as every script saves it: moments as large as the weights, by number."""
    moments = {i: {"step": 9, "exp_avg": x, "exp_avg_sq": x} for i, x in enumerate(state.values())}
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "params": list(range(len(moments)))}
    return {"state": moments, "param_groups": [group]}


def saver(**weights):
    """timm 0.4.12's CheckpointSaver."""
    args = torch_files.namespace(model="deit_base_patch16_224", batch_size=64, opt="adamw")
    metric = Made("numpy.core.multiarray", "scalar", ("f8", "x"))
    kept = {"epoch": 89, "arch": "deit_base_patch16_224", "optimizer": optimizer(TIMM)}
    return {**kept, **weights, "version": 2, "args": args, "amp_scaler": {}, "metric": metric}


def deit(**weights):
    """DeiT's utils.save_on_master."""
    args = torch_files.namespace(output_dir="", distillation_type="none")
    schedule = {"t_in_epochs": True, "base_values": [1e-3]}
    return {"optimizer": optimizer(TIMM), "lr_scheduler": schedule, "epoch": 299, **weights,
            "scaler": {"scale": 65536.0}, "args": args}  # fmt: skip


def deit_iii():
    """LayerScale by its older names, positions of the patches alone."""
    state = {name.replace("ls1.gamma", "gamma_1"): x for name, x in dinov2().items()}
    state = {name.replace("ls2.gamma", "gamma_2"): x for name, x in state.items()}
    positions = state["pos_embed"]
    state["cls_token"] = state["cls_token"] + positions[:, :1]
    return {"model": {**state, "pos_embed": positions[:, 1:]}}


def dinov2():
    return reference.state_of(CASES["dinov2"])


def distilled():
    """Two tokens before the patches, two heads."""
    positions = np.concatenate([TIMM["pos_embed"][:, :1], TIMM["pos_embed"]], axis=1)
    more = {"dist_token": TIMM["cls_token"], "pos_embed": positions}
    more |= {f"head_dist.{leaf}": TIMM[f"head.{leaf}"] for leaf in ("weight", "bias")}
    return {"model": TIMM | more}


def moco_v3():
    """Both encoders with a projector in the head's place, and a predictor; fixed positions."""
    projector = {"0.weight": np.ones((8, 24), np.float32), "1.weight": np.ones(8, np.float32)}
    projector |= {"1.running_var": np.ones(8, np.float32), "1.num_batches_tracked": np.array(7)}
    base = TRUNK | prefixed("head.", projector)
    momentum = {name: value + np.ones_like(value) for name, value in base.items()}
    state = prefixed("module.base_encoder.", base) | prefixed("module.predictor.", projector)
    state |= prefixed("module.momentum_encoder.", momentum)
    return {"epoch": 300, "arch": "vit_base", "state_dict": state, "optimizer": {}, "scaler": {}}


def stablerep():
    state = prefixed("visual.", TRUNK) | {"image_mlp.layer1.weight": np.ones((8, 24), np.float32)}
    state |= {"image_mlp.bn1.running_mean": ONES, "image_mlp.bn1.num_batches_tracked": np.array(7)}
    return {"model": state, "optimizer": optimizer(TRUNK), "epoch": 34, "scaler": {},
            "args": torch_files.namespace(ssl_temp=0.1)}  # fmt: skip


LAYOUTS = {  # name: what is saved, and which case's logits it gives
    "exfractal_21k_base.pth.tar": (saver(state_dict=prefixed("module.", TIMM)), "token"),
    "rcdb_21k_base.pth.tar": (saver(state_dict=OTHER, state_dict_ema=TIMM), "token"),
    "vit_tiny_with_visualatom_1k.pth.tar": (saver(state_dict=TIMM), "token"),
    "fractaldb_1k_deit_tiny.pth": (deit(model=TIMM), "token"),
    "1p-frac.pth": (deit(model=prefixed("module.", TIMM)), "token"),
    "deit_base.pth": (deit(model=OTHER, model_ema=TIMM), "token"),
    "deit_3_base.pth": (deit_iii(), "dinov2"),
    "dinov2_vits14.pth": (dinov2(), "dinov2"),
    "vit-b-300ep.pth.tar": (moco_v3(), "token"),
    "stablerep.pth": (stablerep(), "token"),
}
REFUSED = {
    "deit_base_distilled.pth": (
        distilled(),
        r"it has tokens that our models do not have \(dist_token\)",
    ),
    "swin_base_with_visualatom_21k.pth.tar": (
        saver(
            state_dict={
                "patch_embed.proj.weight": np.ones((24, 3, 4, 4), np.float32),
                "layers.0.blocks.0.attn.qkv.weight": np.ones((72, 24), np.float32),
                "layers.0.blocks.0.attn.relative_position_bias_table": ONES,
            }
        ),
        r"it has no pos_embed, but layers\.0\.blocks\.0\.attn\.qkv\.weight",
    ),
    "vissl.torch": (
        {"classy_state_dict": {"base_model": {"model": {"trunk": {"class_token": ONES}}}}},
        "it holds no dict of weights",
    ),
    "whole_model.pth": (Made("timm.models.vision_transformer", "VisionTransformer"), "asks for"),
}


@pytest.fixture(scope="module")
def run():
    """A run of the same ViT, whose `init_from` the tests set."""
    config = load_config(
        "configs/demo.py",
        **{
            "batch_size": 16,
            "model.image_size": 24,
            "model.patch_size": 8,
            "model.width": 24,
            "model.depth": 2,
            "model.num_heads": 3,
            "model.pool": "token",
            "dtype": "float32",
            "init_head": "keep",
            "data.sources.fractals.num_classes": reference.CLASSES,
            "data.sources.fractals.size": 24,
        },
    )
    del config.evals.held_out
    built = experiment.build(config)
    fresh = built.start()
    with pytest.MonkeyPatch.context() as patched:  # compiled once
        patched.setattr(experiment.Experiment, "start", lambda self: dict(fresh))
        yield built


@pytest.fixture(scope="module")
def logits(run):
    head = {"kernel": TIMM["head.weight"].T, "bias": TIMM["head.bias"]}

    @jax.jit
    def apply(params):
        with jax.default_matmul_precision("highest"):
            params = {**params, "head": head}  # StableRep and MoCo v3 have none
            images = jnp.asarray(reference.images())
            return run.model.apply(params, images, train=False)["logits"]

    return lambda params: np.asarray(apply(jax.device_get(params)))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_published_layout_gives_the_logits_of_its_library(run, logits, tmp_path, name):
    tree, case = LAYOUTS[name]
    torch_files.save(tmp_path / name, tree)
    run.config.init_from = str(tmp_path / name)
    state, said = resume.initial_state(run)
    headless = name in ("vit-b-300ep.pth.tar", "stablerep.pth")
    assert said.startswith(f"Weights from {tmp_path / name}")
    assert said.endswith(f": head {'new' if headless else 'kept'} (7 classes).")
    np.testing.assert_allclose(logits(state["params"]), CASES[case]["logits"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_is_no_plain_vit_is_refused_in_a_sentence(run, tmp_path, name):
    tree, words = REFUSED[name]
    torch_files.save(tmp_path / name, tree)
    run.config.init_from = str(tmp_path / name)
    with pytest.raises(ConfigError, match=words) as caught:
        resume.initial_state(run)
    assert "\n" not in str(caught.value)
