"""Which images should be positives of each other: none, a view, another instance, three others?

    python benchmarks/positives.py --data_dir ../shared/data/tfds --jobs 2
    python benchmarks/positives.py --preset gpu --data_dir /data/tfds --out runs/positives_gpu

All arms learn from formula images of the same categories, in as many steps of as many images; only
what is called alike changes: `supervised` is cross-entropy with the category, `simclr` contrasts
two views of one image, `pair` two instances of a category, `multi` four, and `supcon` takes all
images of a category in the batch. Frozen features are judged on real CIFAR-10, which no arm saw: by
nearest neighbours (k 20) and a linear probe, of all training and test images; paired seeds, with
the 95 % t-interval of the difference to `simclr`. On synthetic images of captions SynCLR's paper
(arXiv 2312.17742) has the order 63.6 (SimCLR), 71.9 (supervised), 75.3 (multi-positive), ImageNet
top-1 of a linear probe.

`--preset gpu`: ViT-S/4 at 32 pixels, 21,000 categories, 10,000 steps of 1,024 images; not run here.
`--preset cpu` is small enough for two cores, and has little power; cpu10k has ten times the
categories in twice the steps, some ten minutes of a core a run: see RESULTS.md. Killed, the same
command goes on. `--table` prints what is finished. Writes --out/positives.json.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import signal
import sys

import runs_side_by_side as side_by_side

from jaxfdsl import config as c

ARMS = ("supervised", "simclr", "pair", "multi", "supcon")
GROUPS = {"simclr": (2, "image"), "pair": (2, "recipe"), "multi": (4, "recipe")}


@dataclasses.dataclass(frozen=True)
class Preset:
    """One budget for all arms; the defaults are `--preset cpu`."""

    variant: str = "vit_ti"
    patch: int = 8
    width: int = 96  # 0, and depth 0: the variant's
    depth: int = 3
    data: str = "rcdb-1k"
    canvas: int = 64
    batch: int = 128
    steps: int = 1_000
    rate: float = 2e-3
    hidden: int = 512  # of the projector


PRESETS = {
    "cpu": Preset(),
    "cpu10k": Preset(data="rcdb-10k", steps=2_000),
    "gpu": Preset("vit_s", 4, 0, 0, "rcdb-21k", 64, 1024, 10_000, 1e-3, 2048),
}


def recipe(args, preset: Preset, arm: str, seed: int):
    """The run of an arm: only the last lines differ."""
    config = c.default_config()
    config.seed = seed
    config.batch_size, config.steps = preset.batch, preset.steps
    config.log_every = 100
    config.keep_checkpoints = 1
    config.report.update(tensorboard=False, gallery=False)
    config.model.update(
        variant=preset.variant, patch_size=preset.patch, image_size=32, pool="mean",
        width=preset.width, depth=preset.depth, num_heads=4 if preset.width else 0,
    )  # fmt: skip
    # With layer norm a short run easily stays where all projections are alike.
    config.model.projector.update(hidden=preset.hidden, output=128, norm="batch")
    config.optimizer.update(learning_rate=preset.rate, weight_decay=0.1, b2=0.98)
    config.schedule.update(warmup_steps=preset.steps // 10, final=0.0)
    config.augment.update(
        crop="random_resized", crop_scale=(0.2, 1.0), flip_lr=True, color_jitter=0.4,
        color_jitter_prob=0.8, hue=0.1, grayscale=0.2,
    )  # fmt: skip
    config.data.sources.images = c.formula_source(preset.data, instances=0, size=preset.canvas)

    def real(split: str):
        return c.tfds_source("cifar10", split=split, data_dir=args.data_dir, size=32)

    judged = (real("train"), real("test"))
    config.evals.knn = c.knn_eval(*judged, k=(20,), batch_size=512)
    config.evals.probe = c.linear_probe_eval(*judged, batch_size=512)
    if arm == "supervised":
        return config
    config.objective.classify.weight = 0.0
    config.objective.contrast.weight = 1.0
    if arm == "supcon":
        config.objective.contrast.positives = "label"
    else:
        config.data.group_size, config.data.group_by = GROUPS[arm]
    return config


def table(args, preset: Preset) -> None:
    """Prints and writes what is finished."""
    print(f"{preset.steps:,} steps of {preset.batch} images of {preset.data}; CIFAR-10 top-1 in %")
    print(f"{'arm':12s}{'knn':>18s}{'linear probe':>18s}{'- simclr (probe)':>20s}  probe of seeds")
    rows = {}
    for arm in args.arms:

        def scores(metric: str, arm: str = arm) -> list[float]:
            return [
                side_by_side.percent(args.out, f"{arm}-seed{seed}", metric) for seed in args.seeds
            ]

        probe, base = scores("probe/top1"), scores("probe/top1", "simclr")
        columns = {
            "knn": scores("knn/top1"),
            "probe": probe,
            "gain": [a - b for a, b in zip(probe, base, strict=True)],
        }
        made = {name: side_by_side.mean_and_interval(values) for name, values in columns.items()}
        rows[arm] = {name: {"values": columns[name], "mean": made[name][0]} for name in columns}
        knn, own, gain = (f"{m:.2f} sd {sd:.2f}" for m, sd, _ in made.values())
        gain = "" if arm == "simclr" else f"{made['gain'][0]:+.2f} +- {made['gain'][2]:.2f}"
        each = ", ".join(f"{value:.2f}" for value in probe if not math.isnan(value))
        print(f"{arm:12s}{knn:>18s}{own:>18s}{gain:>20s}  {each}")
    report = {"preset": dataclasses.asdict(preset), "seeds": args.seeds, "arms": rows}
    text = json.dumps(report, indent=2).replace("NaN", "null")
    (pathlib.Path(args.out) / "positives.json").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--out", default="runs/positives")
    parser.add_argument("--arms", type=lambda s: s.split(","), default=list(ARMS))
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--steps", type=int, default=0, help="in place of the preset's")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not set(args.arms) <= set(ARMS):
        parser.error(f"--arms={','.join(args.arms)}: type some of {','.join(ARMS)}")
    preset = PRESETS[args.preset]
    preset = dataclasses.replace(preset, steps=args.steps or preset.steps)
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    if args.run:
        from jaxfdsl import train

        arm, _, seed = args.run.rpartition("-seed")
        return train.run(
            recipe(args, preset, arm, int(seed)), str(pathlib.Path(args.out, args.run))
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the runs too, which then save
    names = [f"{arm}-seed{seed}" for seed in args.seeds for arm in args.arms]
    command = [__file__, *sys.argv[1:], "--run"]
    failed = []
    if not args.table:
        waits_for = {name: () for name in names}
        failed = side_by_side.run_all(args.out, waits_for, lambda name: [*command, name], args.jobs)
    table(args, preset)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
