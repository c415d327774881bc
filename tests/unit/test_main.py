"""The command line: overrides, and words on stderr with status 2 for what was mistyped."""

import os
import subprocess
import sys

import pytest
from absl import flags

from jaxfdsl import main
from jaxfdsl.config import ConfigError
from jaxfdsl.data import sources


def parse(*arguments: str):
    return main.parse(["main.py", *arguments], flags.FlagValues())


def test_without_arguments_the_demo_runs():
    config, workdir = parse()
    assert workdir == "runs/demo"
    assert config.is_locked and config.steps > 0


def test_every_kind_of_value_can_be_overridden():
    config, workdir = parse(
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
    config, _ = parse(recipe, f"{options}.weights=none", f"{options}.num_points", "200")
    for entry in (config.data.sources.exfractaldb, config.evals.held_out.source):
        assert entry.options.to_dict() == {"weights": "none", "num_points": 200}
        family = sources.build(entry, seed=0, train=False).dataset.family
        assert (family.weights, family.num_points) == ("none", 200)


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
        ("batch_size=3", "What does 'batch_size=3' set? Type --config.batch_size=3 instead."),
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
