"""Columns that take long to make: they grow by parts in a file beside, so that a kill loses one
part.
"""

import contextlib
import errno
import json
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.store import columns, layout

Rows = Int64[np.ndarray, " n"]
Values = Shaped[np.ndarray, "n ..."]
# Of rows, and of a function that is told how many more are done.
Compute = Callable[[Rows, Callable[[int], Any]], Values]
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


def made_by_of(file: pathlib.Path) -> dict[str, Any] | None:
    """What made the column in a file; None where there is none that is whole."""
    if not (file.is_file() and file.with_suffix(".json").is_file()):
        return None
    try:
        columns.read(file, file.stem)
        return columns.described(file).get("made_by", {})
    except ConfigError:  # truncated, or half of it lost
        return None


def is_there(file: pathlib.Path, made_by: Mapping[str, Any]) -> bool:
    """Whether a column is there that was made by the same."""
    return made_by_of(file) == json.loads(json.dumps(made_by))


@contextlib.contextmanager
def gathered(
    file: pathlib.Path,
    made_by: Mapping[str, Any],
    total: int,
    compute: Compute,
    *,
    each: int,
    desc: str,
    check: Callable[[Rows, Values], None] | None = None,
) -> Iterator[np.memmap]:
    """The values of all `total` rows, computed `each` rows at a time, memory-mapped.

    Parts of the same `made_by` that an earlier call left are taken as they are, others are thrown
    away. `check` sees every part, old or new, and may raise. All lie in one file, which goes when
    the caller, who writes the column or links it there, is through. Raises ConfigError for a
    folder that cannot be written to.
    """
    folder = _folder(file)
    _begin(folder, {**made_by, "part": each})
    joined = folder / "joined.npy"
    made: Any = np.load(joined, mmap_mode="r+") if any(folder.glob("*.done")) else None
    with terminal.progress(total, desc=desc, unit="images") as bar:
        for first in range(0, total, each):
            rows = np.arange(first, min(first + each, total))
            done = folder / f"{first:012d}.done"
            if done.is_file():
                bar.initial += len(rows)  # which were not done now, for the rate
                bar.update(len(rows))
            else:
                values = compute(rows, bar.update)
                if made is None:
                    shape = (total, *values.shape[1:])
                    _check_room(folder, total * values[:1].nbytes)
                    made = np.lib.format.open_memmap(joined, "w+", values.dtype, shape)
                made[rows[0] : rows[-1] + 1] = values
                made.flush()
                with layout.whole(done):  # the rows are on the disk
                    pass
            if check:
                check(rows, made[rows[0] : rows[-1] + 1])
    yield made
    shutil.rmtree(folder)


def clear(file: pathlib.Path) -> None:
    """Removes what a kill at the very end left of a column: its own file under a second name."""
    joined, whole = _folder(file) / "joined.npy", (file, file.with_suffix(".json"))
    if all(one.is_file() for one in (joined, *whole)) and joined.samefile(file):
        shutil.rmtree(joined.parent)


def _folder(file: pathlib.Path) -> pathlib.Path:
    return file.with_name(f"{file.stem}.parts")


def _check_room(folder: pathlib.Path, needed: int) -> None:
    """Now, as a mapped file on a full disk ends the process without a word."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigError(
            f"{folder.parent} has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} GB are needed: "
            "make room, or copy the data set to a larger disk, and type that one."
        )


def _begin(folder: pathlib.Path, made_by: dict[str, Any]) -> None:
    """Parts of something else are thrown away."""
    text, said = json.dumps(made_by, sort_keys=True), folder / "made_by.json"
    try:
        if folder.exists() and not (said.is_file() and said.read_text() == text):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with layout.whole(said) as file:
            file.write(text.encode())
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
        raise ConfigError(
            f"{folder.parent} cannot be written to ({error.strerror}): copy the data set to a "
            "folder of yours, and type that one."
        ) from error
