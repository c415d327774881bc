"""Names: what `generators.load` accepts, and the tables that ship under them."""

import dataclasses
import difflib
import functools
import os
import pathlib
import typing
from typing import Any, NamedTuple

import numpy as np

from . import categories
from .dataset import Dataset
from .formulas.exfractaldb import ExFractalDB
from .formulas.fractaldb import FractalDB
from .formulas.systems import Category
from .search import search

FAMILIES = {"fractaldb": FractalDB, "exfractaldb": ExFractalDB}
TABLES = pathlib.Path(__file__).parent / "tables"


class Canonical(NamedTuple):
    """A table that ships: its file and the sha256 of all its categories."""

    file: str
    sha256: str


CANONICAL = {
    # The published thousand in the published order: `generators.published.search_published(1000)`
    # finds it again.
    "fractaldb-published": Canonical(
        "fractaldb-1k.npz", "d54490dfa5b9a5e2f0398b720b87cdf4dcdecabd671a36d9297cb5962b4e0356"
    ),
    # Published recipe, our search: `jaxfdsl search fractaldb --classes 21000 --seed 0`.
    "fractaldb": Canonical(
        "fractaldb-21k.npz", "fcb992007fd7859e196929248bc0940ee1a4d514acafdaa2b4fd65b135612d56"
    ),
    "exfractaldb": Canonical(
        "exfractaldb-21k.npz", "e19311daa77da9edbb4a1be88f5eeaa4ff3aa3f5fde31e60e94f8ac1690b0026"
    ),
}
SIZES = {"1k": 1000, "10k": 10_000, "21k": 21_000}


def names() -> list[str]:
    """Every named data set, and the families, whose categories are searched anew."""
    return [f"{family}-{size}" for family in FAMILIES for size in SIZES] + list(FAMILIES)


def load(
    name: str,
    *,
    instances: int | None = 1000,
    num_classes: int | None = None,
    size: int | None = None,
    table: str | os.PathLike | Category | None = None,
    search_seed: int = 1,
    cache_dir: str | os.PathLike | None = None,
    **options: Any,
) -> Dataset:
    """A data set by name.

    "fractaldb-1k" is the published thousand; "fractaldb-10k", "fractaldb-21k" and "exfractaldb-1k",
    "-10k", "-21k" are the published recipe and our search, nested: the thousand are the first of
    the 21,000. A bare family ("exfractaldb") searches `num_classes` new categories under
    `search_seed`, or takes `table`: a Category, an .npz, or a folder of published files.

    instances: images a category, None for an endless set. num_classes: only the first so many.
    size: canvas in pixels (default: the published one). options: fields of the family, such as
    color="density", weights="none". Raises ValueError, with the nearest name, for what is not
    known.
    """
    family_name, _, count = name.partition("-")
    if family_name not in FAMILIES or (count and count not in SIZES):
        raise ValueError(
            f"no data set {name!r}{_nearest(name, names())}; there are {', '.join(names())}"
        )
    family = _family(family_name, options)
    if count and table is not None:
        raise ValueError(
            f"{name!r} means one table; for your own categories load {family_name!r} with table=..."
        )
    if count:
        wanted = SIZES[count] if num_classes is None else num_classes
        if not 1 <= wanted <= SIZES[count]:
            raise ValueError(f"num_classes={wanted}: {name} has {SIZES[count]} categories")
        chosen = _shipped("fractaldb-published" if name == "fractaldb-1k" else family_name)
    elif table is not None:
        chosen = _own(table)
        wanted = num_classes or len(chosen.num_maps)
        if not 1 <= wanted <= len(chosen.num_maps):
            raise ValueError(f"num_classes={wanted}: {table} has {len(chosen.num_maps)} categories")
        if chosen.maps.shape[-1] != _columns(family):
            raise ValueError(
                f"{table}: systems of {chosen.maps.shape[-1]} coefficients; "
                f"{family_name} has {_columns(family)}"
            )
    else:
        wanted = num_classes or 0
        if wanted < 1:
            raise ValueError(
                f"{name!r} names no table: give num_classes=... to search, or table=..."
            )
        found = search(family, wanted, search_seed, cache_dir=cache_dir)
        chosen = categories.from_numbers(family, found)
    return Dataset(
        name=name,
        family=family,
        categories=Category(*(field[:wanted] for field in chosen)),
        instances=instances,
        size=size or family.canvas,
    )


def fingerprint(name: str) -> str:
    """`load(name).fingerprint()`: family, version, table and 64 fixed images in one hash, for a
    paper to cite.
    """
    return load(name).fingerprint()


def _family(name: str, options: dict[str, Any]):
    kind = FAMILIES[name]
    fields = {field.name for field in dataclasses.fields(kind)}
    for option in options:
        if option not in fields:
            raise ValueError(
                f"{name} has no option {option!r}{_nearest(option, fields)}; "
                f"it has {', '.join(sorted(fields))}"
            )
    hints = typing.get_type_hints(kind)
    for option, value in options.items():
        choices = typing.get_args(hints[option])
        if choices and value not in choices:
            raise ValueError(f"{option}={value!r}: {name} has {', '.join(map(repr, choices))}")
        number = float if hints[option] is float else int
        if not choices and not isinstance(value, (int, number)):
            raise ValueError(f"{option}={value!r}: its type is {hints[option].__name__}")
        if hints[option] is int and value < 1:
            raise ValueError(f"{option}={value!r}: give 1 or more")
    return kind(**options)


def _own(table) -> Category:
    if isinstance(table, Category):
        return table
    path = pathlib.Path(table)
    if not path.exists():
        raise ValueError(f"table={table}: there is no such file or folder")
    return categories.load(path) if path.suffix == ".npz" else categories.read_published(path)


def _columns(family) -> int:
    return family.propose(np.zeros(1, np.uint32), xp=np).maps.shape[-1]


@functools.cache
def _shipped(key: str) -> Category:
    entry, table = CANONICAL[key], read_shipped(key)
    if categories.sha256(table) != entry.sha256:
        raise ValueError(
            f"{entry.file} is not the table that the name stands for "
            f"(sha256 {categories.sha256(table)[:12]}, not {entry.sha256[:12]}): "
            "reinstall jaxfdsl, or load your own table with table=..."
        )
    return table


def read_shipped(key: str) -> Category:
    """The table in a shipped file, not yet compared with its sha256."""
    with np.load(TABLES / CANONICAL[key].file, allow_pickle=False) as file:
        if "numbers" in file:
            return categories.from_numbers(
                FAMILIES[key](), np.cumsum(file["numbers"], dtype=np.uint32)
            )
        bounds = np.cumsum(file["maps"])[:-1]
        return categories.from_systems(np.split(file["systems"], bounds))


def _nearest(word: str, known) -> str:
    close = difflib.get_close_matches(word, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
