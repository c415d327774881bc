"""Columns of what an encoder sees, and of clusters: right, once, through kills, or a sentence."""

import errno
import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import cli, generators
from jaxfdsl.config import ConfigError
from jaxfdsl.data import captions, store
from jaxfdsl.data.condition import of_column
from jaxfdsl.data.materialise import command as materialise
from jaxfdsl.data.store import columns, layout
from jaxfdsl.data.store.command import lines
from jaxfdsl.representations import clusters, command, writing
from jaxfdsl.representations.encoders import Encoder
from tests.photographs import encoded, image_folder, photograph

COUNT = 20


def made(path, broken=()):
    """A store of pictures of which some are torn."""
    with store.Writer(path) as writer:
        for row in range(COUNT):
            data = encoded(photograph(row, 24, 16), "PNG")
            writer.add(data[:60] if row in broken else data, label=row % 2)
    return str(path)


def embed(*words):
    cli.run(["embed", *map(str, words)])


def refusal(capsys, *words):
    with pytest.raises(SystemExit) as caught:
        embed(*words)
    said = capsys.readouterr().err
    assert caught.value.code == 2 and len(said.splitlines()) == 1
    return said


def squares(records, size):
    """The central squares, as Pillow alone resizes them."""
    found = []
    for data in records.read(np.arange(len(records)))[0]:
        image = Image.open(io.BytesIO(data))
        width = size * image.width // image.height
        image = image.resize((width, size), Image.Resampling.BICUBIC)
        left = round((width - size) / 2)
        found.append(np.asarray(image.crop((left, 0, left + size, size))))
    return np.stack(found).astype(np.float32)


@pytest.fixture
def pictures(tmp_path):
    return made(tmp_path / "made")


def test_a_column_is_what_the_encoder_puts_out_of_each_image(pictures, monkeypatch):
    kernel = np.random.default_rng(0).standard_normal((3 * 8 * 8, 16)).astype(np.float32) / 8

    def apply(params, images):
        return jnp.tanh((images / 255 - 0.5).reshape(len(images), -1) @ params["kernel"])

    monkeypatch.setattr(writing, "PART", 12)
    encoder = Encoder("tiny", 16, 8, {"kernel": kernel}, apply, {"weights": "0"})
    records, told = command.opened(pictures, "train", ""), []
    for _ in range(2):
        writing.write(records, "rep:tiny", encoder, writing.How(batch=8, flip=True), told.append)
    images, values = squares(records, 8) / 255 - 0.5, store.open(pictures).column("rep:tiny")
    both = [np.tanh(x.reshape(COUNT, -1) @ kernel) for x in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(values, (both[0] + both[1]) / 2, atol=1e-5)
    mean, deviation = columns.standardisation(records.sidecar("rep:tiny"))
    np.testing.assert_allclose(mean, values.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(deviation, values.std(axis=0), atol=1e-6)
    assert "20 vectors of 16 numbers by tiny" in told[0] and "is there already" in told[1]
    assert any("rep:tiny        16 numbers, by tiny:" in line for line in lines(records.store))
    blind = Encoder("blind", 1, 8, {}, lambda _, x: jnp.log(x[:, 0, 0, :1] - 300), {})
    with pytest.raises(ConfigError, match=r"encoder blind gives image 0 of .* not finite"):
        writing.write(records, "rep:blind", blind)


def test_a_killed_embed_goes_on_to_the_same_bits(pictures, capsys, monkeypatch):
    monkeypatch.setattr(writing, "PART", 8)
    embed(pictures, "--encoder=pixels:4", "--name=whole")
    calls, whole = [], writing.Vectors.__call__

    def killed(self, rows, done):
        calls.append(int(rows[0]))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, rows, done)

    monkeypatch.setattr(writing.Vectors, "__call__", killed)
    with pytest.raises(SystemExit):
        embed(pictures, "--encoder=pixels:4", "--name=killed")
    assert "the same command goes on" in capsys.readouterr().err
    opened = store.open(pictures)
    assert "rep:killed" not in opened.columns
    embed(pictures, "--encoder=pixels:4", "--name=killed")
    assert calls == [0, 8, 8, 16]
    np.testing.assert_array_equal(opened.column("rep:killed"), opened.column("rep:whole"))
    flat = squares(command.opened(pictures, "", ""), 4).reshape(COUNT, -1) / 255
    np.testing.assert_allclose(opened.column("rep:whole"), flat, rtol=1e-6)
    assert list(opened.verify()) and not list(opened.path.rglob("*.parts"))


def test_columns_of_a_tfds_split_lie_beside_it(tmp_path, capsys, monkeypatch):
    image_folder(tmp_path / "files", {"train": {"a": 3, "b": 4}, "val": {"a": 1, "b": 1}})
    data = f"--data_dir={tmp_path}"
    cli.run(["prepare", "folder", "mine", str(tmp_path / "files"), data])
    embed("tfds:mine", data, "--encoder=pixels:2", "--name=p")
    folder = tmp_path / "mine" / "1.0.0" / "rep"
    assert np.load(folder / "train-p.npy").shape == (7, 12)
    records = command.opened("tfds:mine", "train", str(tmp_path))
    part = command.opened("tfds:mine", "train[:4]", str(tmp_path))
    assert records.sidecar("rep:p") == folder / "train-p.npy" != part.sidecar("rep:p")
    with pytest.raises(ConfigError, match=r"embed tfds:mine --split='train\[:4\]' --name=p\."):
        part.column("rep:p")
    flat = squares(records, 2).reshape(7, -1) / 255
    np.testing.assert_allclose(records.column("rep:p"), flat, rtol=1e-6)

    def read_only(path):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(layout, "whole", read_only)
    said = refusal(capsys, "tfds:mine", data, "--encoder=pixels:2", "--name=q")
    assert "cannot be written to (Read-only file system): copy the data set" in said


def test_a_broken_picture_is_refused_or_gets_no_vector(tmp_path, capsys):
    path = made(tmp_path / "torn", broken=(3, 9))
    said = refusal(capsys, path, "--encoder=pixels:2", "--name=p")
    assert "image 3 of" in said and "cannot be decoded" in said and "--max_corrupt=0.1" in said
    embed(path, "--encoder=pixels:2", "--name=p", "--max_corrupt=0.1")
    assert "image 9 of" in capsys.readouterr().out
    opened = store.open(path)
    values = opened.column("rep:p")
    assert np.flatnonzero(np.isnan(values).any(axis=1)).tolist() == [3, 9]
    file = columns.sidecar_file(opened.path, "rep:p")
    made_by = columns.described(file)["made_by"]
    assert made_by["unreadable"] == [3, 9]
    condition = of_column("rep:p", values, columns.standardisation(file), made_by, "")
    assert np.isfinite(condition.vectors(column=values[opened.index("p-readable")])).all()
    with pytest.raises(ConfigError, match="2 of 20 vectors are not finite"):
        condition.vectors(column=values)
    embed(path, "--clusters=2", "--of=rep:p", "--name=k")
    assert np.flatnonzero(opened.column("cluster:k") < 0).tolist() == [3, 9]
    embed(path, "--encoder=pixels:2", "--name=p")
    embed(path, "--clusters=2", "--of=rep:p", "--name=k")
    assert capsys.readouterr().out.count("is there already") == 2
    file.write_bytes(file.read_bytes()[:-8])
    embed(path, "--encoder=pixels:2", "--name=p", "--max_corrupt=0.1")  # what is truncated is not
    assert store.open(path).column("rep:p").shape == values.shape
    assert "type another" in refusal(capsys, path, "--encoder=pixels:2", "--name=asked")
    assert "type pixels:8" in refusal(capsys, path, "--encoder=pixel:8", "--name=q")


def test_three_far_blobs_are_three_clusters():
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat([0, 1, 2], [50, 30, 21]))
    far = np.array([[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]])
    values = (far[truth] + rng.standard_normal((101, 4))).astype(np.float32)
    found = clusters.fit(values, 3, seed=1, chunk=32)
    pairs = set(zip(truth.tolist(), found.nearest.tolist(), strict=True))
    assert len(pairs) == 3 and found.settled
    distances = np.square(values[:, None] - found.centres).sum(axis=2)
    np.testing.assert_array_equal(found.nearest, distances.argmin(axis=1))
    assert found.inertia == pytest.approx(distances.min(axis=1).sum(), rel=1e-5)
    for one in range(3):
        mean = values[found.nearest == one].mean(axis=0)
        np.testing.assert_allclose(found.centres[one], mean, atol=1e-5)
    again = clusters.fit(values, 3, seed=1, chunk=32)
    np.testing.assert_array_equal(again.nearest, found.nearest)


def test_an_empty_cluster_goes_on_from_the_farthest_vector():
    values = np.array([[0.0], [1.0], [50.0]], np.float32)
    sums, counts = np.array([[51.0], [0.0]]), np.array([3, 0])
    moved = clusters._moved(values, sums, counts, np.array([[0.0, 1.0, 9.0, 0.0]]))
    np.testing.assert_array_equal(moved, [[17], [50]])


def test_the_oracle_is_the_parameters_of_the_store_s_own_formulas(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(generators.Dataset, "fingerprint", generators.Dataset.identity)
    dataset = generators.load("rcdb-1k", num_classes=4, instances=2, size=16)
    typed = "jaxfdsl materialise rcdb-1k --to store --classes 4 --instances 2 --size 16"
    again = materialise.dataset_of(typed)
    assert again is not None and again.identity() == dataset.identity() and len(again) == 8
    card = {"created_by": typed, "formula": dataset.fingerprint()}
    for name, other in (("good", {}), ("bad", {"formula": "0"}), ("none", {"formula": ""})):
        with store.Writer(tmp_path / name, card={**card, **other}) as writer:
            for row in range(8):
                writer.add(b"-", label=row // 2, group=row // 2)
    embed(tmp_path / "good", "--encoder=oracle", "--name=o")
    values = store.open(tmp_path / "good").column("rep:o")
    np.testing.assert_array_equal(values, captions.parameters(dataset)[np.arange(8) // 2])
    assert "does not draw these images" in refusal(
        capsys, tmp_path / "bad", "--encoder=oracle", "--name=o"
    )
    said = refusal(capsys, tmp_path / "none", "--encoder=oracle", "--name=o")
    assert "was not drawn from formulas" in said


def test_a_mistake_is_one_sentence(pictures, tmp_path, capsys):
    with store.Writer(tmp_path / "empty"):
        pass
    embed(pictures, "--encoder=pixels:2", "--name=p")
    kept = store.open(pictures).column("rep:p").copy()
    for words, sentence in (
        ([pictures, "--encoder=pixels:3"], "rep:p is there by pixels:2 (encoder pixels:2, not pix"),
        ([pictures, "--encoder=pixels:2", "--flip"], "(flip False, not True): type another --name"),
        ([pictures, "--encoder=pixels:0"], "type the pixels along an edge, 1 to 64"),
        ([pictures, "--encoder=dinov9"], "'dinov9'"),
        ([pictures, "--encoder=pixels:2", "--max_corrupt=1"], "type a share from 0, below 1"),
        ([pictures, "--encoder=oracle", "--name=o"], "was not drawn from formulas"),
        ([pictures, "--encoder=pixels:2", "--name=a/b"], "'rep:a/b' is no column"),
        ([pictures, "--clusters=3", "--encoder=pixels:2"], "type --encoder=SPEC for a column"),
        ([pictures, "--clusters=3"], "--of=: type the column to cluster, rep:NAME"),
        ([pictures, "--clusters=3", "--of=rep:q"], "the column 'rep:q' is not there"),
        ([pictures, "--clusters=21", "--of=rep:p"], "--clusters=21 of 20 vectors: type fewer"),
        ([tmp_path / "empty", "--encoder=pixels:2"], "holds no image yet"),
        ([tmp_path / "no", "--encoder=pixels:2"], "is no store, as it has no store.json"),
        (["folder:x", "--encoder=pixels:2"], "a folder has no place for columns"),
        (["tfds:x", "--encoder=pixels:2", f"--data_dir={tmp_path}"], "--data_dir=DIR with the fol"),
    ):
        named = [] if any(str(word).startswith("--name") for word in words) else ["--name=p"]
        assert sentence in refusal(capsys, *words, *named)
    np.testing.assert_array_equal(store.open(pictures).column("rep:p"), kept)
    embed(pictures, "--encoder=pixels:3", "--name=p", "--replace")
    assert store.open(pictures).column("rep:p").shape == (COUNT, 27)
