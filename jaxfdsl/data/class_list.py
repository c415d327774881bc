"""Subsets of a data set's classes, named in a text file: ImageNet-100, Places-30."""

import dataclasses
import difflib
import hashlib
import pathlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Int64

from jaxfdsl.config import ConfigError
from jaxfdsl.data.records import Records, all_labels, check_labels


@dataclasses.dataclass(frozen=True)
class Kept:
    """The classes of a list, and the rows of a split that have one of them."""

    names: tuple[str, ...]
    digest: str  # of the names and rows: what equality and hash go by
    rows: Int64[np.ndarray, " n"] = dataclasses.field(compare=False, repr=False)
    # By the data set's class number: the number in the list, or -1.
    numbers: Int32[np.ndarray, " c"] = dataclasses.field(compare=False, repr=False)


def read_names(path: str, field: str) -> list[str]:
    """The lines of a class list up to a tab, without comments (`# ...`) and empty lines.

    Raises `ConfigError`.
    """
    try:
        lines = pathlib.Path(path).expanduser().read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{field}.classes={path!r} cannot be read ({error}): type the path of a text file "
            "with a class name a line."
        ) from error
    names = [line.partition("#")[0].strip().split("\t")[0].strip() for line in lines]
    names = [name for name in names if name]
    if not names:
        raise ConfigError(f"{field}.classes={path!r} names no class: write a class name a line.")
    return names


def select(records: Records, class_names: Sequence[str] | None, path: str, field: str) -> Kept:
    """The rows of a split that have a class of the list at `path`; raises `ConfigError`."""
    if not class_names:
        raise ConfigError(
            f"{field}.classes={path!r}: the data set does not name its classes: type "
            f'--config.{field}.classes="" to keep all.'
        )
    known = {name: number for number, name in enumerate(class_names)}
    names = _resolved(read_names(path, field), known, path, field)
    numbers = np.full(len(known), -1, np.int32)
    numbers[[known[name] for name in names]] = np.arange(len(names))
    labels = all_labels(records)
    several = labels if records.multi_label else [[label] for label in labels]
    check_labels(records, several, range(len(several)), len(known))
    rows = np.flatnonzero([any(numbers[label] >= 0 for label in given) for given in several])
    if not len(rows):
        raise ConfigError(
            f"{field}.classes={path!r}: no image of the split has one of these classes: type "
            "another split or another list."
        )
    digest = hashlib.sha256("\n".join(names).encode() + rows.tobytes()).hexdigest()
    return Kept(tuple(names), digest, rows, numbers)


def _resolved(names: list[str], known: dict[str, int], path: str, field: str) -> list[str]:
    """The names as the data set has them: a whole line, or its first word."""
    result = []
    for name in names:
        name = name if name in known else name.split()[0]
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.0)
            raise ConfigError(
                f"{field}.classes={path!r} names {name!r}, which is not one of the "
                f"{len(known)} classes: did you mean {close[0]!r}?"
            )
        if name in result:
            raise ConfigError(
                f"{field}.classes={path!r} names {name!r} twice: write every class name once."
            )
        result.append(name)
    return result
