"""What a denoiser is told, how many images it makes, which are kept: CIFAR-10 at 32 pixels.

    python benchmarks/closed_set.py --data_dir ../shared/data/tfds --minutes 9

A closed set: 40,000 of the training images (A) are all that any model sees. The other 10,000 (B)
and the 10,000 test images are trained on by none. An encoder learns from A without labels (SimCLR),
another one of another seed only judges. Four denoisers of the same size and training learn A under
the class, the encoder's clusters, its representations, or representation and class, and make sets
of A's size and of twice and three times that. What is reported is the classification accuracy
score: a classifier trained from scratch on a set, tested on the real test images, in equal steps
whatever the set. The rows (1x is A's size, which all have that do not say otherwise):

    real                    A, with classical augmentation (shifts and flips), as all without -plain
    class-1x -2x -3x        of each image's class, once, twice, three times
    rep-1x -2x -3x          of each image's representation
    real+class, real+rep    half of each batch A, half the set (data.label_space=shared)
    real-plain, real+rep-plain       without augmentation
    rep-best, rep-either    the better of two of each representation, by faithfulness; either one
    rep-agreeing, -random   the half of 2x whose nearest images of A have their label, or any
    cluster, rep+label      of each image's cluster; of its representation and its class
    rep-new                 of B's representations under B's labels, four images of each
    rep-mixed               of points between the representations of two images of a class
    class-w1.5, class-w2, rep-w1.5   with that guidance

Four claims were written down before anything ran, and each gets a line: (i) rep-1x > class-1x, and
the seeds' ranges do not overlap; (ii) from 1x to 3x the class gains less than the representation;
(iii) real+rep > real+class, and real+rep-plain > real: made images in place of augmentation; (iv)
each filter > chance in its place. That a set beats real images is not expected at this scale.
Seeds are those of the classifiers: encoder, denoisers and sets are made once.

In the space of each encoder stand Frechet distance to A, precision, recall and coverage of each
set at A's size, and, beside them, of B, which is a quarter of it: that raises its Frechet distance.
`nearest` is the median distance to the nearest image of A over that of B's images, `copies` the
share that is nearer than all but 1 % of B's are (.01: none).

Cost of --preset gpu: 43 minutes of an H200, computed (`--cost h200-1`, at 4.5 % of its peak, which
is assumed) and not yet run: two encoders 3 minutes, four denoisers (DiT-S/4, 4,800 steps of 256)
16, sampling 11, 66 classifiers 14; compiling, reading and measuring come on top, by guess 10 more.
Where the first logs show another speed, remove --out and type --scale 3 for three times the steps.
--preset cpu, a tenth of the images and small models, is five hours of two busy cores (computed);
smoke, six minutes of one, shows whether it runs, and its numbers say nothing.

Every training run is an ordinary jaxfdsl run in its own folder under --out, every set a store;
killed, the same command goes on. With --minutes it ends by itself, with status 0, and says what is
left. What a claim needs comes first, all seeds of a row before the next. `--table` prints what is
finished. Writes --out/closed_set.json and closed_set.png.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import sys
from typing import Any

import closed_set_recipes as recipes
import closed_set_table
import numpy as np
import runs_side_by_side as side_by_side
import small_images
from closed_set_recipes import OTHER, OWN, Budget, Job, Places


def run_one(args, budget: Budget, job: Job) -> None:
    places = Places(pathlib.Path(args.out))
    if job.kind in ("columns", "set"):
        work = columns if job.kind == "columns" else make
        return small_images.finished(args.out, job.name, work(places, budget, job.arm))
    from jaxfdsl import train

    folder = places.out / job.name
    if job.kind == "encoder":
        config = recipes.encoder(budget, recipes.ENCODERS[job.arm], places.real)
    elif job.kind == "denoiser":
        config = recipes.denoiser(budget, job.arm, places.real)
    else:
        row = recipes.ROWS[job.arm]
        config = recipes.classifier(budget, job.seed, row, places.real, places.images(row.made))
    summary = train.run(config, str(folder))
    if job.kind == "classifier" and summary["finished"]:  # of which the results are all
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def columns(places: Places, budget: Budget, which: str) -> dict[str, Any]:
    """What an encoder sees in the real images, and clusters of it."""
    for where in places.real.values():
        small_images.verb(
            "embed", where, "--encoder", places.out / f"encoder-{which}", "--name", which
        )
    if which == OWN:
        how = ("--clusters", budget.clusters, "--of", f"rep:{OWN}", "--name", recipes.CLUSTERS)
        small_images.verb("embed", places.real["a"], *how)
    return {}


def make(places: Places, budget: Budget, name: str) -> dict[str, Any]:
    """The set with its columns and index lists; what is measured of it in both spaces."""
    from jaxfdsl.data import store

    made, images, a = recipes.SETS[name], places.images(name), places.real["a"]
    size, told = len(store.open(a)), places.real.get(made.recipes, "")
    if made.recipes == "mixed":
        told = str(pathlib.Path(images).with_name("recipes.npz"))
        pathlib.Path(told).parent.mkdir(exist_ok=True)
        how = ("--by", "interpolate", "--count", size, "--seed", 0, "--out", told)
        small_images.verb("represent", a, "--rep", OWN, *how)
    small_images.verb(
        "materialise", places.out / f"denoiser-{made.denoiser}", "--to", "store", "--out", images,
        "--recipes", told, "--images", made.times * size, "--guidance", made.guidance,
        "--sample_steps", budget.sample_steps, "--method", "euler", "--batch", budget.sample_batch,
    )  # fmt: skip
    for one in (OWN, OTHER):
        where = places.out / f"encoder-{one}"
        small_images.verb("embed", images, "--encoder", where, "--name", one)
    lists = choose(images, a, size, filters=name == "rep") if made.times > 1 else [""]
    judged = pathlib.Path(images, "judge.json")
    for index in lists:
        for one in (OWN, OTHER):
            known = json.loads(judged.read_text()) if judged.exists() else {}
            if (f"{one}@{index}" if index else one) not in known:
                beside = ("--real", a, "--held_out", places.real["b"], "--index", index)
                small_images.verb("judge", images, "--rep", one, *beside)
    return {"judged": json.loads(judged.read_text())}


def choose(images: str, a: str, size: int, filters: bool) -> list[str]:
    """Writes the index lists of a set of several times A's size; returns those of A's own size."""
    from jaxfdsl.data import store
    from jaxfdsl.select import representation
    from jaxfdsl.select import rows as choice

    opened = store.open(images)
    for times in range(1, len(opened) // size):
        store.write_index(images, f"{times}x", np.arange(times * size), {"which": "the first"})
    if not filters:
        return ["1x"]
    scores = {}
    for by in ("faithfulness", "label_agreement"):
        beside = representation.Beside(real=a)
        column = opened.column(representation.write(opened, by, OWN, beside))
        scores[by] = np.asarray(column, np.float64)[: 2 * size]
    recipe, label = (np.asarray(opened.column(n))[: 2 * size] for n in ("group", "label"))
    kept = {
        "best": choice.best(scores["faithfulness"], recipe, 0.5),
        "either": choice.chance(scores["faithfulness"], recipe, 0.5, 0),
        "agreeing": choice.best(scores["label_agreement"], label, 0.5),
        "random": choice.chance(scores["label_agreement"], label, 0.5, 0),
    }
    for index in recipes.FILTERS:
        store.write_index(images, index, kept[index], {"rep": OWN, "of": "2x", "which": index})
    return ["1x", *recipes.FILTERS]


def write_real(out: pathlib.Path, data_dir: str, budget: Budget) -> None:
    """A, B and the test images."""
    classes = len(small_images.CLASSES)
    for name, split, count, after in (
        ("a", "train", budget.held_in, 0),
        ("b", "train", budget.held_out, budget.held_in),
        ("test", "test", budget.test, 0),
    ):
        small_images.write_real(
            out / name, data_dir, split, [count] * classes, pixels=32, after=after
        )


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", default="", help="of TFDS; default $TFDS_DATA_DIR")
    parser.add_argument("--preset", choices=recipes.PRESETS, default="gpu")
    parser.add_argument("--scale", type=float, default=1.0, help="of all training lengths")
    parser.add_argument("--out", default="runs/closed_set")
    known = ",".join(recipes.ROWS)
    parser.add_argument(
        "--rows", type=lambda s: s.split(","), default=list(recipes.ROWS), help=known
    )
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    parser.add_argument("--minutes", type=float, default=0, help="then stop; 0: when all is done")
    parser.add_argument("--jobs", type=int, default=1, help="above 1: a process and a core each")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    parser.add_argument(
        "--cost", default="", metavar="h200-1", help="compute the cost, run nothing"
    )
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    return parser


def main() -> None:
    parser = options()
    args = parser.parse_args()
    if not set(args.rows) <= set(recipes.ROWS):
        parser.error(f"--rows={','.join(args.rows)}: type some of {','.join(recipes.ROWS)}")
    budget, jobs = (
        recipes.PRESETS[args.preset].scaled(args.scale),
        recipes.plan(args.rows, args.seeds),
    )
    if args.cost:
        return closed_set_table.cost(args, budget, jobs)
    if args.run:
        return run_one(args, budget, jobs[args.run])
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    asked, kept = json.dumps(dataclasses.asdict(budget), indent=1), out / "budget.json"
    if kept.exists() and kept.read_text() != asked:
        parser.error(f"--out={out} holds another --preset or --scale: type those, or a new --out")
    kept.write_text(asked)
    failed: list[str] = []
    waits_for = {name: job.needs for name, job in jobs.items()}
    command = [__file__, *sys.argv[1:], "--run"]
    try:
        side_by_side.stop_after(0 if args.table else args.minutes)
        if not args.table:
            write_real(out, args.data_dir, budget)
        if not args.table and args.jobs == 1:
            failed = side_by_side.run_here(
                args.out, waits_for, lambda name: run_one(args, budget, jobs[name])
            )
        elif not args.table:
            failed = side_by_side.run_all(
                args.out, waits_for, lambda name: [*command, name], args.jobs
            )
    except (side_by_side.Stopped, KeyboardInterrupt):
        print("stopped; the same command goes on")
    closed_set_table.show(args, budget, jobs)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
