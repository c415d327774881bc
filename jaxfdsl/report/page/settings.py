"""What was chosen in a config, and in what configs differ."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl import config as config_lib

Flat = dict[str, Any]


def flat(config: Mapping[str, Any], prefix: str = "") -> Flat:
    """The fields by their dotted names."""
    found: Flat = {}
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def chosen(config: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields that are not as by default, each with the default; None where it has none.

    A source or an evaluation is compared with the default one of its kind.
    """
    usual = flat(json.loads(config_lib.to_json(config_lib.default_config())))
    for group in ("data.sources", "evals"):
        entries = config
        for part in group.split("."):
            entries = entries.get(part) or {} if isinstance(entries, Mapping) else {}
        for name, entry in entries.items() if isinstance(entries, Mapping) else ():
            usual |= _usual_entry(entry, f"{group}.{name}.")
    return {
        name: (value, usual.get(name))
        for name, value in flat(config).items()
        if name not in usual or value != usual[name]
    }


def _usual_entry(entry: Any, prefix: str) -> Flat:
    """The defaults of an entry's kind, and of the sources inside it."""
    kind = entry.get("kind") if isinstance(entry, Mapping) else None
    if not isinstance(kind, str):
        return {}
    if kind in config_lib.SOURCES:
        made = config_lib.SOURCES[kind]()
        if "name" in made:
            del made["name"]  # which data it is was chosen, always
    elif kind in config_lib.EVALS:
        parts = [part for part in ("train", "source") if part in entry]
        made = config_lib.EVALS[kind](*[ConfigDict() for _ in parts])
    else:
        return {}
    usual = flat(json.loads(config_lib.to_json(made)), prefix)
    for part in ("train", "source"):
        usual |= _usual_entry(entry.get(part), f"{prefix}{part}.")
    return usual


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The fields in which configs differ, with the value of each; `ABSENT` where one has none."""
    sides = [flat(config) for config in configs]
    names = list(dict.fromkeys(name for side in sides for name in side))
    rows = {name: [side.get(name, ABSENT) for side in sides] for name in names}
    return {n: row for n, row in rows.items() if any(_shown(v) != _shown(row[0]) for v in row)}


ABSENT = type("Absent", (), {"__repr__": lambda self: "absent"})()


def shown(value: Any) -> str:
    """A value as it is typed on the command line."""
    if value is ABSENT:
        return "–"
    if isinstance(value, str):
        return value or '""'
    return _shown(value)


def _shown(value: Any) -> str:
    if value is ABSENT:
        return repr(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_shown, value))}{',' if len(value) == 1 else ''})"
    return json.dumps(value) if isinstance(value, str) else repr(value)
