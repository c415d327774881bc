"""Can made images fill up the rare classes of an imbalanced set, and better than re-weighting does?

    python benchmarks/long_tail.py --data_dir ../shared/data/tfds --jobs 2

CIFAR-10 at 16 pixels with imbalance 100: 2,000 images of the first class, fewer of each next one by
the same factor, 20 of the last; 4,964 in all, a scaled-down CIFAR-10-LT (5,000 to 50). They are all
that anything here learns from: an encoder without labels, and two denoisers, told the class or the
encoder's vector. A classifier from scratch is then trained in equal steps on

    plain         the set as it is
    reweighted    the set with the images of each class repeated, 2,000 rows a class
    class         the set filled up to 2,000 a class by samples of the class
    rep           ... by samples of the representations of the class's own images, again and again
    interpolated  ... by samples of points between two of them, one point a sample

and tested on the 10,000 balanced test images: all of them, and those of the first three classes
(head), of the next four and of the last three (tail, 56, 33 and 20 images).

Cost: about an hour and a half of one core. Every training run is an ordinary jaxfdsl run
under --out; killed, the same command goes on. `--table` prints what is finished. Writes
--out/long_tail.json.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import signal
import sys

import numpy as np
import runs_side_by_side as side_by_side
import small_images

from jaxfdsl import config as c

ARMS = ("plain", "reweighted", "class", "rep", "interpolated")
MOST, IMBALANCE = 2_000, 100
COUNTS = [round(MOST * IMBALANCE ** (-k / 9)) for k in range(10)]
PARTS = {"head": range(0, 3), "middle": range(3, 7), "tail": range(7, 10)}

BUDGETS = {
    "cpu": small_images.Budget(steps=4_000, ema=0.998, encoder_steps=600),
    "smoke": small_images.Budget(
        encoder_width=16, encoder_depth=1, encoder_steps=20, encoder_batch=64, width=16, depth=1,
        steps=20, sample_steps=2, classifier_width=16, classifier_depth=1, classifier_steps=20,
    ),
}  # fmt: skip


def plan(args) -> dict[str, tuple[str, ...]]:
    """All steps, and those that each one waits for."""
    found: dict[str, tuple[str, ...]] = {}
    for seed in args.seeds:
        encoder, column = f"encoder-seed{seed}", f"columns-seed{seed}"
        denoisers = {"class": f"denoiser-class-seed{seed}", "rep": f"denoiser-rep-seed{seed}"}
        found |= {encoder: (), denoisers["class"]: (), column: (encoder,)}
        found[denoisers["rep"]] = (column,)
        for arm in args.arms:
            made = {"class": "class", "rep": "rep", "interpolated": "rep"}.get(arm)
            if arm != "plain":
                found[f"set-{arm}-seed{seed}"] = (denoisers[made],) if made else ()
            needs = () if arm == "plain" else (f"set-{arm}-seed{seed}",)
            found[f"classifier-{arm}-seed{seed}"] = needs
    return found


def run_one(args, name: str) -> None:
    from jaxfdsl import train

    out, budget = pathlib.Path(args.out), BUDGETS[args.preset]
    kind, _, rest = name.partition("-")
    arm, seed = rest.rpartition("seed")[0].strip("-"), int(rest.rpartition("seed")[2])
    real, test = str(out / "real"), str(out / "test")
    if kind == "columns":
        encoder = out / f"encoder-seed{seed}"
        small_images.verb("embed", real, "--encoder", encoder, "--name", f"seed{seed}")
        return small_images.finished(args.out, name, {})
    if kind == "set":
        fill(out, budget, arm, seed)
        return small_images.finished(args.out, name, {})
    if kind == "encoder":
        config = small_images.encoder(budget, seed, real, test)
    elif kind == "denoiser":
        condition = "label" if arm == "class" else f"rep:seed{seed}"
        config = small_images.denoiser(budget, seed, real, condition)
    else:
        images = real if arm == "plain" else str(out / f"set-{arm}-seed{seed}" / "images")
        config = small_images.classifier(budget, seed, images, test)
        for part in PARTS:
            source = c.store_source(test, index=part, size=small_images.PIXELS)
            config.evals[part] = c.accuracy_eval(source, batch_size=500)
    train.run(config, str(out / name))


def fill(out: pathlib.Path, budget: small_images.Budget, arm: str, seed: int) -> None:
    """The store of an arm: the real images and, up to `MOST` a class, copies or samples."""
    from jaxfdsl.data import store

    folder, real = out / f"set-{arm}-seed{seed}", store.open(out / "real")
    images = folder / "images"
    if (images / "store.json").exists():
        return
    folder.mkdir(exist_ok=True)
    rows, labels = np.arange(len(real)), np.asarray(real.column("label"))
    pictures = small_images.read(real, rows)
    if arm == "reweighted":
        chosen = missing(labels)
        more, kinds = pictures[chosen], labels[chosen]
    else:
        recipes = folder / "recipes.npz"
        write_recipes(recipes, real, labels, arm, seed)
        denoiser = out / f"denoiser-{'class' if arm == 'class' else 'rep'}-seed{seed}"
        how = ("--sample_steps", budget.sample_steps, "--method", "euler", "--recipes", recipes)
        small_images.verb("materialise", denoiser, "--to", "store", *how, "--out", folder / "made")
        made = store.open(folder / "made")
        more = small_images.read(made, np.arange(len(made)))
        kinds = np.asarray(made.column("label"))
    small_images.write_store(
        images, np.concatenate([pictures, more]), np.concatenate([labels, kinds]),
        np.concatenate([rows, np.full(len(kinds), -1)]), {"title": f"filled up by {arm}"},
        small_images.CLASSES,
    )  # fmt: skip


def missing(labels: np.ndarray) -> np.ndarray:
    """Rows of the real set that fill each class up to `MOST`: its own, round and round."""
    found = []
    for label in range(len(small_images.CLASSES)):
        own = np.flatnonzero(labels == label)
        found.append(own[np.arange(max(MOST - len(own), 0)) % len(own)])
    return np.concatenate(found)


def write_recipes(path: pathlib.Path, real, labels: np.ndarray, arm: str, seed: int) -> None:
    """What the samples are made of, a recipe a sample."""
    from jaxfdsl.data.store import columns
    from jaxfdsl.representations import mixing

    chosen = missing(labels)
    if arm == "class":
        return np.savez(path, label=labels[chosen].astype(np.int32))
    file = columns.sidecar_file(real.path, f"rep:seed{seed}")
    column, made_by = np.asarray(real.column(f"rep:seed{seed}")), columns.described(file)["made_by"]
    if arm == "rep":
        vectors, kinds = column[chosen], labels[chosen]
    else:
        vectors, kinds, _ = mixing.interpolated(column, labels, MOST, seed, per_class=True)
        order = np.argsort(kinds, kind="stable")  # MOST of each class, of which some are wanted
        wanted = np.bincount(labels[chosen], minlength=len(small_images.CLASSES))
        kept = np.concatenate([order[k * MOST : k * MOST + n] for k, n in enumerate(wanted)])
        vectors, kinds = vectors[kept], kinds[kept]
    np.savez(
        path, column=vectors.astype(np.float32), label=kinds.astype(np.int32),
        made_by=np.array(json.dumps(made_by)),
    )  # fmt: skip


def table(args) -> None:
    """Prints and writes what is finished."""
    print(f"CIFAR-10 at 16 pixels, {COUNTS[0]:,} to {COUNTS[-1]} images a class; top-1 in %")
    heads = "".join(f"{part:>9s}" for part in PARTS)
    print(f"{'trained on':14s}{'seeds':>21s}{'all':>8s}{heads}  tail of seeds")
    rows = {}
    for arm in args.arms:
        row = {
            part: [
                side_by_side.percent(args.out, f"classifier-{arm}-seed{seed}", f"{part}/top1")
                for seed in args.seeds
            ]
            for part in ("real", *PARTS)
        }
        rows[arm] = row
        means = [side_by_side.mean_and_interval(row[part])[0] for part in ("real", *PARTS)]
        each, tail = (" ".join(f"{v:6.2f}" for v in row[part]) for part in ("real", "tail"))
        cells = "".join(f"{mean:9.2f}" for mean in means[1:])
        print(f"{arm:14s}{each:>21s}{means[0]:8.2f}{cells}  {tail}")
    probes = [
        side_by_side.percent(args.out, f"encoder-seed{seed}", "probe/top1") for seed in args.seeds
    ]
    known = ", ".join(f"{value:.2f}" for value in probes if not math.isnan(value))
    print(f"linear probes of the encoders: {known}")
    budget = dataclasses.asdict(BUDGETS[args.preset])
    report = {"budget": budget, "counts": COUNTS, "seeds": args.seeds, "arms": rows}
    text = json.dumps(report | {"probes": probes}, indent=2).replace("NaN", "null")
    (pathlib.Path(args.out) / "long_tail.json").write_text(text + "\n")


def write_data(out: pathlib.Path, data_dir: str) -> None:
    """The real sets, and the test images of each part of the classes."""
    from jaxfdsl.data import store

    small_images.write_real(out / "real", data_dir, "train", COUNTS)
    small_images.write_real(out / "test", data_dir, "test", [0] * len(small_images.CLASSES))
    labels = np.asarray(store.open(out / "test").column("label"))
    for part, kinds in PARTS.items():
        if not (out / "test" / "index" / f"{part}.json").exists():
            rows = np.flatnonzero(np.isin(labels, list(kinds)))
            store.write_index(out / "test", part, rows, {"by": "classes", "classes": list(kinds)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--preset", choices=BUDGETS, default="cpu")
    parser.add_argument("--out", default="runs/long_tail")
    known = ",".join(ARMS)
    parser.add_argument("--arms", type=lambda s: s.split(","), default=list(ARMS), help=known)
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not set(args.arms) <= set(ARMS):
        parser.error(f"--arms={','.join(args.arms)}: type some of {known}")
    if args.run:
        return run_one(args, args.run)
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    write_data(pathlib.Path(args.out), args.data_dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the runs too, which then save
    failed: list[str] = []
    if not args.table:
        command = [__file__, *sys.argv[1:], "--run"]
        failed = side_by_side.run_all(
            args.out, plan(args), lambda name: [*command, name], args.jobs
        )
    table(args)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
