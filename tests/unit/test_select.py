"""Choosing rows by a score: shares, ties, balance, refusals."""

import numpy as np
import pytest

from jaxfdsl import cli
from jaxfdsl.data import store
from jaxfdsl.select import rows
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


def test_an_index_of_the_best_of_each_class(made, capsys):
    cli.run(["select", str(made), "--by=score:place", "--per=class", "--keep=0.25", "--out=top"])
    assert "2 of 8 images: index 'top'" in capsys.readouterr().out
    assert store.open(made).index("top").tolist() == [6, 7]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--by=score:place", "--keep=0"], "--keep=0.0: type a share above 0, up to 1"),
        (["--by=score:place", "--keep=1.5"], "--keep=1.5: type a share above 0, up to 1"),
        (["--by=score:odd"], "1 of 8 scores are no numbers, the first is that of row 5"),
        (["--by=score:none"], "the column 'score:none' is not there"),
        (["--by=rep:both"], "--by=rep:both is no score: type score:NAME, or agreement"),
        (["--by=score:place", "--per=caption"], "image 0 of"),
        (["--by=score:place", "--per=seed"], "--per=seed: type one of class, caption, all"),
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
