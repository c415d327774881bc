"""Which images were made from one recipe, and which of them stand in a group of a batch."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Int64

from jaxfdsl.data.shuffle import hash64, permute


@dataclasses.dataclass(frozen=True, eq=False)
class Groups:
    """Places of images sorted by their group; group k has `order[starts[k]:starts[k + 1]]`."""

    order: np.ndarray | None  # int32 or int64; None where images stand in that order already
    starts: Int64[np.ndarray, " groups_and_one"]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Int64[np.ndarray, " groups"]:
        """Images of each group."""
        return np.diff(self.starts)

    def places(self, inside: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The images that stand at these places of the sorted order."""
        return inside if self.order is None else self.order[inside].astype(np.int64)


def grouped(groups: np.ndarray) -> Groups:
    """The groups of images by their group numbers, int64[n]; about 5 bytes of memory an image."""
    changes = np.flatnonzero(groups[1:] < groups[:-1])
    order = None
    if len(changes):
        small = np.int32 if len(groups) < 2**31 else np.int64
        order = np.argsort(groups, kind="stable").astype(small)
        groups = groups[order]
    starts = np.flatnonzero(groups[1:] != groups[:-1]) + 1
    return Groups(order, np.concatenate([[0], starts, [len(groups)]]).astype(np.int64))


def chosen(
    groups: Groups, positions: Int64[np.ndarray, " n"], size: int, seed: int
) -> Int64[np.ndarray, " n"]:
    """The image at each position of a stream in groups of `size`, a pure function of the position.

    The stream visits every group once before any comes again, each time in a new order; at each
    visit it takes `size` images of the group without replacement (Tian et al., arXiv 2306.00984,
    StableRep: m of the images of a caption each time it is seen).
    """
    slots, view = np.divmod(np.asarray(positions, np.int64), size)
    visit, place = np.divmod(slots, len(groups))
    group = permute(place, len(groups), hash64(seed, visit))
    counts = groups.starts[group + 1] - groups.starts[group]
    inside = np.empty(len(positions), np.int64)
    key = hash64(seed, visit, group)
    for count in np.unique(counts).tolist():
        same = counts == count
        inside[same] = permute(view[same], count, key[same])
    return groups.places(groups.starts[group] + inside)


@functools.lru_cache(maxsize=4)
def of_records(records: Any, kept: Any) -> Groups:
    """The groups of a store's records, once a process; of those of a class list where `kept`."""
    numbers = records.column("group")
    return grouped(np.asarray(numbers if kept is None else numbers[kept.rows]))
