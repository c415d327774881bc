"""Columns: `.npy` files that grow with a store, sidecar columns beside them, and lists of rows.

Every one can be read by `numpy.load(path, mmap_mode="r")`.
"""

import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Shaped

from jaxfdsl.config import ConfigError
from jaxfdsl.data.store import layout as layouts

HEADER = 128  # bytes that numpy gives the header of one axis, room for it to grow included
# Kinds of sidecar columns: "rep:dinov2", "score:clip", "cluster:dinov2-k1000", "latent:sd".
SIDECARS = ("rep", "score", "cluster", "latent")
_CHUNK = 2**24  # bytes that are summed up at once
_NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def append(path: pathlib.Path, dtype: str, rows: int, values: Shaped[np.ndarray, " n"]) -> None:
    """Puts `values` behind the first `rows`, whatever a killed write left there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = np.ascontiguousarray(values, np.dtype(dtype))
    with open(path, "r+b" if path.exists() else "w+b") as file:
        file.truncate(HEADER + rows * made.dtype.itemsize)
        file.seek(0)
        file.write(_header(made.dtype, rows + len(made)))
        file.seek(HEADER + rows * made.dtype.itemsize)
        file.write(made.tobytes())
        file.flush()
        os.fsync(file.fileno())


def mapped(path: pathlib.Path, dtype: str, rows: int) -> Shaped[np.ndarray, " n"]:
    """The first `rows` of a column, in memory only where they are looked at."""
    if not rows:
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, "r", HEADER, (rows,))


def _header(dtype: np.dtype, rows: int) -> bytes:
    file = io.BytesIO()
    described = {"descr": dtype.str, "fortran_order": False, "shape": (rows,)}
    np.lib.format.write_array_header_1_0(file, described)
    assert len(file.getvalue()) == HEADER
    return file.getvalue()


def write_column(
    path: str | os.PathLike,
    name: str,
    values: Shaped[np.ndarray, "N ..."],
    made_by: Mapping[str, Any],
) -> None:
    """Write a sidecar column, such as `rep:<encoder>` or `score:<name>`: a number or more a row.

    `made_by` is what someone needs to make it again. Raises `ConfigError` for a name of another
    kind and for values that are not one a row of the store.
    """
    root = pathlib.Path(path).expanduser()
    rows = layouts.load(root).images
    if len(values) != rows:
        raise ConfigError(
            f"{name} has {len(values)} values and {root} {rows} images: one an image."
        )
    if values.dtype.kind not in "fiub":
        raise ConfigError(f"{name} holds {values.dtype}: type numbers.")
    write_sidecar(sidecar_file(root, name), values, made_by)


def write_sidecar(
    file: pathlib.Path, values: Shaped[np.ndarray, "N ..."], made_by: Mapping[str, Any]
) -> None:
    """Write a column where `data.records.Records.sidecar` says, of whatever pictures."""
    _write(file, values, made_by, _statistics(values))


def link_sidecar(file: pathlib.Path, values: np.memmap, made_by: Mapping[str, Any]) -> None:
    """As `write_sidecar`, of a whole `.npy` on the same disk, which is given a second name: large
    columns are not copied where the disk can do that."""
    for old in (file.with_suffix(".json"), file):
        old.unlink(missing_ok=True)
    try:
        os.link(str(values.filename), file)
    except OSError:  # a file system without hard links
        write_sidecar(file, values, made_by)
        return
    layouts.to_disk(file.parent)
    _describe(file, values, made_by, _statistics(values))


def write_index(
    path: str | os.PathLike,
    name: str,
    rows: Int[np.ndarray, " n"] | Sequence[int],
    made_by: Mapping[str, Any],
) -> None:
    """Write a list of rows, such as those that a filter keeps.

    Raises `ConfigError` for an empty list, and for rows that are not there or come twice.
    """
    root = pathlib.Path(path).expanduser()
    rows, count = np.asarray(rows, np.int64), layouts.load(root).images
    if not len(rows):
        raise ConfigError(f"the index {name!r} would be empty: keep one image or more.")
    if rows.min() < 0 or rows.max() >= count or len(np.unique(rows)) != len(rows):
        raise ConfigError(f"the index {name!r} must name rows 0 to {count - 1}, each at most once.")
    _write(index_file(root, name), rows, made_by, {})


def sidecar_file(root: pathlib.Path, name: str) -> pathlib.Path:
    """rep/dinov2.npy of rep:dinov2; raises `ConfigError` for other names."""
    kind, _, own = name.partition(":")
    if kind not in SIDECARS or not _NAMES.fullmatch(own):
        raise ConfigError(
            f"{name!r} is no column: type one of {', '.join(layouts.COLUMNS)}, rep:NAME, "
            "score:NAME, cluster:NAME or latent:NAME."
        )
    return root / kind / f"{own}.npy"


def index_file(root: pathlib.Path, name: str) -> pathlib.Path:
    """index/best.npy of best; raises `ConfigError` for what is no name."""
    if not _NAMES.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of an index: type letters, digits, '.', '_', '-'.")
    return root / "index" / f"{name}.npy"


def read(file: pathlib.Path, what: str) -> Shaped[np.ndarray, "n ..."]:
    """A sidecar column or an index, memory-mapped; raises `ConfigError` where it is not there."""
    try:
        return np.load(file, mmap_mode="r")
    except FileNotFoundError:
        near = sorted(one.stem for one in file.parent.glob("*.npy"))
        known = f"type one of {near}" if near else "there is none yet"
        raise ConfigError(f"{what} is not there ({file}): {known}.") from None
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} is truncated or altered ({error}): remove it, and make {what} again."
        ) from error


def described(file: pathlib.Path) -> dict[str, Any]:
    """What a sidecar's or an index's own json says; raises `ConfigError` where it is not there."""
    path = file.with_suffix(".json")
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): make {file.name} again.") from error


def standardisation(
    file: pathlib.Path,
) -> tuple[Float32[np.ndarray, " D"], Float32[np.ndarray, " D"]] | None:
    """Mean and deviation of each number of a column's vectors, a deviation of 0 being 1; None of a
    column of single numbers."""
    said = described(file).get("each")
    if said is None:
        return None
    mean, deviation = (np.asarray(said[name], np.float32) for name in ("mean", "deviation"))
    return mean, np.where(deviation > 0, deviation, 1).astype(np.float32)


def digest(file: pathlib.Path) -> str:
    """The sha256 of a file's bytes."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write(
    file: pathlib.Path, values: np.ndarray, made_by: Mapping[str, Any], more: dict[str, Any]
) -> None:
    # Without its json a column says nothing: an old one must not speak for a new column.
    file.with_suffix(".json").unlink(missing_ok=True)
    with layouts.whole(file) as opened:
        np.lib.format.write_array(opened, np.asarray(values), allow_pickle=False)
    _describe(file, values, made_by, more)


def _describe(
    file: pathlib.Path, values: np.ndarray, made_by: Mapping[str, Any], more: dict[str, Any]
) -> None:
    text = {
        "made_by": dict(made_by),
        "shape": values.shape,
        "dtype": str(values.dtype),
        "sha256": digest(file),
        **more,
    }
    with layouts.whole(file.with_suffix(".json")) as opened:
        opened.write(json.dumps(text, indent=1).encode() + b"\n")


def _statistics(values: np.ndarray) -> dict[str, Any]:
    """Over all numbers that are finite, in float64, a part of the rows at a time."""
    step = max(1, _CHUNK // max(1, values[:1].nbytes))
    count, total, squares, least, most, odd = 0, 0.0, 0.0, np.inf, -np.inf, 0
    for start in range(0, len(values), step):
        part = np.asarray(values[start : start + step], np.float64)
        finite = part[np.isfinite(part)]
        odd += part.size - finite.size
        if finite.size:
            count, total = count + finite.size, total + finite.sum()
            squares += np.square(finite).sum()
            least, most = min(least, finite.min()), max(most, finite.max())
    if not count:
        return {"statistics": {"finite": 0, "not_finite": odd}}
    mean = total / count
    deviation = float(np.sqrt(max(0.0, squares / count - mean**2)))
    numbers = {"mean": float(mean), "deviation": deviation, "min": float(least), "max": float(most)}
    found = {"statistics": {"finite": count, "not_finite": odd, **numbers}}
    return found | ({"each": _of_each(values, step)} if values.ndim == 2 else {})


def _of_each(values: np.ndarray, step: int) -> dict[str, list[float]]:
    """Mean and deviation of each number of the vectors that are finite, in two passes: one pass
    would lose a small deviation beside a large mean."""
    rows, total = 0, np.zeros(values.shape[1])
    for part in _finite_parts(values, step):
        rows, total = rows + len(part), total + part.sum(axis=0)
    mean, squares = total / max(1, rows), np.zeros(values.shape[1])
    for part in _finite_parts(values, step):
        squares += np.square(part - mean).sum(axis=0)
    return {"mean": mean.tolist(), "deviation": np.sqrt(squares / max(1, rows)).tolist()}


def _finite_parts(values: np.ndarray, step: int) -> Iterator[np.ndarray]:
    for start in range(0, len(values), step):
        part = np.asarray(values[start : start + step], np.float64)
        yield part[np.isfinite(part).all(axis=1)]
