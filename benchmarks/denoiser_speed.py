"""How fast do our denoisers train and sample, beside a DiT of the same size in PyTorch?

    python benchmarks/denoiser_speed.py --torch_python /venv/bin/python --out runs/denoiser_speed
    python benchmarks/denoiser_speed.py --preset gpu --torch_python /venv/bin/python --out DIR

By size and batch: img/s of a training step of flow matching on one constant batch (noise, times and
hidden conditions drawn, forward, backward, AdamW), and samples/s of Euler's method without guidance
(--sample_steps), in turns with `baselines_denoiser.py` in another interpreter, whose velocity and
loss are under torch.compile ("eager" too on a CPU). 32 x 32 in patches of 2 is 256 tokens, as are
the latents of 256 pixels. MFU is FLOP by hand (jaxfdsl.costs.flops) over the device's published
peak, where one is known. Prints a table; DIR/denoiser_speed.json is written after every row.
"""

import argparse
import contextlib
import functools
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import train_cases as cases
from baselines_train import MODES, Torch
from train_cases import Cost, Report, Stepper

from jaxfdsl import config as config_lib
from jaxfdsl.costs import devices, flops
from jaxfdsl.experiment import denoiser_of
from jaxfdsl.models import sampler

SCRIPT = str(pathlib.Path(__file__).with_name("baselines_denoiser.py"))


class Case(NamedTuple):
    """A size, and how many images at once."""

    variant: str
    batch: int
    side: int = 32
    patch: int = 2
    attention: str = "auto"


CPU = [
    *(Case("dit_s", batch, patch=4) for batch in (4, 8, 16, 32)),
    *(Case("dit_s", batch) for batch in (2, 4, 8)),
    *(Case("dit_b", batch, patch=4) for batch in (2, 4, 8)),
]
GPU = [  # the order is that of interest: what comes last is left out where time ends
    Case("dit_b", 256, attention="cudnn"),
    Case("dit_l", 128, attention="cudnn"),
    Case("dit_b", 512, attention="cudnn"),
    Case("dit_b", 256, attention="xla"),
    Case("dit_l", 256, attention="cudnn"),
    Case("dit_b", 1024, attention="cudnn"),
    Case("dit_l", 512, attention="cudnn"),
    Case("dit_b", 128, attention="cudnn"),
    Case("dit_s", 1024, attention="cudnn"),
]


class Ours:
    """A run's step on a constant batch, and its sampler."""

    def __init__(self, case: Case, steps: int):
        config = config_lib.default_config()
        config.batch_size, config.steps = case.batch, 1000
        config.model.update(variant=case.variant, image_size=case.side, patch_size=case.patch)
        config.model.attention = case.attention
        config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3)
        config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
        config.optimizer.update(learning_rate=1e-4, weight_decay=0.0)
        config.data.condition = "label"
        config.data.sources.images = config_lib.formula_source("rcdb-1k", size=case.side)
        parts = cases.build(config)
        size = parts.run.batches.condition.size
        rng = np.random.default_rng(0)
        conds = np.eye(size, dtype=np.float32)[rng.integers(0, size, case.batch)]
        self.train = Stepper(parts, {**parts.noise(), "cond": jnp.asarray(conds)})
        made = denoiser_of(config, size)
        self.design = made.design
        self.parameters = sum(x.size for x in jax.tree.leaves(self.train.state["params"]))
        shape = (case.batch, case.side, case.side, 3)

        def sample(params: Any, key: jax.Array, conds: jax.Array) -> jax.Array:
            def velocity(x: jax.Array, times: jax.Array) -> jax.Array:
                return made.velocity(params, x, times, conds, jnp.ones(len(conds), bool))

            return sampler.integrate(velocity, jax.random.normal(key, shape), steps, "euler")

        given = (self.train.state["params"], jax.random.key(1), conds)
        drawn = jax.jit(sample).lower(*given).compile()
        self.sample = lambda: drawn(self.train.state["params"], *given[1:])


def measure(case: Case, args: argparse.Namespace, torch: Torch | None, report: Report) -> None:
    """One row: everything of a case in turns."""
    sizes = {"variant": case.variant, "batch": case.batch, "side": case.side, "patch": case.patch}
    row: dict[str, Any] = {**case._asdict(), "sample_steps": args.sample_steps}
    turns: dict[str, Callable[[int], Cost]] = {}
    try:
        ours = Ours(case, args.sample_steps)
        for name, call in (("train", ours.train), ("sample", ours.sample)):
            cases.cost(call, 2)
            turns[f"{name} ours"] = functools.partial(cases.cost, call)
        row |= {"parameters": ours.parameters, **ours.train.memory()}
        row |= {"flop": flops.training(ours.design), "flop_velocity": flops.forward(ours.design)}
    except Exception as error:
        if not cases.exhausted(error):
            raise
        row["refused"] = "out of memory"
    for mode in args.torch_modes.split(",") if torch else []:
        asked = {"mode": mode, "sample_steps": args.sample_steps, "channels": 3, "conds": 1000}
        row[f"torch {mode}"] = torch.ask("prepare", **asked, **sizes)
        if "error" not in row[f"torch {mode}"]:
            for name in (f"train {mode}", f"sample {mode}"):
                turns[name] = lambda n, name=name: Cost(**torch.ask("run", name=name, count=n))
    found = cases.alternate(turns, args.rounds, args.steps)
    if torch:
        torch.ask("drop")
    row["costs"] = found
    report.put("denoisers", row)
    spent = {name: cases.middle(costs) for name, costs in found.items()}
    report.line(_shown(case, row, spent, args))


def _shown(
    case: Case, row: dict[str, Any], spent: dict[str, Cost], args: argparse.Namespace
) -> dict[str, str]:
    tokens = (case.side // case.patch) ** 2
    cells = {"size": case.variant, "tokens": str(tokens), "batch": str(case.batch)}
    cells["attention"] = case.attention
    peak = devices.peak(jax.devices()[0].device_kind)
    for part, unit in (("train", "img/s"), ("sample", "samples/s")):
        ours = spent.get(f"{part} ours")
        cells[f"{part} {unit}"] = f"{case.batch / ours.wall:.4g}" if ours else row["refused"]
        if part == "train":
            cells["ms"] = f"{1e3 * ours.wall:.4g}" if ours else ""
            share = row["flop"] * case.batch / ours.wall / peak if ours and peak else 0
            cells["MFU"] = f"{share:.1%}" if share else ""
        for mode in args.torch_modes.split(","):
            theirs = spent.get(f"{part} {mode}")
            cells[f"torch {mode} {unit}"] = f"{case.batch / theirs.wall:.4g}" if theirs else ""
            both = ours and theirs
            cells[f"{part}, ours / {mode}"] = f"{theirs.wall / ours.wall:.2f}" if both else ""
    return cells


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--out", default="runs/denoiser_speed", help="folder of the JSON")
    parser.add_argument(
        "--torch_python", default="", help="an interpreter with torch; '': ours alone"
    )
    parser.add_argument("--torch_modes", default="", help=f"of {','.join(MODES)}")
    parser.add_argument("--variants", default="", help="sizes alone, as dit_s,dit_b")
    parser.add_argument("--batches", default="", help="batches alone, as 4,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="of a round; 0: 1, on a GPU 5")
    parser.add_argument("--sample_steps", type=int, default=0, help="of Euler; 0: 4, on a GPU 25")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin nothing later")
    args = parser.parse_args()
    gpu = args.preset == "gpu"
    args.torch_modes = args.torch_modes or ("compile" if gpu else ",".join(MODES))
    args.steps = args.steps or (5 if gpu else 1)
    args.sample_steps = args.sample_steps or (25 if gpu else 4)
    args.minutes = args.minutes or (8.5 if gpu else 60.0)
    return args


def main() -> None:
    args = arguments()
    end = time.monotonic() + 60 * args.minutes
    chosen = {"cpu": CPU, "gpu": GPU}[args.preset]
    if args.preset == "gpu":  # the other half is PyTorch's
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
        if jax.devices()[0].platform == "cpu":
            sys.exit("--preset gpu finds no accelerator: JAX sees a CPU alone.")
    if args.variants:
        chosen = [case for case in chosen if case.variant in args.variants.split(",")]
    if args.batches:
        chosen = [case for case in chosen if str(case.batch) in args.batches.split(",")]
    report = Report(pathlib.Path(args.out) / "denoiser_speed.json")
    with contextlib.ExitStack() as stack:
        torch = None
        if args.torch_python:
            torch = stack.enter_context(contextlib.closing(Torch(args.torch_python, SCRIPT)))
            report.found["torch"] = torch.ask("hello")
        print(f"{report.found['device']}, jax {jax.__version__}, {report.found.get('torch', '')}")
        for case in chosen:
            if end - time.monotonic() > 30:
                measure(case, args, torch, report)


if __name__ == "__main__":
    main()
