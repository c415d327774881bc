"""What is read out of a model is what it computes, and what is drawn of it is what papers draw."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from jaxfdsl import cli
from jaxfdsl import config as c
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.config import ConfigError
from jaxfdsl.interop.timm import to_timm
from jaxfdsl.models import attention_maps, blocks, vit
from jaxfdsl.report import attention_sheet, filters, model_pictures, neighbours, positions
from jaxfdsl.report.checkpoint_model import load
from jaxfdsl.report.samples import Samples

NAMES = ["filters", "positions", "attention", "distance", "neighbours"]
rng = np.random.default_rng(0)


def model_of(pool, width=16, heads=None, **fields):
    """A tiny model and parameters far from their start, so that attention is far from even."""
    cfg = c.default_config().model
    cfg.update(image_size=16, patch_size=4, width=width, depth=2, pool=pool, **fields)
    model = vit.build(cfg, heads or {}, "float32")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    chance = np.random.default_rng(1)
    params = jax.tree.map(lambda x: chance.normal(0, 0.3, x.shape).astype(np.float32), shapes)
    for i in range(2):
        params[f"blocks_{i}"]["attn"]["qkv"]["kernel"] *= 8
    return cfg, model, params


def attention_in_numpy(params, images):
    """Every block's attention probabilities, in float64, of a model with a class token."""
    erf = np.vectorize(math.erf)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

    def norm(x, p):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * p["scale"] + p["bias"]

    count, side = len(images), images.shape[1] // 4
    cut = images.reshape(count, side, 4, side, 4, 3).transpose(0, 1, 3, 2, 4, 5)
    x = np.einsum(
        "bnk,kd->bnd", cut.reshape(count, -1, 48), params["patch_embed"]["kernel"].reshape(48, -1)
    )
    x = x + params["patch_embed"]["bias"]
    x = np.concatenate([np.repeat(params["cls_token"], count, 0), x], 1) + params["pos_embed"]
    seen = []
    for i in range(2):
        block = params[f"blocks_{i}"]
        qkv = block["attn"]["qkv"]
        q, k, v = (
            np.einsum("bnd,dchk->cbhnk", norm(x, block["norm1"]), qkv["kernel"])
            + qkv["bias"][:, None, :, None]
        )
        weights = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]))
        seen.append(weights / weights.sum(-1, keepdims=True))
        proj = block["attn"]["proj"]
        x = x + np.einsum("bhnk,hkd->bnd", seen[-1] @ v, proj["kernel"]) + proj["bias"]
        one, two = block["mlp"]["fc1"], block["mlp"]["fc2"]
        hidden = norm(x, block["norm2"]) @ one["kernel"] + one["bias"]
        x = x + (0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))) @ two["kernel"] + two["bias"]
    return np.stack(seen)


@pytest.mark.parametrize("pool", ["token", "mean"])
def test_reading_out_attention_computes_what_the_model_computes(pool):
    _, model, params = model_of(pool, heads={"head": 3, "patch_head": 2}, num_heads=2)
    images = rng.normal(size=(2, 16, 16, 3)).astype(np.float32)
    applied = jax.jit(lambda p, x: model.apply(p, x, train=False))(params, images)
    outputs, weights = jax.jit(attention_maps.read_out, static_argnums=2)(
        params, images, model.design
    )
    assert set(outputs) == {"features", "logits", "patch_logits"}
    for name, value in outputs.items():
        np.testing.assert_allclose(value, applied[name], atol=1e-5, rtol=1e-5)
    assert weights.shape == (2, 2, 2, model.design.tokens, model.design.tokens)
    if pool == "token":
        expected = attention_in_numpy(params, images)
        assert expected.max() > 0.5  # 0.06 were even
        np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_scanned_blocks_and_fused_kernels_are_read_out_alike():
    _, model, params = model_of("token", num_heads=2)
    images = rng.normal(size=(1, 16, 16, 3)).astype(np.float32)
    scanned = dataclasses.replace(
        model.design, scan_blocks=True, attention="cudnn", dtype=np.dtype("float16"), remat="full"
    )
    traced = [
        str(
            jax.make_jaxpr(lambda p, x, d=design: attention_maps.read_out(p, x, d)[1])(tree, images)
        )
        for design, tree in (
            (model.design, blocks.stack_blocks(params)),
            (scanned, blocks.stack_blocks(params)),
        )
    ]
    assert traced[0] == traced[1] and "f16" not in traced[1]


def test_rollout_is_the_product_of_blocks_half_of_which_is_the_identity():
    weights = rng.dirichlet(np.ones(5), (3, 2, 4, 5)).astype(np.float32)  # L B H N, over N
    expected = np.stack([np.eye(5)] * 2)
    for layer in weights.astype(np.float64):
        mixed = layer.mean(1) + np.eye(5)
        expected = (mixed / mixed.sum(-1, keepdims=True)) @ expected
    found = attention_maps.rollout(jnp.asarray(weights))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)


def test_attention_comes_from_the_class_token_or_the_mean_of_all_patches():
    weights = jnp.asarray(rng.dirichlet(np.ones(5), (2, 5)), jnp.float32)
    np.testing.assert_array_equal(attention_maps.received(weights, "token"), weights[:, 0, 1:])
    np.testing.assert_allclose(attention_maps.received(weights, "mean"), weights.mean(1), rtol=1e-6)


@pytest.mark.parametrize("prefix", [0, 1])
def test_mean_attention_distance_is_that_of_the_definition(prefix):
    side, patch = 3, 8
    weights = rng.dirichlet(np.ones(9 + prefix), (2, 9 + prefix)).astype(np.float32)
    found = attention_maps.mean_distance(jnp.asarray(weights), side, patch)
    for head in range(2):
        means = []
        for query in range(9):
            row = weights[head, query + prefix, prefix:].astype(np.float64)
            apart = [
                patch * np.hypot(query // 3 - key // 3, query % 3 - key % 3) for key in range(9)
            ]
            means.append(np.average(apart, weights=row))
        assert found[head] == pytest.approx(np.mean(means), rel=1e-6)
    itself = attention_maps.mean_distance(jnp.eye(9 + prefix), side, patch)
    assert itself == 0


def test_principal_components_are_those_of_the_covariance():
    kernel = rng.normal(size=(3, 3, 3, 40)).astype(np.float32)
    kernel *= np.linspace(0.2, 3, 27).reshape(3, 3, 3, 1)  # so that variances are apart
    found = filters.principal_components(kernel, 5)
    variances, axes = np.linalg.eigh(np.cov(kernel.reshape(27, 40).astype(np.float64)))
    for place in range(5):
        axis, ours = axes[:, -1 - place], found[place].ravel()
        assert abs(axis @ ours) == pytest.approx(1, abs=1e-9) and ours.sum() > 0
    explained = (found.reshape(5, 27) @ kernel.reshape(27, 40)).var(1, ddof=1)
    np.testing.assert_allclose(explained, variances[:-6:-1], rtol=1e-5)
    assert len(filters.principal_components(kernel, 28)) == 27


def test_filters_are_scaled_one_by_one_and_the_weakest_are_left_out():
    kernel = np.zeros((2, 2, 3, 4), np.float32)
    kernel[0, 0] = [[1, 5, 0.1, -4]] * 3
    kernel[1, 1, 0] = [-1, 0, 0, 4]
    np.testing.assert_array_equal(
        filters.strongest(kernel, 2), np.moveaxis(kernel[..., [1, 3]], -1, 0)
    )
    shown = filters.to_bytes(np.moveaxis(kernel, -1, 0))
    assert shown[0, 0, 0].tolist() == [255] * 3 and shown[0, 1, 1].tolist() == [0, 128, 128]
    assert filters.to_bytes(np.moveaxis(kernel, -1, 0), centred=True)[1, 1, 1].tolist() == [128] * 3


def test_similarity_of_positions_leaves_the_class_token_out():
    embedded = np.concatenate(
        [
            np.full((1, 4), 9.0),
            3 * np.eye(4),
        ]
    )[None]
    embedded[0, 4] = [0, 0, 5, 5]
    similar = positions.similarity(embedded, 1)
    assert similar.shape == (2, 2, 2, 2)
    np.testing.assert_allclose(similar[0, 0], [[1, 0], [0, 0]])
    np.testing.assert_allclose(similar[1, 0], [[0, 0], [1, np.sqrt(0.5)]])


def test_a_map_is_bright_where_attention_is():
    image = np.full((32, 32, 3), 90, np.uint8)
    attention = np.zeros(16, np.float32)
    attention[6] = 0.3  # row 1, column 2
    light = attention_sheet.overlay(image, attention, 64).astype(int).sum(-1)
    row, column = np.unravel_index(light.argmax(), light.shape)
    assert (row // 16, column // 16) == (1, 2)
    assert light[16:32, 32:48].mean() > 2 * light[:, :16].mean()


def samples(kinds, images=None):
    count = len(kinds)
    images = np.zeros((count, 8, 8, 3), np.uint8) if images is None else images
    words = tuple(" ".join(map(str, kind)) for kind in kinds)
    classes = tuple(frozenset(("set", k) for k in kind) for kind in kinds)
    return Samples("set", images, words, classes)


def test_neighbours_are_the_others_of_the_highest_cosine():
    values = rng.normal(size=(30, 6)).astype(np.float32)
    shown = samples([(i % 3, 5) if i % 7 == 0 else (i % 3,) for i in range(30)])
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    for query, near in zip([0, 11], neighbours.find(values, shown, [0, 11]), strict=True):
        cosines = unit @ unit[query]
        order = [int(n) for n in np.argsort(-cosines) if n != query][: neighbours.NEAREST]
        assert [other.number for other in near] == order
        np.testing.assert_allclose([n.cosine for n in near], cosines[order], atol=1e-6)
        for other in near:
            both = query % 3 == other.number % 3 or query == other.number % 7 == 0
            assert other.same == both


def test_shown_images_are_of_different_classes_as_long_as_there_are_such():
    shown = samples([(i // 4,) for i in range(20)])
    assert shown.apart(3) == [0, 8, 16] and shown.apart(5) == [0, 4, 8, 12, 16]
    assert len(set(shown.apart(8))) == 8 and set(shown.apart(8)) >= {0, 4, 8, 12, 16}
    assert len(shown.apart(99)) == 20


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Two classes of noise in an image folder; one picture is broken."""
    folder = tmp_path_factory.mktemp("photographs")
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 256, (20, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    (folder / "test" / "cat" / "0.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run with a checkpoint, whose training images are drawn and whose patches are averaged."""
    folder = tmp_path_factory.mktemp("run")
    config = c.default_config()
    config.model, _, params = model_of("mean", heads={"head": 4}, num_heads=2)
    config.data.sources.contours = c.formula_source("rcdb-1k", num_classes=4, size=16)
    saved = Checkpoints(folder / "checkpoints", keep=1, tell=print)
    state = {"params": params, "step": np.int32(7), "opt_state": {"count": np.int32(0)}}
    saved.save(7, state, {"config": json.loads(c.to_json(config))})
    saved.close()
    return folder


def test_pictures_of_a_run_are_of_its_own_images(workdir):
    made = {picture.name: picture for picture in model_pictures.pictures(str(workdir))}
    assert list(made) == NAMES
    assert "has no class token" in made["attention"].caption
    assert "among 64 images of rcdb-1k: " in made["neighbours"].caption  # 4 classes of 16
    assert made["neighbours"].caption.endswith("of 48 share a class with their query.")
    for picture in made.values():
        assert 600 < picture.image.width <= 1800 and picture.image.getpixel((0, 0)) == (255,) * 3


def test_the_verb_writes_files_on_data_of_the_users_choice(workdir, photographs, tmp_path, capsys):
    out = tmp_path / "shown"
    cli.run(
        ["pictures", str(workdir), f"--out={out}", f"--data=folder:{photographs}", "--images=2"]
    )
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"step 7 of {workdir}"
    assert [line.partition(": ")[0] for line in told[1:]] == [f"{out / n}.png" for n in NAMES]
    assert "among 11 images" in told[-1]
    with Image.open(out / "attention.png") as sheet:  # two images, two heads
        assert sheet.height == 112 + 2 * 138 - 6 + 24


def test_weights_of_timm_have_filters_and_positions(tmp_path, capsys):
    _, model, params = model_of("token", width=128, heads={"head": 3})
    assert model.design.size.num_heads == 2
    safetensors.numpy.save_file(to_timm(params), tmp_path / "model.safetensors")
    loaded = load(str(tmp_path))
    assert loaded.model.design.size == dataclasses.replace(model.design.size, mlp_ratio=4.0)
    assert (loaded.model.design.side, loaded.model.design.pool) == (4, "token")
    expected = {name: value for name, value in params.items() if name != "head"}
    jax.tree.map(np.testing.assert_array_equal, loaded.params, expected)
    cli.run(["pictures", str(tmp_path)])
    told = capsys.readouterr().out.splitlines()
    assert [line.rpartition(".png: ")[0].rpartition("/")[2] for line in told[1:3]] == NAMES[:2]
    assert told[3].startswith("Weights alone have no images: type --data")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["/nowhere"], "/nowhere holds no checkpoint: type the workdir of a run that saved one"),
        (["{}", "--step=3"], "checkpoints/3 holds no checkpoint"),
        (["{}", "--data=cifar10"], "--data=cifar10: type tfds:NAME, folder:PATH"),
        (["{}", "--data=folder:/nowhere"], "/nowhere"),
        (["{}", "--images=0"], "--images=0 --among=256: type an image or more"),
    ],
    ids=["workdir", "step", "data", "folder", "images"],
)
def test_a_mistake_is_one_sentence(workdir, words, sentence, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.run(["pictures", *(word.format(workdir) for word in words)])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and sentence in said and len(said.splitlines()) == 1


def test_without_its_images_a_run_has_the_pictures_that_need_none(workdir):
    loaded = load(str(workdir))
    loaded.config.data.sources.contours.table = "/gone.npz"
    told = []
    made = model_pictures.make(loaded, {}, tell=told.append)
    assert [picture.name for picture in made] == NAMES[:2]
    assert "images are not there: data.sources.contours: " in told[0]
    with pytest.raises(ConfigError, match="nowhere"):
        gone = {"folder:/nowhere": c.folder_source("/nowhere")}
        list(model_pictures.make(loaded, gone, tell=told.append))
