"""Does pre-training on formulas help on CIFAR-10, which family most, and do broken contours hurt?

    python benchmarks/transfer.py --preset cpu --data_dir ../shared/data/tfds --jobs 2
    python benchmarks/transfer.py --preset gpu --data_dir /data/tfds --out runs/transfer_gpu

Every arm is pre-trained at one equal budget, with equal augmentation, and fine-tuned equally on
all 50,000 real training images. An arm's learning rate is the best of a grid, with seed 0, on the
last 5,000 training images (of a fixed shuffle), not trained on meanwhile. What is reported is the
last step's accuracy on the 10,000 test images (the papers report the best epoch's), paired seeds,
and the 95 % t-interval of the difference to scratch. The arms: scratch; five families (1p-frac has
one image a category, drawn anew with other patch bits); and the contour paper's hypotheses: RCDB
under lines that break its contours, RCDB of two varying parameters, FractalDB of few and of many
points. `--preset gpu` is the published recipe shortened (ViT-Ti/16 at 224, configs/deit.py).
`--preset cpu` is a ViT of three blocks at 32 pixels: pictures are drawn on 64 (the two of points on
the published 362: no fewer than 512 points can be drawn), lines and points in proportion to the
published canvas, with 100 categories, as 1,000 are not learnt in so few images; and fine-tuning
sees 40,000 real images, less than an epoch.

Cost: cpu about 100 CPU-minutes, one core a job, all arms and seeds; gpu not run here, some 10 hours
of one H200 if it trains 4,000 images/s. Every run is an ordinary jaxfdsl run in its own folder
under --out; killed, the same command goes on where it was. `--table` prints what is finished so
far; so does the end of every run. Writes --out/table.json and --out/transfer.png.
"""

import argparse
import dataclasses
import functools
import json
import math
import pathlib
import signal
import sys
from typing import Any, NamedTuple

import numpy as np
import runs_side_by_side as side_by_side

from jaxfdsl import config as c
from jaxfdsl.configs import deit

FAMILIES = ("scratch", "fractaldb", "exfractaldb", "rcdb", "visualatom", "1p-frac")
HYPOTHESES = ("rcdb-broken", "rcdb-2vary", "fractaldb-1000points", "fractaldb-100000points")
# CIFAR-10 of the papers: ViT-Ti/16, 300 epochs of 1M images at 224, fine-tuned for 1000 epochs.
# Beside the broken contours RCDB had 95.5. 1p-frac's paper reports CIFAR-100 alone.
PUBLISHED = {
    **{"scratch": 78.3, "fractaldb": 96.8, "exfractaldb": 97.2, "rcdb": 97.0, "visualatom": 97.6},
    **{"rcdb-broken": 46.2, "fractaldb-1000points": 31.5, "fractaldb-100000points": 96.0},
}


@dataclasses.dataclass(frozen=True)
class Preset:
    """One budget for all arms; the defaults are `--preset cpu`."""

    patch: int = 8
    pixels: int = 32
    width: int = 96  # 0, and depth 0: ViT-Ti's
    depth: int = 3
    canvas: int = 64  # pixels; 0: the published one
    classes: int = 100
    images: int = 64_000  # drawn in pre-training
    pretrain_batch: int = 64
    pretrain_rate: float = 2e-3
    seen: int = 40_000  # real ones in fine-tuning; two fifths of it while the rate is chosen
    batch: int = 64
    rates: tuple[float, ...] = (4e-4, 1e-3, 2.5e-3, 6e-3)
    deit: bool = False  # the papers' augmentation; else flips, and shifts of real images


TINY = Preset(
    16, 224, 0, 0, 0, 1000, 2_048_000, 256, 1e-3, 1_500_000, 256, (1e-4, 3e-4, 1e-3), True
)
PRESETS = {"cpu": Preset(), "gpu": TINY}


def formula(arm: str, preset: Preset) -> dict[str, Any]:
    """What `formula_source` is given for an arm: the published set, but for what is said here."""
    size, shrunk = preset.canvas, (preset.canvas or 512) / 512
    options: dict[str, Any] = {}
    if arm == "rcdb-broken":
        options = {"broken_lines": round(1000 * shrunk)}
    elif arm == "rcdb-2vary":
        options = {"varying": 2}
    elif arm.endswith("points"):
        options, size = {"num_points": int(arm[10:-6])}, 0
    elif size and arm == "1p-frac":
        options = {"num_points": round(100_000 * shrunk**2), "pad": 3}
    elif size and arm == "fractaldb":
        options = {"pattern": "point", "color": "density", "num_points": 6_250, "pad": 2}
    if preset.canvas and arm.startswith("fractaldb"):
        options["weights"] = "uniform"  # a new shape for every instance: learnt soonest
    name = arm if arm == "1p-frac" else f"{arm.partition('-')[0]}-1k"
    own = {"num_classes": preset.classes, "instances": 0, "size": size}
    return {"name": name, "options": options, **own}


def base(preset: Preset, seed: int):
    config = c.default_config()
    config.seed = seed
    config.log_every = 100
    config.keep_checkpoints = 1
    config.data.num_workers = 0  # nothing is decoded after the start
    config.report.update(tensorboard=False, gallery=False)
    config.model.update(patch_size=preset.patch, image_size=preset.pixels, pool="mean")
    if preset.width:
        config.model.update(width=preset.width, depth=preset.depth, num_heads=4)
    config.augment.flip_lr = True
    return config


def pretrain(args, preset: Preset, arm: str, seed: int):
    config = base(preset, seed)
    config.batch_size = preset.pretrain_batch
    config.steps = preset.images // config.batch_size
    config.optimizer.learning_rate = preset.pretrain_rate
    config.schedule.update(warmup_steps=config.steps // 10, final=1e-5)
    if preset.deit:
        deit.augment(config, erasing=0.25, flip="lr")
        config.model.drop_path = 0.1
    config.data.sources.images = c.formula_source(**formula(arm, preset))
    held_out = c.held_out(config.data.sources.images)
    config.evals.held_out = c.accuracy_eval(held_out, num_examples=2_000, batch_size=512)
    return config


def finetune(args, preset: Preset, arm: str, seed: int, rate: float, *, choosing: bool):
    config = base(preset, seed)
    config.batch_size = preset.batch
    config.steps = int(preset.seen * (0.4 if choosing else 1)) // config.batch_size
    config.optimizer.learning_rate = rate
    config.schedule.update(warmup_steps=config.steps // 12, final=1e-6)
    config.augment.update(crop="pad", crop_pad=4)
    if preset.deit:
        deit.augment(config, erasing=0.0, flip="lr")
    if arm != "scratch":
        config.init_from = str(pathlib.Path(args.out) / f"pretrain-{arm}-seed{seed}")

    def images(split: str, first: int = 0, count: int = 0):
        some = {"skip_examples": first, "num_examples": count}
        return c.tfds_source("cifar10", split=split, data_dir=args.data_dir, size=32, **some)

    config.data.sources.real = images("train", count=45_000 if choosing else 0)
    held_out = images("train", first=45_000, count=5_000) if choosing else images("test")
    config.evals.real = c.accuracy_eval(held_out, batch_size=512)
    return config


class Job(NamedTuple):
    """One run, and the names of those that it waits for."""

    kind: str
    arm: str
    seed: int
    rate: float = 0.0
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        last = f"rate{self.rate:g}" if self.kind == "choose" else f"seed{self.seed}"
        return f"{self.kind}-{self.arm}-{last}"


def plan(args, preset: Preset) -> list[Job]:
    """All runs, in the order in which a cut-off leaves the most whole rows: the first seed of
    every family, the other seeds, then the hypotheses.
    """
    jobs = []
    for group in (FAMILIES, HYPOTHESES):
        for seed in args.seeds:
            for arm in (arm for arm in group if arm in args.arms):
                drawn = [] if arm == "scratch" else [Job("pretrain", arm, n) for n in (0, seed)]
                first = tuple(job.name for job in drawn)
                choices = [Job("choose", arm, 0, rate, first[:1]) for rate in preset.rates]
                needs = (*first, *(choice.name for choice in choices))
                jobs += [*drawn, *choices, Job("test", arm, seed, 0.0, needs)]
    return list(dict.fromkeys(jobs))


def score(args, name: str, metric: str = "real/top1") -> float:
    """Percent; nan for a run that is not finished."""
    return side_by_side.percent(args.out, name, metric)


def chosen_rate(args, preset: Preset, arm: str) -> float:
    """The grid's best; nan until all of it is there."""
    found = {rate: score(args, Job("choose", arm, 0, rate).name) for rate in preset.rates}
    return math.nan if math.isnan(sum(found.values())) else max(found, key=lambda r: found[r])


def run_one(args, preset: Preset, job: Job) -> None:
    from jaxfdsl import train

    if job.kind == "pretrain":
        config = pretrain(args, preset, job.arm, job.seed)
    else:
        choosing = job.kind == "choose"
        rate = job.rate if choosing else chosen_rate(args, preset, job.arm)
        config = finetune(args, preset, job.arm, job.seed, rate, choosing=choosing)
    train.run(config, str(pathlib.Path(args.out) / job.name))


def summary(args, preset: Preset, arm: str) -> dict[str, Any]:
    """One arm's numbers in percent, nan for what is not finished."""

    def scores(start: str, metric: str = "real/top1") -> np.ndarray:
        return np.array([score(args, f"{start}-seed{seed}", metric) for seed in args.seeds])

    values, learnt = scores(f"test-{arm}"), scores(f"pretrain-{arm}", "held_out/top1")
    gain = values - scores("test-scratch")
    grid = {f"{r:g}": score(args, Job("choose", arm, 0, r).name) for r in preset.rates}
    row = {"rate": chosen_rate(args, preset, arm), "choosing": grid}
    row |= {"test": values.tolist(), "held_out": learnt.tolist()}
    for name, sample in (("", values), ("gain_", gain), ("held_out_", learnt)):
        parts = ("mean", "sd", "interval")
        found = side_by_side.mean_and_interval(sample)
        row |= {f"{name}{part}": value for part, value in zip(parts, found, strict=True)}
    return row


def table(args, preset: Preset) -> None:
    """Prints and writes what is finished."""
    print(f"{preset.images:,} images of {preset.classes} categories drawn,", end=" ")
    print(f"{preset.seen:,} real ones seen; top-1 in %")
    rows = {a: summary(args, preset, a) for a in (*FAMILIES, *HYPOTHESES) if a in args.arms}
    print(
        f"{'arm':23s}{'held-out':>9s}{'rate':>8s}  {'test, of each seed':24s}{'mean':>6s}", end=""
    )
    print(f"{'sd':>6s}{'- scratch':>10s}{'+- 95 %':>8s}{'published':>10s}")

    def cell(value: float, width: int, form: str = ".2f") -> str:
        return " " * width if math.isnan(value) else format(value, form).rjust(width)

    for arm, row in rows.items():
        tests = ", ".join(f"{v:.2f}" for v in row["test"] if not math.isnan(v))
        gain = [math.nan] * 2 if arm == "scratch" else [row["gain_mean"], row["gain_interval"]]
        print(
            f"{arm:23s}{cell(row['held_out_mean'], 9, '.1f')}{cell(row['rate'], 8, 'g')}  "
            f"{tests:24s}{cell(row['mean'], 6)}{cell(row['sd'], 6)}{cell(gain[0], 10, '+.2f')}"
            f"{cell(gain[1], 8)}{cell(PUBLISHED.get(arm, math.nan), 10, '.1f')}"
        )
    report = {"preset": dataclasses.asdict(preset), "seeds": args.seeds, "arms": rows}
    text = json.dumps(report, indent=2).replace("NaN", "null")
    (pathlib.Path(args.out) / "table.json").write_text(text + "\n")
    figure(rows, pathlib.Path(args.out) / "transfer.png")


def figure(rows: dict[str, dict[str, Any]], path: pathlib.Path) -> None:
    """Arms with the 95 % t-intervals of their means on the left, what is published on the right."""
    import matplotlib.pyplot as plt

    names = [arm for arm in rows if not math.isnan(rows[arm]["mean"])][::-1]
    fig, (ours, theirs) = plt.subplots(1, 2, figsize=(9, 0.4 * len(names) + 1.4), sharey=True)
    half = [0.0 if math.isnan(r["sd"]) else r["interval"] for r in (rows[name] for name in names)]
    ours.errorbar([rows[n]["mean"] for n in names], range(len(names)), xerr=half, fmt="o")
    for place, name in enumerate(names):
        ours.plot(rows[name]["test"], [place] * len(rows[name]["test"]), "k|", alpha=0.5)
    ours.set(xlabel="CIFAR-10 top-1, %, this budget", yticks=range(len(names)), yticklabels=names)
    theirs.plot([PUBLISHED.get(name, math.nan) for name in names], range(len(names)), "D")
    theirs.set(xlabel="published, %", xlim=(0, 100))
    for axis in (ours, theirs):
        axis.grid(axis="x", alpha=0.3)
    fig.tight_layout()
    fig.savefig(path, dpi=120)
    plt.close(fig)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--out", default="runs/transfer")
    arms, seeds = ",".join((*FAMILIES, *HYPOTHESES)), "0,1,2"
    parser.add_argument("--arms", type=lambda s: s.split(","), default=arms, help=arms)
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default=seeds)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--images", type=int, default=0, help="drawn, in place of the preset's")
    parser.add_argument("--classes", type=int, default=0, help="in place of the preset's")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    own = {"images": args.images, "classes": args.classes}
    preset = dataclasses.replace(preset, **{k: v for k, v in own.items() if v})
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    jobs = plan(args, preset)
    if args.run:
        return run_one(args, preset, next(job for job in jobs if job.name == args.run))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the runs too, which then save
    waits_for = {job.name: job.needs for job in jobs}
    command = [__file__, *sys.argv[1:], "--run"]
    run = functools.partial(side_by_side.run_all, args.out, waits_for, jobs=args.jobs)
    failed = [] if args.table else run(lambda name: [*command, name])
    table(args, preset)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
