"""An exported folder holds the run's weights under the library's own names, and says whose images
made them."""

import json
import shutil

import jax
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jaxfdsl import checkpoint, cli, experiment, load_config
from jaxfdsl import config as config_lib
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.export import layouts, names
from jaxfdsl.interop import timm
from jaxfdsl.models import vit
from jaxfdsl.run import provenance, resume
from jaxfdsl.run.keeping import Keeper

SMALL = {
    "batch_size": 8,
    "steps": 1,
    "schedule.warmup_steps": 0,
    "model.image_size": 16,
    "model.width": 16,
    "model.depth": 2,
    "model.num_heads": 2,
    "data.sources.fractals.name": "fractaldb-1k",
    "data.sources.fractals.num_classes": 5,
    "data.sources.fractals.size": 16,
    "report.gallery": False,
}
TWICE = ["norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"]  # weight and bias


def parts_of(*sources, **changes):
    """A run before its first step, on `sources` beside or in place of the demo's fractals."""
    config = load_config("configs/demo.py", **{**SMALL, **changes})
    del config.evals.held_out
    for entry in sources:
        config.data.sources[entry.kind] = entry
        config.data.sources.fractals.share = 1.0 - entry.share
    return experiment.build(config)


def begin(workdir, parts):
    """The first checkpoint of a run, saved as the loop saves it."""
    state, _ = resume.initial_state(parts)
    saved = Checkpoints(workdir / "checkpoints", keep=2, tell=print)
    Keeper(parts, saved, lambda: None).save(1, state)
    saved.close()
    return jax.device_get(state["params"])


def export(capsys, workdir, *more):
    """What the verb says, and the folder's card."""
    cli.run(["export", str(workdir), *map(str, more)])
    out = capsys.readouterr().out
    return out, (workdir / "export" / "timm" / "README.md").read_text()


def refusal(capsys, *argv):
    with pytest.raises(SystemExit):
        cli.run(["export", *map(str, argv)])
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on formulas alone, pooled by its mean, as the demo is."""
    workdir = tmp_path_factory.mktemp("runs") / "first"
    return workdir, begin(workdir, parts_of())


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_export_and_init_from_are_a_round_trip_bit_for_bit(tmp_path, pool):
    changes = {"model.pool": pool, "model.scan_blocks": pool == "token"}
    params = begin(tmp_path / "run", parts_of(**changes))
    written = {"timm": "", "huggingface": "", "big_vision": "model.npz"}
    for to, name in written.items() if pool == "token" else [("timm", "")]:
        cli.run(["export", str(tmp_path / "run"), "--to", to])
        back = {"init_from": str(tmp_path / "run/export" / to / name), "init_head": "keep"}
        state, _ = resume.initial_state(parts_of(**back, **changes))
        again, given = jax.device_get(state["params"]), dict(params)
        if to == "big_vision":  # there the class token's position is part of the token
            first = again.pop("cls_token") + again.pop("pos_embed")[:, :1]
            expected = given.pop("cls_token") + given.pop("pos_embed")[:, :1]
            np.testing.assert_array_equal(first, expected)
        jax.tree.map(np.testing.assert_array_equal, again, given)


def test_the_names_are_those_of_the_published_models():
    for pool, norm in (("token", "norm"), ("mean", "fc_norm")):
        weights = tiny(pool)
        state = safetensors.numpy.load(layouts.timm(weights)["model.safetensors"])
        twice = [f"blocks.{i}.{name}" for i in range(12) for name in TWICE]
        twice += ["patch_embed.proj", "head", norm]
        published = [f"{name}.{leaf}" for name in twice for leaf in ("weight", "bias")]
        published += ["pos_embed", "cls_token"] if pool == "token" else ["pos_embed"]
        assert sorted(state) == sorted(published)  # 152 of vit_tiny_patch16_224
        assert state["blocks.11.attn.qkv.weight"].shape == (576, 192)
        assert state["patch_embed.proj.weight"].shape == (192, 3, 16, 16)
        assert sum(x.size for x in state.values()) == {"token": 5_717_416, "mean": 5_717_032}[pool]
    weights = tiny("token")
    state = safetensors.numpy.load(layouts.huggingface(weights)["model.safetensors"])
    assert len(state) == 200  # google/vit-base-patch16-224 has as many, its depth is the same
    assert state["vit.encoder.layer.3.attention.attention.key.weight"].shape == (192, 192)
    assert {"vit.embeddings.cls_token", "vit.layernorm.bias", "classifier.weight"} < {*state}
    state = names.to_big_vision(weights.params)
    attention = "params/Transformer/encoderblock_3/MultiHeadDotProductAttention_0"
    assert state[f"{attention}/query/kernel"].shape == (192, 3, 64)
    assert state[f"{attention}/out/kernel"].shape == (3, 64, 192)
    assert state["params/pos_embedding"].shape == (1, 196, 192)
    ours = weights.params
    expected = ours["cls_token"] + ours["pos_embed"][:, :1]
    np.testing.assert_array_equal(state["params/cls"], expected)


def test_another_epsilon_is_written_or_the_layout_refused():
    weights = tiny("token")
    weights.config.model.norm_epsilon = 1e-12
    config = json.loads(layouts.huggingface(weights)["config.json"])
    assert config["layer_norm_eps"] == 1e-12
    for layout, pool, other in [
        (layouts.timm, "token", "huggingface"),
        (layouts.big_vision, "token", "huggingface"),
        (layouts.timm, "mean", "safetensors"),
    ]:
        weights.config.model.pool = pool
        with pytest.raises(
            config_lib.ConfigError, match=f"norm_epsilon=1e-12, as .*type --to={other}"
        ):
            layout(weights)


def tiny(pool):
    """vit_ti of 1000 classes with random parameters, never computed with."""
    config = config_lib.default_config()
    config.model.pool = pool
    shapes = jax.eval_shape(vit.build(config.model, 1000, "float32").init, jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)
    return layouts.Weights(config, params, "")


def test_no_real_image_is_said_where_every_ancestor_drew_formulas(first, tmp_path, capsys):
    shutil.copytree(first[0], tmp_path / "first")
    other = config_lib.formula_source("exfractaldb-1k", num_classes=5, size=16, share=0.5)
    begin(tmp_path / "second", parts_of(other, batch_size=16, init_from=str(tmp_path / "first")))
    shutil.rmtree(tmp_path / "first")  # the record outlives what it tells of
    out, card = export(capsys, tmp_path / "second")
    line = "no real image; drawn from formulas: exfractaldb-1k, fractaldb-1k."
    assert f"Provenance: {line}" in out and f"**Provenance:** {line}" in card
    assert "license: apache-2.0" in card and "- before it: the run first on" in card
    weights = (tmp_path / "second/export/timm/model.safetensors").read_bytes()
    assert line.encode() in weights[:500]  # and the file says it without the card
    assert str(tmp_path) not in card


def test_contrast_of_formulas_saw_no_real_image_either_and_leaves_its_projector(tmp_path, capsys):
    contrast = {"objective.classify.weight": 0.0, "objective.contrast.weight": 1.0}
    contrast |= {"data.group_size": 4, "model.projector.hidden": 16}
    begin(tmp_path / "pairs", parts_of(**contrast))
    out, card = export(capsys, tmp_path / "pairs")
    assert "Provenance: no real image; drawn from formulas: fractaldb-1k." in out
    assert "**Provenance:** no real image;" in card and '"group_size": 4' in card
    assert "The projector, whose work is done, is left out." in out and "no classifier" in card
    state = safetensors.numpy.load_file(tmp_path / "pairs/export/timm/model.safetensors")
    assert not [name for name in state if name.startswith(("projector", "head"))]
    state, said = resume.initial_state(parts_of(init_from=str(tmp_path / "pairs")))
    assert "head new (5 classes)" in said and "projector" not in state["params"]


def test_one_stored_image_among_the_ancestors_is_told(tmp_path, capsys):
    for label in "ab":
        (tmp_path / "photos/train" / label).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (16, 16)).save(tmp_path / f"photos/train/{label}/{i}.png")
    photos = config_lib.folder_source(str(tmp_path / "photos"), size=16, share=0.5)
    begin(tmp_path / "mixed", parts_of(photos, batch_size=16))
    begin(tmp_path / "after", parts_of(init_from=str(tmp_path / "mixed/checkpoints/1")))
    shutil.rmtree(tmp_path / "mixed")
    out, card = export(capsys, tmp_path / "after")
    assert "Provenance: stored images, taken as real: photos (folder); drawn from" in out
    assert "no real image" not in card and "license: other" in card
    assert "- before it: the run mixed on photos (folder), fractaldb-1k (formula)" in card


def test_samples_count_as_what_their_denoiser_saw(monkeypatch):
    meta = {"config": {"data": {"sources": {}}}, "condition": {"made_by": {"encoder": "dinov2"}}}
    monkeypatch.setattr(checkpoint, "load_meta", lambda path: meta)
    config = config_lib.default_config()
    config.data.sources.made = config_lib.diffusion_source("runs/rep")
    own, made = provenance.sources(config.to_dict()), "samples of denoisers: rep"
    for drawn, said in {
        ("fractaldb", "formula"): f"ancestors: unknown (dinov2); {made}; drawn from form",
        ("cifar10", "tfds"): "stored images, taken as real: cifar10 (tfds); ancestors: unknown (di",
    }.items():
        meta["config"]["data"]["sources"]["one"] = dict(zip(("name", "kind"), drawn, strict=True))
        assert provenance.statement(own, provenance.of_config(config)).startswith(said)
    meta["condition"]["made_by"] = {}
    meta["config"]["data"]["sources"]["one"] = {"name": "fractaldb", "kind": "formula"}
    told = provenance.statement(own, provenance.of_config(config))
    assert told == f"no real image; {made}; drawn from formulas: fractaldb."
    assert provenance.statement(own, []) == f"ancestors: unknown (rep); {made}."


def test_what_cannot_be_known_is_called_unknown(first, tmp_path, capsys):
    shutil.copytree(first[0], tmp_path / "first")
    export(capsys, tmp_path / "first")
    begin(tmp_path / "tuned", parts_of(init_from=str(tmp_path / "first/export/timm")))
    out, card = export(capsys, tmp_path / "tuned")
    assert "Provenance: imported weights: unknown (timm); drawn from formulas" in out
    assert "no real image" not in card
    # A checkpoint from before the chain was recorded names a folder, which may be another by now.
    file = tmp_path / "tuned/checkpoints/1/meta/metadata"
    meta = json.loads(file.read_text())
    meta.pop("ancestors")
    file.write_text(json.dumps(meta))
    shutil.rmtree(tmp_path / "tuned/export")
    out, card = export(capsys, tmp_path / "tuned", "--licence", "cc-by-4.0")
    assert "Provenance: ancestors: unknown (timm); drawn from formulas: fractaldb-1k." in out
    assert "license: cc-by-4.0" in card
    begin(tmp_path / "last", parts_of(init_from=str(tmp_path / "tuned")))
    assert "Provenance: ancestors: unknown (timm)" in export(capsys, tmp_path / "last")[0]


def test_the_card_has_the_results_of_the_exported_step(first, tmp_path, capsys):
    shutil.copytree(first[0], tmp_path / "run")
    lines = ['{"step": 1, "train/loss": 2.0, "held_out/top1": 0.25}', '{"step": 2, "x/top1": 0.9}']
    (tmp_path / "run/metrics.jsonl").write_text("\n".join(lines) + '\n[7]\n{"step": 1, "cut')
    (tmp_path / "run/summary.json").write_text("{")
    _, card = export(capsys, tmp_path / "run", "--step", 1)
    assert "| held_out/top1 | 0.2500 |" in card and "0.9000" not in card and "loss" not in card
    assert '"width": 16' in card and '"learning_rate"' in card
    cfg = json.loads((tmp_path / "run/export/timm/config.json").read_text())
    assert (cfg["model_args"]["class_token"], cfg["model_args"]["fc_norm"]) == (False, True)
    assert cfg["num_classes"] == 5 and cfg["pretrained_cfg"]["input_size"] == [3, 16, 16]


def test_the_head_of_each_patch_stays_behind_and_that_is_said(first, tmp_path, capsys):
    state = {"params": dict(first[1]), "step": np.int32(2), "opt_state": {"x": np.zeros(1)}}
    state["params"]["patch_head"] = state["params"].pop("head")
    saved = Checkpoints(tmp_path / "checkpoints", keep=1, tell=print)
    saved.save(2, state, checkpoint.load_meta(first[0]))
    saved.close()
    out, card = export(capsys, tmp_path)
    assert "The head of each patch, which these libraries lack, is left out." in out
    assert "no classifier" in card
    folder = tmp_path / "export/timm"
    state = safetensors.numpy.load_file(folder / "model.safetensors")
    assert not [name for name in state if "head" in name]
    assert json.loads((folder / "config.json").read_text())["num_classes"] == 0


def test_our_own_names_are_our_parameters(first, tmp_path, capsys):
    (tmp_path / "own").mkdir()  # an empty folder is as good as none
    cli.run(["export", str(first[0]), "--to=safetensors", f"--out={tmp_path / 'own'}"])
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    state = safetensors.numpy.load_file(tmp_path / "own/model.safetensors")
    assert state.keys() == timm.flatten(first[1]).keys()
    jax.tree.map(np.testing.assert_array_equal, state, timm.flatten(first[1]))
    config = config_lib.from_json((tmp_path / "own/config.json").read_text())
    assert config.model.width == 16


def test_what_cannot_be_exported_is_refused_in_a_sentence(first, tmp_path, capsys):
    workdir = first[0]
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    told = refusal(capsys, workdir, "--to=onnx")
    assert "--to=onnx is unknown: type one of timm, huggingface, big_vision, safetensors." in told
    told = refusal(capsys, workdir, "--out", tmp_path / "full")
    assert "is there already: type another --out" in told
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    told = refusal(capsys, tmp_path / "full", "--out", tmp_path / "new")
    assert "holds no checkpoint: type the workdir of a run" in told
    told = refusal(capsys, workdir, "--step=7", "--out", tmp_path / "new")
    assert "--step=7 is not in" in told and "type one of 1." in told
    for to in ("huggingface", "big_vision"):
        told = refusal(capsys, workdir, "--to", to, "--out", tmp_path / "new")
        assert "model.pool='mean'" in told and "type --to=timm" in told
    shutil.copytree(workdir / "checkpoints/1/meta", tmp_path / "torn/checkpoints/1/meta")
    told = refusal(capsys, tmp_path / "torn", "--out", tmp_path / "new")
    assert "cannot be read" in told and "type another workdir" in told
    told = refusal(capsys, workdir, "--out", tmp_path / "full/mine.txt/new")
    assert "cannot be written (Not a directory): type another --out." in told
    assert not (tmp_path / "new").exists()
