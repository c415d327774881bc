"""Features of a set on one device and on eight, its last batch not full: the same rows in order."""

import jax
import numpy as np

from jaxfdsl import config as c
from jaxfdsl import evaluators
from tests import listed_pictures
from tests.listed_pictures import Listed

LISTED = {
    "train": Listed(name="train", num_examples=70, broken=(20,)),
    "test": Listed(name="other", num_examples=45, broken=(3, 44)),
}


def scores(count, monkeypatch):
    """Each set's features, and what the evaluations make of them, on that many devices."""
    train, test = c.tfds_source("train"), c.tfds_source("test")
    config = listed_pictures.config(
        knn=c.knn_eval(train, train, k=(1,)),
        few=c.few_shot_eval(train, test, shots=(3,)),
        map=c.mean_average_precision_eval(test),
    )
    collected, collect = [], evaluators.collect
    built, model = listed_pictures.build(config, monkeypatch, LISTED, jax.devices()[:count])
    with monkeypatch.context() as patch:
        patch.setattr(
            evaluators, "collect", lambda *args: collected.append(collect(*args)) or collected[-1]
        )
        params = model.init(jax.random.key(0))
        found = {name: dict(evaluator(params)) for name, evaluator in built.items()}
    return collected, found


def test_eight_devices_see_the_features_of_one(monkeypatch):
    sets, one = scores(1, monkeypatch)
    assert sorted(len(found["label"]) for found in sets) == [43, 69]
    others, eight = scores(8, monkeypatch)
    for ours, theirs in zip(sets, others, strict=True):
        np.testing.assert_array_equal(theirs["label"], ours["label"])
        np.testing.assert_allclose(theirs["embedding"], ours["embedding"], atol=1e-5)
    assert one["knn"]["top1"] == eight["knn"]["top1"] == 1.0  # each image finds itself
    assert eight["few"] == one["few"]
    np.testing.assert_allclose(eight["map"]["map"], one["map"]["map"], rtol=1e-4)
