"""`run.json`: where a run ran and how large it is, which nothing else in its folder says."""

import datetime
import json
from typing import Any

from etils import epath

from jaxfdsl.report import writers

NAME = "run.json"
_STARTS = 100  # the last of them are kept


def write(parts: Any, workdir: epath.Path, step: int) -> None:
    """Notes that the run of an `Experiment` begins, or goes on, at `step`."""
    import jax  # late, as those who only read the file need none of it

    from jaxfdsl.costs import flops
    from jaxfdsl.run.resume import versions

    path = workdir / NAME
    device = parts.mesh.devices.flat[0]
    start = {
        "step": step,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "devices": f"{parts.mesh.size} x {device.device_kind}",
        "processes": jax.process_count(),
        "versions": versions(),
    }
    facts = {
        "total_steps": parts.total_steps,
        "parameters": sum(x.size for x in jax.tree.leaves(parts.state["params"])),
        "flop_per_image": flops.training(parts.model.design),
        "starts": [*_starts(path), start][-_STARTS:],
    }
    writers.write_whole(path, json.dumps(facts, indent=2) + "\n")


def _starts(path: epath.Path) -> list[Any]:
    try:
        starts = json.loads(path.read_text())["starts"]
    except (OSError, ValueError, KeyError, TypeError):  # there is none, or it is no such file
        return []
    return starts if isinstance(starts, list) else []
