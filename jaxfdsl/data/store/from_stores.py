"""Several stores as one, such as the parts that `jaxfdsl generate --part` made."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxfdsl.config import ConfigError
from jaxfdsl.data.store.reader import Store
from jaxfdsl.data.store.rows import Row, stored


class StoreRows:
    """The rows of stores, one store behind the other; groups keep their numbers."""

    def __init__(self, places: list[pathlib.Path]):
        self._stores = [Store(place) for place in places]
        for first, other in zip(self._stores, self._stores[1:], strict=False):
            if other.classes != first.classes:
                raise ConfigError(f"{first.path} and {other.path} have other classes each.")
        seen: dict[int, np.ndarray] = {}
        for number, one in enumerate(self._stores):
            groups = np.unique(np.asarray(one.column("group")))
            for before, known in seen.items():
                both = np.intersect1d(known, groups[groups >= 0], assume_unique=True)
                if len(both):
                    earlier = self._stores[before].path
                    raise ConfigError(
                        f"{earlier} and {one.path} both have the group {both[0]}, which would be "
                        "one: make them from one list of captions, or take one only."
                    )
            seen[number] = groups[groups >= 0]

    @property
    def classes(self) -> tuple[str, ...]:
        return self._stores[0].classes

    @property
    def card(self) -> dict[str, Any]:
        """What all cards say; `parts` has the number of stores."""
        cards = [one.card for one in self._stores]
        kept = {k: v for k, v in cards[0].items() if all(c.get(k) == v for c in cards)}
        return {**kept, "parts": len(cards)}

    @property
    def identity(self) -> str:
        """Of the rows and their order."""
        return " ".join(one.layout.fingerprint for one in self._stores)

    def rows(self, start: int) -> Iterator[Row]:
        """The rows from `start` on."""
        for one in self._stores:
            yield from stored(one, min(start, len(one)), len(one))
            start = max(0, start - len(one))
