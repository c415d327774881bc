"""Published encoders from files of their layouts: the vectors of a second way to compute them, in
NumPy, layouts of one family that agree, and sentences for what does not fit.

With transformers (`pip install "jaxfdsl[interop]"`) their models are compared as well;
benchmarks/encoder_parity.py does so at the published sizes.
"""

import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from jaxfdsl import config as config_lib
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.config import ConfigError
from jaxfdsl.interop.timm import to_timm
from jaxfdsl.models import vit
from jaxfdsl.representations.encoders import open_encoder
from jaxfdsl.representations.encoders.positions import resized
from tests import reference_encoders as theirs
from tests.reference_encoders import DEPTH, ENDS, HEADS, HIDDEN, PATCH, SIZE, D, state_of

IMAGES = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float32)
CONFIG = {"num_attention_heads": HEADS}
MORE = {
    "dinov2": {},
    "dinov3": {"hidden_act": "silu", "model_type": "dinov3_vit"},
    "clip": {"hidden_act": "quick_gelu"},
    "siglip": {},
}


def folder_of(path, family, state=None, config=None, size=SIZE):
    """As transformers writes it."""
    path.mkdir()
    state = state_of(family) if state is None else state
    safetensors.numpy.save_file(state, path / "model.safetensors")
    inner = CONFIG | MORE[family]
    config = {"vision_config": inner} if family in ("clip", "siglip") else inner
    (path / "config.json").write_text(json.dumps(config))
    sizes = {"crop_size": {"height": size, "width": size}}
    (path / "preprocessor_config.json").write_text(json.dumps(sizes))
    return path


def vectors(encoder, images=IMAGES):
    return np.asarray(jax.jit(encoder.apply)(encoder.params, images))


@pytest.mark.parametrize("family", ["dinov2", "dinov3", "clip", "siglip"])
def test_vectors_are_those_of_the_formulas(family, tmp_path):
    path = folder_of(tmp_path / "theirs", family)
    encoder = open_encoder(str(path))
    made_by = encoder.made_by
    assert json.loads(json.dumps(made_by)) == made_by
    assert (encoder.name, encoder.image_size, made_by["family"]) == (family, SIZE, family)
    digest = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    assert made_by["weights"] == digest
    assert ("DINOv3 License" in made_by["licence"]) == (family == "dinov3")
    x, w, epsilon = theirs.reference(
        family, state_of(family), IMAGES, made_by["mean"], made_by["std"]
    )
    last = {"dinov2": "layernorm", "dinov3": "norm", "clip": "post_layernorm"}
    if family == "siglip":
        expected = theirs.pooled(w, x, epsilon)
    else:
        expected = theirs.norm(w, last[family], x[:, 0], epsilon)
    if family == "clip":
        expected = expected @ w["visual_projection.weight"].T
    found = vectors(encoder)
    assert found.dtype == np.float32 and found.shape == (2, encoder.width)
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    if family == "clip":  # rep-ldm's vector
        before = open_encoder(f"clip:{path}:pre")
        assert (before.name, before.width) == ("clip-pre", D)
        np.testing.assert_allclose(vectors(before), x[:, 0], atol=2e-5 * np.abs(x).max())


def test_means_and_deviations_are_the_published_ones(tmp_path):
    opened = {name: open_encoder(str(folder_of(tmp_path / name, name))).made_by for name in ENDS}
    assert opened["dinov2"]["mean"] == opened["dinov3"]["mean"] == [0.485, 0.456, 0.406]
    assert opened["clip"]["mean"] == [0.48145466, 0.4578275, 0.40821073]
    assert opened["clip"]["std"] == [0.26862954, 0.26130258, 0.27577711]
    assert opened["siglip"]["mean"] == opened["siglip"]["std"] == [0.5, 0.5, 0.5]
    told = {"image_mean": [0.43, 0.411, 0.296], "image_std": [0.213, 0.156, 0.143]}
    (tmp_path / "dinov3" / "preprocessor_config.json").write_text(json.dumps(told))
    satellite = open_encoder(str(tmp_path / "dinov3")).made_by  # of DINOv3's second data set
    assert (satellite["mean"], satellite["image_size"]) == (told["image_mean"], 224)


def test_layouts_of_a_family_are_the_same_parameters(tmp_path):
    state = state_of("dinov2")
    hugging = open_encoder(str(folder_of(tmp_path / "a", "dinov2"))).params
    own = open_encoder(str(folder_of(tmp_path / "b", "dinov2", theirs.dinov2s_own(state)))).params
    jax.tree.map(np.testing.assert_array_equal, hugging, own)
    hugging = open_encoder(str(folder_of(tmp_path / "c", "siglip"))).params
    np.savez(tmp_path / "siglip.npz", **theirs.big_visions(state_of("siglip")))
    own = open_encoder(str(tmp_path / "siglip.npz"))  # tells its heads by itself
    assert own.made_by["num_heads"] == HEADS
    jax.tree.map(np.testing.assert_array_equal, hugging, own.params)


def test_positions_are_interpolated_as_torch_does():
    """Of torch 2.13's `interpolate(mode="bicubic")` to 2 x 2: by size, with antialias, and by the
    scale 2.1 / 3, which is how DINOv2's own code calls it."""
    grid = np.arange(9.0)[:, None] ** 1.5
    torchs = {
        "cubic": [1.0803728161918116, 3.890219760221953, 13.416671772803966, 19.56236137036467],
        "antialiased": [1.9025967797946566, 4.563067134881784, 12.66531911520013, 17.756345377052],
        "offset": [0.9259071796450392, 3.4862849301728662, 12.356662801688085, 18.140902701169548],
    }
    for kind, expected in torchs.items():
        np.testing.assert_allclose(resized(grid, 2, kind)[:, 0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="for 3 x 3 patches and not 2 x 2"):
        resized(grid, 2, "")


def test_weights_in_several_files_are_one_encoder(tmp_path):
    path, state = folder_of(tmp_path / "one", "dinov2"), state_of("dinov2")
    whole = open_encoder(str(path))
    (path / "model.safetensors").unlink()
    files = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(state)}
    for file in set(files.values()):
        safetensors.numpy.save_file({n: state[n] for n in state if files[n] == file}, path / file)
    index = {"weight_map": files}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    jax.tree.map(np.testing.assert_array_equal, open_encoder(f"dinov2:{path}").params, whole.params)
    (path / "model-1.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"lacks model-1\.safetensors"):
        open_encoder(str(path))


def test_a_run_of_ours_gives_the_features_of_its_average(tmp_path):
    config = config_lib.default_config()
    config.model.update(image_size=8, patch_size=4, width=D, depth=1, num_heads=1, pool="mean")
    config.augment.mean, config.augment.std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    config.data.sources.contours = config_lib.formula_source("rcdb-1k", num_classes=4, size=8)
    model = vit.build(config.model, 4, "float32")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    chance = np.random.default_rng(1)
    params, ema = (
        jax.tree.map(lambda x: chance.normal(0, 0.3, x.shape).astype(np.float32), shapes)
        for _ in range(2)
    )
    run = tmp_path / "run"
    checkpoints = Checkpoints(run / "checkpoints", keep=1, tell=print)
    state = {"params": params, "ema": ema, "step": np.int32(7)}
    state["opt_state"] = {"count": np.int32(0)}
    checkpoints.save(7, state, {"config": json.loads(config_lib.to_json(config))})
    checkpoints.close()
    encoder = open_encoder(str(run))
    assert (encoder.name, encoder.width, encoder.image_size) == ("ours", D, 8)
    assert encoder.made_by["from"] == "step 7 of run"  # wherever it lies
    images = IMAGES[:, :8, :8]
    normalised = (images / 255 - np.array((0.4, 0.5, 0.6))) / np.array((0.2, 0.25, 0.3))
    outputs = jax.jit(lambda p, x: model.apply(p, x, train=False))(ema, np.float32(normalised))
    expected = np.asarray(outputs["features"])
    np.testing.assert_allclose(vectors(encoder, images), expected, atol=1e-5)
    safetensors.numpy.save_file(to_timm(ema), tmp_path / "timm.safetensors")
    plain = open_encoder(str(tmp_path / "timm.safetensors"))  # without the run
    assert (plain.name, plain.image_size) == ("vit", 8)
    assert plain.made_by["mean"] == [0.485, 0.456, 0.406]
    jax.tree.map(np.testing.assert_array_equal, plain.params, encoder.params)
    with pytest.raises(ConfigError, match="only CLIP has a layer pre"):
        open_encoder(f"{run}:pre")


def changed(family, **changes):
    """Its state with arrays in another place, None: without them; "_" stands for a dot."""
    state = state_of(family)
    for name, value in changes.items():
        known = next((k for k in state if k.replace(".", "_").endswith(name)), name)
        state[known] = value
    return {name: value for name, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("family", "changes", "sentence"),
    [
        ("dinov2", {"0_mlp_fc1_bias": None}, r"has no encoder\.layer\.0\.mlp\.fc1\.bias"),
        ("dinov2", {"more": np.ones(3, np.float32)}, "more is not known"),
        ("dinov2", {"1_norm2_weight": np.ones(8, np.float32)}, r"1\.norm2\.weight is of shape"),
        ("dinov2", {"1_norm2_weight": np.full(D, np.nan, np.float32)}, "not all values are finite"),
        ("dinov2", {"1_norm2_weight": np.ones(D, np.int32)}, "of int32, and weights are floats"),
        ("dinov2", {"embeddings.register_tokens": np.ones((1, 0), np.float32)}, "is of shape"),
        ("dinov3", {"1_layer_scale2_lambda1": None}, r"has no layer\.1\.layer_scale2\.lambda1"),
        ("dinov3", {"0_attention_q_proj_bias": None}, r"has no layer\.0\.attention\.q_proj\.bias"),
        ("clip", {"visual_projection_weight": None}, r"has no visual_projection\.weight"),
        ("siglip", {"head_layernorm_bias": None}, r"has no head\.layernorm\.bias"),
        ("siglip", {"patch_embedding_weight": np.ones((D, 48), np.float32)}, "is of shape"),
    ],
)
def test_arrays_that_do_not_fit_are_named(family, changes, sentence, tmp_path):
    path = folder_of(tmp_path / "theirs", family, changed(family, **changes))
    with pytest.raises(ConfigError, match=sentence) as refused:
        open_encoder(f"{family}:{path}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"num_attention_heads": 3}, "num_attention_heads=3 does not divide the width 16"),
        ({"hidden_act": "relu"}, "hidden_act in config.json is 'relu', and not gelu or"),
        ({"layer_norm_eps": None}, "layer_norm_eps=None in config.json is no number"),
        ({"model_type": "siglip2"}, "'siglip2' .SigLIP 2 of any size: take a model of a fixed one"),
        (None, "no published model has width 16, and without its config.json"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(config, sentence, tmp_path):
    path = folder_of(tmp_path / "theirs", "siglip")
    if config is None:
        (path / "config.json").unlink()
    else:
        (path / "config.json").write_text(json.dumps(CONFIG | config))
    with pytest.raises(ConfigError, match=sentence):
        open_encoder(str(path))


def test_what_is_no_encoder_is_refused_in_a_sentence(tmp_path):
    path = folder_of(tmp_path / "clip", "clip")
    for spec, sentence in {
        "dinov9": r"'dinov9' is not known: type dinov\d:PATH",
        f"sigclip:{path}": "is not known: type siglip:PATH",
        "clip": "'clip' is not known: type clip:PATH",
        f"dinov2:{path}": "holds weights of clip, not of dinov2",
        f"dinov2:{tmp_path}": "holds none of model.safetensors",
        f"dinov3:{path}:pre": "dinov3 has no layer pre",
        "clip:/nowhere/at/all": "there is no '/nowhere/at/all'",
        str(tmp_path): "holds no checkpoint",
    }.items():
        with pytest.raises(ConfigError, match=sentence):
            open_encoder(spec)
    file = path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigError, match=r"model\.safetensors is damaged or not whole"):
        open_encoder(str(path))
    safetensors.numpy.save_file({"fc.weight": np.ones((2, 2), np.float32)}, file)
    with pytest.raises(ConfigError, match=r"fc\.weight"):
        open_encoder(str(path))


@pytest.mark.parametrize("kind", ["Dinov2", "DINOv3ViT", "CLIPVisionModelWithProjection"])
def test_transformers_computes_the_same(kind, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    fields = {"hidden_size": D, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS}
    fields |= {"image_size": SIZE, "patch_size": PATCH, "intermediate_size": HIDDEN}
    if kind == "DINOv3ViT":
        fields["num_register_tokens"] = 4
    clip = kind.startswith("CLIP")
    config = getattr(transformers, "CLIPVisionConfig" if clip else f"{kind}Config")(**fields)
    torch.manual_seed(0)
    model = getattr(transformers, kind if clip else f"{kind}Model")(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.3)
        model.save_pretrained(tmp_path)
        sizes = {"crop_size": {"height": SIZE, "width": SIZE}}
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(sizes))
        encoder = open_encoder(str(tmp_path))
        mean, std = (np.array(encoder.made_by[name], np.float32) for name in ("mean", "std"))
        pixels = ((IMAGES / 255 - mean) / std).transpose(0, 3, 1, 2).copy()
        out = model(torch.from_numpy(pixels))
    expected = (out.image_embeds if clip else out.last_hidden_state[:, 0]).numpy()
    np.testing.assert_allclose(vectors(encoder), expected, atol=1e-4)
