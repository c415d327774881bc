"""Names: what `generators.load` accepts, and the tables that ship under them."""

import functools
import os
import pathlib
from typing import Any, Literal, NamedTuple

import numpy as np

from . import categories, options
from .dataset import Dataset
from .formulas.bezier import Bezier
from .formulas.dead_leaves import DeadLeaves
from .formulas.exfractaldb import ExFractalDB
from .formulas.fractaldb import FractalDB
from .formulas.multix import MultiX
from .formulas.perlin import Perlin
from .formulas.perturbed import Perturbed
from .formulas.rcdb import RCDB
from .formulas.segrcdb import SegRCDB
from .formulas.svd_fractal import SVDFractal
from .formulas.systems import Category
from .formulas.visualatom import VisualAtom
from .search import SEED_STRIDE, search

# A new family: its class here, its published sets in DATASETS.
FAMILIES: dict[str, Any] = {
    kind.name: kind
    for kind in (
        FractalDB,
        ExFractalDB,
        RCDB,
        VisualAtom,
        SVDFractal,
        MultiX,
        Perturbed,
        SegRCDB,
        Perlin,
        DeadLeaves,
        Bezier,
    )
}
TABLES = pathlib.Path(__file__).parent / "tables"
SIZES = {"1k": 1000, "10k": 10_000, "21k": 21_000, "50k": 50_000}


class Published(NamedTuple):
    """A published data set: a family, what it sets there, and how many images each category has, or
    how many scenes there are.
    """

    family: str
    sizes: tuple[str, ...] = tuple(SIZES)
    options: dict[str, Any] = {}  # noqa: RUF012
    instances: int = 1000
    num_classes: int = 0  # of the set that has no size in its name


DATASETS = {
    "fractaldb": Published("fractaldb"),
    "exfractaldb": Published("exfractaldb"),
    # What the published script of ExFractalDB draws: 12 views on the equator of 145 models.
    "mvfractaldb": Published("exfractaldb", options={"views": "equatorial"}, instances=1740),
    "rcdb": Published("rcdb"),
    "visualatom": Published("visualatom"),
    "ofdb2d": Published("fractaldb", options={"weights": "none", "flips": False}, instances=1),
    # One model a category; an epoch shows one of its 12 views.
    "ofdb3d": Published(
        "exfractaldb", options={"weights": "none", "views": "equatorial"}, instances=12
    ),
    "1p-frac": Published("perturbed", sizes=(), instances=1, num_classes=1000),
    "svd_fractal": Published("svd_fractal"),
    "multix": Published("multix", instances=1_000_000),  # scenes, as many as the script trains on
    "segrcdb": Published("segrcdb", sizes=(), instances=118_000, num_classes=254),
    # The contour hypothesis's other families: the sizes are those of its table.
    "perlin": Published("perlin"),
    "dead_leaves": Published("dead_leaves"),
    "bezier": Published("bezier"),
}


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
    # Published recipe, our search: `jaxfdsl search fractaldb --classes 50000 --seed 0`.
    "fractaldb": Canonical(
        "fractaldb-50k.npz", "c3a2bea59a7111ab89b1f8ca445dcd64b0b948f6f5b5b0b732da81892388acdd"
    ),
    "exfractaldb": Canonical(
        "exfractaldb-50k.npz", "cb5555b2912efb5e7e3a567e7d962bc38bb1e8e72053c3faa7e24bcd2b707213"
    ),
    # `jaxfdsl search perturbed --classes 1000 --seed 0`.
    "perturbed": Canonical(
        "perturbed-1k.npz", "8f1403e040136cf373a9e101bc5fd69efcd8d19e952ba884132a146390a3a198"
    ),
}


def names() -> list[str]:
    """Every named data set, and the families, whose categories are one's own or found anew."""
    named = [f"{base}-{size}" for base, entry in DATASETS.items() for size in entry.sizes]
    named += [n for n, entry in DATASETS.items() if entry.num_classes]
    return list(dict.fromkeys([*named, *FAMILIES]))


def load(
    name: str,
    *,
    instances: int | Literal["published"] | None = "published",
    num_classes: int | None = None,
    size: int | None = None,
    table: str | os.PathLike | tuple | None = None,
    search_seed: int = 1,
    cache_dir: str | os.PathLike | None = None,
    **settings: Any,
) -> Dataset:
    """A data set by name.

    "fractaldb-1k" is the published thousand; every other "-1k", "-10k", "-21k", "-50k" is the
    published recipe and our numbers, nested: the thousand are the first of the 50,000. A bare
    family ("exfractaldb") finds `num_classes` new categories under `search_seed`, or takes `table`:
    a family's Category, an .npz, or a folder of published files.

    instances: images a category, None for an endless set. num_classes: only the first so many.
    size: canvas in pixels (default: the published one). settings: options of the family, such as
    color="density", weights="none". Raises ValueError, with the nearest names, for what is not
    known.
    """
    if not isinstance(name, str):
        raise ValueError(f"name={name!r}: give one of generators.names()")
    if name not in names():
        near = options.nearest(name, names())
        raise ValueError(f"no data set {name!r}{near or f'; {_known()}'}")
    base, _, count = name.rpartition("-")
    base, count = (base, count) if base in DATASETS and count in SIZES else (name, "")
    entry = DATASETS.get(base) or Published(base)
    kind = FAMILIES[entry.family]
    family = options.build(kind, {**entry.options, **settings})
    if num_classes is not None:
        num_classes = options.whole("num_classes", num_classes)
    search_seed = options.whole("search_seed", search_seed)
    own = table is not None or search_seed != 1 or (num_classes or 0) > entry.num_classes
    if count or (entry.num_classes and not own):
        wanted = SIZES[count] if count else entry.num_classes
        if table is not None or search_seed != 1:
            raise ValueError(
                f"{name!r} means one table; for your own categories load {kind.name!r} with table= "
                "or search_seed="
            )
        if num_classes is not None and not 1 <= num_classes <= wanted:
            raise ValueError(f"num_classes={num_classes}: {name} has {wanted} categories")
        chosen = _named(name, family, num_classes or wanted)
    elif table is not None:
        chosen = _own(table, family, num_classes)
    elif num_classes is None or num_classes < 1:
        raise ValueError(
            f"{name!r} names no table: give num_classes=... to find categories, or table=..."
        )
    else:
        chosen = _numbered(family, num_classes, search_seed, cache_dir)
    return Dataset(
        name=name,
        family=family,
        categories=chosen,
        instances=entry.instances if instances == "published" else instances,
        size=family.canvas if size is None else size,
    )


def fingerprint(name: str) -> str:
    """`load(name).fingerprint()`: family, version, table and 64 fixed images in one hash, for a
    paper to cite.
    """
    return load(name).fingerprint()


def _known() -> str:
    sets = [f"{n}-{'|'.join(e.sizes)}" for n, e in DATASETS.items() if e.sizes]
    sets += [name for name, entry in DATASETS.items() if entry.num_classes]
    return f"there are {', '.join(sets)}, and the families {', '.join(FAMILIES)}"


def _named(name: str, family: Any, count: int) -> Any:
    """The first `count` categories that a name stands for."""
    if not hasattr(family, "score"):
        return _numbered(family, count, 0, None)
    default = type(family)()
    if family.search_settings != default.search_settings:
        raise ValueError(
            f"{name!r} is a table that was found with {default.search_settings}, and your options "
            f"mean {family.search_settings}: load {family.name!r} with num_classes={count}"
        )
    key = "fractaldb-published" if name in ("fractaldb-1k", "ofdb2d-1k") else family.name
    return categories.first(_shipped(key), count)


def _numbered(family: Any, count: int, seed: int, cache_dir: Any) -> Any:
    """New categories: those that the search accepts, or every candidate where all are."""
    if hasattr(family, "score"):
        numbers = search(family, count, seed, cache_dir=cache_dir)
    elif not 0 <= seed < 2**32 // SEED_STRIDE or count > SEED_STRIDE:
        raise ValueError(
            f"search_seed={seed}, num_classes={count}: give a seed of 0 to "
            f"{2**32 // SEED_STRIDE - 1} and at most {SEED_STRIDE} categories"
        )
    elif getattr(family, "varying", None) != getattr(type(family)(), "varying", None):
        return _distinct(family, count, seed)
    else:
        numbers = np.arange(count, dtype=np.uint32) + np.uint32(seed * SEED_STRIDE)
    return categories.from_numbers(family, numbers)


def _distinct(family: Any, count: int, seed: int) -> Any:
    """The first `count` categories that differ: few parameters that vary say the same ones twice,
    and two labels for one picture would teach nothing.
    """
    for many in (2, 64):  # most differ
        numbers = np.arange(many * count, dtype=np.uint32) + np.uint32(seed * SEED_STRIDE)
        table = categories.from_numbers(family, numbers)
        rows = np.concatenate([np.reshape(field, (len(numbers), -1)) for field in table], 1)
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        if len(first) >= count:
            break
    else:
        raise ValueError(
            f"varying={family.varying}: only {len(first)} categories of {family.name} differ; give "
            f"num_classes={len(first)}, or a greater varying="
        )
    return categories.from_numbers(family, numbers[first[:count]])


def _own(table: Any, family: Any, count: int | None) -> Any:
    like = family.propose(np.zeros(1, np.uint32), xp=np)
    kind: Any = type(like)
    said = "the table" if isinstance(table, tuple) else f"{table}"
    chosen: Any = table
    if not isinstance(table, (str, os.PathLike, tuple)):
        raise ValueError(f"table={table!r}: give a file, a folder, or a family's Category")
    if not isinstance(table, tuple):
        path = pathlib.Path(table)
        if not path.exists():
            raise ValueError(f"table={table}: there is no such file or folder")
        npz = path.suffix == ".npz"
        chosen = categories.load(path, kind) if npz else categories.read_published(path)
    if type(chosen) is not kind:
        raise ValueError(f"{said}: not a table of {family.name}, whose fields are {kind._fields}")
    if not len(chosen[0]):
        raise ValueError(f"{said}: the table is empty; give one with a category or more")
    for field, wanted, given in zip(kind._fields, like, chosen, strict=True):
        given = np.asarray(given)
        if kind is not Category and given.shape != (len(chosen[0]), *wanted.shape[1:]):
            raise ValueError(f"{said}: {field} has the shape {given.shape}")
    if count is not None and not 1 <= count <= len(chosen[0]):
        raise ValueError(f"num_classes={count}: {said} has {len(chosen[0])} categories")
    if kind is Category and chosen.maps.shape[-1] != _columns(family):
        raise ValueError(
            f"{said}: systems of {chosen.maps.shape[-1]} coefficients; "
            f"{family.name} has {_columns(family)}"
        )
    return categories.first(chosen, count or len(chosen[0]))


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
