"""Latents that are made once: the column, what a run draws from it, and what it refuses."""

import dataclasses
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import cli, dryrun, experiment, load_config, sharding
from jaxfdsl import config as c
from jaxfdsl.config import ConfigError
from jaxfdsl.costs import images, page
from jaxfdsl.data import batches, latent_column, store
from jaxfdsl.data.store import columns
from jaxfdsl.diffusion import latents
from jaxfdsl.representations import command, latent_writing
from jaxfdsl.representations.writing import Vectors
from tests.photographs import encoded, image_folder, photograph
from tests.published_autoencoder import SMALL, SMALL_DESIGN, theirs, write

COUNT, SIZE, TORN = 16, 16, 5
ROUNDING = 2.0**-11  # of float16, half a step of the last bit


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    return write(tmp_path_factory.mktemp("published") / "vae", theirs(SMALL_DESIGN), SMALL)


@pytest.fixture(scope="module")
def pictures(vae, tmp_path_factory):
    """A store with the columns latent:sd, killed twice on the way, and latent:small."""
    path = tmp_path_factory.mktemp("store") / "made"
    with store.Writer(path) as out:
        for row in range(COUNT):
            data = encoded(photograph(row, 30, 20), "PNG")
            out.add(data[:60] if row == TORN else data, label=row % 3)
    calls, whole = [], Vectors.__call__

    def killed(self, rows, done):
        calls.append(int(rows[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, rows, done)

    def stopped(values):
        raise KeyboardInterrupt

    told = ["--image_size=16", "--flip", "--max_corrupt=0.1"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent_writing, "PART", 8)
        patch.setattr(Vectors, "__call__", killed)
        with pytest.raises(SystemExit):
            embed(path, f"--autoencoder={vae}", "--name=sd", *told)
        with patch.context() as last, pytest.raises(SystemExit):
            last.setattr(columns, "_statistics", stopped)  # the column is there, its card is not
            embed(path, f"--autoencoder={vae}", "--name=sd", *told)
        embed(path, f"--autoencoder={vae}", "--name=latent:sd", *told)
    assert calls == [0, 8, 8] and not list(path.rglob("*.parts"))
    small = ["--image_size=16", "--size=8", "--max_corrupt=0.1"]
    embed(path, f"--autoencoder={vae}", "--name=small", *small)
    return path


def embed(*words):
    cli.run(["embed", *map(str, words)])


def run_in(vae, source, name="sd", flip=True, condition="label"):
    """A denoiser in the latents of a set."""
    config = c.default_config()
    config.update(batch_size=8, steps=10, dtype="float32", draw="beside")
    config.model.update(image_size=SIZE, patch_size=2, width=16, depth=1, num_heads=2)
    config.model.autoencoder = str(vae)
    config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3, flip_lr=flip)
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.data.update(condition=condition, latents=name, max_corrupt=0.1)
    config.data.sources.a = source
    return config


def drawn(config):
    """The parts of a run, its first rows, and the batch that a device makes of them."""
    parts = experiment.build(config, jax.devices()[:1])
    rows = parts.batches.rows(0)
    put = sharding.put_rows(parts.mesh, rows)
    batch = parts.draw_batch(jax.random.key(0), jnp.int32(0), put, parts.tables)
    return parts, rows["a"], jax.device_get(batch)


@pytest.mark.parametrize("name, size", [("sd", 0), ("small", 8)])
def test_a_step_draws_what_it_would_encode(vae, pictures, name, size):
    """To the rounding of float16: the same rows, noise, flips and picture that cannot be read. Of
    pictures that are cut on the host, and of a small canvas that the device makes larger."""
    entry, flip = c.store_source(str(pictures), size=size), name == "sd"
    parts, rows, cached = drawn(run_in(vae, entry, name, flip=flip))
    whole, pixels, wanted = drawn(run_in(vae, entry, "", flip=flip))
    source = parts.batches.sources["a"]
    assert rows["image"].dtype == np.float16 and rows["image"].shape[1:] == (1 + flip, 8, 8, 8)
    assert not source.decodes and latents.TABLE not in parts.tables
    for key in ("label", "index", "valid", "cond"):
        np.testing.assert_array_equal(cached[key], wanted[key])
    there = wanted["valid"] > 0
    assert (~there).sum() == (rows["index"] == TORN).sum() == 1
    largest = np.abs(rows["image"].astype("f")).max(axis=(1, 2, 3, 4))[there]
    off = np.abs(cached["image"] - wanted["image"])[there].max(axis=(1, 2, 3))
    # The mean and the noise's deviation are each rounded; noise is below 5.
    assert (off < parts.autoencoder.scale * 6 * ROUNDING * largest).all()
    assert np.abs(wanted["image"][there]).max() > 1000 * off.max()
    np.testing.assert_array_equal(
        source.with_pictures().rows(np.arange(8))["image"], pixels["image"]
    )
    said = columns.described(columns.sidecar_file(pictures, f"latent:{name}"))
    assert parts.identity["data.latents.a"] == said["sha256"]
    assert "data.latents.a" not in whole.identity
    assert (
        parts.identity["data.sources.a.fingerprint"] == whole.identity["data.sources.a.fingerprint"]
    )


def test_a_column_says_what_made_it(vae, pictures, capsys):
    said = columns.described(columns.sidecar_file(pictures, "latent:sd"))
    assert (said["dtype"], said["shape"]) == ("float16", [COUNT, 2, 8, 8, 8])
    made_by = said["made_by"]
    assert (made_by["image_size"], made_by["canvas"], made_by["flip"]) == (SIZE, 0, True)
    assert (made_by["from"], made_by["unreadable"]) == ("vae", [TORN])
    assert {"jax", "jaxfdsl"} < set(made_by["versions"]) and len(made_by["weights"]) == 64
    opened = store.open(pictures)
    values = opened.column("latent:sd")
    assert isinstance(values, np.memmap) and "latent:sd" in opened.columns and list(opened.verify())
    assert np.flatnonzero(np.isnan(values[:, 0, 0, 0, 0])).tolist() == [TORN]
    assert (np.delete(values, TORN, 0)[..., 4:] > 0).all()  # deviations
    assert TORN not in opened.index("sd-readable")
    left = pictures / "latent" / "sd.parts"  # by a kill behind the card
    left.mkdir()
    os.link(pictures / "latent" / "sd.npy", left / "joined.npy")
    embed(pictures, f"--autoencoder={vae}", "--name=sd", "--image_size=16", "--flip")
    assert "latent:sd is there already, of these images and this auto" in capsys.readouterr().out
    assert not left.exists()


def numbered(records, name, **made_by):
    """A column whose rows are their numbers."""
    number = np.arange(len(getattr(records, "store", records)), dtype=np.float16)
    values = np.broadcast_to(number[:, None, None, None, None], (len(number), 1, 8, 8, 8))
    said = {"weights": "0", "image_size": SIZE, "canvas": 0, "images": records.pictures}
    columns.write_sidecar(records.sidecar(name), values, said | made_by)


def test_rows_of_lists_parts_processes_and_splits_are_their_own(vae, pictures, tmp_path):
    numbered(command.opened(str(pictures), "", ""), "latent:n")
    store.write_index(pictures, "some", [9, 3, 12, 7, 1, 14], {})
    entry = c.store_source(str(pictures), index="some")
    config = run_in(vae, entry, "n", flip=False, condition="none")
    halves = [
        batches.from_config(config, shard_index=i, shard_count=2).rows(0)["a"] for i in (0, 1)
    ]
    whole = batches.from_config(config).rows(0)["a"]
    both = np.concatenate([half["image"] for half in halves])[:, 0, 0, 0, 0]
    np.testing.assert_array_equal(both, whole["image"][:, 0, 0, 0, 0])
    np.testing.assert_array_equal(both, np.array([9, 3, 12, 7, 1, 14])[whole["index"]])
    assert "label" not in whole  # which nothing reads
    image_folder(tmp_path / "files", {"train": {"a": 5, "b": 4}, "val": {"a": 1, "b": 1}})
    cli.run(["prepare", "folder", "mine", str(tmp_path / "files"), f"--data_dir={tmp_path}"])
    entry = c.tfds_source("mine", data_dir=str(tmp_path), num_examples=4, skip_examples=3)
    config = run_in(vae, entry, "n", flip=False)
    with pytest.raises(latent_column.Absent) as caught:
        batches.from_config(config)
    assert str(caught.value).endswith(
        f"write it by jaxfdsl embed tfds:mine --split=train --data_dir={tmp_path} --autoencoder "
        f"{vae} --name n --image_size 16."
    )
    records = command.opened("tfds:mine", "train", str(tmp_path))
    coarse = dataclasses.replace(records, label="coarse")  # says other things of the same pictures
    assert coarse.pictures == records.pictures and "--label=coarse" in coarse.typed
    numbered(records, "latent:n")
    data = batches.from_config(config)
    rows = data.rows(0)["a"]
    pixels = data.sources["a"].with_pictures().rows(np.arange(8))
    np.testing.assert_array_equal(rows["image"][:, 0, 0, 0, 0], rows["index"])
    for key in ("index", "label", "cond"):
        np.testing.assert_array_equal(rows[key], pixels[key])
    assert data.sources["a"].decodes  # records are read for their labels alone


CHANGED = {
    "model.autoencoder=''": {"model.autoencoder": ""},
    "augment.crop='random_resized' changes images": {"augment.crop": "random_resized"},
    "type --config.augment.rand_augment='', or": {"augment.rand_augment": "rand-m9"},
    "type --config.model.image_size=16, or write": {"model.image_size": 24},
    "has no column latent:no": {"data.latents": "no"},
    "canvas of 0 pixels (0: none), and the source has size=8": {"data.sources.a.size": 8},
    "data.sources.a: 'latent:a/b' is no column": {"data.latents": "a/b"},
    "data.sources.a: 'latent:' is no column": {"data.latents": "latent:"},
    "is truncated or altered": {"data.latents": "short", "augment.flip_lr": False},
    "type --config.augment.flip_lr=False, or write it again": {"data.latents": "n"},
    "data.latents='sd' is for denoisers": {
        "objective.denoise.weight": 0.0,
        "objective.classify.weight": 1.0,
        "data.condition": "",
    },
    "of another autoencoder (sha256": {"data.latents": "n", "augment.flip_lr": False},
    "of other pictures than are there now": {"data.latents": "old", "augment.flip_lr": False},
    "no latents: write jaxfdsl embed": {"data.latents": "vectors"},
}


@pytest.mark.parametrize("words", CHANGED)
def test_what_does_not_fit_is_refused_in_a_sentence(vae, pictures, words):
    records = command.opened(str(pictures), "", "")
    numbered(records, "latent:n")
    numbered(records, "latent:old", images="0")
    columns.write_sidecar(records.sidecar("latent:vectors"), np.zeros((COUNT, 2)), {})
    numbered(records, "latent:short")
    os.truncate(records.sidecar("latent:short"), 1000)
    config = run_in(vae, c.store_source(str(pictures)))
    config.update_from_flattened_dict(CHANGED[words])
    with pytest.raises(ConfigError) as caught:
        c.validate(config, num_devices=1)
        experiment.build(config, jax.devices()[:1])
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_sources_without_columns_are_refused(vae, tmp_path):
    image_folder(tmp_path / "files", {"train": {"a": 2, "b": 2}})
    for source, words in (
        (c.formula_source("fractaldb-1k", num_classes=2, size=16), "makes its images anew"),
        (c.folder_source(str(tmp_path / "files")), "is of a kind that keeps no columns: import"),
    ):
        with pytest.raises(ConfigError, match=words):
            batches.from_config(run_in(vae, source, flip=False))


def test_the_verb_refuses_what_it_cannot_do(vae, pictures, tmp_path, capsys):
    for words, sentence in (
        (["--image_size=16"], "type --encoder=SPEC"),
        ([f"--autoencoder={vae}"], "--image_size=0 is the model.image_size of the run"),
        ([f"--autoencoder={vae}", "--image_size=17"], "no multiple of 2, by which the autoenc"),
        ([f"--autoencoder={tmp_path}", "--image_size=16"], "has no diffusion_pytorch_model"),
        ([f"--autoencoder={vae}", "--image_size=8"], "image_size 16, not 8"),
        (["--encoder=pixels:2", "--size=8"], "--size=8 is the size of the source"),
    ):
        with pytest.raises(SystemExit):
            embed(pictures, "--name=sd", *words)
        said = capsys.readouterr().err
        assert sentence in said and len(said.splitlines()) == 1


def test_a_dry_run_counts_the_step_without_the_encoder():
    """And the column, of data that need not be here: 8 x 32 x 32 x 2 numbers of two bytes."""
    name = "data.latents"
    changes = {
        "data.data_dir": "/nowhere",
        "model.width": 32,
        "model.depth": 1,
        "model.num_heads": 2,
    }
    one = dryrun.report(
        load_config("repdiff_imagenet100:label", **{**changes, name: "sd"}), "h200-8"
    )
    other = dryrun.report(
        load_config("repdiff_imagenet100:label", **{**changes, name: ""}), "h200-8"
    )
    assert one.flops_encoding == one.encoding_seconds == 0 < other.flops_encoding
    assert one.flops == other.flops and one.peak_bytes < other.peak_bytes
    assert one.plan.latent_bytes == 32 * 1024
    told = "\n".join(page.lines(one))
    assert "32.8 kB an image with its mirror image, 42 GB on disk for 1,281,167; jaxfdsl" in told
    assert "latents/s are read from disk" in told and "no image is encoded in a step" in told


def test_pictures_in_memory_come_from_the_host(pictures):
    """As a dry run counts them: a small set, which is decoded once."""
    source = batches.from_config(run_in("", c.store_source(str(pictures), size=8), "")).sources["a"]
    assert not source.decodes and images.from_host(source)
    assert images.row_bytes(source) == 8 * 8 * 3 + 8
