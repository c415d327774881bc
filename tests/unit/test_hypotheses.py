"""Every run of configs/hypotheses.py is a valid config whose data can be loaded."""

import jax
import numpy as np
import pytest

from jaxfdsl import config as c
from jaxfdsl import experiment, generators, load_config
from jaxfdsl.configs import hypotheses
from jaxfdsl.generators import catalog

RECIPE = "configs/hypotheses.py"


def found(family, count, seed, **_):
    """A search that takes whatever comes."""
    return np.arange(count, dtype=np.uint32)


@pytest.mark.parametrize("name", hypotheses.RUNS)
def test_every_run_builds(name, monkeypatch):
    monkeypatch.setattr(catalog, "search", found)
    config = load_config(f"{RECIPE}:{name}")
    c.validate(config, num_devices=1)
    if name != "rcdb":  # all have one model
        config.model.depth = 1
    run = experiment.build(config, devices=jax.devices()[:1])
    source = run.batches.sources["images"]
    assert (source.num_classes, source.num_examples) == (1000, 1_000_000)
    assert run.total_steps == 1_171_875
    assert config.evals.held_out.source.options == config.data.sources.images.options


@pytest.mark.parametrize("name", hypotheses.SEARCHED)
def test_systems_of_few_parameters_are_searched(name, tmp_path):
    kind = catalog.FAMILIES[name]
    numbers = generators.search(kind(varying=3), 2, seed=1, cache_dir=tmp_path)
    assert not np.array_equal(numbers, generators.search(kind(), 2, seed=1, cache_dir=tmp_path))
    with pytest.raises(ValueError, match=f"load '{name}' with num_classes=1000"):
        generators.load(f"{name}-1k", varying=3)


def test_the_published_rows_are_there():
    runs = hypotheses.RUNS
    assert {"perlin", "dead_leaves", "bezier", "rcdb", "fractaldb"} <= set(runs)
    assert runs["rcdb-broken"]["options"] == {"broken_lines": 1000}
    points = [runs[f"fractaldb-{n}points"]["options"]["num_points"] for n in hypotheses.POINTS]
    assert points == [500, 1000, 10_000, 50_000, 100_000, 200_000]
    for name, counts in hypotheses.VARYING.items():
        most = len(catalog.FAMILIES[name].VARYING)
        assert min(counts) >= 1 and max(counts) < most


def test_a_wrong_name_is_answered_with_the_nearest():
    with pytest.raises(c.ConfigError, match=r"the nearest is .*:rcdb-broken\.$"):
        load_config(f"{RECIPE}:rcdb-brokn")
