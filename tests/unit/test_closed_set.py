"""The CIFAR-10 experiment: every row can be made from what comes before it, and what is claimed."""

import importlib
import pathlib

import pytest

BENCHMARKS = pathlib.Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def closed_set(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("closed_set_recipes")


def test_every_row_is_made_once_from_what_comes_before_it(closed_set):
    jobs = closed_set.plan(list(closed_set.ROWS), [0, 1, 2])
    names = list(jobs)
    for place, job in enumerate(jobs.values()):
        assert set(job.needs) <= set(names[:place])
    made = {job.arm for job in jobs.values() if job.kind == "set"}
    assert made == {row.made for row in closed_set.ROWS.values()} - {""} == set(closed_set.SETS)
    classifiers = [(job.arm, job.seed) for job in jobs.values() if job.kind == "classifier"]
    assert sorted(classifiers) == sorted(
        (row, seed) for row in closed_set.ROWS for seed in range(3)
    )
    folders = [name.lower() for name in names]  # macOS does not tell case
    assert len(set(folders)) == len(names)
    # What the first claim needs is not behind what it does not.
    assert names.index("classifier-rep-1x-seed2") < names.index("denoiser-cluster")
    few = closed_set.plan(["class-1x"], [0])
    assert "denoiser-rep" not in few and "encoder-other" in few


def test_claims_are_read_from_the_seeds(closed_set):
    table = importlib.import_module("closed_set_table")
    nan = float("nan")
    values = {"rep-1x": [40, 42, 41], "class-1x": [38, 39, 37], "class-3x": [39, 39, 39]}
    values |= {"rep-3x": [44, nan, 44], "rep-either": [40, 40, 42], "rep-best": [41, 42, 41]}
    values |= {"rep-agreeing": [39, 39, 39], "rep-random": [40, 40, 42]}
    told = [verdict for _, verdict in table.claims(values)]
    assert told[0] == "holds (+3.00, the seeds' ranges are apart)"
    assert told[1:4] == ["not measured"] * 3  # a seed is missing, rows are
    assert told[4].startswith("holds (+0.67, the seeds' ranges are NOT apart")
    assert told[5].startswith("does not hold (-1.67")
    overlapping = table.claims(values | {"class-1x": [38, 41, 37]})[0][1]
    assert overlapping.startswith("does not hold (+2.33")
    whole = table.claims(values | {"rep-3x": [44, 44, 44]})[1][1]
    assert whole == "holds (class +1.00, rep +3.00 from 1x to 3x)"
