"""Images of some classes of a data set, as a model sees them, with words for their labels."""

import dataclasses
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment, sources
from jaxfdsl.data.decode import View
from jaxfdsl.data.sources import Rows, Source

A_CLASS = 16  # images of a class, where there are so many
_AT_ONCE = 32  # drawn by one program


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images with, for each, words for its labels and the classes that it shows."""

    name: str
    images: UInt8[np.ndarray, "n S S 3"]
    labels: tuple[str, ...]
    classes: tuple[frozenset[tuple[str, int]], ...]

    def __add__(self, other: "Samples") -> "Samples":
        return Samples(
            f"{self.name} and {other.name}",
            np.concatenate([self.images, other.images]),
            self.labels + other.labels,
            self.classes + other.classes,
        )

    def apart(self, count: int) -> list[int]:
        """At most `count` images: the first one of different classes, evenly spread over all, then
        others where there are not so many classes.
        """
        firsts: dict[frozenset, int] = {}
        for place, each in enumerate(self.classes):
            firsts.setdefault(each, place)
        chosen = _spread(list(firsts.values()), count)
        others = [place for place in range(len(self.classes)) if place not in set(chosen)]
        return chosen + _spread(others, count - len(chosen))


def _spread(items: list[int], count: int) -> list[int]:
    """At most `count` of them, the first and the last among these."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def of_entry(entry: ConfigDict, config: ConfigDict, count: int, field: str) -> Samples:
    """At most about `count` images of a set; corrupt ones are left out.

    `config` says how a model sees them. Raises `ConfigError` for data that is not there.
    """
    size = config.model.image_size
    view = View(size=size, fraction=1.0, interpolation=config.augment.interpolation)
    source = sources.build(entry, seed=config.seed, train=False, field=field, view=view)
    rows = _rows(source, count, entry.kind == "formula")
    total = len(next(iter(rows.values())))
    seen = jax.jit(lambda rows, table: _seen(source, config, rows, table))
    parts = []
    for first in range(0, total, _AT_ONCE):
        places = np.arange(first, first + _AT_ONCE) % total
        found = seen({name: value[places] for name, value in rows.items()}, source.table)
        parts.append(jax.device_get(found))
    whole = {name: np.concatenate([part[name] for part in parts])[:total] for name in parts[0]}
    if not whole["valid"].any():
        raise ConfigError(f"{field} ({source.name}) has no image that can be read: type another.")
    return _told(source, {name: value[whole["valid"] > 0] for name, value in whole.items()})


def _rows(source: Source, count: int, drawn: bool) -> Rows:
    """Of what is drawn, a few images each of some classes, evenly spread over all; of what is
    stored, images evenly spread over the split.
    """
    if not drawn:
        there = source.num_examples or count
        return source.rows(np.array(_spread(list(range(there)), count)))
    if source.scenes:
        return source.rows_of(0, count)
    there = source.num_examples // source.num_classes if source.num_examples else A_CLASS
    each = max(1, min(A_CLASS, there))
    chosen = _spread(list(range(source.num_classes)), max(1, count // each))
    parts = [source.rows_of(category, each) for category in chosen]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _seen(source: Source, config: ConfigDict, rows: Any, table: Any) -> dict[str, jax.Array]:
    """`image` uint8[n, S, S, 3], `label`, `valid`."""
    made = source.fields(rows, table)
    fields, size = config.augment, config.model.image_size
    if source.cropped:
        normal = augment.normalise(made["image"], fields)
    else:
        normal = augment.evaluate(made["image"], fields, size)
    mean, std = (np.asarray(fields[name], np.float32) for name in ("mean", "std"))
    image = jax.numpy.round(255 * (normal * std + mean)).clip(0, 255).astype("uint8")
    return {"image": image, "label": made["label"], "valid": made["valid"]}


def _told(source: Source, found: dict[str, np.ndarray]) -> Samples:
    names = source.class_names
    lists = [[int(k) for k in np.atleast_1d(label) if k >= 0] for label in found["label"]]
    words = (
        ", ".join(names[k] for k in each)
        if names
        else f"class{'es' if len(each) > 1 else ''} {', '.join(map(str, each))}"
        for each in lists
    )
    classes = (frozenset((source.name, k) for k in each) for each in lists)
    return Samples(source.name, found["image"], tuple(words), tuple(classes))
