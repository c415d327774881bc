"""Joining the samples of several sources into one batch without moving any between devices."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp


def join(
    parts: Sequence[Mapping[str, Any]], offsets: Sequence[int], unit: int = 1
) -> dict[str, Any]:
    """One flat batch of the samples of `parts`, in g = gcd(their lengths) equal blocks.

    Each block holds the same share of every part; g is a multiple of the number of devices, so that
    a device's rows of every part end up on that device, and the order is the same for any number of
    devices (a plain concatenation would gather all images everywhere). Fields that some part lacks
    are left out. Labels and masks of part k are moved up by `offsets[k]`. Lengths are multiples of
    `unit`, and there are as many blocks less, so that rows unit * i to unit * i + unit - 1 are
    neighbours in one part: pairs that are mixed, groups.
    """
    moved = [moved_up(part, offset) for part, offset in zip(parts, offsets, strict=True)]
    if len(moved) == 1:
        return moved[0]
    blocks = math.gcd(*(part["image"].shape[0] for part in moved)) // unit
    shared = set.intersection(*(set(part) for part in moved))
    if "label" in shared:
        moved = _equally_many_labels(moved)
    return {name: _interleave([part[name] for part in moved], blocks) for name in sorted(shared)}


def moved_up(part: Mapping[str, Any], offset: int) -> dict[str, Any]:
    """A batch whose class ids begin at `offset`; -1, no label, and 0, the background, stay."""
    moved = dict(part)
    if offset and "label" in part:
        moved["label"] = jnp.where(part["label"] < 0, -1, part["label"] + offset)
    if offset and "mask" in part:
        mask = jnp.asarray(part["mask"], jnp.int32)
        moved["mask"] = jnp.where(mask > 0, mask + offset, 0)
    return moved


def _equally_many_labels(parts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One label an image beside several becomes several of which all but the first are none."""
    most = max(part["label"].shape[1] if part["label"].ndim > 1 else 0 for part in parts)
    if not most:
        return [dict(part) for part in parts]
    several = [part["label"].reshape(len(part["label"]), -1) for part in parts]
    padded = [
        jnp.pad(label, ((0, 0), (0, most - label.shape[1])), constant_values=-1)
        for label in several
    ]
    return [{**part, "label": label} for part, label in zip(parts, padded, strict=True)]


def _interleave(arrays: Sequence[Any], blocks: int) -> Any:
    if arrays[0].ndim == 4:  # gray beside colour
        channels = max(array.shape[-1] for array in arrays)
        arrays = [jnp.broadcast_to(a, (*a.shape[:-1], channels)) for a in arrays]
    folded = [a.reshape(blocks, a.shape[0] // blocks, *a.shape[1:]) for a in arrays]
    joined = jnp.concatenate(folded, axis=1)
    return joined.reshape(-1, *joined.shape[2:])
