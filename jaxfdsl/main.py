"""`python -m jaxfdsl.main --config=configs/x.py --workdir=DIR --config.field=value`.

Without `--config` it continues the run in DIR, and where there is none it runs the demo. What the
user can put right ends with one sentence on stderr and status 2, before anything is compiled.

On TPU slices, SLURM, GKE and Open MPI the processes of a run find each other; elsewhere start each
with `--coordinator=HOST:PORT --num_processes=N --process_id=I` as well. `--num_processes=1` looks
for no others.
"""

import ast
import os
import pathlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError, default_config, field, from_json
from jaxfdsl.config import path as config_path
from jaxfdsl.distributed.launchers import Given

_AFTER = "the same command continues from what was saved."
_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


class Command(NamedTuple):
    """What a command line means: a locked config, a folder, and where several processes meet."""

    config: ConfigDict
    workdir: str
    given: Given


def parse(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> Command:
    """Reads a command line; raises `ConfigError`."""
    typed, rest = _taken_out("config", argv)
    path = config_path.resolve(config_path.DEFAULT if typed is None else typed)
    begun = _begun(rest) if typed is None else None
    recipe = begun or config_path.load(path)
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
        given = _define_given(flag_values)
        left = flag_values(rest)
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(_what_to_type(recipe, str(error), rest)) from error
    if len(left) > 1:
        raise ConfigError(_what_to_set(left[1]))
    typed_given = Given(*(flag.value for flag in given))
    return Command(config.value, os.path.expanduser(workdir.value), typed_given)


def _define_given(values: flags.FlagValues) -> tuple[flags.FlagHolder, ...]:
    """The flags of `Given`, in its order."""
    text, number = flags.DEFINE_string, flags.DEFINE_integer
    return (
        text("coordinator", None, "HOST:PORT of process 0.", flag_values=values),
        number("num_processes", None, "Processes of this run.", flag_values=values),
        number("process_id", None, "Number of this process, from 0.", flag_values=values),
    )


def _taken_out(name: str, argv: Sequence[str]) -> tuple[str | None, list[str]]:
    """What is typed for the flag `--name` (None without one), and argv without it."""
    typed, rest = None, [argv[0]]
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument in (f"--{name}", f"-{name}"):
            typed = next(arguments, "")
        elif argument.startswith((f"--{name}=", f"-{name}=")):
            typed = argument.partition("=")[2]
        else:
            rest.append(argument)
    return typed, rest


def _begun(argv: Sequence[str]) -> ConfigDict | None:
    """The config of the run in the folder that `--workdir` names, if one was begun there."""
    workdir, _ = _taken_out("workdir", argv)
    if not workdir:
        return None
    from etils import epath  # late: most command lines name a recipe

    path = epath.Path(os.path.expanduser(workdir)) / "config.json"
    if not path.exists():
        return None
    try:
        return from_json(path.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{path} is no config ({error}): type --config=... to say what to continue there."
        ) from error


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


def _what_to_set(word: str) -> str:
    """For a word that stands alone."""
    path, _, _ = word.partition(":")
    if f"configs/{pathlib.PurePath(path).stem}.py" in config_path.packaged_names():
        return f"What does {word!r} set? Type --config={word} for the recipe."
    meant = word if "=" in word else f"field={word}"
    return f"What does {word!r} set? Type --config.{meant} instead."


def _what_to_type(recipe: ConfigDict, message: str, arguments: Sequence[str]) -> str:
    """Absl's message on one line; for a value of the wrong type, with the recipe's own value; for a
    field that is typed as a flag, as what it is."""
    unknown = re.match(r"Unknown command line flag '(\w[\w.]*)'", message)
    if unknown and "Did you mean" not in message:
        meant = config_path.suggest(unknown[1], config_path.dotted(recipe))
        if meant:
            flag = re.compile(rf"--?{re.escape(unknown[1])}(=.*)?")
            value = next((m[1] or "" for item in arguments if (m := flag.fullmatch(item))), "")
            return f"--{unknown[1]}: type --config.{meant}{value or '=VALUE'}."
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


def _train(command: Command) -> None:
    """Trains; a process of several that fails says so itself, and lets the others end."""
    logging.set_verbosity(logging.WARNING)  # Orbax tells thirty lines of each checkpoint
    import jax  # late, so that a typo answers at once

    from jaxfdsl import distributed, train

    try:
        train.run(*command)
    except ConfigError as error:
        distributed.leave(terminal.BAD_INPUT, str(error))
    except (Exception, KeyboardInterrupt) as error:
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, KeyboardInterrupt):
            distributed.leave(terminal.INTERRUPTED, f"Stopped by Ctrl-C; {_AFTER}")
        distributed.leave(terminal.FAILED, traceback.format_exc())


def run() -> None:
    """What `python -m jaxfdsl.main` does."""
    if {"-h", "--help"} & set(sys.argv):
        return print(_help())
    with terminal.interruptible(_AFTER):
        try:
            command = parse(sys.argv)
        except ConfigError as error:
            terminal.fail(error)
            raise SystemExit(terminal.BAD_INPUT) from error
        app.run(lambda _: _train(command), argv=sys.argv, flags_parser=lambda argv: list(argv[:1]))


if __name__ == "__main__":
    run()
