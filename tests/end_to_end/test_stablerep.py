"""StableRep+ from a store of captioned pictures: trained on one and on eight devices, evaluated by
captions, and used to choose pictures.
"""

import json

import jax
import numpy as np
import pytest

from jaxfdsl import cli, experiment, sharding
from jaxfdsl import config as c
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.data import store
from jaxfdsl.data.tokens import Bytes
from jaxfdsl.run import resume
from jaxfdsl.select import agreement
from tests.mesh.cases import MESHES, ONE, devices, rows_of
from tests.photographs import encoded, photograph

CAPTIONS = [f"{size} {name}" for size in ("a small", "a large") for name in ("cat", "dog", "owl")]
EACH = 4  # pictures of a caption; of classes 0, 1, 2, 0, 1, 2 by caption
EIGHT = MESHES["data"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """24 pictures; row r is seed r // 6 of caption r % 6."""
    path = tmp_path_factory.mktemp("stablerep") / "pets"
    with store.Writer(path, classes=("cat", "dog", "owl"), shard_images=10) as writer:
        for row in range(EACH * len(CAPTIONS)):
            group = row % len(CAPTIONS)
            data = encoded(photograph(row, 16, 16), "PNG")
            writer.add(data, label=group % 3, group=group, seed=row // 6, caption=CAPTIONS[group])
    return path


def recipe(path, shape=ONE):
    config = c.default_config()
    config.update(batch_size=16, steps=3, dtype="float32")
    config.mesh.update(dict(zip(sharding.AXES, shape, strict=True)))
    config.model.update(image_size=16, patch_size=8, width=16, depth=1, num_heads=2)
    config.model.projector.update(hidden=16, output=8)
    config.model.text.update(width=16, depth=1, num_heads=2, context=16, output=8)
    # Adam's steps have the sign of a gradient, which rounding turns where it is nearly 0.
    config.optimizer.update(name="sgd", learning_rate=0.1)
    config.objective.classify.weight = 0.0
    config.objective.contrast.weight = config.objective.align.weight = 1.0
    config.data.group_size = 4
    config.data.sources.pets = c.store_source(str(path), size=16)
    config.evals.words = c.zero_shot_eval(
        config.data.sources.pets, templates=("a {}", "{}s"), batch_size=16
    )
    config.evals.found = c.retrieval_eval(config.data.sources.pets, k=(1, 2), batch_size=16)
    return config


def trained(path, shape):
    parts = experiment.build(recipe(path, shape), devices(shape))
    state, losses = parts.start(), []
    for number in range(3):
        state, metrics = parts.train_step(
            state, jax.random.key(0), rows_of(parts, number), parts.tables
        )
        losses.append(float(metrics["loss"]))
    return parts, state, losses


@pytest.fixture(scope="module")
def alone(pictures):
    return trained(pictures, ONE)


@pytest.fixture(scope="module")
def spread(pictures):
    return trained(pictures, EIGHT)


@pytest.fixture(scope="module")
def workdir(pictures, alone, tmp_path_factory):
    """The run on one device as a user has it."""
    folder = tmp_path_factory.mktemp("run")
    saved = Checkpoints(folder / "checkpoints", keep=1, tell=print)
    saved.save(3, alone[1], resume.meta(alone[0]))
    saved.close()
    (folder / "config.json").write_text(c.to_json(recipe(pictures, EIGHT)))
    return folder


def seen(pictures, parts, state):
    """Unit embeddings of all pictures in the store's order, and a function that gives captions'."""
    opened, tokens = store.open(pictures), Bytes(context=16)
    raw = np.stack([np.asarray(photograph(row, 16, 16)) for row in range(len(opened))])
    mean, std = (np.array(x) * 255 for x in (c.IMAGENET_MEAN, c.IMAGENET_STD))
    params = jax.device_get(state["params"])
    images = ((raw - mean) / std).astype(np.float32)
    embedded = jax.jit(lambda p, x: parts.model.apply(p, x, train=False)["image_embedding"])
    tower = jax.jit(parts.model.text.apply)
    return unit(embedded(params, images)), lambda said: unit(tower(params["text"], tokens(said)))


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_eight_devices_learn_what_one_does(alone, spread):
    """Groups of 4 pictures lie on devices of 2."""
    np.testing.assert_allclose(spread[2], alone[2], rtol=1e-4)
    one, other = (jax.device_get(made[1]["params"]) for made in (alone, spread))
    for (path, x), y in zip(
        jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(other), strict=True
    ):
        np.testing.assert_allclose(x, y, atol=2e-5, err_msg=jax.tree_util.keystr(path))
    before = jax.device_get(alone[0].start()["params"])
    moved = [np.abs(x - y).max() for x, y in zip(*map(jax.tree.leaves, (one, before)), strict=True)]
    assert np.median(moved) > 1e-3


def test_evaluations_by_captions_are_those_of_plain_numpy(pictures, alone, spread):
    for parts, state, _ in (alone, spread):
        images, read = seen(pictures, parts, state)
        labels, owners = np.arange(24) % 3, np.arange(24) % 6
        classes = unit(np.stack([read([f"a {n}", f"{n}s"]).mean(0) for n in ("cat", "dog", "owl")]))
        expected = np.mean(np.argmax(images @ classes.T, axis=1) == labels)
        assert dict(parts.evaluators["words"](state["params"])) == {"top1": expected}
        cosines, found = images @ read(CAPTIONS).T, {}
        for k in (1, 2):
            near = np.argsort(-cosines, axis=1)[:, :k]
            found[f"image_to_text_r{k}"] = np.mean((near == owners[:, None]).any(1))
            near = np.argsort(-cosines.T, axis=1)[:, :k]
            found[f"text_to_image_r{k}"] = np.mean((near % 6 == np.arange(6)[:, None]).any(1))
        assert dict(parts.evaluators["found"](state["params"])) == pytest.approx(found)


def test_the_verb_evaluates_a_checkpoint_by_captions(pictures, workdir, capsys, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nowl\n")
    command = ["evaluate", str(workdir), f"--data=store:{pictures}"]
    cli.run([*command, "--evals=zero_shot,retrieval", f"--names={names}", "--batch_size=24"])
    found = dict(line.split(" ", 1) for line in capsys.readouterr().out.splitlines())
    assert found["step"] == "3"
    assert {"pets_zero_shot/top1", "pets_retrieval/text_to_image_r10"} <= found.keys()
    names.write_text("cat\ndog\n")
    with pytest.raises(SystemExit):
        cli.run([*command, "--evals=zero_shot", f"--names={names}"])
    assert "has 3 classes and 2 names of them: type --names=FILE" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["evaluate", "evaluate --data", "select"])
def test_captions_are_read_as_in_training(pictures, alone, workdir, capsys, monkeypatch, words):
    assert alone[0].identity["objective.align.tokenizer"] == "bytes-16"
    told = {
        "evaluate": ["evaluate", str(workdir)],
        "evaluate --data": ["evaluate", str(workdir), f"--data=store:{pictures}", "--evals=knn"],
        "select": ["select", str(pictures), "--by=agreement", f"--model={workdir}", "--out=x"],
    }
    monkeypatch.setattr(Bytes, "identity", "bytes-8")  # as of a file that was changed since
    with pytest.raises(SystemExit):
        cli.run(told[words])
    sentence = "checkpoints/3 was trained with (that was bytes-16, this is bytes-8): put that file"
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"objective.align.weight": 0.0}, "scores what objective.align trains, which is off"),
        ({"evals.words.templates": ("cat",)}, "templates has 'cat': type templates that hold {}"),
        ({"evals.words.templates_file": "/none.txt"}, "templates_file='/none.txt' cannot be read"),
        ({"accumulate": 2, "objective.contrast.weight": 0.0}, "objective.align compares all"),
        (
            {"augment.mixup": 0.8, "objective.contrast.weight": 0.0, "data.group_size": 1},
            "augment.mixup=0.8 makes one image of two, which belongs to no group (objective.align)",
        ),
        ({"evals.found.k": (0,)}, "found.k=(0,): type a number above 0"),
    ],
)
def test_what_cannot_be_compared_with_captions_is_refused(pictures, change, sentence):
    config = recipe(pictures)
    for name, value in change.items():
        group, _, key = name.rpartition(".")
        c.field(config, group)[key] = value
    with pytest.raises(c.ConfigError) as caught:
        c.validate(config, num_devices=1)
        experiment.build(config, devices(ONE))
    assert sentence in str(caught.value)


def test_images_that_agree_with_their_caption_are_chosen(
    pictures, alone, workdir, capsys, monkeypatch
):
    images, read = seen(pictures, *alone[:2])
    cosines = np.sum(images * read(CAPTIONS)[np.arange(24) % 6], axis=1)
    words = ["select", str(pictures), "--by=agreement", f"--model={workdir}", "--per=caption"]
    monkeypatch.setattr(agreement, "PART", 10)
    parts, calls = pictures / "score" / "agreement.parts", []
    whole = agreement._scorer

    def stopped(workdir):
        score, made_by = whole(workdir)

        def once(opened, rows):
            calls.append(rows[0])
            if len(calls) == 2:
                raise KeyboardInterrupt
            return score(opened, rows)

        return once, made_by

    monkeypatch.setattr(agreement, "_scorer", stopped)
    with pytest.raises(SystemExit):
        cli.run([*words, "--out=good"])
    assert [file.name for file in parts.glob("*.done")] == ["000000000000.done"]
    cli.run([*words, "--out=good"])  # goes on with the second part
    assert calls == [0, 10, 10, 20] and not parts.exists()
    capsys.readouterr()
    opened = store.open(pictures)
    np.testing.assert_allclose(opened.column("score:agreement"), cosines, atol=1e-5)
    kept = opened.index("good")
    assert np.bincount(kept % 6).tolist() == [2] * 6  # half of each caption's four
    for group in range(6):
        rows = np.arange(group, 24, 6)
        best = rows[np.argsort(-cosines[rows])[:2]]
        assert set(best) == set(kept[kept % 6 == group])
    with (pictures / "index" / "good.json").open() as file:
        made_by = json.load(file)["made_by"]
    assert made_by["per"] == "caption" and made_by["scored"]["step"] == 3
    assert (pictures / "index" / "good.png").stat().st_size > 5000
    cli.run([*words, "--out=good"])
    assert "score:agreement is there already" in capsys.readouterr().out
    assert list(opened.verify())
