"""Where each source's classes begin among those that a model learns (`data.label_space`)."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

from jaxfdsl.config import ConfigError
from jaxfdsl.data.sources import Source


class Numbering(NamedTuple):
    """The first class of each source, and how many classes there are in all."""

    first: dict[str, int]
    total: int


def number(sources: Mapping[str, Source], label_space: str) -> Numbering:
    """One source's classes after the other's, in the order given; with "shared", class k of every
    source is the same class k.

    Raises ConfigError for sources that cannot share their classes. One without labels shares any.
    """
    counts = {name: source.num_classes for name, source in sources.items()}
    if label_space != "shared":
        ends = [0, *itertools.accumulate(counts.values())]
        return Numbering(dict(zip(counts, ends, strict=False)), ends[-1])
    labelled = [name for name in counts if counts[name]]
    for one, other in itertools.combinations(labelled, 2):  # not all have names to compare
        _check_same(one, sources[one], other, sources[other])
    return Numbering(dict.fromkeys(counts, 0), max(counts.values(), default=0))


def _check_same(first: str, one: Source, name: str, other: Source) -> None:
    instead = "type --config.data.label_space=joined, or give both the same classes."
    if one.num_classes != other.num_classes:
        raise ConfigError(
            f"data.label_space='shared' is for sources of the same classes, and data.sources."
            f"{first} has {one.num_classes} and data.sources.{name} has {other.num_classes}: "
            f"{instead}"
        )
    named = zip(one.class_names or (), other.class_names or (), strict=False)
    different = next(((k, *pair) for k, pair in enumerate(named) if pair[0] != pair[1]), None)
    if different:
        raise ConfigError(
            f"data.label_space='shared' is for sources of the same classes, and class "
            f"{different[0]} is {different[1]!r} in data.sources.{first} and {different[2]!r} in "
            f"data.sources.{name}: {instead}"
        )
