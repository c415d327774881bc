"""`jaxfdsl --print-completion SHELL`: what Tab completes, as a script that the shell reads once.

shtab writes it from the parser, so that no Python starts at a Tab.
"""

import argparse
from typing import Any

from jaxfdsl.config import ConfigError

SHELLS = ("bash", "zsh", "tcsh")
_FILES = {"out", "table", "csv", "captions", "names", "templates"}
_FOLDERS = {"workdir", "named_workdir", "workdirs", "folder", "store", "tars", "data_dir"}
_DATA_SETS = {"gallery", "materialise"}  # verbs whose `name` is one


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The completion script; raises ConfigError for an unknown shell and without shtab."""
    if shell not in SHELLS:
        raise ConfigError(f"--print-completion={shell}: type one of {', '.join(SHELLS)}.")
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise ConfigError(
            '--print-completion needs shtab: type pip install "jaxfdsl[completion]".'
        ) from error
    for verb, one in _verbs(parser).items():
        for action in one._actions:  # as shtab reads them: argparse has no public way
            _describe(action, verb, shtab)
    return shtab.complete(parser, shell)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    [choices] = [action.choices for action in parser._actions if action.nargs == argparse.PARSER]
    assert isinstance(choices, dict)  # of a group of parsers
    return choices


def _describe(action: Any, verb: str, shtab: Any) -> None:
    from jaxfdsl.data.materialise import TARGETS
    from jaxfdsl.generators import catalog

    if action.dest in _FILES:
        action.complete = shtab.FILE
    elif action.dest in _FOLDERS:
        action.complete = shtab.DIRECTORY
    elif action.dest == "name" and verb in _DATA_SETS:
        action.choices = catalog.names()
    elif action.dest == "to" and verb == "materialise":
        action.choices = TARGETS
