"""What a denoiser is told of an image, from a config's word to rows of vectors."""

import io
import json

import jax
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import config as c
from jaxfdsl import experiment
from jaxfdsl.config import ConfigError
from jaxfdsl.data import batches, captions, condition, store


def png(shade):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images of three classes with vectors, clusters and a vector that is no number."""
    path = tmp_path_factory.mktemp("store") / "made"
    with store.Writer(path, card={"title": "t"}, classes=("a", "b", "c")) as writer:
        for i in range(12):
            writer.add(png(20 * i), label=i % 3)
    vectors = np.random.default_rng(0).normal(5, 3, (12, 4)).astype(np.float32)
    store.write_column(path, "rep:x", vectors, {"encoder": "x", "weights": "1"})
    store.write_column(path, "cluster:k", np.arange(12) % 5, {"encoder": "x"})
    store.write_column(path, "score:s", vectors[:, 0], {})
    broken = vectors.copy()
    broken[7, 1] = np.nan
    store.write_column(path, "rep:broken", broken, {"encoder": "x", "weights": "1"})
    return path


def told(folder, kind, **sources):
    config = c.default_config()
    config.steps, config.batch_size = 1, 12
    config.model.update(variant="dit_s", width=16, depth=1, num_heads=1, image_size=8, patch_size=4)
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.data.condition = kind
    config.data.sources.update(sources or {"s": c.store_source(str(folder), size=8)})
    return config


def rows_of(folder, kind):
    made = batches.from_config(told(folder, kind))
    return made, made.rows(0)["s"]


def test_each_kind_is_what_it_says(folder):
    vectors = np.load(folder / "rep" / "x.npy").astype(np.float64)
    standard = (vectors - vectors.mean(0)) / vectors.std(0)
    made, rows = rows_of(folder, "rep:x+label")
    index = rows["index"]
    np.testing.assert_allclose(rows["cond"][:, :4], standard[index], atol=1e-5)
    np.testing.assert_array_equal(rows["cond"][:, 4:], np.eye(3)[index % 3])
    assert made.condition.size == 7 and made.condition.made_by["encoder"] == "x"
    _, rows = rows_of(folder, "cluster:k")
    np.testing.assert_array_equal(rows["cond"], np.eye(5)[rows["index"] % 5])
    _, rows = rows_of(folder, "none")
    np.testing.assert_array_equal(rows["cond"], np.zeros((12, 1)))


def test_it_comes_back_from_a_checkpoints_json(folder):
    made, rows = rows_of(folder, "rep:x+label")
    again = condition.from_json(json.loads(json.dumps(made.condition.describe())))
    index = rows["index"]
    column = np.load(folder / "rep" / "x.npy")[index]
    np.testing.assert_array_equal(again.vectors(index % 3, column), rows["cond"])
    assert condition.same(again, made.condition) and again.fingerprint == made.condition.fingerprint


def test_another_column_is_another_run(folder):
    names = ("rep:x", "cluster:k", "label")
    assert len({rows_of(folder, kind)[0].condition.fingerprint for kind in names}) == 3


def test_clusters_of_another_clustering_are_others(folder):
    """A list of images may have none of the last clusters, and is told of as many."""
    said = {"of": "rep:x", "clusters": 6, "seed": 0, "column": "a"}
    made = [
        condition.of_column("cluster:k", np.arange(rows), None, {**said, "column": column}, "")
        for rows, column in ((5, "a"), (3, "a"), (5, "b"))
    ]
    assert [one.size for one in made] == [6, 6, 6]
    assert condition.same(made[0], made[1]) and not condition.same(made[0], made[2])


def test_a_list_of_images_may_have_some_without_a_vector(tmp_path):
    """Rows of the list and of the store are told apart."""
    with store.Writer(tmp_path / "made", classes=("a",)) as writer:
        for i in range(6):
            writer.add(png(20 * i) if i != 2 else b"no picture", label=0)
    vectors = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    vectors[2] = np.nan
    store.write_column(tmp_path / "made", "rep:x", vectors, {"encoder": "x", "unreadable": [2]})
    store.write_index(tmp_path / "made", "some", [5, 4, 3, 2], {})
    source = c.store_source(str(tmp_path / "made"), index="some", size=8)
    rows = batches.from_config(told(tmp_path, "rep:x", s=source)).rows(0)["s"]
    mean, deviation = (np.nanmean(vectors, axis=0), np.nanstd(vectors, axis=0))
    expected = np.where(np.isnan(vectors), 0, (vectors - mean) / deviation)
    np.testing.assert_allclose(rows["cond"], expected[[5, 4, 3, 2]][rows["index"]], atol=1e-5)
    np.testing.assert_array_equal(rows["valid"], rows["index"] != 3)


def test_classes_of_several_sources_are_joined(folder):
    """In the sources' order, as the labels are."""
    one, other = (c.store_source(str(folder), size=8, share=0.5) for _ in range(2))
    made = batches.from_config(told(folder, "label", a=one, b=other))
    rows = made.rows(0)
    assert made.condition.size == 6
    np.testing.assert_array_equal(rows["b"]["cond"].argmax(1), 3 + rows["b"]["label"])


def test_a_formulas_parameters_are_its_recipe(folder):
    drawn = c.formula_source("fractaldb", num_classes=4, instances=2, size=16)
    made = batches.from_config(told(folder, "recipe", f=drawn))
    rows = made.rows(0)["f"]
    known = captions.parameters(made.sources["f"].dataset)
    spread = known.std(0)
    standard = (known - known.mean(0)) / np.where(spread > 0, spread, 1)
    np.testing.assert_allclose(rows["cond"], standard[rows["recipe"][:, 0]], atol=1e-5)


REFUSED = {
    "rep:y": "is not there",
    "rep:broken": "has nothing of image 7, as of 1 of 12: write rep:broken again",
    "score:s": "is not known: type label",
    "recipe": "does not say one vector",
    "lable": "is not known: type label",
}


@pytest.mark.parametrize(("kind", "sentence"), REFUSED.items())
def test_refusals(folder, kind, sentence):
    with pytest.raises(ConfigError, match=sentence):
        rows_of(folder, kind)


def test_vectors_of_another_width_are_refused(folder):
    made, _ = rows_of(folder, "rep:x")
    with pytest.raises(ConfigError, match="made of 4 numbers an image, and these vectors have 5"):
        made.condition.vectors(None, np.zeros((2, 5), np.float32))
    with pytest.raises(ConfigError, match="knows 3 classes"):
        condition.of_labels("label", 3).vectors(np.array([3]))


def changed(**fields):
    def change(config):
        config.update_from_flattened_dict(fields)

    return change


INVALID = {
    "two objectives": (changed(**{"objective.classify.weight": 1.0}), "wants a vision transformer"),
    "no condition": (changed(**{"data.condition": ""}), "does not say what the denoiser is told"),
    "mixup": (changed(**{"augment.mixup": 0.8}), "has no meaning for a denoiser"),
    "width": (changed(**{"model.width": 18, "model.num_heads": 1}), "no multiple of 4"),
    "off": (changed(**{"objective.denoise.weight": 0.0, "objective.classify.weight": 1.0}),
            "is for denoisers, and objective.denoise is off"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), INVALID.values(), ids=INVALID.keys())
def test_what_a_denoiser_cannot_have(folder, change, sentence):
    config = told(folder, "label")
    c.validate(config, num_devices=1)
    change(config)
    with pytest.raises(ConfigError, match=sentence):
        c.validate(config, num_devices=1)


def test_the_experiment_of_a_denoiser(folder):
    """Nothing is compiled: shapes alone."""
    run = experiment.build(told(folder, "rep:x+label"), jax.devices()[:1])
    assert run.state["params"]["cond_embed"]["kernel"].shape == (7, 16)
    assert run.identity["data.condition.fingerprint"] == run.batches.condition.fingerprint
