"""Stable Diffusion's autoencoder: files, numbers, and training in its latents."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import config as c
from jaxfdsl import experiment, sharding
from jaxfdsl.config import ConfigError
from jaxfdsl.costs import autoencoding
from jaxfdsl.diffusion import latents
from jaxfdsl.interop import autoencoder as interop
from jaxfdsl.interop import timm
from jaxfdsl.models import autoencoder
from jaxfdsl.models.autoencoder import Design
from tests.published_autoencoder import SMALL, SMALL_DESIGN, theirs, write
from tests.reference_autoencoder import Reference

OLDER = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@pytest.fixture(scope="module")
def state():
    return theirs(SMALL_DESIGN)


@pytest.fixture(scope="module")
def folder(state, tmp_path_factory):
    return write(tmp_path_factory.mktemp("published") / "vae", state, SMALL)


@pytest.fixture(scope="module")
def loaded(folder):
    return interop.load(folder)


def test_stable_diffusions_has_as_many_parameters_as_published():
    assert autoencoder.parameters(Design()) == 83_653_863
    assert len(interop.table(Design())) == 248  # arrays of the published file
    assert Design().factor == 8


def test_it_computes_what_the_formulas_say(loaded, state):
    images = np.random.default_rng(1).uniform(-1, 1, (2, 8, 8, 3)).astype("f")
    wanted = Reference(state, levels=2, layers=1, groups=4)
    mean, logvar = jax.jit(loaded.encode)(loaded.params, images)
    for image, found in zip(images, np.concatenate([mean, logvar], axis=-1), strict=True):
        told = wanted.encode(image.transpose(2, 0, 1)).transpose(1, 2, 0)
        np.testing.assert_allclose(found, told, rtol=1e-4, atol=1e-5)
    found = jax.jit(loaded.decode)(loaded.params, mean)
    assert mean.shape == (2, 4, 4, 4) and found.shape == images.shape
    told = wanted.decode(np.asarray(mean[0], np.float64).transpose(2, 0, 1)).transpose(1, 2, 0)
    np.testing.assert_allclose(found[0], told, rtol=1e-4, atol=1e-5)


def test_latents_are_drawn_and_scaled(loaded):
    """With other functions in place of the two: mean 3, deviation 2, and back."""
    shape = (20, 2, 2, 4)  # more than are encoded at once
    mean = jnp.full((1, *shape[1:]), 3.0)
    vae = dataclasses.replace(
        loaded,
        encode=lambda params, images: (mean, 2 * jnp.log(jnp.full_like(mean, 2.0))),
        decode=lambda params, latents: latents[..., :3],
        scale=0.5,
        shift=1.0,
    )
    noise = np.random.default_rng(0).standard_normal(shape).astype("f")
    latents = vae.latents({}, jnp.zeros((20, 4, 4, 3)), jnp.asarray(noise))
    np.testing.assert_allclose(latents, (3 + 2 * noise - 1) / 2, rtol=1e-5, atol=1e-6)
    back = vae.images({}, latents)
    np.testing.assert_allclose(back, 3 + 2 * noise[..., :3], rtol=1e-5, atol=1e-5)


def test_both_names_of_the_attention_are_one_model(loaded, folder, state, tmp_path):
    """The older file has the maps as 1 x 1 convolutions; a pipeline's folder has it in vae/."""
    older = {}
    for name, value in state.items():
        for new, old in OLDER.items():
            if f"attentions.0.{new}." in name:
                name = name.replace(new, old)
                value = value[:, :, None, None] if value.ndim == 2 else value
        older[name] = value
    assert sum("proj_attn" in name for name in older) == 4
    write(tmp_path / "pipeline" / "vae", older, SMALL)
    again = interop.load(tmp_path / "pipeline")
    jax.tree.map(np.testing.assert_array_equal, again.params, loaded.params)
    assert again.digest != loaded.digest and len(again.digest) == 64
    assert interop.load(folder / interop.FILES[0]).digest == loaded.digest


def test_what_config_json_says_is_what_is_built(loaded, state, tmp_path):
    assert (loaded.scale, loaded.shift, loaded.channels, loaded.factor) == (0.18215, 0.0, 4, 2)
    design = Design((8, 16), 1, 4, 16, False, False)
    said = {**SMALL, "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}
    said |= {"use_quant_conv": False, "use_post_quant_conv": False, "act_fn": "silu"}
    made = interop.load(write(tmp_path / "flux", theirs(design), said), "bfloat16")
    assert (made.scale, made.shift, made.channels) == (0.3611, 0.1159, 16)
    assert made.params["encoder"]["conv_in"]["kernel"].dtype == jnp.bfloat16
    assert "quant_conv" not in made.params


REFUSED = {
    "missing": ("has no quant_conv.bias and extra is not known", {}),
    "shape": ("encoder.conv_in.weight is of shape", {}),
    "nan": ("not all values are finite in encoder.conv_in.bias", {}),
    "compvis": ("CompVis' own code", {}),
    "relu": ("act_fn='relu', and it must be 'silu'", {"act_fn": "relu"}),
    "widths": ("block_out_channels=5, no list of numbers", {"block_out_channels": 5}),
    "groups": ("norm_num_groups=3, no divisor of 8", {"norm_num_groups": 3}),
    "scale": ("scaling_factor='x', and it must be a number", {"scaling_factor": "x"}),
    "blocks": ("down_block_types='Other'", {"down_block_types": ["DownEncoderBlock2D", "Other"]}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(case, state, tmp_path):
    words, said = REFUSED[case]
    changed = dict(state)
    if case == "missing":
        changed["extra"] = changed.pop("quant_conv.bias")
    if case == "shape":
        changed["encoder.conv_in.weight"] = np.zeros((9, 3, 3, 3), "f")
    if case == "nan":
        changed["encoder.conv_in.bias"] = np.full(8, np.nan, "f")
    if case == "compvis":
        changed["encoder.down.0.block.0.norm1.weight"] = np.zeros(8, "f")
    folder = write(tmp_path / "vae", changed, SMALL | said)
    with pytest.raises(ValueError) as caught:
        interop.load(folder)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_without_one_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=interop.FILES[0]):
        interop.load(tmp_path)


def run_in(folder) -> c.ConfigDict:
    """A denoiser of the latents of eight pictures."""
    config = c.default_config()
    config.update(batch_size=8, steps=10, dtype="float32", draw="beside")
    config.model.update(image_size=16, patch_size=2, width=16, depth=1, num_heads=2)
    config.model.autoencoder = str(folder)
    config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3)
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.data.condition = "label"
    config.data.sources.a = c.formula_source(
        "fractaldb-1k", num_classes=4, size=16, options={"pattern": "point", "num_points": 300}
    )
    config.evals.held_out = c.denoising_eval(c.held_out(config.data.sources.a), num_examples=8)
    return config


def test_a_denoiser_trains_on_latents(folder, loaded):
    """And is evaluated on them; the weights are an argument of what draws, not a part of it."""
    parts = experiment.build(run_in(folder), jax.devices()[:1])
    rows = sharding.put_rows(parts.mesh, parts.batches.rows(0))
    key = jax.random.key(0)
    traced = parts.draw_batch.trace(key, jnp.int32(0), rows, parts.tables)
    assert sum(np.size(constant) for constant in traced.jaxpr.consts) < 1000
    drawn = traced.lower().compile()(key, jnp.int32(0), rows, parts.tables)
    assert drawn["image"].shape == (8, 8, 8, 4)
    state, metrics = parts.train_step.learn(parts.start(), key, drawn)
    # The model is 0 at first: the loss is the mean square of noise less latents.
    assert float(metrics["loss"]) == pytest.approx(1 + float(jnp.mean(drawn["image"] ** 2)), 0.1)
    ((name, loss),) = parts.evaluators["held_out"](state["params"])
    assert name == "loss" and 0.8 < loss < 2
    assert parts.identity[latents.TABLE] == loaded.digest


def test_what_is_drawn_hangs_on_the_row(loaded):
    """Normal numbers of an image's own, wherever in the mesh its row is."""
    mean = jnp.zeros((1, 8, 8, 4))
    vae = dataclasses.replace(
        loaded, params={}, encode=lambda params, images: (mean, mean), scale=1.0
    )

    @jax.jit
    def draw(rows):
        batch = {"image": jnp.zeros((len(rows), 16, 16, 3))}
        return latents.drawn(batch, jax.random.key(0), rows, {latents.TABLE: {}}, vae)["image"]

    whole = np.asarray(draw(jnp.arange(8)))
    np.testing.assert_array_equal(draw(jnp.array([5, 6, 7, 0, 1, 2, 3, 4])), np.roll(whole, 3, 0))
    ordered = np.sort(np.ravel(whole))[:: whole.size // 16][1:]
    np.testing.assert_allclose(ordered, NORMAL, atol=0.15)


# The standard normal's quantiles at 1/16 ... 15/16.
NORMAL = (
    -1.534, -1.150, -0.887, -0.674, -0.489, -0.319, -0.157, 0.0,
    0.157, 0.319, 0.489, 0.674, 0.887, 1.150, 1.534,
)  # fmt: skip


def test_images_and_files_that_do_not_fit_a_run_are_refused(folder, tmp_path):
    for changes, words in [
        ({"model.autoencoder": str(tmp_path)}, "has no diffusion_pytorch_model.safetensors"),
        ({"model.image_size": 18}, "type --config.model.image_size=N with N a multiple of 4"),
        ({"augment.mean": (0.0,) * 3}, "do not bring pixels to -1..1"),
    ]:
        config = run_in(folder)
        config.update_from_flattened_dict(changes)
        with pytest.raises(ConfigError) as caught:
            c.validate(config, num_devices=1)
            experiment.build(config, jax.devices()[:1])
        assert words in str(caught.value)


def test_flop_are_those_that_xla_counts():
    """Its count leaves out what lies on the edge of an image, and holds norms and softmax."""
    design, side = Design(), 256
    shapes = autoencoder.shapes(design)
    params = timm.nested({k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in shapes.items()})
    image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    encode = jax.jit(lambda params, image: autoencoder.encode(design, params, image))
    counted = encode.lower(params, image).cost_analysis()["flops"]
    assert counted == pytest.approx(autoencoding.encoding(design, side), rel=0.02)
    assert autoencoding.decoding(design, side) == pytest.approx(6.2e11, rel=0.01)
