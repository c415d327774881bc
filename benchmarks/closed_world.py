"""Which condition makes a denoiser cover the modes of its data? A world whose modes are known.

    python benchmarks/closed_world.py --jobs 2

The "real" images are drawn from formulas: the filled shapes of 16 fractals at 16 pixels, each with
its maps a little different in every image, which are the modes; four of them, taken by chance, are
a class. Three denoisers of the same size and training learn the same 3,200 images under

    label     the class, one of 4: which of its four modes is not said
    encoder   vectors of an encoder that learned from the same images without labels (SimCLR)
    oracle    the parameters of the fractal: of the mode no encoder can tell more

and make an image for each one that they were trained on. Each made image is then put to the mode of
its nearest neighbour among 3,200 further images that nobody was trained on, at 8x8 pixels; how
often that is wrong for new real images is told, and these are the table's first row. Reported are

    off         made images farther from every reference image than 99 % of real ones
    coverage    modes that got half of their share of images or more, of those that are not off
    kl          of the true shares of the modes to those of all made images, in nats
    class       share of images whose nearest mode is of the class that was asked for
    source      share whose nearest mode is that of the image that lent its condition
    distance    root mean square to the nearest reference image of that mode, over the
                same of real images

`label` cannot know the source's mode among the four of its class: "source" and "distance" say how
much more the others are told, the rest how well each is learnt.

Cost: about half an hour of one core. Every training run is an ordinary jaxfdsl run under --out;
killed, the same command goes on. `--table` prints what is finished. Writes --out/closed_world.json,
closed_world.png (nearest modes and distances) and samples.png (a row a mode: real images, label,
encoder, oracle).
"""

import argparse
import dataclasses
import json
import pathlib
import signal
import sys
from typing import Any

import numpy as np
import runs_side_by_side as side_by_side
import small_images

CONDITIONS = {"label": "label", "encoder": "rep:seed{}", "oracle": "rep:oracle"}
ARMS = tuple(CONDITIONS)
MODES, CLASSES = 16, 4
FORMULA = {"weights": "uniform", "pattern": "point", "render": "filled", "pad": 1, "flips": False}
CANVAS, POINTS = 64, 2_000  # drawn at, then the mean of 4x4 pixels
SETS = {"world": (0, 200), "reference": (200, 400), "held_out": (400, 500)}  # images of each mode
SHOWN = "#4477aa", "#ee6677", "#228833", "#888888"

BUDGETS = {
    "cpu": small_images.Budget(
        depth=3, steps=5_000, batch=32, rate=2e-3, ema=0.99, encoder_depth=3, encoder_steps=400
    ),
    "smoke": small_images.Budget(
        encoder_width=16, encoder_depth=1, encoder_steps=20, encoder_batch=64, width=16, depth=1,
        steps=20, sample_steps=2,
    ),
}  # fmt: skip


def class_of(modes: np.ndarray) -> np.ndarray:
    """The class of each mode: four of them by chance, the same in every run."""
    order = np.random.default_rng(0).permutation(MODES)
    return (np.argsort(order) % CLASSES)[modes]


def write_world(out: pathlib.Path) -> None:
    """The stores of `SETS`, the first with the column rep:oracle."""
    from jaxfdsl import generators
    from jaxfdsl.data import captions, store

    oracle = out / "world" / "rep" / "oracle.json"
    if oracle.exists() and all((out / name / "store.json").exists() for name in SETS):
        return
    drawn = generators.load(
        "fractaldb", num_classes=MODES, instances=None, size=CANVAS, num_points=POINTS,
        **FORMULA,
    )  # fmt: skip
    for name, (first, last) in SETS.items():
        mode, instance = np.divmod(np.arange(MODES * (last - first)), last - first)
        if not (out / name / "store.json").exists():
            recipes = np.stack([mode, first + instance], axis=1).astype(np.uint32)
            images = np.asarray(drawn.draw_recipes(recipes)["image"], np.float32)
            edge = CANVAS // small_images.PIXELS
            shape = (len(mode), small_images.PIXELS, edge, small_images.PIXELS, edge)
            small = np.minimum(2 * images.reshape(shape).mean(axis=(2, 4)), 255)  # 127 at most
            small = np.repeat(np.round(small)[..., None], 3, axis=3).astype(np.uint8)
            card = {"title": f"{MODES} fractals", "formula": drawn.fingerprint()}
            names = [str(number) for number in range(CLASSES)]
            small_images.write_store(out / name, small, class_of(mode), mode, card, names)
    mode = np.asarray(store.open(out / "world").column("group"))
    made_by = {"encoder": "oracle", "weights": drawn.fingerprint()}
    values = captions.parameters(drawn)[mode]
    store.write_column(out / "world", "rep:oracle", values, made_by)


def plan(args) -> dict[str, tuple[str, ...]]:
    """All steps, and those that each one waits for."""
    found: dict[str, tuple[str, ...]] = {}
    for seed in args.seeds:
        found[f"encoder-seed{seed}"] = ()
        found[f"columns-seed{seed}"] = (f"encoder-seed{seed}",)
        for arm in ARMS:
            needs = (f"columns-seed{seed}",) if arm == "encoder" else ()
            found[f"denoiser-{arm}-seed{seed}"] = needs
        for arm in ARMS:
            found[f"set-{arm}-seed{seed}"] = (f"denoiser-{arm}-seed{seed}",)
    return found


def run_one(args, name: str) -> None:
    from jaxfdsl import train

    out, budget = pathlib.Path(args.out), BUDGETS[args.preset]
    kind, _, rest = name.partition("-")
    arm, seed = rest.rpartition("seed")[0].strip("-"), int(rest.rpartition("seed")[2])
    world = str(out / "world")
    if kind == "columns":
        encoder = out / f"encoder-seed{seed}"
        small_images.verb("embed", world, "--encoder", encoder, "--name", f"seed{seed}")
        return small_images.finished(args.out, name, {})
    if kind == "set":
        images, denoiser = out / name / "images", out / f"denoiser-{arm}-seed{seed}"
        how = ("--sample_steps", budget.sample_steps, "--method", "euler", "--recipes", world)
        small_images.verb("materialise", denoiser, "--to", "store", *how, "--out", images)
        return small_images.finished(args.out, name, measured(out, images))
    if kind == "encoder":
        config = small_images.encoder(budget, seed, world, str(out / "held_out"))
        config.augment.update(grayscale=0.0, hue=0.0, flip_lr=False)
    else:
        condition = CONDITIONS[arm].format(seed)
        config = small_images.denoiser(budget, seed, world, condition)
        config.augment.flip_lr = False  # a mirrored fractal is none of these
    train.run(config, str(out / name))


@dataclasses.dataclass(frozen=True)
class Judge:
    """The nearest reference image of each mode, and what is usual of real images."""

    reference: np.ndarray  # [modes, images, pixels]
    usual: np.ndarray  # of held-out real images: distances to their own mode
    limit: float  # their nearest distance, whatever the mode: 99 % are below

    def distances(self, images: np.ndarray) -> np.ndarray:
        """Root mean square, in grey levels of 0 to 1, to the nearest image of each mode."""
        return distances(self.reference, images)


def seen(images: np.ndarray) -> np.ndarray:
    """What the judge looks at: grey levels of 0 to 1 at 8x8 pixels, a vector an image."""
    side = small_images.PIXELS // 2
    cut = images.reshape(len(images), side, 2, side, 2, -1)
    return cut.mean(axis=(2, 4, 5)).reshape(len(images), -1) / 255


def distances(reference: np.ndarray, images: np.ndarray) -> np.ndarray:
    flat = seen(images)
    found = np.empty((len(flat), len(reference)))
    for mode, own in enumerate(reference):
        squares = np.square(flat).sum(1)[:, None] + np.square(own).sum(1) - 2 * flat @ own.T
        found[:, mode] = np.sqrt(np.maximum(squares.min(axis=1), 0) / flat.shape[1])
    return found


def opened_images(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """The images of a store and the modes of the recipes (of a made set: rows of the world)."""
    from jaxfdsl.data import store

    opened = store.open(path)
    rows = np.arange(len(opened))
    return small_images.read(opened, rows), np.asarray(opened.column("group"))


def judge(out: pathlib.Path) -> Judge:
    images, modes = opened_images(out / "reference")
    flat = seen(images)
    reference = np.stack([flat[modes == mode] for mode in range(MODES)])
    real, source = opened_images(out / "held_out")
    apart = distances(reference, real)
    own = apart[np.arange(len(real)), source]
    return Judge(reference, own, float(np.quantile(apart.min(axis=1), 0.99)))


def measured(out: pathlib.Path, images: pathlib.Path) -> dict[str, Any]:
    """Of a made set; its recipe i is row i of the world."""
    made, recipe = opened_images(images)
    _, modes = opened_images(out / "world")
    return measures(judge(out), made, modes[recipe])


def measures(by: Judge, images: np.ndarray, source: np.ndarray) -> dict[str, Any]:
    apart = by.distances(images)
    nearest, on = apart.argmin(axis=1), apart.min(axis=1) <= by.limit
    histogram = np.bincount(nearest, minlength=MODES)
    true = np.bincount(source, minlength=MODES)
    shares = (histogram + 0.5) / (len(images) + 0.5 * MODES)  # no mode has a share of 0
    own = apart[np.arange(len(images)), source]
    return {
        "off": float(1 - on.mean()),
        "coverage": float(np.mean(np.bincount(nearest[on], minlength=MODES) >= 0.5 * true)),
        "kl": float(np.sum(true / true.sum() * np.log(true / true.sum() / shares))),
        "class": float(np.mean(class_of(nearest) == class_of(source))),
        "source": float(np.mean(nearest == source)),
        "distance": float(own.mean() / by.usual.mean()),
        "histogram": histogram.tolist(),
        "quantiles": np.quantile(own / by.usual.mean(), np.linspace(0, 1, 101)).tolist(),
    }


def table(args) -> None:
    """Prints and writes what is finished."""
    out = pathlib.Path(args.out)
    real, source = opened_images(out / "held_out")
    found: dict[str, list[dict[str, Any]]] = {"real": [measures(judge(out), real, source)]}
    losses: dict[str, list[float]] = {"real": []}
    for arm in ARMS:
        each = [side_by_side.result(args.out, f"set-{arm}-seed{seed}") for seed in args.seeds]
        found[arm] = [one for one in each if one]
        runs = [side_by_side.result(args.out, f"denoiser-{arm}-seed{s}") for s in args.seeds]
        losses[arm] = [one["real/loss"] for one in runs if one]
    names = ("off", "coverage", "kl", "class", "source", "distance")
    print(f"{MODES} modes in {CLASSES} classes; the judge is wrong of", end=" ")
    print(f"{1 - found['real'][0]['source']:.1%} of real images; mean (least to most) of seeds")
    print(f"{'condition':10s}{'loss':>8s}" + "".join(f"{name:>22s}" for name in names))
    report: dict[str, Any] = {}
    for arm, each in found.items():
        if not each:
            continue
        cells = []
        for name in names:
            values = [one[name] for one in each]
            text = f"{np.mean(values):.3f}"
            spread = f" ({min(values):.3f} to {max(values):.3f})"
            cells.append(f"{text + (spread if len(values) > 1 else ''):>22s}")
        loss = f"{np.mean(losses[arm]):8.4f}" if losses[arm] else " " * 8
        print(f"{arm:10s}{loss}" + "".join(cells))
        report[arm] = {"seeds": each, "losses": losses[arm]}
    text = json.dumps({"budget": dataclasses.asdict(BUDGETS[args.preset]), "arms": report})
    (out / "closed_world.json").write_text(text + "\n")
    figure({arm: each for arm, each in found.items() if each}, out / "closed_world.png")
    sheet(args)


def figure(found: dict[str, list[dict[str, Any]]], path: pathlib.Path) -> None:
    """Left: images of each mode over its true share, sorted. Right: distances, cumulated."""
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4))
    colours = dict(zip((*ARMS, "real"), SHOWN, strict=True))
    for arm, each in found.items():
        shares = np.array([np.sort(one["histogram"])[::-1] for one in each], float)
        shares = (
            shares.mean(axis=0) * MODES / np.sum(each[0]["histogram"])
            if arm == "real"
            else (shares.mean(axis=0) / (SETS["world"][1] - SETS["world"][0]))
        )
        style = {"color": colours[arm], "label": arm, "ls": "--" if arm == "real" else "-"}
        left.step(np.arange(1, MODES + 1), shares, where="mid", **style)
        lines = np.mean([one["quantiles"] for one in each], axis=0)
        right.plot(lines, np.linspace(0, 1, 101), **style)
    left.axhline(1, color="#bbbbbb", lw=0.8, zorder=0)
    left.set(xlabel="modes, from the most to the least made", ylim=(0, None))
    left.set_ylabel("made images over the true share")
    right.set(xlabel="distance to the source's mode, over that of real images", xlim=(0, 5))
    right.set_ylabel("share of images nearer")
    right.legend(frameon=False)
    fig.tight_layout()
    fig.savefig(path, dpi=120)
    plt.close(fig)


def sheet(args, across: int = 8, scale: int = 2) -> None:
    """A row a mode of the first two classes: real images, and what each denoiser of the first seed
    makes of their conditions."""
    from PIL import Image

    out, seed = pathlib.Path(args.out), args.seeds[0]
    world, modes = opened_images(out / "world")
    folders = [out / f"set-{arm}-seed{seed}" / "images" for arm in ARMS]
    sets = [world] + [opened_images(f)[0] for f in folders if (f / "store.json").exists()]
    shown = np.flatnonzero(class_of(np.arange(MODES)) < 2)
    rows = []
    for mode in shown[np.argsort(class_of(shown), kind="stable")]:
        chosen = np.flatnonzero(modes == mode)[:across]
        parts = [np.concatenate(list(one[chosen]), axis=1) for one in sets if len(one) > chosen[-1]]
        gap = np.full((small_images.PIXELS, 8, 3), 255, np.uint8)
        rows.append(np.concatenate([x for part in parts for x in (part, gap)], axis=1))
    page = Image.fromarray(np.concatenate(rows))
    page = page.resize((page.width * scale, page.height * scale), Image.Resampling.NEAREST)
    page.save(out / "samples.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=BUDGETS, default="cpu")
    parser.add_argument("--out", default="runs/closed_world")
    parser.add_argument("--seeds", type=lambda s: [int(n) for n in s.split(",")], default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, one core each")
    parser.add_argument("--table", action="store_true", help="print what is finished, run nothing")
    parser.add_argument("--run", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        return run_one(args, args.run)
    pathlib.Path(args.out).mkdir(parents=True, exist_ok=True)
    write_world(pathlib.Path(args.out))
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
