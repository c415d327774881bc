"""What devices tell each other in a training step, by kind and bytes, from the sharding alone.

Every parameter that "fsdp" cuts is brought together for the forward pass and again for the
backward one, and its gradient is summed and cut again. Other gradients are summed over all devices
of the batch. "tensor" sums activations, twice a block and pass. All of it happens in each of the
microbatches of an accumulated step, but that XLA brings together once a step, and keeps, what it
needs again: the ends, and blocks that are neither scanned nor computed again. Drawing and
augmentation tell nothing.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax

from jaxfdsl.costs.plan import Plan

KINDS = ("all-gather", "all-reduce", "reduce-scatter")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """How many arrays a step hands to one kind of collective, and their bytes when whole."""

    arrays: int
    size: float

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.arrays + other.arrays, self.size + other.size)


def of_step(plan: Plan) -> dict[str, Traffic]:
    """A step's collectives on one device; gradients and gathered parameters are float32."""
    found = dict.fromkeys(KINDS, Traffic(0, 0.0))
    for kind, traffic in [*_of_parameters(plan), *_of_activations(plan)]:
        found[kind] += traffic
    return {kind: traffic for kind, traffic in found.items() if traffic.arrays}


def _of_parameters(plan: Plan) -> Iterator[tuple[str, Traffic]]:
    shape, depth, parts = plan.shape, plan.design.size.depth, plan.config.accumulate
    leaves = jax.tree_util.tree_leaves_with_path(plan.state["params"])
    kept = not plan.design.scan_blocks and plan.design.remat == "none"
    for (path, leaf), laid in zip(leaves, jax.tree.leaves(plan.laid["params"]), strict=True):
        block, axes = path[0].key.startswith("blocks"), tuple(laid.spec)
        arrays = depth if path[0].key == "blocks" else 1
        whole = 4.0 * leaf.size / (shape["tensor"] if "tensor" in axes else 1)
        if "fsdp" in axes and shape["fsdp"] > 1:
            times = 2 * parts if block and not kept else 1
            yield "all-gather", Traffic(times * arrays, times * whole)
            yield "reduce-scatter", Traffic(parts * arrays, parts * whole)
            if shape["data"] > 1:
                yield "all-reduce", Traffic(parts * arrays, parts * whole / shape["fsdp"])
        elif shape["data"] * shape["fsdp"] > 1:
            yield "all-reduce", Traffic(parts * arrays, parts * whole)


def _of_activations(plan: Plan) -> Iterator[tuple[str, Traffic]]:
    """Of tensor parallelism: after the attention's and the MLP's second matrix, forward, and
    before their first, backward."""
    if plan.shape["tensor"] == 1:
        return
    design = plan.design
    size = plan.rows * design.tokens * design.size.width * design.dtype.itemsize
    times = 4 * design.size.depth
    yield "all-reduce", Traffic(times * plan.config.accumulate, float(times * size))


_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+))\[([\d,]*)\]")
_WHILE = re.compile(r'body=%?([\w.\-]+).*?"known_trip_count":\{"n":"(\d+)"\}')
_CALL = re.compile(r"(?:to_apply|calls)=%?([\w.\-]+)")


def of_program(text: str) -> dict[str, Traffic]:
    """The collectives that a compiled program (`compiled.as_text()`) runs, loops counted as often
    as they run; of arrays of one number, which are losses and norms, none is counted."""
    bodies: dict[str, list[str]] = collections.defaultdict(list)
    entry = name = ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            name = match[1]
            entry = name if line.startswith("ENTRY") else entry
        bodies[name].append(line)
    found: dict[str, Traffic] = collections.defaultdict(lambda: Traffic(0, 0.0))
    for kind, traffic in _in_computation(entry, bodies, 1):
        found[kind] += traffic
    return dict(found)


def _in_computation(
    name: str, bodies: Mapping[str, list[str]], times: int
) -> Iterator[tuple[str, Traffic]]:
    for line in bodies.get(name, []):
        if loop := _WHILE.search(line):
            yield from _in_computation(loop[1], bodies, times * int(loop[2]))
        elif call := _CALL.search(line):
            yield from _in_computation(call[1], bodies, times)
        if match := _COLLECTIVE.search(line):
            for array in _ARRAY.finditer(match[1]):
                count, size = _numbers(array)
                if count > 1:
                    yield match[2], Traffic(times, float(times * count * size))


def _numbers(array: re.Match[str]) -> tuple[int, int]:
    """How many numbers an array has, and the bytes of one."""
    count = 1
    for side in filter(None, array[3].split(",")):
        count *= int(side)
    return count, int(array[2] or 8) // 8


def as_on_a_processor(found: Mapping[str, Traffic]) -> dict[str, Any]:
    """XLA on a CPU sums a whole gradient where other devices sum and cut it in one."""
    moved = dict(found)
    if cut := moved.pop("reduce-scatter", None):
        moved["all-reduce"] = moved.get("all-reduce", Traffic(0, 0.0)) + cut
    return moved
