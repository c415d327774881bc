"""Choosing rows by a score: shares, ties, balance, refusals."""

import numpy as np
import pytest

from jaxfdsl import cli
from jaxfdsl.data import store
from jaxfdsl.evals import knn
from jaxfdsl.select import representation, rows
from tests.photographs import encoded, photograph


def test_the_same_share_of_every_group_stays():
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat([7, 2, 5], [30, 10, 3]))
    scores = rng.standard_normal(43)
    kept = rows.best(scores, groups, 0.1)
    assert (np.diff(kept) > 0).all()
    for group, count in ((7, 3), (2, 1), (5, 1)):
        there = np.flatnonzero(groups == group)
        expected = there[np.argsort(-scores[there])[:count]]
        assert set(kept[groups[kept] == group]) == set(expected)


def test_all_stay_at_one_and_ties_go_to_the_first_rows():
    assert rows.best(np.zeros(5), np.zeros(5, np.int64), 1.0).tolist() == [0, 1, 2, 3, 4]
    assert rows.best(np.zeros(5), np.zeros(5, np.int64), 0.4).tolist() == [0, 1]


def test_what_cannot_be_used_never_stays():
    scores = np.array([-np.inf, 1.0, -np.inf, 2.0, 3.0])
    groups = np.array([0, 0, 1, 2, 2])
    assert rows.best(scores, groups, 1.0).tolist() == [1, 3, 4]


def test_the_worst_and_any_are_as_many_of_each_group():
    scores = np.array([5.0, 1.0, 4.0, -np.inf, 2.0, 3.0, 0.0, 7.0])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    assert rows.worst(scores, groups, 0.5).tolist() == [1, 2, 4, 6]
    drawn = [rows.chance(scores, groups, 0.5, seed) for seed in range(20)]
    assert all(np.bincount(groups[kept]).tolist() == [2, 2] for kept in drawn)
    assert set(np.concatenate(drawn).tolist()) == {0, 1, 2, 4, 5, 6, 7}
    assert rows.chance(scores, groups, 0.5, 3).tolist() == drawn[3].tolist()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Eight pictures of two classes, without captions, with three scores."""
    path = tmp_path_factory.mktemp("select") / "made"
    with store.Writer(path) as writer:
        for row in range(8):
            writer.add(encoded(photograph(row, 16, 16), "PNG"), label=row % 2)
    scores = np.arange(8, dtype=np.float32)
    store.write_column(path, "score:place", scores, {"by": "hand"})
    store.write_column(path, "score:odd", np.where(scores == 5, np.nan, scores), {})
    store.write_column(path, "rep:both", np.zeros((8, 2), np.float32), {})
    return path


WIDTH, OURS = 6, {"encoder": "tiny", "weights": "a" * 64}


def filled(path, values, labels, **columns):
    with store.Writer(path) as writer:
        for row, label in enumerate(labels):
            writer.add(encoded(photograph(row % 3, 8, 8), "PNG"), label=int(label))
    for name, column in {"tiny": values, **columns}.items():
        store.write_column(path, f"rep:{name}", column.astype(np.float32), OURS)
    return path


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """30 real images of two clusters, and 8 made ones, of which one is a copy and two are equal."""
    root, chance = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    labels = np.arange(30) % 2
    real = chance.normal(size=(30, WIDTH)) + 8 * labels[:, None]
    values = chance.normal(size=(8, WIDTH)) + 8 * np.array([0, 1, 0, 1, 0, 1, 1, 0])[:, None]
    values[2], values[5] = real[4], values[3]
    asked = values + chance.normal(size=values.shape)
    filled(root / "real", real, labels)
    filled(root / "made", values, np.arange(8) % 2, asked=asked)
    filled(root / "bare", real, np.full(30, -1))
    filled(root / "wide", np.ones((8, 3)), np.arange(8) % 2, asked=asked)
    store.write_column(root / "wide", "rep:odd", np.full((8, 3), np.inf, np.float32), OURS)
    store.write_column(root / "real", "rep:odd", np.zeros((30, 3), np.float32), OURS)
    other = {**OURS, "weights": "b" * 64}
    store.write_column(root / "real", "rep:other", real.astype(np.float32), other)
    store.write_column(root / "made", "rep:other", values.astype(np.float32), OURS)
    return root


def test_scores_in_representation_space_are_those_by_hand(sets):
    opened, real = store.open(sets / "made"), store.open(sets / "real")
    values, reference, asked = (
        np.asarray(part.column(f"rep:{name}"), np.float64)
        for part, name in ((opened, "tiny"), (real, "tiny"), (opened, "asked"))
    )
    apart = np.linalg.norm(values[:, None] - reference, axis=2)
    nearest = np.argsort(apart, axis=1)[:, :5]
    among = np.linalg.norm(values[:, None] - values, axis=2) + np.diag(np.full(8, np.inf))
    some, others = ((one - asked.mean(0)) / asked.std(0) for one in (values, asked))
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    expected = {
        "faithfulness": (some * others).sum(axis=1) / lengths,
        "label_agreement": (nearest % 2 == (np.arange(8) % 2)[:, None]).mean(axis=1),
        "density": -np.sort(apart, axis=1)[:, :5].mean(axis=1),
        "novelty": apart.min(axis=1),
        "duplicates": among.min(axis=1),
    }
    for by, told in expected.items():
        beside = representation.Beside(str(sets / "real"))
        assert representation.write(opened, by, "tiny", beside) == f"score:tiny-{by}"
        np.testing.assert_allclose(opened.column(f"score:tiny-{by}"), told, rtol=1e-5, atol=1e-6)
    assert expected["label_agreement"].tolist() == [1, 1, 1, 1, 1, 1, 0, 0]
    assert expected["novelty"][2] == 0 and expected["duplicates"][[3, 5]].tolist() == [0, 0]
    assert (expected["duplicates"][[0, 1, 2, 4, 6, 7]] > 0).all()


def test_a_score_is_made_once_and_again_for_another_reference(sets, capsys, monkeypatch):
    words = ["select", str(sets / "made"), "--by=novelty", "--rep=tiny", "--keep=0.25", "--out=new"]
    cli.run([*words, f"--real={sets / 'bare'}", "--per=class"])
    capsys.readouterr()
    monkeypatch.setattr(knn, "neighbours", None)  # what is there is not computed again
    cli.run([*words, f"--real={sets / 'bare'}", "--per=class", "--worst"])
    said = capsys.readouterr().out
    assert "score:tiny-novelty is there already" in said and "2 of 8 images (worst)" in said
    assert 2 in store.open(sets / "made").index("new")  # the copy
    with pytest.raises(TypeError):
        cli.run([*words, f"--real={sets / 'real'}"])


def test_the_images_of_a_list_are_scored_among_each_other(sets, capsys):
    """As a list of those that can be read needs, whose column has NaN in other rows."""
    opened = store.open(sets / "made")
    values = np.array(opened.column("rep:tiny"))
    values[6] = np.nan
    store.write_column(sets / "made", "rep:torn", values, OURS)
    store.write_index(sets / "made", "torn-readable", np.array([0, 1, 2, 4, 5, 7]), {})
    words = ["select", str(sets / "made"), "--by=duplicates", "--rep=torn", "--keep=0.5"]
    with pytest.raises(SystemExit):
        cli.run([*words, "--out=x"])
    assert "type an index without them, such as torn-readable" in capsys.readouterr().err
    cli.run([*words, "--out=x", "--index=torn-readable"])
    found = opened.column("score:torn-duplicates-torn-readable")
    assert np.flatnonzero(np.isneginf(found)).tolist() == [3, 6]
    assert found[5] > 0  # its copy, row 3, is not of the list
    assert set(opened.index("x")) < {0, 1, 2, 4, 5, 7}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["made", "--by=density"], "--by=density needs --rep: type the NAME"),
        (["made", "--by=density", "--rep=tiny"], "--by=density needs --real: type the store"),
        (["made", "--by=novelty", "--rep=no", "--real={}/real"], "'rep:no' is not there"),
        (["made", "--by=novelty", "--rep=other", "--real={}/real"], "are of different encoders"),
        (["wide", "--by=novelty", "--rep=tiny", "--real={}/real"], "has 3 numbers an image, and"),
        (["wide", "--by=faithfulness", "--rep=tiny"], "and rep:asked of"),
        (["wide", "--by=novelty", "--rep=odd", "--real={}/real"], "8 of 8 vectors are not finite"),
        (["real", "--by=faithfulness", "--rep=tiny"], "needs the column rep:asked, which"),
        (["made", "--by=label_agreement", "--rep=tiny", "--real={}/bare"], "needs labels, and"),
        (["bare", "--by=duplicates", "--rep=tiny", "--per=class"], "type --per=all"),
        (["made", "--by=novelty", "--rep=tiny", "--real={}/made"], "is the store that is chosen"),
        (
            ["made", "--by=density", "--rep=tiny", "--real={}/real", "--k=31"],
            "--k=31 needs 31 images or",
        ),
        (["made", "--by=duplicates", "--rep=tiny", "--real={}/real"], "leave them out"),
        (["made", "--by=duplicates", "--rep=tiny", "--worst", "--random=1"], "exclude each other"),
        (["made", "--by=duplicates", "--rep=tiny", "--metric=l1"], "one of euclidean, cosine"),
    ],
)
def test_a_set_that_cannot_be_scored_is_one_sentence(sets, capsys, words, sentence):
    with pytest.raises(SystemExit) as caught:
        cli.run(["select", "--out=x", str(sets / words[0]), *(w.format(sets) for w in words[1:])])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and sentence in said and len(said.splitlines()) == 1


def test_an_index_of_the_best_of_each_class(made, capsys):
    cli.run(["select", str(made), "--by=score:place", "--per=class", "--keep=0.25", "--out=top"])
    assert "2 of 8 images: index 'top'" in capsys.readouterr().out
    assert store.open(made).index("top").tolist() == [6, 7]
    store.write_index(made, "some", np.array([0, 1, 3, 4]), {})
    words = ("--index=some", "--per=class", "--keep=0.5", "--out=top-of-some")
    cli.run(["select", str(made), "--by=score:odd", *words])  # its odd row is none of them
    assert "2 of 4 images: index 'top-of-some'" in capsys.readouterr().out
    assert store.open(made).index("top-of-some").tolist() == [3, 4]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--by=score:place", "--keep=0"], "--keep=0.0: type a share above 0, up to 1"),
        (["--by=score:place", "--keep=1.5"], "--keep=1.5: type a share above 0, up to 1"),
        (["--by=score:odd"], "1 of 8 scores are no numbers, the first is that of row 5"),
        (["--by=score:place", "--index=none"], "the index 'none' is not there"),
        (["--by=score:none"], "the column 'score:none' is not there"),
        (["--by=rep:both"], "--by=rep:both is no score: type score:NAME, agreement or one of"),
        (["--by=score:place", "--per=caption"], "image 0 of"),
        (["--by=score:place", "--per=seed"], "--per=seed: type one of class, caption, recipe, all"),
        (["--by=agreement"], "--by=agreement needs --model"),
        (["--by=score:place", "--model=x"], "is there already: leave it out"),
        (["--by=agreement", "--model=/none"], "has no caption, as 8 of 8"),
        (["--by=score:place", "--out=a/b"], "'a/b' is no name of an index"),
    ],
)
def test_a_mistake_is_one_sentence(made, capsys, words, sentence):
    with pytest.raises(SystemExit) as caught:
        cli.run(["select", str(made), "--out=x", *words])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and sentence in said and len(said.splitlines()) == 1
