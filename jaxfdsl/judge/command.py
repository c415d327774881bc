"""The verb `judge`: a made set beside real images, as a table and as STORE/judge.json."""

import json
import pathlib
from typing import Any

import numpy as np

from jaxfdsl import compile_cache
from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.store import layout
from jaxfdsl.judge import measures
from jaxfdsl.select import space
from jaxfdsl.select.space import Vectors

FILE = "judge.json"
FEW = 20  # images a number of the vectors, below which a covariance is mostly chance


def run(options: Any) -> None:
    """Prints measures and keeps them under the name of the representation (NAME, or NAME@INDEX) in
    STORE/judge.json; raises ConfigError for what cannot be compared."""
    options.rep = options.rep.removeprefix("rep:")
    name = f"rep:{options.rep}"
    made = space.read(options.store, name, options.index)
    real, held_out = _real(options, name)
    if made.path == real.path and np.intersect1d(made.rows, real.rows).size:
        raise ConfigError(
            f"--real={options.real} has images of the set that is judged: type the store of the "
            "real images."
        )
    _check(options, made, real, held_out)
    compile_cache.enable()
    found = measures.compare(
        _points(made),
        _points(real),
        None if held_out is None else _points(held_out),
        k=options.k,
        k_density=options.k_density,
        per_class=options.per_class,
        tell=print,
    )
    file = pathlib.Path(made.path) / FILE
    key = options.rep + (f"@{options.index}" if options.index else "")
    asked = {"k": options.k, "k_density": options.k_density, "made": made.identity}
    asked |= {"real": real.identity, "real_index": options.real_index}
    asked |= {"held_out": held_out and held_out.identity}
    _keep(file, key, {"asked": asked, **found})
    print("\n".join(table(found)))
    few, width = min(len(made.values), len(real.values)), made.values.shape[1]
    if few < FEW * width:
        print(
            f"frechet is too high by chance: {few} images are few for {width} numbers; compare it "
            "with that of sets of the same size alone"
        )
    print(f"{key!r} of {file}")


def _real(options: Any, name: str) -> tuple[Vectors, Vectors | None]:
    """The real images that the set is compared with, and those that nothing was trained on."""
    data_dir = options.data_dir
    real = space.read(
        options.real, name, options.real_index, split=options.split, data_dir=data_dir
    )
    if options.held_out:
        held_out = space.read(
            options.held_out, name, split=options.held_out_split, data_dir=data_dir
        )
        if held_out.path == real.path:
            raise ConfigError(
                f"--held_out={options.held_out} is what --real is: type other images, or list "
                "those trained on by --real_index, and the others are held out."
            )
        return real, held_out
    if not options.real_index:
        return real, None
    opened = store.open(options.real)
    others = np.setdiff1d(np.arange(len(opened)), real.rows)
    # Those that no list names may be left out because they cannot be read, or be too few.
    others = others[np.isfinite(opened.column(name)[others]).all(axis=1)]
    enough = len(others) > max(options.k, options.k_density)
    return real, space.read(opened, name, rows=others) if enough else None


def _check(options: Any, made: Vectors, real: Vectors, held_out: Vectors | None) -> None:
    for option, k in (("--k", options.k), ("--k_density", options.k_density)):
        for one in (made, real, held_out):
            if one is not None:
                space.check_enough(one, k + 1, f"{option}={k}")
    for other in (real, held_out):
        if other is not None:
            space.check_same(made, other)
    if options.per_class:
        space.check_labels(made, "--per_class")
        space.check_labels(real, "--per_class")


def _points(vectors: Vectors) -> measures.Points:
    return measures.Points(vectors.values, vectors.labels)


def _keep(file: pathlib.Path, key: str, found: dict[str, Any]) -> None:
    """Beside what was measured before in other spaces, or of other lists of images."""
    try:
        known = json.loads(file.read_bytes()) if file.is_file() else {}
    except ValueError:
        known = {}
    with layout.whole(file) as opened:
        opened.write(json.dumps({**known, key: found}, indent=1).encode() + b"\n")


def table(found: dict[str, Any]) -> list[str]:
    """The lines that are printed: a measure a line, then a class a line."""
    columns = [("the set", found["made"]), ("held-out real", found.get("held_out"))]
    columns = [(head, told) for head, told in columns if told]
    wide = max(map(len, found["made"])) + 2
    lines = [" " * wide + "".join(f"{head:>15}" for head, _ in columns)]
    for name in found["made"]:
        told = [f"{_number(told.get(name)):>15}" for _, told in columns]
        lines.append(f"{name:<{wide}}" + "".join(told))
    classes = found.get("classes", {})
    if classes:
        heads = list(dict.fromkeys(name for told in classes.values() for name in told))
        lines += ["", "  ".join(["class", *heads])]
    for label, told in classes.items():
        cells = [f"{_number(told.get(head)):>{len(head)}}" for head in heads]
        lines.append("  ".join([f"{label:>5}", *cells]))
    return lines


def _number(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
