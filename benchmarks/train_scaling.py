"""How the cost of a step grows with batch, depth, width and the number of devices.

    python benchmarks/train_scaling.py --json runs/train_scaling.json

One base (width 192 as ViT-Ti, depth 4, images of 112, batch 16, float32, blocks scanned), of which
one thing changes at a time. Devices are virtual ones that share this machine's cores: more of them
do the same work, so that a step that takes no longer is the best there is; what is to fall are the
bytes of each. Three kinds of columns: timed (`ms` by the clock, `CPU ms` of all threads; points of
a group take turns, medians), read off what was made or compiled (`state` is what lies on the first
device, `step` is XLA's count for one device), and computed by hand (GFLOP; the last column is what
an even cut would leave of the state).
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)

import argparse
import math
from typing import Any

import jax
import train_cases as cases
from train_cases import Case, Cost, Report, Stepper

from jaxfdsl.costs import flops

BASE = Case("vit_ti", 16, scan=True, depth=4, image_size=112, canvas=112, dtype="float32")
GROUPS: dict[str, dict[str, Case]] = {
    "batch": {str(n): BASE._replace(batch=n) for n in (4, 8, 16, 32, 64)},
    "depth": {str(n): BASE._replace(depth=n) for n in (2, 4, 8, 16)},
    "width": {str(n): BASE._replace(width=n) for n in (96, 192, 384, 768)},
    "data": {str(n): BASE._replace(mesh=(n, 1, 1)) for n in (1, 2, 4, 8)},
    "fsdp": {str(n): BASE._replace(mesh=(1, n, 1)) for n in (1, 2, 4, 8)},
    "tensor": {str(n): BASE._replace(mesh=(1, 1, n), width=256) for n in (1, 2, 4)},
    "width 768, fsdp": {
        str(n): BASE._replace(mesh=(1, n, 1), width=768, depth=2, batch=8) for n in (1, 8)
    },
    "width 256, mesh": {
        "x".join(map(str, mesh)): BASE._replace(mesh=mesh, width=256)
        for mesh in ((1, 1, 1), (2, 2, 2))
    },
}


def bytes_on(device: jax.Device, tree: Any) -> int:
    """What the leaves of a tree fill on one device."""
    shards = (shard for leaf in jax.tree.leaves(tree) for shard in leaf.addressable_shards)
    return sum(shard.data.nbytes for shard in shards if shard.device == device)


def kept_whole(state: Any) -> int:
    """Bytes of the leaves that every device holds whole."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state) if leaf.sharding.is_fully_replicated)


def row_of(group: str, point: str, stepper: Stepper, spent: Cost) -> dict[str, Any]:
    """A point's figures; bytes are those of one device."""
    design = stepper.parts.run.model.design
    batch = stepper.parts.run.config.batch_size
    cut = math.prod(stepper.parts.run.mesh.shape[axis] for axis in ("fsdp", "tensor"))
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(stepper.state))
    return {
        "group": group,
        "point": point,
        "devices": stepper.parts.run.mesh.size,
        "wall": spent.wall,
        "cpu": spent.cpu,
        "state_bytes": bytes_on(stepper.parts.run.mesh.devices.flat[0], stepper.state),
        **stepper.memory(),
        "compile_seconds": stepper.compile_seconds,
        "flop": flops.training(design) * batch,
        "whole_state_bytes": whole,
        "kept_whole_bytes": kept_whole(stepper.state) if cut > 1 else 0,
        "cut": cut,
    }


def shown(row: dict[str, Any], first: dict[str, Any]) -> dict[str, str]:
    """The cells of a row; times are those of the group's first point."""

    def times(key: str) -> str:
        return f"{row[key] / first[key]:.2f}"

    return {
        "changed": f"{row['group']} {row['point']}",
        "ms": f"{1e3 * row['wall']:.1f}",
        "CPU ms": f"{1e3 * row['cpu']:.1f}",
        "CPU, times the first": times("cpu"),
        "state, MB a device": f"{row['state_bytes'] / 1e6:.2f}",
        "state, times the first": f"{row['state_bytes'] / first['state_bytes']:.4f}",
        "of it whole everywhere, MB": f"{row['kept_whole_bytes'] / 1e6:.2f}",
        "step, MB a device": f"{row['bytes'] / 1e6:.1f}",
        "temporary, MB": f"{row['temporary_bytes'] / 1e6:.1f}",
        "temporary, times the first": times("temporary_bytes"),
        "computed: GFLOP a step": f"{row['flop'] / 1e9:.1f}",
        "FLOP, times the first": times("flop"),
        "computed: state cut evenly, MB": f"{row['whole_state_bytes'] / row['cut'] / 1e6:.2f}",
    }


def measure(group: str, points: dict[str, Case], report: Report, rounds: int) -> None:
    """Compiles all points of a group, then times them in turns."""
    made = {}
    for point, case in points.items():
        devices = jax.devices()[: math.prod(case.mesh)]
        made[point] = Stepper(cases.build(cases.config_of(case), devices))
        cases.cost(made[point], 1)
    turns = {point: lambda n, s=stepper: cases.cost(s, n) for point, stepper in made.items()}
    spent = {point: cases.middle(c) for point, c in cases.alternate(turns, rounds).items()}
    rows = [row_of(group, point, stepper, spent[point]) for point, stepper in made.items()]
    for row in rows:
        report.put("scaling", row)
        report.line(shown(row, rows[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", default="", help=f"of {','.join(GROUPS)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    report = Report(args.json)
    for group in args.groups.split(",") if args.groups else GROUPS:
        measure(group, GROUPS[group], report, args.rounds)


if __name__ == "__main__":
    main()
