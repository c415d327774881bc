"""`python -m jaxfdsl.main --config=configs/x.py --workdir=DIR --config.field=value`.

Without `--config` it runs the demo. What the user can put right ends with one sentence on stderr
and status 2, before anything is compiled.
"""

import ast
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxfdsl import config_path
from jaxfdsl.config import ConfigError, default_config, field

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def parse(
    argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS
) -> tuple[ConfigDict, str]:
    """The locked config and the workdir that a command line means; raises `ConfigError`."""
    path, rest = _recipe_and_rest(argv)
    recipe = config_path.load(path)
    config_path.add_options(recipe, _typed_options(rest))
    config_path.check_names(recipe, [m[1] for item in rest if (m := _OVERRIDE.match(item))])
    try:
        config = config_flags.DEFINE_config_dict(
            "config", recipe, flag_values=flag_values, sys_argv=rest
        )
        workdir = flags.DEFINE_string(
            "workdir",
            f"runs/{pathlib.PurePath(path.partition('.py')[0]).name}",
            "Folder for checkpoints and results.",
            flag_values=flag_values,
        )
        left = flag_values(rest)
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(_what_to_type(recipe, str(error))) from error
    if len(left) > 1:
        meant = left[1] if "=" in left[1] else f"field={left[1]}"
        raise ConfigError(f"What does {left[1]!r} set? Type --config.{meant} instead.")
    return config.value, os.path.expanduser(workdir.value)


def _recipe_and_rest(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The file that `--config` means (the demo without one), and argv without `--config`."""
    typed, rest = config_path.DEFAULT, [argv[0]]
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument in ("--config", "-config"):
            typed = next(arguments, "")
        elif argument.startswith(("--config=", "-config=")):
            typed = argument.partition("=")[2]
        else:
            rest.append(argument)
    return config_path.resolve(typed), rest


def _typed_options(arguments: Sequence[str]) -> dict[str, Any]:
    """What is typed for names below `.options.`, each a number or bool where it reads as one."""
    typed: dict[str, Any] = {}
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        match = _OVERRIDE.match(argument)
        if match and ".options." in match[1]:
            text = argument.partition("=")[2] if "=" in argument else following
            try:
                value = ast.literal_eval(text)
            except (SyntaxError, ValueError):
                value = text
            typed[match[1]] = value if isinstance(value, int | float) else text
    return typed


def _what_to_type(recipe: ConfigDict, message: str) -> str:
    """Absl's message on one line; for a value of the wrong type, with the recipe's own value."""
    wrong = re.match(r"flag --(config\.([\w.]+)=.*?): ", message)
    if wrong is None:
        return " ".join(message.split())
    value = field(recipe, wrong[2])
    if isinstance(value, ConfigDict):
        first = f"--config.{wrong[2]}.{next(iter(value), 'field')}=..."
        return f"--{wrong[1]}: this is a group; set its fields, such as {first}"
    return f"--{wrong[1]}: expected {type(value).__name__}, such as --config.{wrong[2]}={value}"


def _help() -> str:
    """This file's docstring, the packaged recipes, and every field with its default."""
    recipes = "\n  ".join(config_path.packaged_names())
    fields = config_path.dotted(default_config(), groups=False)
    lines = [f"--config.{name}={field(default_config(), name)}" for name in fields]
    return f"{__doc__}\nRecipes:\n  {recipes}\nFields:\n  " + "\n  ".join(lines)


def _fail(error: Exception) -> NoReturn:
    print(error, file=sys.stderr)
    raise SystemExit(2)


def run() -> None:
    """What `python -m jaxfdsl.main` does."""
    if {"-h", "--help"} & set(sys.argv):
        return print(_help())
    try:
        config, workdir = parse(sys.argv)
    except ConfigError as error:
        _fail(error)

    def main(_: Sequence[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # Orbax tells thirty lines of each checkpoint
        from jaxfdsl import train  # late, so that a typo answers at once

        try:
            train.run(config, workdir)
        except ConfigError as error:
            _fail(error)

    app.run(main, argv=sys.argv, flags_parser=lambda argv: list(argv[:1]))


if __name__ == "__main__":
    run()
