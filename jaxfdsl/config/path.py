"""From what a user typed after `--config` to a loaded recipe: lookup, suggestions, overrides.

A file that exists wins. Otherwise `configs/x.py`, `x.py` and `x` all name a packaged recipe, so
that the same command works in a checkout and, after `pip install`, in any folder.
"""

import difflib
import importlib.util
import inspect
import os
import pathlib
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError, field, from_json

DEFAULT = "configs/demo.py"
USUAL = {  # names that other programs have for a field
    "lr": "optimizer.learning_rate",
    "wd": "optimizer.weight_decay",
}


def packaged_folder() -> pathlib.Path:
    """Where the recipes that come with the package are."""
    spec = importlib.util.find_spec("jaxfdsl.configs")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("The packaged recipes are missing: install jaxfdsl again.")
    return pathlib.Path(next(iter(spec.submodule_search_locations)))


def packaged_names() -> list[str]:
    """The packaged recipes as one types them, `configs/demo.py` and the like."""
    files = sorted(packaged_folder().glob("*.py"))  # some hold what recipes share
    return [f"configs/{f.name}" for f in files if "def get_config(" in f.read_text("utf-8")]


def resolve(typed: str) -> str:
    """The file that `typed` (`path` or `path:argument`) means, its argument kept. Raises
    `ConfigError`, with the nearest name, where there is none."""
    path, colon, argument = _split(typed)
    if pathlib.Path(path).is_file():
        return path + colon + argument
    name = pathlib.PurePath(path).name
    stem = name if name.endswith(".py") else name + ".py"
    found = packaged_folder() / stem
    if pathlib.PurePath(path).parent.name in ("", "configs") and found.is_file():
        return str(found) + colon + argument
    close = suggest(f"configs/{stem}", packaged_names())
    raise ConfigError(
        f"--config={typed}: there is no such file or packaged recipe.\n"
        f"Did you mean --config={close}{colon}{argument}?"
        if close
        else f"--config={typed}: there is no such file or packaged recipe.\n"
        f"Packaged recipes: {', '.join(packaged_names())}."
    )


def _split(typed: str) -> tuple[str, str, str]:
    """Path and argument; the colon of a Windows drive belongs to the path."""
    drive, rest = (typed[:2], typed[2:]) if typed[1:3] in (":\\", ":/") else ("", typed)
    path, colon, argument = rest.partition(":")
    return drive + path, colon, argument


def load(path: str) -> ConfigDict:
    """Runs a recipe's `get_config` (with the text after a colon, if any); not yet locked.

    A recipe's `NAMES` are the arguments that it takes; others are refused here.
    """
    file, colon, argument = _split(path)
    module = _run(file)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"--config={path}: the file has no function get_config(); write one.")
    if colon and not inspect.signature(module.get_config).parameters:
        raise ConfigError(f"--config={path}: the recipe takes no argument; type --config={file}.")
    names = getattr(module, "NAMES", ())
    if colon and names and argument not in names:
        near = difflib.get_close_matches(argument, names, 1, cutoff=0)[0]
        raise ConfigError(
            f"--config={path}: the recipe takes {', '.join(names)}; the nearest is "
            f"--config={file}:{near}."
        )
    try:
        config = module.get_config(argument) if colon else module.get_config()
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"--config={path}: {sentence(error)}") from error
    if not isinstance(config, ConfigDict):
        raise ConfigError(f"--config={path}: get_config() returned {type(config).__name__}.")
    return config


def of_workdir(workdir: str) -> ConfigDict:
    """The config of the run in a folder; raises ConfigError where there is none."""
    from etils import epath  # late: most command lines name a recipe

    path = epath.Path(os.path.expanduser(workdir)) / "config.json"
    if not path.exists():
        raise ConfigError(f"{path} is not there: type the workdir of a run.")
    try:
        return from_json(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path} is no config of a run ({error}): copy it again.") from error


def _run(file: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("jaxfdsl_recipe", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--config={file}: a recipe is a Python file; its name ends with .py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_config(path: str = DEFAULT, **overrides: Any) -> ConfigDict:
    """A locked recipe with overrides, dotted names for nested fields; see `jaxfdsl.load_config`.

    Raises `ConfigError` for a recipe or field that is not there, and for a value of another type.
    """
    config = load(resolve(path)).lock()
    add_options(config, overrides)
    check_names(config, overrides)
    for name, value in overrides.items():
        holder, _, leaf = name.rpartition(".")
        old = field(config, name)
        try:
            if isinstance(old, ConfigDict):
                old.update(value)
            else:
                field(config, holder)[leaf] = tuple(value) if isinstance(value, list) else value
        except (KeyError, TypeError, ValueError) as error:
            expected = f"expected {type(old).__name__}, such as {old!r}"
            raise ConfigError(f"{name}={value!r}: {expected}.") from error
    return config


def add_options(config: ConfigDict, values: Mapping[str, Any]) -> None:
    """Adds the options of formula sources that the recipe leaves to their family; other names are
    left alone. Which options there are is known to the family, which refuses others by name.
    """
    for name, value in values.items():
        holder, _, key = name.rpartition(".")
        entry = _entry(config, holder.removesuffix(".options"))
        formula = holder.endswith(".options") and entry.get("kind") == "formula"
        if formula and key not in entry.options:
            with entry.options.unlocked():
                entry.options[key] = value


def _entry(config: ConfigDict, name: str) -> ConfigDict:
    """The group at a dotted name; an empty one where there is none."""
    try:
        found = field(config, name)
    except (AttributeError, KeyError, TypeError):
        return ConfigDict()
    return found if isinstance(found, ConfigDict) else ConfigDict()


def check_names(config: ConfigDict, names: Iterable[str]) -> None:
    """Refuses a dotted name that the config does not have, with the nearest that it has."""
    known = list(dotted(config))
    for name in names:
        if name in known:
            continue
        close = suggest(name, known)
        hint = f"Did you mean --config.{close}?" if close else f"Fields: {', '.join(config)}."
        raise ConfigError(f"--config.{name}: the config has no such field.\n{hint}")


def dotted(config: ConfigDict, prefix: str = "", groups: bool = True) -> Iterator[str]:
    """Every field's dotted name, by default with the groups' own."""
    for key, value in config.items():
        is_group = isinstance(value, ConfigDict)
        if groups or not is_group:
            yield prefix + key
        if is_group:
            yield from dotted(value, f"{prefix}{key}.", groups)


def suggest(typed: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `typed`; for dotted names, first one that ends alike."""
    known = list(known)
    if (usual := USUAL.get(typed.rpartition(".")[2])) in known:
        return usual
    close = difflib.get_close_matches(typed, known, n=1, cutoff=0.6)
    if close:
        return close[0]
    by_leaf: dict[str, str] = {}
    for name in known:
        by_leaf.setdefault(name.rsplit(".", 1)[-1], name)
    leaf = difflib.get_close_matches(typed.rsplit(".", 1)[-1], list(by_leaf), n=1, cutoff=0.75)
    return by_leaf[leaf[0]] if leaf else None


def sentence(error: BaseException) -> str:
    """ml_collections' message without its dump of the whole config."""
    text = str(error).replace("\\n", "\n").strip("'")
    hint = re.search(r'Did you mean "\w+" instead of "\w+"\?', text)
    head = text.partition(" Other fields present:")[0]
    return f"{head}\n{hint[0]}" if hint else head
