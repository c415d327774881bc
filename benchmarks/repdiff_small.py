"""Do samples of a representation-conditioned denoiser teach more than those of a class-conditioned?

    python benchmarks/repdiff_small.py --data_dir ../shared/data/tfds --jobs 2

CIFAR-10 at 16 pixels; 5,000 training images, 500 a class, are all that any model sees. An encoder
learns from them without labels (SimCLR), two denoisers of the same size and training learn them
under the class or under the encoder's vectors, and each makes as many images again. What is
reported is the classification accuracy score: a classifier trained from scratch on a made set
alone, tested on the 10,000 real test images, in equal steps whatever the set. The sets:

    real          the 5,000 images
    class         one of each image's class
    rep           one of each image's representation
    interpolated  of points between the representations of two images of a class, none of which any
                  image has
    best          the better of two of each representation, by the cosine of the sample's own
                  representation and the one that was asked for
    random        either of these two

Beside it: that cosine; the denoising loss of the training images; and, in the space of an encoder
of another seed, which conditioned nothing, the Frechet distance to the training images and the
distance to the nearest of them, over that of real test images (below 1: nearer to what was trained
on than new images are). The images are few and the models small: what a benchmark of this size can
tell is which condition is learnt sooner, not what converged models do. A pilot of throw-away code,
with convolutional networks for encoder and classifier, had 45.0, 32.3, 38.1, 37.4, 38.9 and 38.0.

Cost: about an hour and a half of one core. Every training run is an ordinary jaxfdsl run in its own
folder under --out, every set a store; killed, the same command goes on.
`--table` prints what is finished. Writes --out/repdiff_small.json and --out/samples.png.
"""

import argparse
import dataclasses
import json
import math
import pathlib
import signal
import sys
from typing import Any, NamedTuple

import numpy as np
import runs_side_by_side as side_by_side
import small_images

PILOT = {"real": 45.0, "class": 32.3, "rep": 38.1, "interpolated": 37.4, "best": 38.9}
PILOT["random"] = 38.0
# Of each arm the set, and the index list of it ("" is all of it).
SETS = {"class": ("class", ""), "rep": ("rep", "first"), "interpolated": ("interpolated", "")}
SETS |= {"best": ("rep", "best"), "random": ("rep", "random")}
MIXED = {"real+class": "class", "real+rep": "rep"}  # both in one store; not by default
ARMS = ("real", *SETS)
JUDGE = 1000  # the seed of the encoder that judges

PRESETS = {
    "cpu": small_images.Budget(),
    "smoke": small_images.Budget(  # whether it runs: its numbers say nothing
        images=20, encoder_width=16, encoder_depth=1, encoder_steps=20, encoder_batch=64, width=16,
        depth=1, steps=20, sample_steps=2, classifier_width=16, classifier_depth=1,
        classifier_steps=20,
    ),
}  # fmt: skip


class Job(NamedTuple):
    """One run or set, by its name, and the names of those that it waits for."""

    kind: str
    arm: str
    seed: int
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.kind, self.arm, f"seed{self.seed}") if part)


def plan(args) -> list[Job]:
    """All of a seed, then of the next; first what nothing else is needed for."""
    judge = Job("encoder", "", JUDGE)
    judging = [judge, Job("columns", "", JUDGE, (judge.name,))]
    jobs: list[Job] = []
    for seed in args.seeds:
        encoder = Job("encoder", "", seed)
        column = Job("columns", "", seed, (encoder.name,))
        both = {
            "class": Job("generator", "class", seed),
            "rep": Job("generator", "rep", seed, (column.name,)),
        }
        jobs += [encoder, column, *both.values()]
        jobs += [one for one in judging if one not in jobs]
        needed = {SETS[arm][0] for arm in args.arms if arm in SETS}
        needed |= {MIXED[arm] for arm in args.arms if arm in MIXED}
        for made in (one for one in ("class", "rep", "interpolated") if one in needed):
            generator = both["class" if made == "class" else "rep"]
            jobs.append(Job("set", made, seed, (generator.name, column.name, judging[1].name)))
        for arm in args.arms:
            made = SETS[arm][0] if arm in SETS else MIXED.get(arm)
            needs = () if made is None else (Job("set", made, seed).name,)
            jobs.append(Job("classifier", arm, seed, needs))
    return jobs


class Places:
    """Where things are, as strings."""

    def __init__(self, out: str):
        self.out = pathlib.Path(out)
        self.real, self.test = str(self.out / "real"), str(self.out / "test")

    def of(self, kind: str, arm: str, seed: int) -> str:
        return str(self.out / Job(kind, arm, seed).name)

    def images(self, made: str, seed: int) -> str:
        return f"{self.of('set', made, seed)}/images"


def run_one(args, job: Job) -> None:
    places, budget, seed = Places(args.out), PRESETS[args.preset], job.seed
    if job.kind == "columns":
        encoder = places.of("encoder", "", seed)
        for where in (places.real, places.test):
            small_images.verb("embed", where, "--encoder", encoder, "--name", column(seed))
        return small_images.finished(args.out, job.name, {})
    if job.kind == "set":
        return small_images.finished(args.out, job.name, make(places, budget, job.arm, seed))
    from jaxfdsl import train

    if job.kind == "encoder":
        config = small_images.encoder(budget, seed, places.real, places.test)
    elif job.kind == "generator":
        condition = "label" if job.arm == "class" else f"rep:{column(seed)}"
        config = small_images.denoiser(budget, seed, places.real, condition, places.test)
    else:
        images, index = trained_on(places, job.arm, seed)
        config = small_images.classifier(budget, seed, images, places.test, index)
    train.run(config, str(places.out / job.name))


def column(seed: int) -> str:
    return f"seed{seed}"


def trained_on(places: Places, arm: str, seed: int) -> tuple[str, str]:
    """The store of a classifier, and the index list of it."""
    from jaxfdsl.data import store

    if arm == "real":
        return places.real, ""
    made, index = SETS[MIXED.get(arm, arm)]
    if arm in SETS:
        return places.images(made, seed), index
    both = pathlib.Path(f"{places.of('set', arm, seed)}/images")
    if not (both / "store.json").exists():
        both.parent.mkdir(exist_ok=True)
        stores = [store.open(places.real), store.open(places.images(made, seed))]
        own = stores[1].index(index) if index else np.arange(len(stores[1]))
        pairs = [(stores[0], np.arange(len(stores[0]))), (stores[1], np.asarray(own))]
        images = np.concatenate([small_images.read(one, some) for one, some in pairs])
        labels = np.concatenate([np.asarray(one.column("label"))[some] for one, some in pairs])
        groups = np.arange(len(images))
        card = {"title": f"{arm}, seed {seed}"}
        small_images.write_store(both, images, labels, groups, card, small_images.CLASSES)
    return str(both), ""


def make(places: Places, budget: small_images.Budget, made: str, seed: int) -> dict[str, Any]:
    """The set with its columns and index lists; what is measured of it."""
    from jaxfdsl.data import store

    count, own, judge = len(store.open(places.real)), column(seed), column(JUDGE)
    images, recipes = places.images(made, seed), places.real
    if made == "interpolated":
        recipes = f"{places.of('set', made, seed)}/recipes.npz"
        pathlib.Path(recipes).parent.mkdir(exist_ok=True)
        way = ("--by", "interpolate", "--count", count, "--seed", seed)
        small_images.verb("represent", places.real, "--rep", own, *way, "--out", recipes)
    generator = places.of("generator", "class" if made == "class" else "rep", seed)
    each = 2 if made == "rep" else 1
    how = ("--images", each * count, "--sample_steps", budget.sample_steps, "--method", "euler")
    small_images.verb(
        "materialise", generator, "--to", "store", "--recipes", recipes, *how, "--out", images
    )
    for encoder in (seed, JUDGE):
        name = column(encoder)
        where = places.of("encoder", "", encoder)
        small_images.verb("embed", images, "--encoder", where, "--name", name)
    found: dict[str, Any] = {}
    if made == "rep":
        choose(images, own, count, seed)
    for arm, (one, index) in SETS.items():
        if one == made:
            small_images.verb(
                "judge", images, "--real", places.real, "--rep", judge, "--held_out", places.test,
                *(("--index", index) if index else ()),
            )  # fmt: skip
            key = f"{judge}@{index}" if index else judge
            judged = json.loads(pathlib.Path(images, "judge.json").read_text())[key]
            found[arm] = {**judged["made"], "held_out": judged["held_out"]}
            if made != "class":
                found[arm]["faithfulness"] = faithfulness(images, own, index)
    return found


def faithfulness(images: str, name: str, index: str) -> float:
    """Mean cosine of what was asked for and what came, each number standardised as it was for the
    denoiser."""
    return float(np.mean(cosines(images, name)[rows(images, index)]))


def rows(images: str, index: str) -> Any:
    from jaxfdsl.data import store

    return np.asarray(store.open(images).index(index)) if index else slice(None)


def cosines(images: str, name: str) -> np.ndarray:
    """Of each image; standardised by what was asked for, as a few large numbers that all images
    share would else make them all alike."""
    from jaxfdsl.data import store

    opened = store.open(images)
    asked, came = (np.asarray(opened.column(f"rep:{one}"), np.float64) for one in ("asked", name))
    mean, deviation = asked.mean(axis=0), asked.std(axis=0)
    asked, came = (asked - mean) / deviation, (came - mean) / deviation
    lengths = np.linalg.norm(asked, axis=1) * np.linalg.norm(came, axis=1)
    return np.einsum("nd,nd->n", asked, came) / lengths


def choose(images: str, name: str, count: int, seed: int) -> None:
    """The index lists of a set of two a recipe: the first, the better, and either one of each."""
    from jaxfdsl.data import store
    from jaxfdsl.select import rows as choice

    score, recipe = cosines(images, name), np.asarray(store.open(images).column("group"))
    lists = {
        "first": np.arange(count),
        "best": choice.best(score, recipe, 0.5),
        "random": choice.chance(score, recipe, 0.5, seed),
    }
    for index, kept in lists.items():
        made_by = {"by": "faithfulness", "per": "recipe", "rep": name, "which": index}
        store.write_index(images, index, kept, made_by)


def measured(args, arm: str, measure: str) -> float:
    """The mean over seeds of a set's measure; nan where there is none."""
    made = SETS[arm][0] if arm in SETS else ""
    found = [side_by_side.result(args.out, Job("set", made, s).name) for s in args.seeds]
    values = []
    for one in found:
        told: Any = one[arm] if one and arm in one else {}
        if measure == "nearness":
            held_out = told.get("held_out", {}).get("nearest_real_50%", math.nan)
            values.append(told.get("nearest_real_50%", math.nan) / held_out)
        else:
            values.append(told.get(measure, math.nan))
    return side_by_side.mean_and_interval(values)[0]


def table(args) -> None:
    """Prints and writes what is finished."""
    rows: dict[str, Any] = {}
    print("CIFAR-10 at 16 pixels, 5,000 real images; top-1 on the test images in %")
    print(f"{'trained on':14s}{'seeds':>21s}{'mean':>7s}{'pilot':>7s}", end="")
    print(f"{'cosine':>9s}{'loss':>8s}{'Frechet':>9s}{'nearest':>9s}")
    for arm in args.arms:
        values = [
            side_by_side.percent(args.out, Job("classifier", arm, seed).name, "real/top1")
            for seed in args.seeds
        ]
        generator = "class" if arm == "class" else "rep"
        losses = [
            side_by_side.percent(args.out, Job("generator", generator, seed).name, "real/loss")
            for seed in args.seeds
        ]
        row: dict[str, Any] = {"top1": values, "mean": side_by_side.mean_and_interval(values)[0]}
        if arm in SETS:
            row["loss"] = side_by_side.mean_and_interval(losses)[0] / 100
            for measure in ("faithfulness", "frechet", "nearness"):
                row[measure] = measured(args, arm, measure)
        rows[arm] = row
        each = " ".join(f"{value:6.2f}" for value in values)
        line = f"{arm:14s}{each:>21s}{row['mean']:7.2f}{cell(PILOT.get(arm, math.nan), 7, '.1f')}"
        line += cell(row.get("faithfulness", math.nan), 9, ".3f")
        line += cell(row.get("loss", math.nan), 8, ".4f")
        line += cell(row.get("frechet", math.nan), 9, ".3g")
        print(line + cell(row.get("nearness", math.nan), 9, ".3f"))
    if {"class", "rep"} <= set(rows):
        low, high = min(rows["rep"]["top1"]), max(rows["class"]["top1"])
        if not math.isnan(low - high):
            apart = "apart" if low > high else "NOT apart"
            print(f"rep {low:.2f} at least, class {high:.2f} at most: {apart}")
    knn = [
        side_by_side.percent(args.out, Job("encoder", "", seed).name, "probe/top1")
        for seed in args.seeds
    ]
    print("linear probes of the encoders:", ", ".join(f"{value:.2f}" for value in knn))
    budget = dataclasses.asdict(PRESETS[args.preset])
    report = {"budget": budget, "seeds": args.seeds, "arms": rows, "probes": knn}
    text = json.dumps(report, indent=2).replace("NaN", "null")
    (pathlib.Path(args.out) / "repdiff_small.json").write_text(text + "\n")
    sheet(args)


def cell(value: float, width: int, form: str) -> str:
    return " " * width if math.isnan(value) else format(value, form).rjust(width)


def sheet(args, across: int = 16, scale: int = 3) -> None:
    """Images of the same recipes of the first seed, a row a set."""
    from PIL import Image

    from jaxfdsl.data import store

    places, seed = Places(args.out), args.seeds[0]
    folders = [places.real] + [places.images(one, seed) for one in ("class", "rep", "interpolated")]
    folders = [one for one in folders if pathlib.Path(one, "store.json").exists()]
    chosen = np.linspace(0, len(store.open(places.real)) - 1, across).astype(int)
    lines = []
    for folder in folders:
        opened = store.open(folder)
        if len(opened) <= chosen[-1]:
            continue
        images = small_images.read(opened, chosen)
        lines.append(np.concatenate(list(images), axis=1))
    page = Image.fromarray(np.concatenate(lines))
    page = page.resize((page.width * scale, page.height * scale), Image.Resampling.NEAREST)
    page.save(places.out / "samples.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--out", default="runs/repdiff_small")
    known = ",".join((*ARMS, *MIXED))
    parser.add_argument("--arms", type=lambda s: s.split(","), default=list(ARMS), help=known)
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not set(args.arms) <= {*ARMS, *MIXED}:
        parser.error(f"--arms={','.join(args.arms)}: type some of {known}")
    jobs = {job.name: job for job in plan(args)}
    if args.run:
        return run_one(args, jobs[args.run])
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    images = PRESETS[args.preset].images
    for name, split in (("real", "train"), ("test", "test")):
        counts = [images if name == "real" else 0] * len(small_images.CLASSES)
        small_images.write_real(out / name, args.data_dir, split, counts)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the runs too, which then save
    failed: list[str] = []
    if not args.table:
        waits_for = {name: job.needs for name, job in jobs.items()}
        command = [__file__, *sys.argv[1:], "--run"]
        failed = side_by_side.run_all(args.out, waits_for, lambda name: [*command, name], args.jobs)
    table(args)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
