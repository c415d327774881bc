"""The command line: overrides, and words on stderr with status 2 for what was mistyped."""

import os
import subprocess
import sys

import pytest
from absl import flags

from jaxfdsl import main
from jaxfdsl.config import ConfigError, to_json
from jaxfdsl.data import sources
from jaxfdsl.distributed.launchers import Given


def parse(*arguments: str):
    return main.parse(["main.py", *arguments], flags.FlagValues())


def test_without_arguments_the_demo_runs():
    config, workdir, _ = parse()
    assert workdir == "runs/demo"
    assert config.is_locked and config.steps > 0


def test_every_kind_of_value_can_be_overridden():
    config, workdir, _ = parse(
        "--config.optimizer.learning_rate=1",
        "--config.augment.crop_scale=(.5, 1.)",
        "--config.augment.flip_lr",
        "--noconfig.report.tensorboard",
        "--config.model.pool=token",
        "--config",
        "configs/vitb_exfractal.py",
        "--config.data.sources.exfractaldb.num_classes=8",
        "--workdir=/tmp/here",
    )
    assert workdir == "/tmp/here"
    assert config.model.variant == "vit_b"
    assert config.optimizer.learning_rate == 1.0
    assert config.augment.crop_scale == (0.5, 1.0)
    assert config.augment.flip_lr and not config.report.tensorboard
    assert config.evals.held_out.source.num_classes == 8


def test_options_that_the_recipe_leaves_to_the_formula_can_be_typed():
    options = "--config.data.sources.exfractaldb.options"
    recipe = "--config=configs/vitb_exfractal.py"
    config, *_ = parse(recipe, f"{options}.weights=none", f"{options}.num_points", "200")
    for entry in (config.data.sources.exfractaldb, config.evals.held_out.source):
        assert entry.options.to_dict() == {"weights": "none", "num_points": 200}
        family = sources.build(entry, seed=0, train=False).dataset.family
        assert (family.weights, family.num_points) == ("none", 200)


def test_the_workdir_alone_says_what_to_continue(tmp_path):
    begun, _, _ = parse("--config=vitti_1k:rcdb", "--config.steps=7", "--config.epochs=0")
    (tmp_path / "config.json").write_text(to_json(begun))
    config, workdir, _ = parse(f"--workdir={tmp_path}")
    assert (to_json(config), workdir) == (to_json(begun), str(tmp_path))
    changed, _, _ = parse("--workdir", str(tmp_path), "--config.steps=9", "--config.seed=1")
    assert (changed.steps, changed.seed, changed.epochs) == (9, 1, 0)
    demo, _, _ = parse(f"--workdir={tmp_path}", "--config=demo")
    assert demo.steps != 7
    assert to_json(parse(f"--workdir={tmp_path / 'new'}").config) == to_json(demo)


def test_a_config_that_cannot_be_read_is_not_taken_for_the_demo(tmp_path):
    (tmp_path / "config.json").write_text('{"steps": ')
    with pytest.raises(ConfigError, match=r"config\.json is no config .*: type --config=\.\.\."):
        parse(f"--workdir={tmp_path}")


def test_three_flags_say_where_processes_meet():
    assert parse().given == Given()
    typed = ("--coordinator=10.0.0.1:1234", "--num_processes=4", "--process_id", "3")
    assert parse(*typed).given == Given("10.0.0.1:1234", 4, 3)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("--config.modle.width=3", "Did you mean --config.model.width?"),
        ("--config=configs/dmo.py", "Did you mean --config=configs/demo.py?"),
        ("--config.batch_size=abc", "expected int, such as --config.batch_size="),
        ("--config.data.sources.fractal.options.pad=2", "Did you mean --config.data.sources.fract"),
        ("--config.model.options.pad=2", "the config has no such field"),
        ("--config.model=3", "this is a group; set its fields, such as --config.model."),
        ("--workdri=x", "Did you mean: workdir"),
        ("--process_id=one", "flag --process_id=one"),
        ("batch_size=3", "What does 'batch_size=3' set? Type --config.batch_size=3 instead."),
        ("demo", "What does 'demo' set? Type --config=demo for the recipe."),
        ("--steps=100", "--steps: type --config.steps=100."),
        ("--config.lr=0.1", "Did you mean --config.optimizer.learning_rate?"),
        ("--wd=0.1", "--wd: type --config.optimizer.weight_decay=0.1."),
        ("--config=demo:3", "the recipe takes no argument"),
    ],
)
def test_what_is_mistyped_is_told_what_to_type(typed, words):
    with pytest.raises(ConfigError) as caught:
        parse(typed)
    assert words in str(caught.value)


def test_a_typo_ends_with_two_lines_and_status_2(tmp_path):
    command = [sys.executable, "-m", "jaxfdsl.main", "--config.modle.width=3"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (
        "--config.modle.width: the config has no such field.\nDid you mean --config.model.width?\n"
    )
    assert not list(tmp_path.iterdir())
