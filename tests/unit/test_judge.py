"""Made sets beside real ones: formulas by hand, identities, and the verb."""

import json
import types

import numpy as np
import pytest

from jaxfdsl import cli
from jaxfdsl.data import store
from jaxfdsl.evals import knn
from jaxfdsl.judge import balls, command, frechet, kernel, manifold, measures
from jaxfdsl.judge.measures import COPIES, Points

WIDTH = 6


def points(count, seed, shift=0.0, spread=1.0):
    chance = np.random.default_rng(seed)
    return (5 + shift + spread * chance.normal(size=(count, WIDTH))).astype(np.float32)


REAL, MADE = points(90, 0), points(70, 1, shift=0.3, spread=0.8)


def apart(some, others):
    """All distances, in float64."""
    wide = some.astype(np.float64)[:, None] - others.astype(np.float64)
    return np.sqrt(np.square(wide).sum(axis=-1))


def by_hand(real, made, k, k_density):
    """The four measures from all distances, as their papers write them."""
    between = apart(real, made)
    own = {n: np.sort(apart(real, real))[:, n] for n in (k, k_density)}
    theirs = np.sort(apart(made, made))[:, k]
    return {
        "precision": (between < own[k][:, None]).any(axis=0).mean(),
        "recall": (between < theirs).any(axis=1).mean(),
        "density": (between < own[k_density][:, None]).sum() / k_density / len(made),
        "coverage": (between.min(axis=1) < own[k_density]).mean(),
    }


def test_neighbours_are_those_of_all_distances_in_float64(monkeypatch):
    monkeypatch.setattr(knn, "BLOCK", 32)  # three blocks
    monkeypatch.setattr(knn, "QUERIES", 32)
    for metric, told in (("euclidean", apart(MADE, REAL)), ("cosine", None)):
        if told is None:
            unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (MADE, REAL)]
            told = -np.asarray(unit[0], np.float64) @ np.asarray(unit[1], np.float64).T
        near, values = knn.neighbours(REAL, MADE, 5, metric)
        np.testing.assert_array_equal(near, np.argsort(told, axis=1)[:, :5])
        sign = 1 if metric == "euclidean" else -1
        np.testing.assert_allclose(values, sign * np.sort(told, axis=1)[:, :5], rtol=1e-6)


def test_of_equal_neighbours_the_first_rows_are_nearer():
    many = np.repeat(REAL[:5], 6, axis=0)
    near, told = knn.neighbours(many, REAL[:5], 4, "euclidean")
    np.testing.assert_array_equal(near, 6 * np.arange(5)[:, None] + np.arange(4))
    assert (told == 0).all()


def test_precision_recall_density_and_coverage_are_those_by_hand():
    found = manifold.measures(REAL, MADE, 3, 5)
    assert found == pytest.approx(by_hand(REAL, MADE, 3, 5), abs=1e-12)
    assert 0 < found["recall"] < found["coverage"] < 1  # or the comparison would say little
    chance = np.random.default_rng(3)
    mixed = manifold.measures(chance.permutation(REAL), chance.permutation(MADE), 3, 5)
    assert mixed == pytest.approx(found, abs=1e-12)


def test_a_set_beside_itself_and_beside_one_far_away():
    found = measures.compare(Points(REAL), Points(REAL))["made"]
    shares = [found[name] for name in ("precision", "recall", "density", "coverage")]
    # Density is 1 because the neighbour on a ball's surface is outside: in float32 alone it is not.
    assert shares == [1, 1, 1, 1]
    assert abs(found["frechet"]) < 1e-10 and found["nearest_real_50%"] == 0
    assert manifold.measures(REAL, REAL + 1000) == dict.fromkeys(
        ("precision", "recall", "density", "coverage"), 0.0
    )


def test_a_point_on_the_surface_of_a_ball_is_outside():
    centres = REAL[:40]
    radii = knn.distances(centres, np.broadcast_to(MADE[0], centres.shape))
    just_more = np.nextafter(radii, np.inf)
    assert balls.holding(MADE[:1], centres, radii).tolist() == [0]
    assert balls.holding(MADE[:1], centres, just_more).tolist() == [40]


def test_the_frechet_distance_of_known_gaussians():
    chance = np.random.default_rng(0)
    turn = np.linalg.qr(chance.normal(size=(4, 4)))[0]
    some, others = np.array([4.0, 1.0, 0.25, 0.0]), np.array([1.0, 9.0, 0.25, 0.0])
    # With common axes it is the distance of the means, and of the deviations axis by axis.
    found = frechet.of_gaussians(
        np.zeros(4), turn @ np.diag(some) @ turn.T, np.ones(4), turn @ np.diag(others) @ turn.T
    )
    assert found == pytest.approx(4 + np.square(np.sqrt(some) - np.sqrt(others)).sum(), abs=1e-7)
    # In two dimensions tr (AB)^(1/2) is the root of tr(AB) + 2 (det AB)^(1/2), whatever the axes.
    one, other = np.cov(chance.normal(size=(2, 9))), np.cov(chance.normal(size=(2, 9)))
    product = one @ other
    common = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(one) + np.trace(other) - 2 * common
    found = frechet.of_gaussians(np.zeros(2), one, np.zeros(2), other)
    assert found == pytest.approx(expected, rel=1e-9)
    # Moments in parts are numpy's; few vectors, whose covariance has no full rank, are at 0 too.
    mean, covariance = frechet.moments(REAL)
    np.testing.assert_allclose(mean, REAL.mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(REAL.T.astype(np.float64)), rtol=1e-9)
    assert abs(frechet.distance(REAL[:4], REAL[:4])) < 1e-6


def test_the_kernel_distance_is_unbiased(monkeypatch):
    some, others = REAL.astype(np.float64), MADE.astype(np.float64)
    total = 0.0
    for one in (some, others):
        told = [(x @ y / WIDTH + 1) ** 3 for i, x in enumerate(one) for y in np.delete(one, i, 0)]
        total += np.mean(told)
    expected = total - 2 * np.mean([(x @ y / WIDTH + 1) ** 3 for x in some for y in others])
    assert kernel.distance(REAL, MADE) == pytest.approx(expected, rel=1e-9)
    # Sets of one distribution: estimates on both sides of 0, where Frechet's are all above.
    pairs = [(points(30, 10 + n), points(30, 50 + n)) for n in range(12)]
    signs = {np.sign(kernel.distance(*pair)) for pair in pairs}
    assert signs == {-1, 1} and min(frechet.distance(*pair) for pair in pairs) > 0.5
    # A part of a large set is of all classes, whatever the order that they were made in.
    monkeypatch.setattr(kernel, "PART", 60)
    in_turn = np.arange(240)[:, None] % 4
    some, others = (0.3 * points(240, n) + in_turn for n in (1, 2))
    assert abs(kernel.distance(some, np.random.default_rng(0).permutation(others))) < 100


def test_copies_of_training_images_are_seen_beside_held_out_ones():
    labels = np.arange(90) % 3
    copies = REAL[:70] + np.float32(1e-3)
    found = measures.compare(
        Points(copies, labels[:70]), Points(REAL, labels), Points(points(50, 7)), per_class=True
    )
    assert found["made"][COPIES] == 1.0 and found["made"]["coverage"] == pytest.approx(70 / 90, 0.3)
    assert found["made"]["nearest_real_50%"] < 0.01 < found["held_out"]["nearest_real_1%"]
    assert "label_agreement" in found["made"] and "label_agreement" not in found["held_out"]
    alone = manifold.measures(REAL[labels == 1], copies[labels[:70] == 1])
    assert {name: found["classes"][1][name] for name in alone} == alone
    assert [found["classes"][n]["real_images"] for n in range(3)] == [30, 30, 30]


def written(path, values, *, made_by=None, labels=True):
    with store.Writer(path) as writer:
        for row in range(len(values)):
            writer.add(bytes([row]), label=row % 2 if labels else -1)
    store.write_column(
        path, "rep:tiny", values, made_by or {"encoder": "tiny", "weights": "a" * 64}
    )
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("judge")
    written(root / "made", MADE[:40])
    written(root / "real", REAL)
    store.write_index(root / "real", "trained", np.arange(60), {})
    store.write_index(root / "made", "few", np.arange(4), {})
    written(root / "other", REAL, made_by={"encoder": "tiny", "weights": "b" * 64})
    written(root / "wide", np.ones((8, 3), np.float32))
    written(root / "bare", REAL[:30], labels=False)
    odd = REAL[:30].copy()
    odd[7, 2] = np.nan
    written(root / "odd", odd)
    return root


def test_the_verb_prints_and_keeps_a_table(stores, capsys):
    words = ["--rep=tiny", f"--real={stores / 'real'}"]
    cli.run(["judge", str(stores / "made"), *words, "--real_index=trained", "--per_class"])
    said = capsys.readouterr().out
    kept = json.loads((stores / "made" / "judge.json").read_text())["tiny"]
    assert kept["made"]["images"] == 40 and kept["held_out"]["images"] == 30
    expected = by_hand(REAL[:60], MADE[:40], 3, 5)
    assert {name: kept["made"][name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert "held-out real" in said and f"{expected['coverage']:.4g}" in said
    assert kept["asked"]["real"]["column"] == "rep:tiny" and set(kept["classes"]) == {"0", "1"}


def test_what_cannot_be_read_is_not_held_out(stores):
    store.write_index(stores / "odd", "tiny-readable", np.delete(np.arange(30), 7), {})
    asked = {"real": str(stores / "odd"), "real_index": "tiny-readable", "k": 3, "k_density": 5}
    asked |= {"held_out": "", "split": "train", "data_dir": ""}
    real, held_out = command._real(types.SimpleNamespace(**asked), "rep:tiny")
    assert len(real.values) == 29 and held_out is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["made", "--real={}/other"],
            "are of different encoders (weights aaaaaaaaaaaa... and bbbb",
        ),
        (["made", "--real={}/wide"], "has 6 numbers an image, and rep:tiny of"),
        (["made", "--real={}/odd"], "1 of 30 vectors are not finite, the first is that of row 7"),
        (["made", "--real={}/bare", "--per_class"], "--per_class needs labels, and image 0 of"),
        (["made", "--real={}/real", "--index=few"], "--k_density=5 needs 6 images or more, and"),
        (["made", "--real={}/real", "--held_out={}/real"], "is what --real is: type other images"),
        (["made", "--real={}/made"], "has images of the set that is judged"),
    ],
)
def test_what_cannot_be_judged_is_one_sentence(stores, capsys, words, sentence):
    words = [str(stores / words[0]), *(word.format(stores) for word in words[1:])]
    with pytest.raises(SystemExit) as caught:
        cli.run(["judge", "--rep=tiny", *words])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and sentence in said and len(said.splitlines()) == 1
