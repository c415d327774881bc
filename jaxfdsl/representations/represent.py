"""What `jaxfdsl represent` does with its options: a recipes file of vectors that no image has."""

import dataclasses
import difflib
import json
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64

from jaxfdsl import compile_cache, whole_file
from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.records import all_labels
from jaxfdsl.data.store import columns
from jaxfdsl.representations import gaussians, mixing, rdm

# Options and the --by that they are of; their defaults are below and in `rdm.Settings`.
_OF = {
    "sigma": "perturb", "components": "gaussian", "steps": "rdm", "model": "rdm", "epochs": "rdm",
    "width": "rdm", "blocks": "rdm", "dropout": "rdm", "batch": "rdm", "learning_rate": "rdm",
}  # fmt: skip
_TRAINING = ("epochs", "width", "blocks", "dropout", "batch", "learning_rate")
SIGMA, COMPONENTS = 0.1, 0.95


@dataclasses.dataclass(frozen=True)
class Column:
    """The real vectors, those of an index where one was named."""

    place: str
    name: str
    values: Float32[np.ndarray, "n D"]
    labels: Int32[np.ndarray, " n"] | None
    rows: Int64[np.ndarray, " n"]  # of the whole column
    made_by: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Made:
    """New vectors, and what a recipes file tells of them."""

    column: Float32[np.ndarray, "R D"]
    labels: Int32[np.ndarray, " R"]
    parents: Int64[np.ndarray, "R p"]  # rows of the real column, -1: none
    made_by: dict[str, Any]


def run(options: Any) -> None:
    """Writes --out; raises ConfigError for what cannot be."""
    _check(options)
    given = _column(options)
    _check_labels(options, given)
    compile_cache.enable()
    with whole_file.written(options.out) as file:
        try:
            made = MAKERS[options.by](given, options)
        except MemoryError as error:
            raise ConfigError(
                f"--count={options.count}: so many vectors do not fit into memory: type fewer."
            ) from error
        how = {name: getattr(options, name) for name in ("by", "count", "per_class", "seed")}
        told = {"verb": "represent", **how, **made.made_by, "column": given.made_by}
        np.savez(
            file,
            column=made.column.astype(np.float32),
            label=made.labels.astype(np.int32),
            parents=made.parents.astype(np.int64),
            made_by=np.array(json.dumps(told)),
        )
    classes = len(np.unique(made.labels)) if given.labels is not None else 0
    of = f" of {classes} classes" if classes else ", without labels"
    print(f"{len(made.column)} vectors{of} by {options.by}, after {given.name}: {options.out}")


def _interpolate(given: Column, options: Any) -> Made:
    labels = _labels(given)
    try:
        column, labels, parents = mixing.interpolated(
            given.values, labels, options.count, options.seed, options.per_class
        )
    except mixing.TooFew as error:
        what = f"class {error}" if given.labels is not None else given.place
        raise ConfigError(
            f"--by=interpolate mixes two images of a class, and {what} has one: type another --by, "
            "or an --index without it."
        ) from error
    return Made(column, labels, given.rows[parents], {})


def _perturb(given: Column, options: Any) -> Made:
    rows = _rows(given, options)
    sigma = SIGMA if options.sigma is None else options.sigma
    deviation = np.std(given.values, axis=0, dtype=np.float64)
    column = mixing.perturbed(given.values[rows], sigma, options.seed, deviation)
    return Made(column, _labels(given)[rows], given.rows[rows][:, None], {"sigma": sigma})


def _gaussian(given: Column, options: Any) -> Made:
    components = COMPONENTS if options.components is None else options.components
    try:
        found = gaussians.fit(given.values, given.labels, components)
    except ValueError as error:
        sign = "--" if str(error).startswith("components=") else f"{given.place}: "
        raise ConfigError(f"{sign}{error}") from error
    column, labels = found.sample(_labels(given)[_rows(given, options)], options.seed)
    told = {"components": len(found.axes), "explained": found.explained}
    told |= {"shrinkage": float(found.shrinkage.mean())}
    return Made(column, labels, np.full((len(labels), 1), -1), told)


def _rdm(given: Column, options: Any) -> Made:
    generator, path = _generator(given, options)
    steps = rdm.STEPS if options.steps is None else options.steps
    wanted = _labels(given)[_rows(given, options)]
    column, labels = generator.sample(wanted, options.seed, steps)
    told = {"steps": steps, "eta": 1.0, "trained": dataclasses.asdict(generator.settings)}
    told |= {"trained_seed": generator.seed, "model": columns.digest(path)}
    return Made(column, labels, np.full((len(labels), 1), -1), told)


MAKERS: dict[str, Callable[[Column, Any], Made]] = {
    "rdm": _rdm,
    "gaussian": _gaussian,
    "interpolate": _interpolate,
    "perturb": _perturb,
}


def _generator(given: Column, options: Any) -> tuple[rdm.Generator, pathlib.Path]:
    """That of --model, or one that is trained and kept beside --out."""
    if options.model:
        path = pathlib.Path(options.model).expanduser()
        return _fitting(rdm.load(path), given, f"--model={options.model}"), path
    asked = {name: getattr(options, name) for name in _TRAINING}
    settings = rdm.Settings(**{name: value for name, value in asked.items() if value is not None})
    out = pathlib.Path(options.out).expanduser()
    path = out.with_name(f"{out.name.removesuffix('.npz')}.rdm.npz")
    if path.is_file():
        found = rdm.load(path)
        if (found.settings, found.seed, found.made_by) != (settings, options.seed, given.made_by):
            raise ConfigError(
                f"{path} is a generator of another column, seed or settings: type --model={path} "
                "to sample from it, or another --out."
            )
        return _fitting(found, given, str(path)), path
    kept = path.with_name(f"{path.name}.unfinished")
    generator = rdm.fit(
        given.values, given.labels, options.seed, settings, made_by=given.made_by, keep=kept
    )
    generator.save(path)
    kept.unlink(missing_ok=True)
    print(f"the generator, for --model: {path}")
    return generator, path


def _fitting(generator: rdm.Generator, given: Column, what: str) -> rdm.Generator:
    width = given.values.shape[1]
    if generator.size != width:
        raise ConfigError(
            f"{what} makes vectors of {generator.size} numbers, and those of {given.name} have "
            f"{width}: type a model of that column."
        )
    if generator.made_by.get("sha256") != given.made_by["sha256"]:
        was = generator.made_by.get("name", "another column")
        raise ConfigError(
            f"{what} was trained on another column ({was}) than {given.name} of {given.place}: "
            "type a model of that column."
        )
    if bool(generator.classes) != (given.labels is not None):
        way = "leave --ignore_labels out" if generator.classes else "add --ignore_labels"
        how = "with" if generator.classes else "without"
        raise ConfigError(f"{what} was trained {how} labels: {way}.")
    return generator


def _labels(given: Column) -> np.ndarray:
    return np.full(len(given.values), -1, np.int32) if given.labels is None else given.labels


def _rows(given: Column, options: Any) -> np.ndarray:
    """Of `given`: whose labels, or whose neighbourhood, the new vectors have."""
    return mixing.drawn(_labels(given), options.count, options.seed, options.per_class)


def _column(options: Any) -> Column:
    """The vectors that --rep names; raises ConfigError for those that are no numbers."""
    name = f"rep:{options.rep.removeprefix('rep:')}"
    file, count, labels_of = _place(options, name)
    _check_name(file, name, options.store)
    whole = columns.read(file, f"the column {name!r}")
    if whole.ndim != 2 or whole.dtype.kind != "f" or len(whole) != count:
        raise ConfigError(
            f"{name} of {options.store} is {whole.dtype}{list(whole.shape)}, and {count} images "
            "need a vector each: embed them again."
        )
    rows = np.arange(count)
    if options.index:
        rows = np.sort(np.asarray(store.open(options.store).index(options.index), np.int64))
    values = np.asarray(whole[rows], np.float32)
    odd = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(odd):
        raise ConfigError(
            f"{name} of {options.store}: the vector of image {rows[odd[0]]} has numbers that are "
            f"not finite, as {len(odd)} of {len(rows)}: type an --index without them."
        )
    said = columns.described(file)
    made_by = {"name": name, "sha256": said["sha256"], "made_by": said.get("made_by", {})}
    if options.index:
        made_by |= {"index": options.index, "images": len(rows)}
    labels = None if options.ignore_labels else _known(labels_of()[rows], options.store)
    return Column(options.store, name, values, labels, rows, made_by)


def _place(options: Any, name: str) -> tuple[pathlib.Path, int, Callable[[], np.ndarray]]:
    """Where a column is, how many rows it should have, and a function that reads their labels."""
    if not options.store.startswith("tfds:"):
        opened = store.open(options.store)
        file = columns.sidecar_file(opened.path, name)
        return file, len(opened), lambda: np.asarray(opened.column("label"), np.int32)
    from jaxfdsl.representations import command  # it loads every encoder

    records = command.opened(options.store, options.split, options.data_dir)
    place = records.sidecar(name)
    if place is None:
        raise ConfigError(f"{options.store} has no place for columns: type a store.")
    return place, len(records), lambda: np.asarray(all_labels(records), np.int32)


def _check_name(file: pathlib.Path, name: str, place: str) -> None:
    if file.is_file():
        return
    prefix = file.stem.removesuffix(name.removeprefix("rep:"))  # of TFDS, the split
    known = [one.stem.removeprefix(prefix) for one in sorted(file.parent.glob(f"{prefix}*.npy"))]
    close = difflib.get_close_matches(name.removeprefix("rep:"), known, 1, 0.3)
    hint = f"did you mean --rep={close[0]}? It has" if close else "it has"
    told = f"{hint} {', '.join(known)}" if known else "write it by jaxfdsl embed"
    raise ConfigError(f"{place} has no column {name}: {told}.")


def _known(labels: np.ndarray, place: str) -> np.ndarray | None:
    """Labels that all images have, or None where none has one."""
    without = np.flatnonzero(labels < 0)
    if len(without) == len(labels):
        return None
    if len(without):
        raise ConfigError(
            f"{place}: image {without[0]} has no label, as {len(without)} of {len(labels)}: type "
            "an --index of those that have, or --ignore_labels."
        )
    return labels


def _check(options: Any) -> None:
    """Raises ConfigError for options that cannot be meant together, before anything is read."""
    if options.by not in MAKERS:
        close = difflib.get_close_matches(options.by, MAKERS, 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(f"--by={options.by}: type one of {', '.join(MAKERS)}{hint}.")
    for name, by in _OF.items():
        value = getattr(options, name)
        if value not in (None, "") and options.by != by:
            raise ConfigError(f"--{name}={value} is of --by={by}: leave it out.")
        if value is not None and options.model and name in _TRAINING:
            raise ConfigError(f"--{name}={value} is of training, and --model is trained: leave it.")
    if not options.out.endswith(".npz"):
        raise ConfigError(f"--out={options.out}: type a name that ends in .npz.")
    if options.seed >= 2**32:
        raise ConfigError(f"--seed={options.seed}: type a number below 4294967296.")
    if options.index and options.store.startswith("tfds:"):
        raise ConfigError(f"--index={options.index} is of a store: leave it out.")
    if options.sigma is not None and not 0 <= options.sigma < np.inf:
        raise ConfigError(f"--sigma={options.sigma}: type 0 or more.")
    if options.steps is not None and not 1 <= options.steps <= rdm.TIMES:
        raise ConfigError(f"--steps={options.steps}: type a number from 1 to {rdm.TIMES}.")
    if options.dropout is not None and not 0 <= options.dropout < 1:
        raise ConfigError(f"--dropout={options.dropout}: type a share from 0 on, below 1.")
    if options.learning_rate is not None and not 0 < options.learning_rate < np.inf:
        raise ConfigError(f"--learning_rate={options.learning_rate}: type a number above 0.")


def _check_labels(options: Any, given: Column) -> None:
    if given.labels is not None:
        return
    why = "--ignore_labels was typed" if options.ignore_labels else f"{given.place} has no labels"
    if options.per_class:
        raise ConfigError(f"--per_class counts vectors of a class, and {why}: leave it out.")
    if options.by == "interpolate" and not options.ignore_labels:
        raise ConfigError(
            f"--by=interpolate mixes images of one class, and {why}: type --ignore_labels to mix "
            "any two."
        )
