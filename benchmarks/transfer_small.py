"""Does pre-training on formulas help on real images, on two CPU cores in an hour?

    python benchmarks/transfer_small.py --data_dir ../shared/data/tfds --out runs/transfer_small

Three arms, three paired seeds: a small ViT fine-tuned on 5,000 real CIFAR-10 images (30,000 seen)
from scratch, after pre-training on coloured fractals, and after the same pre-training with shuffled
labels (the control: same pictures, no categories to learn). Each arm's learning rate comes from one
grid, chosen with seed 0 on 5,000 other training images; the last step is evaluated on the 10,000
test images. Every run is an ordinary jaxfdsl run in its own folder under --out; killed, the same
command goes on where it was. Prints one table, writes --out/table.json.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

SEEDS = (0, 1, 2)
RATES = (3e-4, 1e-3, 3e-3)
ARMS = ("scratch", "formula", "shuffled")
REAL_IMAGES, SEEN = 5_000, 30_000


def base(args, seed: int):
    from jaxfdsl import config as c

    config = c.default_config()
    config.seed = seed
    config.dtype = args.dtype
    config.log_every = 100
    config.model.update(
        patch_size=args.patch, image_size=32, width=128, depth=4, num_heads=4, pool="mean"
    )
    config.report.tensorboard = False
    config.augment.flip_lr = True
    return config


def pretrain(args, seed: int, shuffled: bool):
    from jaxfdsl import config as c

    config = base(args, seed)
    config.batch_size = 128
    config.steps = args.images // config.batch_size
    config.checkpoint_every = 300
    config.optimizer.learning_rate = args.pretrain_rate
    config.schedule.update(warmup_steps=200, final=1e-5)
    options = {"pattern": "point", "color": "density", "pad": 1, "num_points": 4_000}
    config.data.sources.fractals = c.formula_source(
        "fractaldb-1k",
        num_classes=args.classes,
        instances=0,
        size=32,
        options={**options, "weights": args.weights},
        shuffle_labels=shuffled,
    )
    if args.crop:
        config.augment.update(crop="random_resized", crop_scale=(args.crop, 1.0))
    if not shuffled:
        held_out = c.held_out(config.data.sources.fractals)
        config.evals.held_out = c.accuracy_eval(held_out, num_examples=4_000)
    return config


def finetune(args, seed: int, arm: str, rate: float, *, choosing: bool):
    from jaxfdsl import config as c

    config = base(args, seed)
    config.batch_size = 64
    config.steps = SEEN // config.batch_size
    config.checkpoint_every = 10_000
    config.report.gallery = False
    config.optimizer.learning_rate = rate
    config.schedule.update(warmup_steps=50, final=1e-6)
    config.augment.update(crop="pad", crop_pad=4)
    if arm != "scratch":
        config.init_from = str(pathlib.Path(args.out) / f"pretrain-{arm}-seed{seed}")
    where = {"data_dir": args.data_dir, "size": 32}
    config.data.sources.real = c.tfds_source(
        "cifar10", split="train", num_examples=REAL_IMAGES, **where
    )
    if choosing:
        real = c.tfds_source(
            "cifar10", split="train", num_examples=5_000, skip_examples=45_000, **where
        )
    else:
        real = c.tfds_source("cifar10", split="test", **where)
    config.evals.real = c.accuracy_eval(real)
    return config


def plan(args, rates=None):
    """Run names in order with what builds their config; the last ones need `rates`, the chosen
    learning rates.
    """
    for seed in SEEDS:
        for arm in ARMS[1:]:
            yield (
                f"pretrain-{arm}-seed{seed}",
                lambda s=seed, a=arm: pretrain(args, s, a == "shuffled"),
            )
    for arm in ARMS:
        for rate in RATES:
            yield (
                f"choose-{arm}-rate{rate:g}",
                lambda a=arm, r=rate: finetune(args, 0, a, r, choosing=True),
            )
    for seed in SEEDS if rates else ():
        for arm in ARMS:
            yield (
                f"test-{arm}-seed{seed}",
                lambda s=seed, a=arm: finetune(args, s, a, rates[a], choosing=False),
            )


def run_one(args, name: str) -> None:
    from jaxfdsl import train

    rates = chosen_rates(args) if name.startswith("test-") else None
    train.run(dict(plan(args, rates))[name](), str(pathlib.Path(args.out) / name))


def run_all(args, names: list[str]) -> None:
    """Runs those not finished, `--jobs` at a time, one core each, and stops at the first that
    fails.
    """
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    environment = os.environ | {"XLA_FLAGS": flags} if args.jobs > 1 else dict(os.environ)
    waiting = [
        name for name in names if not (pathlib.Path(args.out) / name / "summary.json").exists()
    ]
    running: dict[str, subprocess.Popen] = {}
    while waiting or running:
        while waiting and len(running) < args.jobs:
            name = waiting.pop(0)
            command = [sys.executable, __file__, *sys.argv[1:], "--run", name]
            log = (pathlib.Path(args.out) / f"{name}.log").open("a")
            running[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        for name, process in list(running.items()):
            try:
                code = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            del running[name]
            print(f"{name}: {'done' if code == 0 else 'FAILED, see its .log'}", flush=True)
            if code:
                sys.exit(1)


def result(args, name: str) -> dict:
    return json.loads((pathlib.Path(args.out) / name / "summary.json").read_text())


def chosen_rates(args) -> dict[str, float]:
    return {
        arm: max(RATES, key=lambda rate: result(args, f"choose-{arm}-rate{rate:g}")["real/top1"])
        for arm in ARMS
    }


def table(args) -> None:
    import numpy as np

    rates = chosen_rates(args)
    scores = {
        arm: 100 * np.array([result(args, f"test-{arm}-seed{s}")["real/top1"] for s in SEEDS])
        for arm in ARMS
    }
    held_out = [100 * result(args, f"pretrain-formula-seed{s}")["held_out/top1"] for s in SEEDS]
    print(
        f"pre-training: {args.classes} categories, {args.images} images drawn, held-out top-1",
        end=" ",
    )
    print(", ".join(f"{value:.1f}" for value in held_out))
    header = f"{'arm':10s}{'rate':>8s}  {'test top-1 of each seed':26s}{'mean':>6s}{'sd':>6s}"
    print(f"{header}{'- scratch':>11s}{'sd':>6s}")
    for arm, values in scores.items():
        gain = values - scores["scratch"]
        each = ", ".join(f"{v:.2f}" for v in values)
        print(
            f"{arm:10s}{rates[arm]:8g}  {each:26s}{values.mean():6.2f}{values.std(ddof=1):6.2f}"
            f"{gain.mean():+11.2f}{gain.std(ddof=1):6.2f}"
        )
    choices = {n: result(args, n)["real/top1"] for n, _ in plan(args) if n.startswith("choose-")}
    report = {"rates": rates, "held_out": held_out, "choices": choices}
    report["test"] = {arm: values.tolist() for arm, values in scores.items()}
    (pathlib.Path(args.out) / "table.json").write_text(json.dumps(report, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--out", default="runs/transfer_small")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--images", type=int, default=120_000, help="images drawn in pre-training")
    parser.add_argument("--weights", default="uniform")
    parser.add_argument(
        "--crop", type=float, default=0.0, help="least area of random crops; 0: none"
    )
    parser.add_argument("--patch", type=int, default=8)
    parser.add_argument("--pretrain_rate", type=float, default=3e-3)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    if args.run:
        run_one(args, args.run)
        return
    run_all(args, [name for name, _ in plan(args)])
    run_all(args, [name for name, _ in plan(args, chosen_rates(args))])
    table(args)


if __name__ == "__main__":
    main()
