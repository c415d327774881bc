"""Does a run that is killed twenty times end with the bits of one that never was?

    python benchmarks/survive.py --json survive.json

A small ViT is trained by `python -m jaxfdsl.main` and killed with SIGKILL at 20 moments: after a
random number of steps, as soon as a checkpoint has begun to be written, or while it starts. Each
time the same command goes on. Compared with a run that was left alone: the parameters and their
average (bits), the metrics of every step (each once, so that no sample is lost or repeated), the
checkpoints that are kept and the best one. Steps lost are those between the checkpoint that a run
went on from and its death. Exits with 1 if anything differs.
"""

import argparse
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMES = (
    "images_per_second", "step_seconds", "mfu", "input_wait", "drawing", "evaluation", "checkpoint",
)  # fmt: skip
OVERRIDES = {
    "batch_size": 16,
    "log_every": 1,
    "eval_every": 100,
    "checkpoint_every": 20,
    "best_metric": "held_out/loss",
    "seed": 3,
    "model.image_size": 16,
    "model.width": 32,
    "model.depth": 2,
    "model.num_heads": 2,
    "model.drop_path": 0.1,
    "optimizer.ema": 0.9,
    "schedule.warmup_steps": 5,
    "augment.crop": "pad",
    "data.sources.fractals.num_classes": 8,
    "data.sources.fractals.size": 16,
    "data.sources.fractals.options.num_points": 400,
    "evals.held_out.num_examples": 32,
    "report.gallery": False,
    "report.tensorboard": False,
}


class Life:
    """One start of the run, from its command to its end."""

    def __init__(self, workdir: pathlib.Path, steps: int):
        flags = [f"--config.{name}={value}" for name, value in OVERRIDES.items()]
        command = [sys.executable, "-m", "jaxfdsl.main", f"--workdir={workdir}", *flags]
        environment = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", **os.environ}
        self.workdir = workdir
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, f"--config.steps={steps}"],
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=self._said,
            stderr=subprocess.STDOUT,
        )

    def wait_until(self, happened: Any) -> None:
        """Returns once `happened()` is true; the run must still be going."""
        while not happened():
            if self.process.poll() is not None:
                raise SystemExit(f"The run ended by itself:\n{self.said()[-3000:]}")
            time.sleep(0.002)

    def said(self) -> str:
        """What it has printed so far."""
        self._said.seek(0)
        return self._said.read()

    def end(self) -> str:
        """Kills it and returns what it printed."""
        self.process.kill()
        self.process.wait()
        return self.said()


def step_of(workdir: pathlib.Path) -> int:
    """The last step whose metrics are written whole."""
    path = workdir / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    found = re.findall(r'^\{"step": (\d+),.*\}$', text[-2000:], re.M)
    return int(found[-1]) if found else 0


def unfinished(workdir: pathlib.Path) -> list[str]:
    """Checkpoints of which only a part is written."""
    return [path.name for path in workdir.glob("checkpoints/*tmp*")]


def kill(workdir: pathlib.Path, steps: int, way: str, chance: random.Random, left: int) -> dict:
    """Starts the run and kills it in a given way; what was seen. `left` kills are still to come."""
    metrics = workdir / "metrics.jsonl"
    before = metrics.stat().st_ino if metrics.exists() else None
    life = Life(workdir, steps)
    if way == "starting":
        time.sleep(chance.uniform(0.5, 12))
    else:  # a start writes the file anew, without the lines of the steps that are lost
        life.wait_until(lambda: metrics.exists() and metrics.stat().st_ino != before)
        begun = step_of(workdir)
        target = begun + chance.randint(1, max(2, (steps - begun) // (left + 1)))
        life.wait_until(lambda: step_of(workdir) >= target)
        if way == "writing":
            life.wait_until(lambda: unfinished(workdir))
        time.sleep(chance.uniform(0, 0.06))
    said = life.end()
    return {
        "way": way,
        "from": resumed_at(said, way),
        "killed": step_of(workdir),
        "half_written": unfinished(workdir),
        "skipped": re.findall(r"Skipping \S+/checkpoints/(\S+?)[:,]", said),
    }


def resumed_at(said: str, way: str = "") -> int | None:
    """The step that a start went on from; None where it was killed before it said so."""
    found = re.search(r"Continuing \S+ at step (\d+)", said)
    return int(found[1]) if found else None if way == "starting" else 0


def compare(one: pathlib.Path, other: pathlib.Path, steps: int) -> dict[str, bool]:
    """What is the same in two finished workdirs."""
    import jax
    import orbax.checkpoint as ocp

    from jaxfdsl import checkpoint

    def lines(workdir: pathlib.Path) -> list[dict]:
        read = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return [{k: v for k, v in x.items() if k.split("/")[-1] not in TIMES} for x in read]

    def weights(workdir: pathlib.Path, item: str) -> dict[str, bytes]:
        path, reader = workdir / "checkpoints" / str(steps) / item, ocp.PyTreeCheckpointHandler()
        numpy = ocp.RestoreArgs(restore_type=np.ndarray)
        wanted = jax.tree.map(lambda _: numpy, reader.metadata(path.absolute()).tree)
        found = reader.restore(path.absolute(), args=ocp.args.PyTreeRestore(restore_args=wanted))
        leaves = jax.tree.leaves_with_path(found)
        return {jax.tree_util.keystr(name): np.asarray(value).tobytes() for name, value in leaves}

    def equal(item: str) -> bool:
        return weights(one, item) == weights(other, item)

    def kept(workdir: pathlib.Path) -> list[str]:
        return sorted(path.name for path in (workdir / "checkpoints").iterdir())

    trained = [line["step"] for line in lines(one) if "train/loss" in line]
    return {
        "parameters": equal("params"),
        "average": equal("ema"),
        "optimiser": equal("optimizer"),
        "each step once": trained == list(range(1, steps + 1)),
        "metrics": lines(one) == lines(other),
        "checkpoints kept": kept(one) == kept(other),
        "best": (one / checkpoint.BEST).read_text() == (other / checkpoint.BEST).read_text(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", default="", help="default: a folder that is removed again")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    folder = pathlib.Path(args.workdir or tempfile.mkdtemp(prefix="survive-"))
    chance, began = random.Random(args.seed), time.monotonic()

    alone = Life(folder / "alone", args.steps)
    if alone.process.wait():
        raise SystemExit(alone.said()[-3000:])
    print(f"left alone: {args.steps} steps in {time.monotonic() - began:.0f} s")
    ways = ["writing"] * (2 * args.kills // 5) + ["starting"] * (args.kills // 7)
    ways += ["stepping"] * (args.kills - len(ways))
    chance.shuffle(ways)
    print("kill  way        step  inside a write  went on from  steps lost  half written skipped")
    rows = []
    for number, way in enumerate(ways):
        rows.append(kill(folder / "killed", args.steps, way, chance, args.kills - number))
        if number:
            _tell(number, rows[-2], rows[-1])
    last = Life(folder / "killed", args.steps)
    if last.process.wait():
        raise SystemExit(last.said()[-3000:])
    skipped = re.findall("Skipping", last.said())
    _tell(args.kills, rows[-1], {"from": resumed_at(last.said()), "skipped": skipped})
    same = compare(folder / "killed", folder / "alone", args.steps)
    for what, equal in same.items():
        print(f"{what}: {'identical' if equal else 'DIFFERENT'}")
    seconds = time.monotonic() - began
    print(
        f"{args.kills} kills, {sum(bool(row['half_written']) for row in rows)} inside a write, "
        f"{seconds:.0f} s"
    )
    if args.json:
        found = {"rows": rows, "same": same, "steps": args.steps, "seconds": seconds}
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1))
    if not args.workdir:
        shutil.rmtree(folder)
    sys.exit(not all(same.values()))


def _tell(number: int, row: dict, following: dict) -> None:
    row["resumed"] = following["from"]
    row["lost"] = None if following["from"] is None else row["killed"] - following["from"]
    cells = ["-" if row[name] is None else row[name] for name in ("resumed", "lost")]
    inside = "yes" if row["half_written"] else "no"
    skipped = len(following["skipped"]) if row["half_written"] else "-"
    print(
        f"{number:4}  {row['way']:9} {row['killed']:5}  {inside:14}  {cells[0]:>12}  "
        f"{cells[1]:>10}  {skipped}",
        flush=True,
    )


if __name__ == "__main__":
    main()
