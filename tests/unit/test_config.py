"""The config: what may be typed, what is refused and in which words, what comes back from JSON."""

import ast
import json
import pathlib
import types

import jax
import pytest

from jaxfdsl import config as c
from jaxfdsl import experiment, load_config
from jaxfdsl.config import path as config_path

RECIPES = config_path.packaged_names()


def small() -> c.ConfigDict:
    config = c.default_config()
    config.steps = 10
    config.data.sources.fractals = c.formula_source("fractaldb-1k", num_classes=8, size=32)
    config.evals.held_out = c.accuracy_eval(
        c.held_out(config.data.sources.fractals), num_examples=64
    )
    return config.lock()


def refusal(config: c.ConfigDict, num_devices: int = 1, num_processes: int = 1) -> str:
    with pytest.raises(c.ConfigError) as caught:
        c.validate(config, num_devices=num_devices, num_processes=num_processes)
    return str(caught.value)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("num_devices", [1, 8])
def test_every_recipe_loads_and_validates(recipe, num_devices):
    config = load_config(recipe)
    c.validate(config, num_devices=num_devices)
    assert (
        c.from_json(c.to_json(config)).to_dict() == config.copy_and_resolve_references().to_dict()
    )


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_a_card_of_at_most_80_lines_with_its_command(recipe):
    text = pathlib.Path(config_path.resolve(recipe)).read_text()
    docstring = ast.get_docstring(ast.parse(text))
    assert len(text.splitlines()) <= 80
    assert "python -m jaxfdsl.main" in docstring
    assert recipe in docstring or recipe == "configs/demo.py"


def test_the_main_recipe_has_the_published_numbers():
    config = load_config("configs/vitb_exfractal.py")
    assert c.total_steps(config, 21_000_000) == 230_713
    assert c.warmup_steps(config, 21_000_000) == 12_817
    assert (config.batch_size, config.optimizer.learning_rate) == (8192, 1e-3)
    assert (config.optimizer.weight_decay, config.model.drop_path) == (0.05, 0.1)
    assert (config.schedule.warmup_from, config.schedule.final) == (1e-4, 1e-5)
    assert config.augment.mean == (0.485, 0.456, 0.406)


def test_an_override_of_a_source_reaches_its_held_out_twin():
    config = load_config(
        "configs/vitb_exfractal.py", **{"data.sources.exfractaldb.num_classes": 64}
    )
    assert config.evals.held_out.source.num_classes == 64
    assert config.evals.held_out.source.held_out and not config.data.sources.exfractaldb.held_out
    config = load_config("configs/finetune.py", **{"data.data_dir": "/data"})
    assert config.data.sources.cifar10.data_dir == config.evals.test.source.data_dir == "/data"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("batchsize", "--config.batch_size?"),
        ("modle.width", "--config.model.width?"),
        ("learning_rate", "--config.optimizer.learning_rate?"),
        ("data.sources.cifar.size", "--config.data.sources.cifar10.size?"),
    ],
)
def test_a_typo_gets_a_suggestion(typed, meant):
    with pytest.raises(c.ConfigError, match="has no such field") as caught:
        load_config("configs/finetune.py", **{typed: 1})
    assert meant in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_values_keep_their_types():
    config = load_config(steps=7, **{"optimizer.learning_rate": 1, "augment.mean": [0, 0, 0]})
    assert (config.steps, config.optimizer.learning_rate, config.augment.mean) == (
        7,
        1.0,
        (0, 0, 0),
    )
    assert repr(config.optimizer.learning_rate) == "1.0"
    with pytest.raises(c.ConfigError, match=r"steps='many': expected int, such as \d+"):
        load_config(steps="many")


def test_a_recipe_is_found_by_file_by_packaged_name_and_by_stem(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    packaged = str(config_path.packaged_folder() / "demo.py")
    for typed in ("configs/demo.py", "demo.py", "demo"):
        assert config_path.resolve(typed) == packaged
    assert config_path.resolve("demo:12") == packaged + ":12"
    (tmp_path / "demo.py").write_text("")
    assert config_path.resolve("demo.py") == "demo.py"
    with pytest.raises(c.ConfigError, match=r"Did you mean --config=configs/vitb_exfractal.py\?"):
        config_path.resolve("configs/vitb_exfractl.py")
    with pytest.raises(c.ConfigError, match="no such file or packaged recipe"):
        config_path.resolve("elsewhere/demo.py")


def test_a_mistake_in_a_recipe_is_told_with_its_suggestion(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from jaxfdsl import config as c\n"
        "def get_config():\n    config = c.default_config()\n    config.modle = 3\n"
    )
    with pytest.raises(c.ConfigError) as caught:
        config_path.load(str(file))
    assert 'Did you mean "model" instead of "modle"?' in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_batch_that_devices_do_not_divide_names_the_nearest_sizes():
    config = small()
    config.batch_size = 100
    assert refusal(config, num_devices=8) == (
        "batch_size=100 does not divide over 8 devices (mesh.data x mesh.fsdp = 8): "
        "type --config.batch_size=96 or 104."
    )
    config.mesh.tensor = 2
    c.validate(config, num_devices=8)
    config.batch_size = 3
    assert "type --config.batch_size=8." in refusal(config, num_devices=16, num_processes=2)


def test_an_image_that_patches_do_not_divide_names_the_nearest_sizes():
    config = small()
    config.model.image_size = 100
    assert refusal(config) == (
        "model.image_size=100 is not a multiple of model.patch_size=16: "
        "type --config.model.image_size=96 or 112."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 0}, "type --config.steps=1000"),
        ({"epochs": 2.0}, "steps=10 and epochs=2.0: exactly one is above 0"),
        ({"dtype": "bf16"}, "dtype='bf16' is not known: type"),
        ({"optimizer.name": "adam"}, "type --config.optimizer.name=adamw"),
        ({"model.variant": "vit_tiny"}, "model.variant='vit_tiny'"),
        ({"model.drop_path": 1.0}, "model.drop_path=1.0: type a number from 0 to below 1"),
        ({"mesh.fsdp": 3}, "does not fit 8 devices"),
        ({"mesh.fsdp": -1}, "one axis alone takes what is left"),
        ({"batch_size": 0}, "batch_size=0: type a number above 0"),
        ({"schedule.warmup_steps": 10}, "type --config.schedule.warmup_steps=1"),
        ({"evals.held_out.num_examples": 0}, "held-out formula images never end"),
        ({"evals.held_out.batch_size": 12}, "type --config.evals.held_out.batch_size=8 or 16"),
        ({"evals.held_out.crop_fraction": 0.0}, "crop_fraction=0.0: type a number above 0, up to"),
        ({"evals.held_out.crop_fraction": 1.5}, "evals.held_out.crop_fraction=1.5"),
        ({"augment.crop_pad": -1}, "augment.crop_pad=-1: type 0 or more"),
        ({"augment.crop_scale": (1.0, 0.08)}, "augment.crop_scale=(1.0, 0.08): type two numbers"),
        ({"augment.crop_ratio": (0.0, 1.0)}, "augment.crop_ratio=(0.0, 1.0)"),
        (
            {"steps": 0, "epochs": 5.0, "schedule.warmup_epochs": 5.0},
            "type --config.schedule.warmup_epochs=0.5",
        ),
        ({"data.sources.fractals.kind": "fodler"}, "kind='fodler' is not known: type 'folder'"),
        ({"data.sources.fractals.share": 0.0}, "data.sources.fractals.share=0.0"),
        ({"data.sources.fractals.share": 0.5}, "which sum to 0.5: type shares that sum to 1"),
        ({"data.phase_starts": (0, 5), "steps": 0, "epochs": 1.0}, "--config.epochs=0"),
        ({"accumulate": 3}, "accumulate=3 does not cut batch_size=256 over 8 devices"),
        (
            {"batch_size": 8, "augment.mixup": 0.8},
            "in pairs for augment.mixup and cutmix: type --config.batch_size=16",
        ),
        ({"augment.crop_scale": (0.5, 3.0)}, "shares of the area, up to 1"),
        ({"init_head": "kept"}, "init_head='kept' is not known: type --config.init_head=keep"),
        (
            {"optimizer.ema_warmup": True},
            "optimizer.ema=0.0 does not keep: type --config",
        ),
        ({"optimizer.layer_decay": 0.0}, "optimizer.layer_decay=0.0: type above 0, up to 1"),
        (
            {"objective.segment.weight": 1.0, "augment.cutmix": 1.0},
            "moves pixels away from their masks",
        ),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_what_to_type(changes, words):
    config = small()
    for name, value in changes.items():
        parent, _, leaf = name.rpartition(".")
        c.field(config, parent)[leaf] = value
    assert words in refusal(config, num_devices=8)


def test_the_cudnn_kernel_is_refused_where_it_cannot_run(monkeypatch):
    config = small()
    config.model.attention = "cudnn"
    assert "here are cpu, float32 and 64: type --config.model.attention=auto" in refusal(config)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "a 16-bit dtype" in refusal(config)
    config.dtype = "bfloat16"
    c.validate(config, num_devices=1)


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [("gfx942", "float32"), ("7.5", "float32"), ("8.0", "bfloat16"), (None, "float32")],
)
def test_bfloat16_is_taken_from_sm80_on(capability, dtype, monkeypatch):
    device = types.SimpleNamespace(platform="gpu", compute_capability=capability)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert experiment.compute_dtype("auto") == dtype


def test_an_option_that_is_a_field_of_the_source_is_told_where_it_goes():
    config = load_config(**{"data.sources.fractals.options.instances": 3})
    assert "type --config.data.sources.fractals.instances=N" in refusal(config)


def test_shares_that_do_not_split_the_batch_over_the_devices_name_one_that_does():
    config = small().unlock()
    config.data.sources.cifar10 = c.tfds_source(share=0.75)
    config.data.sources.fractals.share = 0.25
    config.batch_size = 48
    assert "type --config.batch_size=64" in refusal(config, num_devices=8)
    config.batch_size = 64
    c.validate(config, num_devices=8)


def test_a_field_that_nobody_reads_is_refused():
    config = small().unlock()
    config.optimizer.unlock().learning_rte = 1.0
    assert refusal(config) == (
        "config.optimizer.learning_rte is not a field: did you mean optimizer.learning_rate?"
    )
    config = small().unlock()
    config.data.sources.fractals.unlock().instance = 3
    assert "did you mean data.sources.fractals.instances?" in refusal(config)


def test_epochs_of_an_endless_source_are_refused():
    config = load_config(steps=0, epochs=3.0)
    with pytest.raises(
        c.ConfigError, match=r"epochs=3\.0 has no length because a source is endless"
    ):
        c.total_steps(config, None)


def test_the_data_fingerprint_knows_data_and_not_where_it_lies():
    config = load_config("configs/finetune.py")
    before = c.data_identity(config, {"cifar10": "abc"})
    print_before = c.data_fingerprint(config, {"cifar10": "abc"})
    config.data.data_dir, config.optimizer.learning_rate = "/elsewhere", 0.5
    assert c.data_fingerprint(config, {"cifar10": "abc"}) == print_before
    assert c.changed_field(before, c.data_identity(config, {"cifar10": "abc"})) is None
    changed = c.data_identity(config, {"cifar10": "abd"})
    assert c.changed_field(before, changed) == "data.sources.cifar10.fingerprint"
    config.batch_size = 128
    assert c.changed_field(before, c.data_identity(config, {"cifar10": "abc"})) == "batch_size"


def test_evaluations_of_an_older_run_get_the_fields_that_it_did_not_know():
    config = small()
    with config.unlocked():
        seen = config.data.sources.fractals
        config.evals.probe = c.linear_probe_eval(seen, c.held_out(seen), num_examples=64, epochs=3)
    tree = json.loads(c.to_json(config))
    del tree["evals"]["probe"]["scaling"]
    again = c.from_json(json.dumps(tree))
    assert (again.evals.probe.scaling, again.evals.probe.epochs) == ("sphered", 3)
    assert c.to_json(again) == c.to_json(config)
    del tree["evals"]["probe"]["train"]
    with pytest.raises(c.ConfigError, match=r"evals.probe.train is missing: give it a source"):
        c.from_json(json.dumps(tree))


@pytest.mark.parametrize("number", ["1" + "0" * 400, "NaN", "Infinity"])
def test_a_number_that_no_float_holds_is_refused_by_its_field(number):
    usual, changed = ('"weight_decay": 0.05', f'"weight_decay": {number}')
    text = c.to_json(c.default_config()).replace(usual, changed)
    with pytest.raises(c.ConfigError, match=r"^optimizer\.weight_decay=.*: type a number"):
        c.from_json(text)
