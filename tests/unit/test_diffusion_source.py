"""Samples of a denoiser: as a set on the disk, and as a source of training images."""

import io
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxfdsl import checkpoint, cli, config, experiment
from jaxfdsl.config import ConfigError, validation
from jaxfdsl.data import batches, sources, store
from jaxfdsl.data import condition as conditions
from jaxfdsl.data.sources import Group
from jaxfdsl.diffusion import recipes, sampling, source
from tests.photographs import encoded, photograph

WIDTH = 6  # numbers of a representation
MADE_BY = {"encoder": "small", "weights": "a1"}
QUICK = {"steps": 2, "method": "euler"}


def denoiser_config(**changes):
    cfg = config.default_config()
    cfg.objective.classify.weight = 0.0
    cfg.objective.denoise.weight = 1.0
    cfg.data.condition = "rep:small+label"
    cfg.data.sources.real = config.store_source("real", size=8)
    cfg.model.update(variant="dit_s", width=32, depth=1, num_heads=2, image_size=8, patch_size=4)
    cfg.augment.update(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    cfg.dtype, cfg.steps = "float32", 1
    for name, value in changes.items():
        cfg.update_from_flattened_dict({name: value})
    return cfg


def run_at(path, cfg, condition, *steps):
    """A run's folder with a checkpoint of random numbers, none of them zero, at each step."""
    model = experiment.denoiser_of(cfg, condition.size)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    kept = checkpoint.Checkpoints(path / "checkpoints", keep=9, tell=print)
    for step in steps:
        rng = np.random.default_rng(step)

        def drawn(x, rng=rng):
            return jnp.asarray(0.1 * rng.standard_normal(x.shape), jnp.float32)

        params = jax.tree.map(drawn, shapes)
        state = {"step": jnp.int32(step), "params": params, "opt_state": ()}
        meta = {"config": json.loads(config.to_json(cfg)), "condition": condition.describe()}
        kept.save(step, {**state, "ema": jax.tree.map(lambda x: x + 0.01, params)}, meta)
    kept.close()


def altered(path, run, cfg, condition):
    """A copy of a run that says of itself that it is another."""
    shutil.copytree(run / "checkpoints" / "20", path / "checkpoints" / "20")
    file = path / "checkpoints" / "20" / "meta" / "metadata"
    said = {"config": json.loads(config.to_json(cfg)), "condition": condition.describe()}
    file.write_text(json.dumps({**json.loads(file.read_text()), **said}))


@pytest.fixture(scope="module")
def vectors():
    return np.random.default_rng(0).standard_normal((5, WIDTH)).astype(np.float32) * 3 + 1


@pytest.fixture(scope="module")
def place(tmp_path_factory, vectors):
    """A store of five images with vectors, and runs that were trained on it and on others."""
    root = tmp_path_factory.mktemp("diffusion")
    with store.Writer(root / "real", classes=["cat", "dog"], card={"licence": "CC0"}) as writer:
        for row in range(5):
            writer.add(encoded(photograph(row, 8, 8), "PNG"), label=row % 2)
    store.write_column(root / "real", "rep:small", vectors, MADE_BY)
    store.write_column(root / "real", "rep:other", vectors, {**MADE_BY, "weights": "b2"})
    store.write_column(root / "real", "rep:wide", np.ones((5, 9), np.float32), MADE_BY)
    store.write_column(root / "real", "rep:odd", np.where(vectors > 5, np.nan, vectors), MADE_BY)
    store.write_index(root / "real", "few", [3, 1], {})
    where = {"data.sources.real.path": str(root / "real")}
    cfg, classes = (denoiser_config(**where, **{"data.condition": kind})
                    for kind in ("rep:small+label", "label"))  # fmt: skip
    both, label = (batches.from_config(one).condition for one in (cfg, classes))
    run_at(root / "run", cfg, both, 10, 20)
    for name, condition, change in (
        ("classes", label, {"data.condition": "label"}),
        ("larger", both, {"model.image_size": 16}),
        ("blind", both, {"objective.denoise.hidden": 0.0}),
        ("plain", both, {"objective.denoise.weight": 0.0}),
    ):
        altered(root / name, root / "run", denoiser_config(**change), condition)
    return root


WORDS = ("--sample_steps=2", "--method=euler", "--to=store", "--batch=1", "--shard_images=5")


@pytest.fixture(scope="module")
def made(place):
    """A sampler, its recipes, and 21 images of them in a store, as the verb writes it; and a copy
    of that folder as a kill would leave it at the 18th."""
    out, words = place / "made", [f"--recipes={place / 'real'}", "--images=21", *WORDS]
    with pytest.MonkeyPatch.context() as patch:
        add = store.Writer.add

        def watched(writer, *args, **how):
            add(writer, *args, **how)
            if len(writer) == 18:
                shutil.copytree(out, place / "killed")

        patch.setattr(store.Writer, "add", watched)
        cli.run(["materialise", str(place / "run"), *words, "--out", str(out)])
    found = sampling.load(str(place / "run"), **QUICK)
    return found, recipes.load(str(place / "real"), found.condition), store.open(out)


def pixels(opened, rows):
    return np.stack([np.asarray(Image.open(io.BytesIO(x))) for x in opened.read(rows)])


def test_a_row_says_what_it_was_made_of(made, vectors):
    sampler, asked, opened = made
    assert len(opened) == 21 and opened.classes == ("cat", "dog")
    assert opened.column("group").tolist() == [i % 5 for i in range(21)]
    assert opened.column("seed").tolist() == [i // 5 for i in range(21)]
    assert opened.column("label").tolist() == [i % 5 % 2 for i in range(21)]
    np.testing.assert_array_equal(opened.column("rep:asked"), vectors[np.arange(21) % 5])
    images = pixels(opened, range(21))
    assert len(np.unique(images.reshape(21, -1), axis=0)) == 21
    assert 10 < images.std() < 110  # neither black, white nor one colour
    card = opened.card
    assert (card["weights"], card["steps"], card["guidance"]) == (sampler.digest, 2, 1.0)
    assert card["recipes_sha256"] == asked.digest and card["sampler"] == "euler"
    assert "store real: CC0" in card["licence"] and "the encoder was trained on" in card["licence"]


def test_a_killed_set_goes_on_to_the_same_bytes(place, made):
    whole, killed = place / "made", place / "killed"
    assert store.layout.load(killed).images == 15
    (killed / "rep").mkdir()  # a column that does not say what it is
    (killed / "rep" / "asked.npy").write_bytes(b"half")
    cli.run(["materialise", str(place / "run"), f"--recipes={place / 'real'}", "--images=21",
             *WORDS, "--out", str(killed)])  # fmt: skip
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(killed) for p in killed.rglob("*") if p.is_file())
    for file in files:
        if file.name != "writer.lock":
            assert (whole / file).read_bytes() == (killed / file).read_bytes(), file


@pytest.fixture(scope="module")
def images_of(made):
    """One program that makes eight images, as a training step does; of parameters and rows."""
    shown = source.of(made[0], made[1], images=21)
    fields = jax.jit(shown.fields)

    def images(params, rows):
        fill = {name: np.resize(value, (8, *value.shape[1:])) for name, value in rows.items()}
        made = fields(fill, params)
        return {name: np.asarray(value)[: len(rows["seed"])] for name, value in made.items()}

    return images


def rows_of(asked, recipe, numbers):
    """What the sampler takes, of the recipes `recipe` with the noise of images `numbers`."""
    seeds = recipes.noise_seeds(*asked.of(np.asarray(numbers)))
    return {"cond": asked.cond[recipe], "seed": seeds, "label": asked.label[recipe]}


def far(one, other):
    """The largest difference of each pair of images."""
    return np.abs(np.asarray(one, int) - np.asarray(other, int)).max(axis=(1, 2, 3))


def test_an_image_hangs_on_its_recipe_and_seed_alone(made, images_of):
    """Whatever batch it is in, and wherever in that."""
    sampler, asked, opened = made
    numbers = np.array([20, 3, 3, 17, 8, 0, 1, 2])
    found = images_of(sampler.params, rows_of(asked, numbers % 5, numbers))
    assert far(found["image"], pixels(opened, numbers)).max() <= 1
    other = images_of(sampler.params, rows_of(asked, (numbers + 1) % 5, numbers))
    assert far(other["image"], found["image"]).min() > 1  # the condition says something
    # Recipes with the same seed are not made of one noise.
    seeds = recipes.noise_seeds(np.arange(1000), np.zeros(1000, int))
    assert len(np.unique(seeds, axis=0)) == 1000 and len(np.unique(seeds[:, 0])) == 1000


def test_the_average_is_what_is_sampled_from(place, made):
    params, _ = checkpoint.load_params(place / "run" / "checkpoints" / "20")
    assert made[0].step == 20 and made[0].digest == sampling.digest_of(params)
    assert sampling.load(str(place / "run"), step=10).digest != made[0].digest


def test_guidance_is_the_published_formula(place, made):
    """One Euler step of x - (w v(x | c) + (1 - w) v(x)), and with a weaker model its v(x | c)."""
    plain, asked, _ = made
    how = {"guidance": 3.0, "steps": 1, "method": "euler"}
    weak, free = (sampling.load(str(place / "run"), **how, weaker=w) for w in ("10", ""))
    assert weak.identity != free.identity and weak.digest == free.digest == plain.digest
    given = asked.cond, np.arange(10, dtype=np.uint32).reshape(5, 2)
    strong, other = weak.params["model"], weak.params["weaker"]
    # The learned vector in place of the condition, by way of a bias that is added to both.
    bias = strong["time2"]["bias"] + strong["no_cond"]
    null = {**strong, "time2": {**strong["time2"], "bias": bias}}
    null["cond_embed"] = {"kernel": np.zeros_like(strong["cond_embed"]["kernel"])}
    autoguided = jax.jit(weak.flow)

    def step(params):  # x - v(x | c)
        return autoguided({"model": params, "weaker": params}, *given)

    alone, apart = step(strong), step(other)
    assert np.abs(alone - apart).max() > 0.1
    np.testing.assert_allclose(autoguided(weak.params, *given), 3 * alone - 2 * apart, atol=1e-4)
    unconditional = step(null)
    assert np.abs(alone - unconditional).max() > 0.1
    found = jax.jit(free.flow)(free.params, *given)
    np.testing.assert_allclose(found, 3 * alone - 2 * unconditional, atol=1e-4)


def test_without_guidance_nothing_else_is_computed(made, images_of):
    """Whatever the learned null vector is, guidance 1 is the conditional model."""
    sampler, asked, opened = made
    spoilt = {**sampler.params["model"], "no_cond": np.full(32, np.nan, np.float32)}
    found = images_of({"model": spoilt}, rows_of(asked, np.arange(5), np.arange(5)))
    assert far(found["image"], pixels(opened, range(5))).max() <= 1


def test_a_source_shows_the_same_images(made, images_of):
    sampler, asked, opened = made
    finite = source.of(sampler, asked, images=21, seed=4)
    rows = finite.rows(np.arange(42))
    seeds = recipes.noise_seeds(*asked.of(np.arange(21)))
    order = np.concatenate([np.flatnonzero((seeds == seed).all(1)) for seed in rows["seed"]])
    assert sorted(order[:21]) == sorted(order[21:]) == list(range(21))  # each once an epoch
    assert list(order[:21]) != list(order[21:]) and list(order[:21]) != list(range(21))
    fields = images_of(finite.table, {name: value[:8] for name, value in rows.items()})
    assert far(fields["image"], pixels(opened, order[:8])).max() <= 1
    np.testing.assert_array_equal(fields["label"], order[:8] % 5 % 2)
    assert finite.num_classes == 2 and finite.class_names == ("cat", "dog")


def test_an_endless_source_shows_each_recipe_once_a_round(made):
    endless = source.of(made[0], made[1], seed=4)
    recipe, seed = endless._places(np.arange(20))
    assert endless.num_examples is None and (seed == np.arange(20) // 5).all()
    rounds = recipe.reshape(4, 5)
    assert (np.sort(rounds) == np.arange(5)).all() and len({*map(tuple, rounds.tolist())}) > 1
    of_class = endless.rows_of(1, 3)
    assert (of_class["label"] == 1).all() and len(np.unique(of_class["seed"], axis=0)) == 3


@pytest.mark.parametrize("images", [0, 31])
def test_a_group_is_of_one_recipe(made, images):
    grouped = source.of(made[0], made[1], images=images, group=Group(3), seed=2)
    recipe, seed = (x.reshape(-1, 3) for x in grouped._places(np.arange(3 * 10)))
    assert (recipe == recipe[:, :1]).all()
    assert all(len(set(views)) == 3 for views in seed.tolist())
    assert (np.bincount(recipe[:, 0]) == 2).all()
    assert seed.max() < (6 if images else 7)
    rows = grouped.rows(np.arange(30))
    assert (rows["cond"].reshape(10, 3, -1) == rows["cond"].reshape(10, 3, -1)[:, :1]).all()


def test_what_decides_the_images_is_in_the_fingerprint(place, made):
    sampler, asked, _ = made
    prints = [
        source.of(sampler, asked).fingerprint,
        source.of(sampler, asked, images=21).fingerprint,
    ]
    fewer = recipes.Recipes(cond=asked.cond[:4], label=asked.label[:4], name="x")
    prints.append(source.of(sampler, fewer).fingerprint)
    for how in ({"guidance": 2.0}, {"steps": 3}, {"method": "heun"}, {"step": 10}):
        other = sampling.load(str(place / "run"), **{**QUICK, **how})
        prints.append(source.of(other, asked).fingerprint)
    assert len({*prints}) == len(prints)
    assert source.of(sampler, asked, seed=9, train=False).fingerprint == prints[0]


def test_recipes_of_a_file(place, made, vectors, tmp_path):
    by = json.dumps({"by": "gaussians", "of": MADE_BY})
    np.savez(tmp_path / "a.npz", column=vectors[::-1], label=np.arange(5) % 2, made_by=by)
    found = recipes.load(str(tmp_path / "a.npz"), made[0].condition)
    np.testing.assert_array_equal(found.cond[:, :WIDTH], made[1].cond[::-1, :WIDTH])
    assert found.made_by["by"] == "gaussians" and found.group.tolist() == [0, 1, 2, 3, 4]
    classes = sampling.load(str(place / "classes")).condition
    assert recipes.load("labels", classes).cond.tolist() == [[1, 0], [0, 1]]
    assert recipes.load(str(place / "real"), classes).label.tolist() == [0, 1, 0, 1, 0]
    some = recipes.load(f"{place / 'real'}:rep:small@few", made[0].condition)
    np.testing.assert_array_equal(some.cond, made[1].cond[[3, 1]])
    alone = recipes.load("", conditions.unconditional())
    assert len(alone) == 1 and alone.label.tolist() == [-1]


def test_recipes_of_the_training_data(place, made, vectors):
    sampler, asked, _ = made
    found = recipes.load("", sampler.condition, sampler.config)
    order = [np.flatnonzero((vectors == row).all(axis=1))[0] for row in found.column]
    assert sorted(order) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(found.cond, asked.cond[order])
    np.testing.assert_array_equal(found.label, asked.label[order])
    formula = denoiser_config(**{"data.condition": "recipe"})
    formula.data.sources.real = config.formula_source(num_classes=3, size=16)
    told = batches.from_config(formula).condition
    found = recipes.load("data", told, formula)
    assert found.label.tolist() == [0, 1, 2] and abs(found.cond.mean()) < 1e-6


REFUSED = [
    ("run", ["--guidance=-1"], "--guidance=-1: type 0 or more"),
    ("run", ["--sample_steps=0"], "--sample_steps=0: type 1 or more"),
    ("run", ["--method=huen"], "--method='huen' is not known: type heun"),
    ("run", ["--weaker=10"], "has no part in --guidance=1"),
    ("run", ["--guidance=2", "--weaker=WHERE/classes"], "data.condition='label' of 2 numbers"),
    ("run", ["--guidance=2", "--weaker=WHERE/larger"], "makes images of 16 pixels"),
    ("run", ["--guidance=2", "--weaker=30"], "checkpoints/30 holds no checkpoint"),
    ("blind", ["--guidance=2"], "has not learned (objective.denoise.hidden=0)"),
    ("plain", [], "a run without objective.denoise, which makes no images"),
    ("real", [], "holds no checkpoint: type the workdir of a denoiser's run"),
    ("run", ["--recipes=WHERE/none"], "is no store"),
    ("run", ["--recipes=WHERE/real:rep:other"], "vectors of another encoder's weights (b2, and"),
    ("run", ["--recipes=WHERE/real:rep:wide"], "was made of 6 numbers an image"),
    ("run", ["--recipes=WHERE/real:rep:odd"], "vectors are not finite"),
    ("run", ["--recipes=WHERE/real:rep:no"], "the column 'rep:no' is not there"),
    ("run", ["--recipes=WHERE/none.npz"], "is not there: type the path of a recipes file"),
    ("run", ["--recipes=WHERE/empty.npz"], "is no recipes file, or damaged"),
    ("run", ["--recipes=WHERE/words.npz"], "has <U1[3] in `column`, which is no row of numbers"),
    ("run", ["--recipes=tfds:cifar10"], "type data, which is what the run was told of its own"),
    ("run", ["--recipes=labels"], "tells a class alone"),
    ("classes", ["--recipes=data"], "data.sources.real.path='real'"),
    ("run", ["--recipes=WHERE/real@no"], "the index 'no' is not there"),
    ("classes", ["--recipes=WHERE/real:rep:small"], "names a column, and the run was trained with"),
    ("run", ["--to=folder"], "samples of a run go to a store"),
    ("run", ["--size=8"], "--size is for formula data sets"),
    ("run", ["--images=0"], "--images=0: type 1 or more"),
    ("run", [f"--images={10**26}"], "type 2147483647 or less"),
    ("run", ["--steps=5"], "--steps is no option, is it --sample_steps?"),
    ("run", ["--recipes=WHERE/real", "--images=5", "--out=WHERE/made"], "type 21 or more"),
    ("run", ["--recipes=WHERE/real", "--images=30", "--out=WHERE/made"], "holds another data set"),
]


@pytest.mark.parametrize(("name", "words", "sentence"), REFUSED)
def test_a_mistake_is_one_sentence(place, made, tmp_path, capsys, name, words, sentence):
    (place / "empty.npz").write_bytes(b"")
    np.savez(place / "words.npz", column=np.array(["a", "b", "c"]), label=np.zeros(3, int))
    words = [word.replace("WHERE", str(place)) for word in words]
    usual = ["--to=store", f"--out={tmp_path / 'new'}"]
    with pytest.raises(SystemExit) as caught:
        cli.run(["materialise", str(place / name), *usual, *words])
    said = capsys.readouterr().err
    assert caught.value.code == 2 and sentence in said and len(said.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_options_of_runs_are_not_of_formulas(tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.run(["materialise", "fractaldb-1k", "--to=store", f"--out={tmp_path}", "--images=3"])
    assert "--images is for samples of a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"guidance": -0.5}, "data.sources.a.guidance=-0.5: type 0 or more"),
        ({"steps": 0}, "data.sources.a.steps=0: type 1 or more"),
        ({"images": -1}, "data.sources.a.images=-1"),
        ({"path": ""}, "data.sources.a.path='' names no run"),
        ({"images": 9}, "fewer than data.group_size=2: type --config.data.sources.a.images=10"),
    ],
)
def test_a_source_that_cannot_be_is_named_with_its_field(place, fields, words):
    usual = {"path": str(place / "run"), "recipes": str(place / "real")}
    entry = config.diffusion_source(**{**usual, **fields})
    with pytest.raises(ConfigError) as error:
        sources.build(entry, seed=0, train=True, field="data.sources.a", group=Group(2))
    assert str(error.value).startswith("data.sources.a") and words in str(error.value)
    if "group_size" not in words:
        cfg = denoiser_config()
        cfg.data.sources.a = entry
        with pytest.raises(ConfigError, match=r"data\.sources\.a"):
            validation.check(cfg, num_devices=1)
