"""Images and those that a model takes to be most like them."""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image

from jaxfdsl.evals import knn
from jaxfdsl.report.samples import Samples
from jaxfdsl.report.sheet import GREEN, MARGIN, RULE, Sheet

NEAREST = 8
_CELL, _GAP, _TOP, _LINE = 132, 12, 84, 28


@dataclasses.dataclass(frozen=True)
class Neighbour:
    """An image of the set, the cosine of its and the query's features, and if a class is shared."""

    number: int
    cosine: float
    same: bool


def find(
    values: Float32[np.ndarray, "n D"], samples: Samples, queries: list[int]
) -> list[list[Neighbour]]:
    """The nearest images of each query, itself left out, nearest first."""
    count = min(NEAREST + 1, len(values))
    numbers, cosines = knn.neighbours(values, values[queries], count)
    found = []
    for query, near, similar in zip(queries, numbers, cosines, strict=True):
        others = [(int(n), float(c)) for n, c in zip(near, similar, strict=True) if n != query]
        own = samples.classes[query]
        shared = [Neighbour(n, c, bool(own & samples.classes[n])) for n, c in others[:NEAREST]]
        found.append(shared)
    return found


def draw(samples: Samples, queries: list[int], found: list[list[Neighbour]]) -> Image.Image:
    """A row a query, behind it the nearest; those of its class have a green frame."""
    count, step = max(map(len, found)), _CELL + _GAP
    right, height = MARGIN + _CELL + MARGIN + 8, _CELL + _LINE + _GAP
    sheet = Sheet(max(right + count * step - _GAP + MARGIN, 760), _TOP + len(queries) * height + 8)
    sheet.text((MARGIN, 16), "Nearest neighbours in feature space", "title")
    words = f"of {len(samples.images)} images of {samples.name}, green where a class is shared"
    sheet.text((MARGIN, 46), words)
    for row, (query, near) in enumerate(zip(queries, found, strict=True)):
        top = _TOP + row * height
        sheet.picture((MARGIN, top), samples.images[query], _CELL)
        label: dict[str, Any] = {"kind": "small", "anchor": "ma", "width": _CELL}
        sheet.text((MARGIN + _CELL // 2, top + _CELL + 7), samples.labels[query], **label)
        for column, other in enumerate(near):
            left = right + column * step
            sheet.picture((left, top), samples.images[other.number], _CELL)
            if other.same:
                sheet.frame((left, top), _CELL, GREEN, 4)
            words = f"{other.cosine:.2f}  {samples.labels[other.number]}"
            sheet.text((left + _CELL // 2, top + _CELL + 7), words, **label)
    sheet.line((MARGIN + _CELL + MARGIN // 2 + 4, _TOP), len(queries) * height - _LINE - _GAP, RULE)
    return sheet.page
