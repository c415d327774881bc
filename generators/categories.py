"""Category tables: made from candidate numbers, read from the published CSV files, kept as .npz."""

import hashlib
import os
import pathlib
from typing import IO, Any

import numpy as np
from jaxtyping import Float

from . import contour_files, npz
from .drawing.chaos import MAX_MAPS
from .formulas.systems import Category, quantise_system

LARGEST = 2**30  # bytes of a table; a million systems take 0.4 GB


def from_numbers(family: Any, numbers: np.ndarray) -> Any:
    """The table of accepted candidates, whole numbers [K], on the host: a `family.Category` with a
    leading axis of K, equal to what the device proposes.
    """
    proposed = family.propose(numbers.astype(np.uint32), xp=np)
    return type(proposed)._make(np.asarray(field) for field in proposed)


def first(table: Any, count: int) -> Any:
    """The first `count` categories of a table."""
    return type(table)._make(field[:count] for field in table)


def from_systems(systems: list[Float[np.ndarray, "_ k"]]) -> Category:
    """float64 systems as `read_systems` returns them, rounded once to the fixed-point formats of
    `drawing.chaos`.
    """
    rows = []
    for system in systems:
        dims = 2 if system.shape[1] == 7 else 3
        matrix = system[:, : dims * dims].reshape(-1, dims, dims)
        rows.append(quantise_system(matrix, system[:, dims * dims : -1], system[:, -1]))
    return Category._make(np.stack(field) for field in zip(*rows, strict=True))


def read_published(path: str | os.PathLike) -> Any:
    """A table from a folder of published category files: FractalDB (7 columns), MV-/ExFractalDB (13
    columns), or the `key,value` rows of RCDB and SegRCDB.

    All *.csv below `path` in the order of their file names. Raises ValueError naming the file and
    line of what is malformed.
    """
    files = _files(path)
    if contour_files.is_contour(files[0]):
        return contour_files.read(files)
    systems = read_systems(path)
    try:
        return from_systems(systems)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_systems(path: str | os.PathLike) -> list[Float[np.ndarray, "_ k"]]:
    """The float64 rows of each category file: matrix row by row, translation, probability."""
    files = _files(path)
    systems = [_read_file(file) for file in files]
    columns = [system.shape[1] for system in systems]
    if len(set(columns)) > 1:
        odd = next(i for i, count in enumerate(columns) if count != columns[0])
        raise ValueError(
            f"{files[odd]}: {columns[odd]} columns where {files[0].name} has {columns[0]}"
        )
    return systems


def _files(path: str | os.PathLike) -> list[pathlib.Path]:
    root = pathlib.Path(path)
    files = sorted(root.rglob("*.csv") if root.is_dir() else [root], key=lambda file: file.name)
    if not files or not files[0].exists():
        raise ValueError(
            f"no category files: {root} holds no .csv; "
            "give the folder that holds 00000.csv and its like"
        )
    return files


def _read_file(file: pathlib.Path) -> Float[np.ndarray, "n k"]:
    rows: list[list[float]] = []
    for number, line in enumerate(contour_files.lines_of(file), 1):
        if not line.strip():
            continue
        cells = line.split(",")
        if len(cells) not in (7, 13):
            raise ValueError(
                f"{file}, line {number}: {len(cells)} columns; "
                "a 2-D system has 7 (a,b,c,d,e,f,p), a 3-D one 13"
            )
        if rows and len(cells) != len(rows[0]):
            raise ValueError(
                f"{file}, line {number}: {len(cells)} columns where line 1 has {len(rows[0])}"
            )
        try:
            rows.append([float(cell) for cell in cells])
        except ValueError:
            raise ValueError(
                f"{file}, line {number}: {line.strip()!r} is not a row of numbers"
            ) from None
    system = np.array(rows)
    if not 1 <= len(rows) <= MAX_MAPS:
        raise ValueError(f"{file}: {len(rows)} maps; a system has 1 to {MAX_MAPS}, one a line")
    if not np.isfinite(system).all() or (system[:, -1] < 0).any() or system[:, -1].sum() <= 0:
        raise ValueError(f"{file}: every value must be finite and the last column probabilities")
    if abs(system[:, -1].sum() - 1) > 1e-3:
        raise ValueError(
            f"{file}: the last column is probabilities; they sum to {system[:, -1].sum():g}"
        )
    return system


def save(path: str | os.PathLike | IO[bytes], table: Any) -> None:
    """Writes a table as .npz."""
    np.savez_compressed(path, **table._asdict())


def load(path: str | os.PathLike, kind: Any = Category) -> Any:
    """Reads a table written by `save`, a `kind` (a family's `Category`). ValueError names the file
    and what is wrong with it.
    """
    with open(path, "rb") as raw:
        try:
            arrays = npz.read(raw, kind._fields.__contains__, LARGEST)
        except Exception as error:  # whatever a damaged file makes of zlib, zipfile and NumPy
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{path} is not a whole .npz file ({reason})") from None
    missing = [name for name in kind._fields if name not in arrays]
    if missing:
        raise ValueError(
            f"{path}: no array {missing[0]!r}; a table is written by generators.categories.save"
        )
    table = kind._make(arrays[name] for name in kind._fields)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    if any(a.dtype.kind not in "iu" for a in table):
        raise ValueError(f"{path}: a table holds whole numbers (fixed point), {shapes}")
    if len({a.shape[:1] for a in table}) > 1 or (kind is Category and not _systems_agree(table)):
        raise ValueError(f"{path}: the arrays do not agree: {shapes}")
    if not len(table[0]):
        raise ValueError(f"{path}: the table is empty; give one with a category or more")
    return table


def _systems_agree(table: Category) -> bool:
    n, dims = len(table.num_maps), table.maps.shape[-1]
    return (
        table.maps.shape[:2] == (n, MAX_MAPS)
        and dims in (6, 12)
        and table.thresholds.shape == (n, MAX_MAPS)
        and bool(((table.num_maps >= 1) & (table.num_maps <= MAX_MAPS)).all())
    )


def sha256(table: Any) -> str:
    """Hex digest of the table's numbers, the same on every machine."""
    digest = hashlib.sha256()
    for field in table:
        kind = "<u4" if np.asarray(field).dtype.kind == "u" else "<i4"
        array = np.ascontiguousarray(np.asarray(field).astype(kind))
        digest.update(repr(array.shape).encode() + array.tobytes())
    return digest.hexdigest()
