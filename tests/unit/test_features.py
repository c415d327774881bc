"""Evaluations on features: every image once, read once for all of them, and what they refuse."""

import dataclasses

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from jaxfdsl import config as c
from jaxfdsl import evaluators
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.evals import features, knn
from jaxfdsl.evals.features import Features, Shared
from tests import listed_pictures
from tests.listed_pictures import Listed

TRAIN = Listed(name="train", num_examples=70, broken=(0, 20, 69))
TEST = Listed(name="other", num_examples=45, broken=(3, 44))
LISTED = {"train": TRAIN, "test": TEST}


def sets():
    return c.tfds_source("train"), c.tfds_source("test")


@pytest.fixture(scope="module")
def built():
    config = listed_pictures.config(
        knn=c.knn_eval(*sets(), k=(3, 5)),
        few=c.few_shot_eval(*sets(), shots=(1, 3), seeds=2),
        map=c.mean_average_precision_eval(sets()[1]),
        top=c.accuracy_eval(sets()[1]),
    )
    with pytest.MonkeyPatch.context() as patch:
        scores, model = listed_pictures.build(config, patch, LISTED, jax.devices()[:1])
    return config, scores, model, model.init(jax.random.key(0))


def test_last_batches_and_corrupt_images_weigh_nothing(built):
    config, scores, model, params = built
    rows = [source.rows(np.arange(source.num_examples)) for source in (TRAIN, TEST)]
    valid, images, labels = (
        np.concatenate([part[name] for part in rows]) for name in ("valid", "image", "label")
    )
    images, labels = images[valid > 0], labels[valid > 0]
    images = augment.evaluate(images, config.augment, listed_pictures.SIZE)
    outputs = jax.jit(lambda x: model.apply(params, x, train=False))(images)
    given = [
        Features(np.asarray(outputs["features"])[part], labels[part], 6)
        for part in (slice(0, 67), slice(67, 110))
    ]
    expected = dict(knn.evaluate(*given, k=(3, 5), temperature=0.07))
    assert dict(scores["knn"](params)) == expected
    assert expected["top1"] > 0.3
    logits, asked = np.asarray(outputs["logits"])[67:], labels[67:]
    assert len(asked) == 43
    each = [average_precision_score(asked == i, logits[:, i]) for i in range(6)]
    assert dict(scores["map"](params))["map"] == pytest.approx(np.mean(each), abs=1e-6)
    top1 = np.mean(logits.argmax(axis=1) == asked)
    assert dict(scores["top"](params))["top1"] == pytest.approx(top1)


def test_evaluations_of_the_same_sets_share_their_features(built, monkeypatch):
    _, scores, _, params = built
    counted, collect = [], features.collect
    monkeypatch.setattr(evaluators, "collect", lambda *args: counted.append(1) or collect(*args))
    first = [dict(scores[name](params)) for name in ("knn", "few")]
    assert len(counted) == 2
    assert set(first[1]) == {"top1_1shot", "top1_3shot"}
    changed = jax.tree.map(lambda x: x + 0.1, params)
    assert [dict(scores[name](changed)) for name in ("knn", "few")] != first
    assert len(counted) == 4


def test_shared_features_are_let_go_of_when_all_have_read_them():
    shared, made = Shared(), []
    for _ in range(2):
        shared.join("set")
    for params in ([1], [1], [2]):
        for _ in range(2):
            shared.get("set", params, lambda: made.append(1) or TRAIN_FEATURES)
        assert not shared._found
    assert len(made) == 3


TRAIN_FEATURES = Features(np.ones((9, 4), np.float32), np.arange(9, dtype=np.int32) % 5, 6)
TEST_FEATURES = Features(np.ones((6, 4), np.float32), np.arange(6, dtype=np.int32), 6)


def test_a_batch_of_no_valid_row_is_passed_over_but_not_a_whole_set():
    def rows(values, valid):
        return {"x": np.array(values), "valid": np.array(valid, np.float32)}

    batches = [rows([0, 9, 2], [1, 0, 1]), rows([9, 9, 9], [0, 0, 0]), rows([3, 4, 9], [1, 1, 0])]
    found = features.collect(lambda params, rows: rows, None, batches)
    assert found["x"].tolist() == [0, 2, 3, 4]
    with pytest.raises(ValueError, match="no valid example"):
        features.collect(lambda params, rows: rows, None, batches[1:2])


@pytest.mark.parametrize(
    ("kind", "options", "train", "sentence"),
    [
        ("knn", {"num_train": 4}, {}, r"k=\(10, 20, 200\) goes beyond the 4 training images"),
        ("knn", {"num_train": 71}, {}, r"num_train=71 is more than train's 70"),
        ("knn", {}, {"num_examples": None}, r"num_train=0 means all, and train has no end"),
        ("knn", {}, {"num_classes": 5}, r"train has 5 classes and evals.x.source has 6"),
        ("knn", {"k": ()}, {}, r"k=\(\): type a number above 0"),
        ("knn", {"temperature": 0.0}, {}, "temperature=0.0: type a number above 0"),
        ("linear_probe", {"held_out": 1.0}, {}, "held_out=1.0: type a number between 0 and 1"),
        ("few_shot", {}, {"scenes": True}, r"train \(train\) has not one class an image"),
    ],
    ids=["k", "num_train", "endless", "classes", "no k", "temperature", "held_out", "scenes"],
)
def test_what_cannot_be_evaluated_is_refused_before_training(
    kind, options, train, sentence, monkeypatch
):
    config = listed_pictures.config(x=c.EVALS[kind](*sets(), **options))
    listed = {**LISTED, "train": dataclasses.replace(TRAIN, **train)}
    with pytest.raises(ConfigError, match=rf"evals\.x\.{sentence}"):
        listed_pictures.build(config, monkeypatch, listed)


def test_a_class_with_too_few_training_images_is_refused(built, monkeypatch):
    _, scores, _, params = built
    given = iter([TRAIN_FEATURES, TEST_FEATURES, TEST_FEATURES, TEST_FEATURES])
    monkeypatch.setattr(Shared, "get", lambda self, key, params, make: next(given))
    with pytest.raises(ConfigError, match=r"evals.few.source has images of class 5 and .* none"):
        list(scores["few"](params))
    with pytest.raises(ConfigError, match=r"evals.few.shots=3, and class 0 has 1 training images"):
        list(scores["few"](params))


def test_a_head_of_other_classes_cannot_be_scored(monkeypatch):
    config = listed_pictures.config(x=c.accuracy_eval(c.tfds_source("train")))
    listed = {"train": dataclasses.replace(TRAIN, num_classes=5)}
    with pytest.raises(ConfigError, match="source has 5 classes and the model has 6"):
        listed_pictures.build(config, monkeypatch, listed)
