"""Counting the pictures that cannot be decoded, in the process that trains."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxfdsl.config import ConfigError
from jaxfdsl.data.sources import Source


class Corrupt:
    """Names every corrupt picture once and stops the run past a share of a source's pictures.

    A row of a stored source with `valid` 0 is a corrupt picture; rows that fill up a batch have
    `index` -1. Each process counts the pictures of its own rows.
    """

    def __init__(self, limit: float, tell: Callable[[str], Any] = logging.warning):
        self._limit = limit  # share of `num_examples`, config.data.max_corrupt
        self._tell = tell
        self._seen: dict[str, set[int]] = {}

    def see(self, source_name: str, source: Source, rows: Mapping[str, np.ndarray]) -> None:
        """Looks at a batch's rows of one source; raises `ConfigError` past the limit."""
        valid, index = rows.get("valid"), rows.get("index")
        if valid is None or index is None or source.num_examples is None or valid.all():
            return
        seen = self._seen.setdefault(source_name, set())
        for row in index[(valid == 0) & (index >= 0)].tolist():
            if row in seen:
                continue
            seen.add(row)
            self._tell(
                f"{_where(source, row)} cannot be decoded: its row keeps its place with no weight "
                f"({len(seen)} of {source.num_examples} so far)"
            )
            if len(seen) > self._limit * source.num_examples:
                raise ConfigError(
                    f"data.max_corrupt={self._limit:g} is passed: {len(seen)} of the "
                    f"{source.num_examples} images of {source_name} cannot be decoded: mend them, "
                    f"or type --config.data.max_corrupt={_more(seen, source)}."
                )

    def count(self, source_name: str) -> int:
        """Corrupt pictures of a source so far."""
        return len(self._seen.get(source_name, ()))


def _where(source: Source, row: int) -> str:
    where = getattr(source, "where", None)
    return where(row) if where else f"image {row} of {source.name},"


def _more(seen: set[int], source: Source) -> str:
    share = min(0.99, 2 * len(seen) / (source.num_examples or 1))
    return f"{share:.2g}"
