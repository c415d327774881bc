"""Formula entries of a config: what is loaded, and what is refused."""

import jax
import numpy as np
import pytest

from jaxfdsl import config, generators
from jaxfdsl.config import ConfigError
from jaxfdsl.data import sources


@pytest.fixture(scope="module")
def entry(shared_data):
    table = str(shared_data / "fractaldb1k" / "csv_rate0.2_category1000")
    options = {"num_points": 2000}
    return config.formula_source(
        "fractaldb", table=table, num_classes=5, instances=8, size=24, options=options
    )


def test_a_source_draws_what_the_data_set_draws(entry):
    source = sources.build(entry, seed=7, train=True)
    rows = source.rows(np.arange(6))
    drawn = jax.jit(source.fields)(rows, source.table)
    category, instance = rows["recipe"].T
    dataset = generators.load(
        "fractaldb", table=entry.table, num_classes=5, instances=8, size=24, num_points=2000
    )
    expected = dataset.draw(instance.astype(np.int64) * 5 + category)
    np.testing.assert_array_equal(drawn["image"], expected["image"])
    np.testing.assert_array_equal(drawn["label"], expected["label"])
    assert source.num_examples == 40
    assert (source.size, source.channels) == (24, dataset.channels)


def test_instances_to_look_at_are_spread_over_the_set(entry):
    source = sources.build(entry, seed=0, train=True)
    np.testing.assert_array_equal(source.rows_of(2, 4)["recipe"], [[2, 0], [2, 2], [2, 4], [2, 6]])
    held_out = sources.build(config.held_out(entry), seed=0, train=False)
    shown = held_out.rows_of(1, 200)["recipe"]
    assert (shown[:, 0] == 1).all() and (shown[:, 1] >= 2**31).all()
    assert len(np.unique(shown[:, 1])) == 200
    assert len(np.unique(shown[:, 1] // 40 % 25)) == 25, "all weight rows are among the held-out"
    again = sources.build(config.held_out(entry), seed=7, train=False)
    np.testing.assert_array_equal(again.rows_of(1, 200)["recipe"], shown)


def test_zero_instances_are_endless_and_shuffled_labels_are_for_training_alone(entry):
    endless = config.formula_source(
        "fractaldb", table=entry.table, num_classes=5, instances=0, size=24, shuffle_labels=True
    )
    assert sources.build(endless, seed=0, train=True).num_examples is None
    assert "label" in sources.build(endless, seed=0, train=True).rows(np.arange(3))
    assert "label" not in sources.build(endless, seed=0, train=False).rows(np.arange(3))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "exfractaldb-2k"}, "did you mean 'exfractaldb-21k'"),
        ({"options": {"weigths": "none"}}, "did you mean 'weights'?"),
        ({"name": "fractaldb", "table": "/no/such/folder"}, "/no/such/folder"),
        ({"held_out": True}, "type --config.data.sources.a.held_out=False"),
    ],
)
def test_what_cannot_be_loaded_is_named_with_its_field(fields, words):
    with pytest.raises(ConfigError) as error:
        sources.build(config.formula_source(**fields), seed=0, train=True, field="data.sources.a")
    assert str(error.value).startswith("data.sources.a")
    assert words in str(error.value)


def test_an_unknown_kind_is_refused():
    entry = config.formula_source()
    entry.kind = "files"
    kinds = "'formula', 'tfds', 'folder', 'parquet'"
    with pytest.raises(ConfigError, match=f"kind='files' is unknown: type one of {kinds}"):
        sources.build(entry, seed=0, train=True)


def test_the_host_draws_the_same_batch_as_the_device():
    on = {
        where: sources.build(
            config.formula_source("exfractaldb-1k", size=32, draw_on=where),
            seed=1,
            train=True,
        )
        for where in ("device", "host")
    }
    rows = {where: source.rows(np.arange(9)) for where, source in on.items()}
    assert "image" not in rows["device"] and on["host"].decodes and not on["device"].decodes
    assert rows["host"]["image"].shape == (9, 32, 32, 1)
    fields = {where: jax.jit(on[where].fields)(rows[where], on[where].table) for where in on}
    assert fields["host"].keys() == fields["device"].keys()
    for name, values in fields["device"].items():
        np.testing.assert_array_equal(np.asarray(values), np.asarray(fields["host"][name]))
    assert on["host"].fingerprint == on["device"].fingerprint
    with pytest.raises(ConfigError, match=r"a\.draw_on='tpu': type --config\.a\.draw_on=device"):
        sources.build(config.formula_source(draw_on="tpu"), seed=0, train=True, field="a")
