"""Vectors that no image has: the generator, Gaussians, mixtures of two, noise, and their verb."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl import cli
from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.representations import ddim, gaussians, mixing, rdm, rdm_training
from tests.photographs import encoded, photograph

CLASSES, SIZE = 3, 6
SETTINGS = {"width": 16, "blocks": 2, "dropout": 0.1, "epochs": 40, "batch": 32}
SETTINGS["learning_rate"] = 0.01
TINY, SIZES = rdm.Settings(**SETTINGS), [f"--{name}={value}" for name, value in SETTINGS.items()]


def world(each: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of three classes with means far apart, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), each)
    means, turn = 4 * rng.standard_normal((CLASSES, SIZE)), rng.standard_normal((SIZE, SIZE))
    column = means[labels] + rng.standard_normal((len(labels), SIZE)) @ turn
    return column.astype(np.float32), labels


# The schedule and DDIM


def test_the_schedule_is_latent_diffusions_linear_one():
    share = ddim.kept()
    betas = 1 - share[1:] / share[:-1]
    assert share[0] == pytest.approx(1 - 0.0015)
    assert betas[-1] == pytest.approx(0.0195)
    # The roots of the betas are evenly spaced, the betas are not.
    assert np.ptp(np.diff(np.sqrt(betas))) < 1e-9 < 1e-6 < np.ptp(np.diff(betas))


def test_250_steps_visit_the_published_times_and_any_number_stays_inside():
    assert ddim.visited(250)[[0, 1, -1]].tolist() == [997, 993, 1]
    for steps in (1, 2, 3, 7, 999, 1000):
        times = ddim.visited(steps)
        assert len(times) == steps and (np.diff(times) < 0).all()
        assert set(times) <= set(range(1000))
    with pytest.raises(ValueError, match="type a number from 1 to 1000"):
        ddim.visited(1001)


def test_sampling_with_the_exact_denoiser_of_a_gaussian_has_the_variance_of_its_recursion():
    """x0 = sqrt(a) s2 / (a s2 + 1 - a) x for data of variance s2: each step scales and adds."""
    s2, rows = 2.0, ddim.table(20)

    def predict(noisy, time):
        a = jnp.asarray(ddim.kept(), jnp.float32)[time.astype(jnp.int32)]
        return jnp.sqrt(a) * s2 / (a * s2 + 1 - a) * noisy

    def recursion(rows: np.ndarray) -> float:
        variance = 1.0
        for _, a, after, sigma in rows.astype(np.float64):
            clean = np.sqrt(a) * s2 / (a * s2 + 1 - a)
            onward = np.sqrt(max(1 - after - sigma**2, 0)) * (1 - np.sqrt(a) * clean)
            variance *= (np.sqrt(after) * clean + onward / np.sqrt(1 - a)) ** 2
            variance += sigma**2
        return variance

    keys = jax.random.split(jax.random.PRNGKey(0), 2000)
    found = jax.jit(lambda: ddim.sample(predict, keys, 5, jnp.asarray(rows)))()
    assert np.var(found) == pytest.approx(recursion(rows), rel=0.05)
    lost = [1 - recursion(ddim.table(steps)) / s2 for steps in (20, 50, 250, 1000)]
    assert lost[0] > lost[1] > lost[2] > lost[3] > 0
    assert lost[2] < 0.03 and lost[3] < 0.01


# The generator


@pytest.fixture(scope="module")
def trained():
    column, labels = world()
    return rdm.fit(column, labels, 3, TINY, made_by={"sha256": "x"})


def test_an_untrained_generator_predicts_the_mean_and_training_parts_the_classes(trained):
    params = rdm_training._begin(jax.random.PRNGKey(0), SIZE, CLASSES, TINY).params
    untrained = dataclasses.replace(trained, params=params)
    column, labels = world()
    found, given = untrained.sample(labels, 0, steps=20)
    assert given.tolist() == labels.tolist()
    # x0 = 0 at every step: what is left is the noise of time 0, in standardised numbers.
    left = (found - trained.mean) / trained.deviation
    assert np.std(left) == pytest.approx(np.sqrt(1 - ddim.kept()[0]), rel=0.1)
    found, _ = trained.sample(labels, 0, steps=20)
    near = [np.mean(found[labels == c], axis=0) for c in range(CLASSES)]
    true = [np.mean(column[labels == c], axis=0) for c in range(CLASSES)]
    apart = np.linalg.norm(np.array(near)[:, None] - np.array(true), axis=2)
    assert apart.argmin(axis=1).tolist() == [0, 1, 2]


def test_a_vector_hangs_on_its_number_and_the_seed(trained):
    labels = np.array([2, 0, 1, 1, 2] * 19 + [0], np.int32)  # 96, as above: one program
    found, _ = trained.sample(labels, 0, steps=20)
    other = np.where(np.arange(96) < 50, labels, 0).astype(np.int32)
    again, _ = trained.sample(other, 0, steps=20)
    assert np.array_equal(found[:50], again[:50])
    third, _ = trained.sample(labels, 1, steps=20)
    assert not np.isclose(found, third).all(axis=1).any()
    for odd in (np.array([3]), np.array([-1])):
        with pytest.raises(ConfigError, match="has the labels 0 to 2"):
            trained.sample(odd, 0)
    with pytest.raises(ConfigError, match="--steps=0: type a number from 1 to 1000"):
        trained.sample(labels, 0, steps=0)


def test_killed_training_goes_on_to_the_same_bits(trained, tmp_path, monkeypatch):
    column, labels = world()
    keep = tmp_path / "unfinished"
    monkeypatch.setattr(rdm_training, "KEEP_EVERY", 0.0)
    monkeypatch.setattr(rdm_training, "_LOOK_EVERY", 10)
    rows, killed_at = rdm_training._rows, 25

    def killed(step, *others):
        if step == killed_at:
            raise KeyboardInterrupt
        begun.append(step)
        return rows(step, *others)

    begun: list[int] = []
    monkeypatch.setattr(rdm_training, "_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        rdm.fit(column, labels, 3, TINY, made_by={"sha256": "x"}, keep=keep)
    assert len(begun) == 25
    begun, killed_at = [], -1
    again = rdm.fit(column, labels, 3, TINY, made_by={"sha256": "x"}, keep=keep)
    assert begun[0] == 20 and begun[-1] == 40 * 3 - 1
    jax.tree.map(np.testing.assert_array_equal, again.params, trained.params)
    begun, killed_at = [], 1
    with pytest.raises(KeyboardInterrupt):  # what is kept of another column is not gone on with
        rdm.fit(column, labels, 3, TINY, made_by={"sha256": "y"}, keep=keep)
    assert begun == [0]
    again.save(tmp_path / "model.npz")
    loaded = rdm.load(tmp_path / "model.npz")
    assert (loaded.settings, loaded.seed, loaded.made_by) == (TINY, 3, {"sha256": "x"})
    jax.tree.map(np.testing.assert_array_equal, loaded.params, again.params)


def test_an_epoch_sees_each_row_once():
    seen = np.concatenate([rdm_training._rows(step, 96, 32, 7) for step in range(3)])
    assert sorted(seen.tolist()) == list(range(96))
    assert rdm_training._rows(3, 96, 32, 7).tolist() != seen[:32].tolist()


# Gaussians


def test_all_axes_give_numpys_moments_of_each_class():
    column, labels = world(4000)
    column[labels == 1] *= np.arange(1, SIZE + 1, dtype=np.float32)  # not all of one shape
    found = gaussians.fit(column, labels, SIZE)
    assert found.explained == pytest.approx(1) and found.shrinkage.max() < 0.05
    vectors, given = found.sample(20_000, 0)
    for c in range(CLASSES):
        true, made = column[labels == c], vectors[given == c]
        spread = np.cov(true.T)
        assert np.abs(made.mean(0) - true.mean(0)).max() < 0.05 * np.sqrt(np.trace(spread))
        assert np.linalg.norm(np.cov(made.T) - spread) < 0.05 * np.linalg.norm(spread)


def test_principal_axes_and_shrinkage_are_those_of_scikit_learn():
    covariance = pytest.importorskip("sklearn.covariance")
    decomposition = pytest.importorskip("sklearn.decomposition")
    column = world(12)[0]
    found = gaussians.fit(column, None, 3)
    pca = decomposition.PCA(3).fit((column - column.mean(0)) / column.std(0))
    assert found.explained == pytest.approx(pca.explained_variance_ratio_.sum(), rel=1e-5)
    rows = column[:20] - column[:20].mean(0)
    ours, share = gaussians.ledoit_wolf(rows)
    theirs = covariance.LedoitWolf(assume_centered=True).fit(rows)
    assert 0.01 < share == pytest.approx(theirs.shrinkage_, rel=1e-5)
    np.testing.assert_allclose(ours, theirs.covariance_, rtol=1e-4, atol=1e-5)


def test_a_share_chooses_axes_and_samples_stay_on_them():
    column, labels = world()
    few = gaussians.fit(column, None, 0.7)
    assert 0.7 <= few.explained < 1 and few.labels.tolist() == [-1]
    vectors, given = few.sample(50, 0)
    assert given.tolist() == [-1] * 50
    assert np.linalg.matrix_rank(vectors - few.mean, tol=1e-3) == len(few.axes) < SIZE
    longer, _ = few.sample(80, 0)
    assert np.array_equal(longer[:50], vectors)
    lonely = gaussians.fit(column, np.where(np.arange(96) == 5, 9, labels), 2)
    assert lonely.labels.tolist() == [0, 1, 2, 9]  # a class of one row has the others' spread
    assert np.std(lonely.sample(np.full(500, 9), 0)[0], axis=0).min() > 0.1
    for components, sentence in ((0.0, "type a share"), (np.inf, "up to 6"), (2.5, "whole number")):
        with pytest.raises(ValueError, match=sentence):
            gaussians.fit(column, labels, components)
    with pytest.raises(ValueError, match="all vectors are equal"):
        gaussians.fit(np.ones((4, 2)), None)
    with pytest.raises(ValueError, match="all vectors of a class are equal"):
        gaussians.fit(np.repeat(np.eye(2), 2, axis=0), np.array([0, 0, 1, 1]))


# Interpolation and noise


def test_interpolations_lie_between_two_different_rows_of_a_class():
    column, labels = world()
    mixed, given, parents = mixing.interpolated(column, labels, 3000, 5)
    a, b = column[parents[:, 0]].astype(np.float64), column[parents[:, 1]].astype(np.float64)
    assert (parents[:, 0] != parents[:, 1]).all()
    assert (labels[parents] == given[:, None]).all()
    weight = np.sum((mixed - a) * (b - a), axis=1) / np.sum((b - a) ** 2, axis=1)
    assert np.abs(a + weight[:, None] * (b - a) - mixed).max() < 1e-5
    assert np.abs(weight - 0.5).max() < 0.5 + 1e-6
    assert np.histogram(weight, 10, (0, 1))[0] == pytest.approx(np.full(10, 300), abs=75)
    assert len(np.unique(parents, axis=0)) > 1800  # of 3 x 32 x 31 pairs, about 1,890
    for one, longer in zip(
        (mixed, given, parents), mixing.interpolated(column, labels, 4000, 5), strict=True
    ):
        assert np.array_equal(one, longer[:3000])
    assert (mixing.interpolated(column, labels, 3000, 6)[2] != parents).any(axis=1).mean() > 0.9
    with pytest.raises(mixing.TooFew, match="9"):
        mixing.interpolated(column, np.where(np.arange(96) == 5, 9, labels), 10, 0)


def test_each_row_comes_once_before_any_comes_twice_and_classes_can_be_balanced():
    labels = np.repeat([4, 1], [30, 3])
    rows = mixing.drawn(labels, 66, 0)
    assert sorted(rows[:33].tolist()) == sorted(rows[33:].tolist()) == list(range(33))
    assert rows[:33].tolist() != rows[33:].tolist()
    assert np.bincount(labels[mixing.drawn(labels, 20, 0, per_class=True)])[[1, 4]].tolist() == [
        20,
        20,
    ]


def test_noise_has_its_size_in_standardised_numbers():
    column, _ = world(1000)
    column *= np.array([100, 1, 1, 1, 1, 0.01], np.float32)
    moved = (mixing.perturbed(column, 0.25, 0) - column) / column.std(0)
    assert moved.std(0) == pytest.approx(np.full(SIZE, 0.25), rel=0.05)
    assert np.array_equal(mixing.perturbed(column, 0.0, 0), column)
    part = mixing.perturbed(column[:10], 0.25, 0, column.std(0, dtype=np.float64))
    assert np.array_equal(part, mixing.perturbed(column, 0.25, 0)[:10])


# The verb


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Ninety-six pictures of three classes with columns of several kinds."""
    path = tmp_path_factory.mktemp("represent") / "real"
    picture = encoded(photograph(0, 16, 16), "PNG")
    with store.Writer(path) as writer:
        for row in range(96):
            writer.add(picture, label=row % CLASSES)
    column = world()[0]
    store.write_column(path, "rep:ours", column, {"encoder": "ours", "weights": "abc"})
    store.write_column(path, "rep:wide", np.tile(column, 2), {})
    store.write_column(path, "rep:other", column + 1, {})
    odd = column.copy()
    odd[7, 2] = np.nan
    store.write_column(path, "rep:odd", odd, {})
    store.write_index(path, "first", np.arange(12), {})
    store.write_index(path, "one", [0, 1, 3], {})
    return path


def represent(real, *words: str) -> None:
    cli.run(["represent", str(real), *words])


def read(path) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict]:
    with np.load(path) as file:
        made = tuple(file[name] for name in ("column", "label", "parents"))
        return *made, json.loads(str(file["made_by"]))


def test_the_verb_writes_recipes_of_each_kind(real, tmp_path, capsys):
    column, labels = world()
    out = tmp_path / "mixed.npz"
    represent(real, "--rep=ours", "--by=interpolate", "--count=4", "--per_class", f"--out={out}")
    found, label, parents, made_by = read(out)
    assert "12 vectors of 3 classes by interpolate, after rep:ours" in capsys.readouterr().out
    assert (found.shape, found.dtype) == ((12, SIZE), np.float32)
    assert (labels[parents] == label[:, None]).all() and np.bincount(label).tolist() == [4, 4, 4]
    assert made_by["column"]["made_by"] == {"encoder": "ours", "weights": "abc"}

    represent(real, "--rep=ours", "--by=perturb", "--count=12", "--index=first", "--sigma=0",
              f"--out={out}")  # fmt: skip
    found, label, parents, _ = read(out)
    assert sorted(parents[:, 0].tolist()) == list(range(12))
    assert np.array_equal(found, column[parents[:, 0]])

    represent(real, "--rep=ours", "--by=gaussian", "--count=5", "--ignore_labels", "--components=2",
              f"--out={out}")  # fmt: skip
    found, label, parents, made_by = read(out)
    assert label.tolist() == [-1] * 5 and parents.tolist() == [[-1]] * 5
    assert made_by["components"] == 2


def test_the_verb_trains_a_generator_once(real, tmp_path, capsys, monkeypatch):
    out, model = tmp_path / "made.npz", tmp_path / "made.rdm.npz"
    words = ["--rep=ours", "--by=rdm", "--count=32", "--per_class", "--steps=20", f"--out={out}"]
    represent(real, *words, *SIZES)
    assert str(model) in capsys.readouterr().out
    first = read(out)
    assert first[1].tolist() == [0, 1, 2] * 32 and np.isfinite(first[0]).all()
    monkeypatch.setattr(rdm, "fit", None)  # nothing is trained again
    represent(real, *words, *SIZES)
    assert np.array_equal(read(out)[0], first[0])
    for more, sentence in (
        ([*SIZES, "--seed=1"], "is a generator of another column, seed or settings"),
        (["--rep=wide", f"--model={model}"], "of 6 numbers, and those of rep:wide have 12"),
        (["--rep=other", f"--model={model}"], "was trained on another column (rep:ours)"),
        ([f"--model={model}", "--epochs=3"], "--epochs=3 is of training"),
        ([f"--model={real / 'store.json'}"], "is no representation generator, or damaged"),
        (["--model=/none.npz"], "--model=/none.npz is not there"),
    ):
        with pytest.raises(SystemExit):
            represent(real, *words, *more)
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--rep=our"], "did you mean --rep=ours? It has odd, other, ours, wide"),
        (["--rep=odd"], "the vector of image 7 has numbers that are not finite, as 1 of 96"),
        (["--by=interpolat"], "type one of rdm, gaussian, interpolate, perturb (did you mean in"),
        (["--by=interpolate", "--index=one"], "and class 1 has one: type another --by"),
        (["--count=0"], "--count: type a whole number from 1 on, not 0"),
        ([f"--count={10**14}"], "so many vectors do not fit into memory: type fewer"),
        (["--sigma=-1"], "--sigma=-1.0: type 0 or more"),
        (["--by=gaussian", "--sigma=1"], "--sigma=1.0 is of --by=perturb: leave it out"),
        (["--by=gaussian", "--components=99"], "--components=99: type a whole number up to 6"),
        (["--by=gaussian", "--ignore_labels", "--per_class"], "--ignore_labels was typed: leave"),
        (["--by=rdm", "--steps=1001"], "--steps=1001: type a number from 1 to 1000"),
        (["--out=made.npy"], "--out=made.npy: type a name that ends in .npz"),
    ],
)
def test_a_sentence_for_what_cannot_be(real, tmp_path, capsys, words, sentence):
    usual = ["--rep=ours", "--by=perturb", "--count=2", f"--out={tmp_path / 'x.npz'}"]
    with pytest.raises(SystemExit) as stopped:
        represent(real, *usual, *words)
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_store_without_labels(tmp_path, capsys):
    with store.Writer(tmp_path / "bare") as writer:
        for row in range(6):
            writer.add(encoded(photograph(row, 16, 16), "PNG"))
    store.write_column(tmp_path / "bare", "rep:ours", world(2)[0], {})
    words = ["--rep=ours", "--count=3", f"--out={tmp_path / 'x.npz'}"]
    represent(tmp_path / "bare", *words, "--by=gaussian")
    assert read(tmp_path / "x.npz")[1].tolist() == [-1] * 3
    for more, sentence in (
        (["--by=gaussian", "--per_class"], "--per_class counts vectors of a class, and"),
        (["--by=interpolate"], "has no labels: type --ignore_labels to mix any two"),
    ):
        with pytest.raises(SystemExit):
            represent(tmp_path / "bare", *words, *more)
        assert sentence in capsys.readouterr().err
    represent(tmp_path / "bare", *words, "--by=interpolate", "--ignore_labels")
    assert read(tmp_path / "x.npz")[2].shape == (3, 2)
