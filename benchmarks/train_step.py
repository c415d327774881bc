"""How fast a step is, what bounds it, and what the loop, drawing and Python add to it.

    python benchmarks/train_step.py --out runs/train_step
    python benchmarks/train_step.py --beside_torch --torch_python /venv/bin/python --parts models
    python benchmarks/train_step.py --preset gpu --out DIR    # 9 minutes, one GPU

models   img/s, MFU and memory of a step on one constant batch, forward, backward and update, by
         batch; with --beside_torch in turns with timm's model in PyTorch (baselines_train.py).
loop     the loop of a real run (drawing, prefetch, logging) in turns with its step on a constant
         batch and with drawing alone; meant to be drawing and at most 1 % slower than that step.
drawing  what drawing costs an image and its share of a step of ViT-B/16.
python   the host's time of a step: 12 layers as ViT-B's, so narrow that nothing else counts.
profile  the ten operations that a step spends most time in, and the time by kind of operation.
MFU is FLOP by hand (jaxfdsl.costs.flops) over the device's published peak; where none is known, as
of a CPU, over what the product of two matrices of 2,048 reaches in the same rounds. `wall` is the
clock, `cpu` is all threads of the process. The JSON is written after every row.
"""

import argparse
import contextlib
import dataclasses
import functools
import os
import pathlib
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import jax
import train_cases as cases
import train_loop as loops
from baselines_train import MODES, Torch
from train_cases import Case, Cost, Report, Stepper

from jaxfdsl.costs import devices, flops
from jaxfdsl.report import profile as profile_lib

PARTS = ("models", "loop", "drawing", "python", "profile")
MATRIX = 2048
TINY = Case(batch=1, width=24, num_heads=2, depth=12, image_size=32, canvas=32, source="rcdb-1k")


def sweep(variant: str, batches: Iterable[int], **changes: Any) -> list[Case]:
    return [Case(variant, batch, **changes) for batch in batches]


CPU_MODELS = [
    *sweep("vit_ti", (4, 8, 16)),
    *sweep("vit_s", (4, 8, 16)),
    *sweep("vit_b", (2, 4)),
    Case("vit_b", 4, scan=True),
    Case("vit_l", 2, scan=True),
]
CPU_BESIDE = [Case("vit_ti", 8), Case("vit_s", 8)]
# The order is that of interest: what comes last is left out where time ends.
GPU_MODELS = [
    Case("vit_b", 256, attention="cudnn"),
    Case("vit_l", 128, attention="cudnn"),
    Case("vit_b", 256, attention="cudnn", scan=True),
    Case("vit_b", 512, attention="cudnn"),
    Case("vit_l", 256, attention="cudnn"),
    Case("vit_b", 128, attention="cudnn"),
    Case("vit_b", 256, attention="xla"),
    Case("vit_l", 128, attention="cudnn", scan=True),
    Case("vit_s", 512, attention="cudnn"),
    Case("vit_ti", 1024, attention="cudnn"),
    Case("vit_b", 1024, attention="cudnn"),
    Case("vit_l", 512, attention="cudnn"),
    Case("vit_l", 64, attention="cudnn"),
    Case("vit_s", 1024, attention="cudnn"),
    Case("vit_ti", 2048, attention="cudnn"),
    Case("vit_l", 128, attention="xla"),
]


class Models:
    """The table of steps, one row a call; torch's steps compile while ours do."""

    def __init__(self, report: Report, args: Any, left: Callable[[], float]):
        self.report, self.args, self.left = report, args, left
        self.peak = report.found["peak"] = devices.peak(report.found["device"])
        self.matrices = None if self.peak else cases.product(MATRIX)
        self.torch = Torch(args.torch_python) if args.beside_torch else None
        if self.torch:
            report.found["torch"] = self.torch.ask("hello")
        self.refused: dict[str, int] = {}  # the batch at which memory ended

    def close(self) -> None:
        if self.torch:
            self.torch.close()

    def measure(self, case: Case) -> None:
        chain = case._replace(batch=0).title
        if case.batch >= self.refused.get(chain, sys.maxsize):
            return
        modes = self._ask_torch(case)
        row: dict[str, Any] = {"variant": case.variant, "batch": case.batch, "scan": case.scan}
        row |= {"attention": case.attention, "remat": case.remat}
        turns: dict[str, Callable[[int], Cost]] = {}
        try:
            stepper = Stepper(cases.build(cases.config_of(case)))
            cases.cost(stepper, 2)
            turns["ours"] = lambda n: cases.cost(stepper, n)
            if self.matrices:
                turns["matrices"] = lambda n: cases.cost(self.matrices, 3)
            row |= stepper.memory() | {"compile_seconds": stepper.compile_seconds}
            row["flop"] = flops.training(stepper.parts.run.model.design)
        except Exception as error:
            if not cases.exhausted(error):
                raise
            self.refused[chain] = case.batch
            row["refused"] = "out of memory"
        for mode in modes:
            row[mode] = self.torch.receive(self.left())
            if "error" not in row[mode]:
                turns[mode] = lambda n, m=mode: Cost(**self.torch.ask("run", name=m, count=n))
        steps = self.args.steps or (max(1, min(20, 1280 // case.batch)) if self.peak else 1)
        try:
            found = cases.alternate(turns, self.args.rounds, steps)
        except Exception as error:  # memory can end as late as in the first call after torch's
            if not cases.exhausted(error):
                raise
            found, row["refused"] = {}, "out of memory"
        for name, costs in found.items():
            row.setdefault(name, {})["costs"] = costs
        row["peak_bytes"] = cases.peak_bytes(jax.devices()[0])
        if modes:
            if self.peak and case == GPU_MODELS[0]:
                row["torch operations"] = self.torch.ask("profile", name=modes[-1])
                print(f"\ntorch's, s a step: {row['torch operations']}")
            self.torch.ask("drop")
        self._write(case, row, {name: cases.middle(costs) for name, costs in found.items()})

    def _ask_torch(self, case: Case) -> list[str]:
        """Has torch compile the same step; what layers ours scans over is nothing to torch."""
        if not self.torch or case.scan or case.attention == "xla" or case.remat != "none":
            return []
        modes = self.args.torch_modes.split(",")
        for mode in modes:
            asked = {"variant": case.variant, "batch": case.batch, "mode": mode}
            self.torch.send("prepare", name=mode, **asked)
        return modes

    def _write(self, case: Case, row: dict[str, Any], spent: dict[str, Cost]) -> None:
        ours = spent.get("ours")
        shown: dict[str, Any] = {"model": case.variant, "batch": case.batch}
        shown |= {"blocks": "scan" if case.scan else "loop", "attention": case.attention}
        for name in ("img/s", "ms", "CPU ms", "MFU"):
            shown[name] = row.get("refused", "") if name == "img/s" else ""
        if ours:
            row["images_per_second"] = case.batch / ours.wall
            peak = self.peak or 2 * MATRIX**3 / spent["matrices"].wall
            row["mfu"] = row["flop"] * case.batch / ours.wall / peak
            shown |= {"img/s": f"{case.batch / ours.wall:.1f}", "ms": f"{1e3 * ours.wall:.1f}"}
            shown |= {"CPU ms": f"{1e3 * ours.cpu:.1f}", "MFU": f"{row['mfu']:.1%}"}
        shown["MB"] = f"{row['bytes'] / 1e6:,.0f}" if "bytes" in row else ""
        shown["of them temporary"] = (
            f"{row['temporary_bytes'] / 1e6:,.0f}" if "bytes" in row else ""
        )
        shown["compiled in s"] = f"{row['compile_seconds']:.0f}" if "bytes" in row else ""
        for mode in self.args.torch_modes.split(",") if self.torch else []:
            theirs = spent.get(mode)
            row.setdefault(mode, {})
            shown[f"torch {mode}, img/s"] = f"{case.batch / theirs.wall:.1f}" if theirs else ""
            shown[f"ours / {mode}"] = shown[f"ours / {mode}, CPU"] = ""
            if theirs and ours:
                row[mode] |= {"times": theirs.wall / ours.wall, "times_cpu": theirs.cpu / ours.cpu}
                shown[f"ours / {mode}"] = f"{theirs.wall / ours.wall:.2f}"
                shown[f"ours / {mode}, CPU"] = f"{theirs.cpu / ours.cpu:.2f}"
        self.report.put("models", row)
        self.report.line(shown)


def profile(case: Case, report: Report) -> None:
    """The ten operations that steps on a constant batch spend most time in, each by itself."""
    stepper, steps = Stepper(cases.build(cases.config_of(case))), 5
    cases.cost(stepper, 2)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            cases.cost(stepper, steps)
        found = profile_lib.operations(folder)
    kinds: dict[str, float] = {}
    for row in found:
        kinds[row.kind] = kinds.get(row.kind, 0.0) + row.share
    report.put("profile kinds", {"case": case.title, "shares": kinds})
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    print(f"\n{case.title}: " + ", ".join(f"{kind} {share:.0%}" for kind, share in ordered))
    for row in found[:10]:
        report.put("profile", {"case": case.title, "steps": steps, **dataclasses.asdict(row)})
        shown = {"operation of": case.title, "kind": row.kind, "name": row.name[:60]}
        milliseconds = f"{1e3 * row.seconds / steps:.2f}"
        report.line({**shown, "ms a step": milliseconds, "share": f"{row.share:.1%}"})


Job = tuple[str, Callable[[], None]]  # the part that it belongs to, and what it does


def jobs(args: argparse.Namespace, models: Models, report: Report, left: Callable) -> list[Job]:
    """All that is to be measured, in order."""
    gpu = args.preset == "gpu"
    chosen = GPU_MODELS if gpu else CPU_BESIDE if args.beside_torch else CPU_MODELS
    wanted = args.variants.split(",") if args.variants else [case.variant for case in chosen]
    chosen = [smoked(case, args) for case in chosen if case.variant in wanted]
    looped = smoked(Case("vit_b", 256) if gpu else Case("vit_ti", 4), args)
    profiled = smoked(Case("vit_b", 256) if gpu else Case("vit_ti", 8, scan=True), args)
    model = smoked(Case("vit_b", 256) if gpu else Case("vit_b", 4), args)
    canvases = [int(pixels) for pixels in args.canvases.split(",")]
    sets = args.families.split(",") if args.families else [*loops.TARGETS]
    narrow = TINY._replace(batch=256 if gpu else 16, image_size=model.image_size)
    drawn = [narrow._replace(source=name, canvas=size) for size in canvases for name in sets]
    at_once = 1 if gpu else len(drawn)
    steps = [("models", functools.partial(models.measure, case)) for case in chosen]
    rest: list[Job] = [
        ("profile", lambda: profile(profiled, report)),
        ("loop", lambda: loops.loop(looped, report, window=20 if gpu else 5)),
        (
            "drawing",
            lambda: loops.drawing(drawn, model, report, args.rounds, at_once, left),
        ),
        ("python", lambda: loops.python(TINY._replace(scan=True), report)),
        ("python", lambda: loops.python(TINY, report)),
    ]
    first = 2 if gpu else len(steps)
    return [*steps[:first], *rest, *steps[first:]]


def smoked(case: Case, args: argparse.Namespace) -> Case:
    if not args.smoke:
        return case
    return case._replace(batch=2, width=48, num_heads=2, depth=2, image_size=32, attention="auto")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--parts", default="", help=f"of {','.join(PARTS)}")
    parser.add_argument("--out", default="runs/train_step", help="folder of train_step.json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="of a round; 0: by the batch")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin nothing later")
    parser.add_argument("--beside_torch", action="store_true")
    parser.add_argument("--torch_python", default=sys.executable, help="the interpreter with timm")
    parser.add_argument("--torch_modes", default="", help=f"of {','.join(MODES)}")
    parser.add_argument("--variants", default="", help="of the models, as vit_ti,vit_s")
    parser.add_argument("--families", default="", help="sets to draw, as rcdb-1k,1p-frac")
    parser.add_argument("--canvases", default="0", help="pixels, as 0,224; 0: as published")
    parser.add_argument("--smoke", action="store_true", help="tiny models, to see that it runs")
    args = parser.parse_args()
    gpu = args.preset == "gpu"
    args.parts = args.parts.split(",") if args.parts else PARTS
    args.minutes = args.minutes or (8.5 if gpu else 60.0)
    args.beside_torch |= gpu and not args.smoke
    args.torch_modes = args.torch_modes or ("compile" if gpu else ",".join(MODES))
    return args


def main() -> None:
    args = arguments()
    end = time.monotonic() + 60 * args.minutes
    if args.preset == "gpu":  # the other half is PyTorch's
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    on_cpu = jax.devices()[0].platform == "cpu"
    if args.preset == "gpu" and on_cpu and not args.smoke:
        sys.exit("--preset gpu finds no accelerator: JAX sees a CPU alone.")
    report = Report(pathlib.Path(args.out) / "train_step.json")
    print(f"{report.found['device']}, jax {jax.__version__}, {os.cpu_count()} cores")

    def left() -> float:
        return end - time.monotonic()

    with contextlib.closing(Models(report, args, left)) as models:
        for part, job in jobs(args, models, report, left):
            if part not in args.parts or left() < 30:
                continue
            try:
                job()
            except Exception as error:  # the others go on: a rented machine is not asked twice
                if args.preset != "gpu":
                    raise
                report.put("failed", {"part": part, "error": repr(error)[:500]})
                traceback.print_exc()


if __name__ == "__main__":
    main()
