"""What `closed_set` prints and writes: the table, the claims, the plot, and the computed cost."""

import collections
import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import closed_set_recipes as recipes
import numpy as np
import runs_side_by_side as side_by_side
import small_images

Values = Mapping[str, Sequence[float]]  # of each row, top-1 of each seed in %, nan where not known
MEASURES = ("frechet", "precision", "recall", "coverage", "nearest", "copies")
SPACES = {"other": "an independent encoder's space", "own": "the conditioning encoder's space"}


def claims(values: Values) -> list[tuple[str, str]]:
    """Each claim, and "holds", "does not hold" or "not measured" with what it is read from."""
    means = collections.defaultdict(
        lambda: math.nan, {k: float(np.mean(v)) for k, v in values.items()}
    )

    def above(one: str, other: str, strict: bool = False) -> str:
        difference = means[one] - means[other]
        if math.isnan(difference):
            return "not measured"
        apart = min(values[one]) > max(values[other])
        told = f"{difference:+.2f}, the seeds' ranges {'are' if apart else 'are NOT'} apart"
        return (
            f"{'holds' if difference > 0 and (apart or not strict) else 'does not hold'} ({told})"
        )

    gains = [means[f"{one}-3x"] - means[f"{one}-1x"] for one in ("class", "rep")]
    scaling = "not measured"
    if not math.isnan(sum(gains)):
        told = f"class {gains[0]:+.2f}, rep {gains[1]:+.2f} from 1x to 3x"
        scaling = f"{'holds' if gains[0] < gains[1] else 'does not hold'} ({told})"
    return [
        ("(i) rep-1x > class-1x, ranges apart", above("rep-1x", "class-1x", strict=True)),
        ("(ii) the class gains less when scaled", scaling),
        ("(iii) real+rep > real+class", above("real+rep", "real+class")),
        ("(iii) real+rep-plain > real", above("real+rep-plain", "real")),
        ("(iv) rep-best > rep-either", above("rep-best", "rep-either")),
        ("(iv) rep-agreeing > rep-random", above("rep-agreeing", "rep-random")),
    ]


def show(args, budget, jobs) -> None:
    """Prints and writes what is finished."""
    out, rows = pathlib.Path(args.out), [name for name in recipes.ROWS if name in args.rows]
    values = {
        row: [
            side_by_side.percent(args.out, f"classifier-{row}-seed{seed}", "test/top1")
            for seed in args.seeds
        ]
        for row in rows
    }
    of_a = 10 * budget.held_in
    print(f"CIFAR-10 at 32 pixels, A of {of_a:,} images; top-1 on the test images in %")
    print(f"{'trained on':16s}{'seeds':>{7 * len(args.seeds)}s}{'mean':>8s}{'range':>16s}")
    for row, each in values.items():
        cells = "".join(_cell(value, 7) for value in each)
        known = [value for value in each if not math.isnan(value)]
        spread = f"{min(known):.2f} to {max(known):.2f}" if known else ""
        mean = side_by_side.mean_and_interval(each)[0]
        print(f"{row:16s}{cells}{_cell(mean, 8)}{spread:>16s}")
    measured = _measured(args.out)
    for space, told in SPACES.items():
        _print_measures(measured.get(space, {}), told)
    runs = _runs(args.out)
    print("\n".join(["", *(f"{name:22s}{told}" for name, told in runs.items()), ""]))
    found = claims(values)
    for claim, verdict in found:
        print(f"{claim:40s}{verdict}")
    left = [name for name in jobs if side_by_side.result(args.out, name) is None]
    if left:
        print(f"left: {len(left)} of {len(jobs)}, the next is {left[0]}")
    if args.preset == "smoke":
        print("smoke: whether it runs; its numbers say nothing")
    report = {"preset": args.preset, "scale": args.scale, "budget": dataclasses.asdict(budget)}
    report |= {"seeds": args.seeds, "top1": values, "claims": dict(found), "runs": runs}
    text = json.dumps(report | {"measured": measured, "left": left}, indent=1)
    (out / "closed_set.json").write_text(text.replace("NaN", "null") + "\n")
    _figure(out, values)


def _measured(out: str) -> dict[str, dict[str, dict[str, float]]]:
    """By space and row, and of B's images under "B"."""
    found: dict[str, dict[str, dict[str, float]]] = {space: {} for space in SPACES}
    for row, (made, index, real, _) in recipes.ROWS.items():
        told: Any = None if real or not made else side_by_side.result(out, f"set-{made}")
        judged = told["judged"] if told else {}
        for space in SPACES:
            one = judged.get(f"{space}@{index}" if index else space)
            if one is None:
                continue
            usual = one["held_out"]
            found[space].setdefault("B", _few(usual, usual))
            found[space][row] = _few(one["made"], usual)
    return found


def _few(told: Mapping[str, float], usual: Mapping[str, float]) -> dict[str, float]:
    own = {name: told[name] for name in ("frechet", "precision", "recall", "coverage")}
    own["nearest"] = told["nearest_real_50%"] / usual["nearest_real_50%"]
    return own | {"copies": told.get("nearer_than_1%_of_held_out", 0.01)}


def _print_measures(found: Mapping[str, Mapping[str, float]], told: str) -> None:
    if not found:
        return
    print(f"\n{f'in {told}':40s}" + "".join(f"{name:>10s}" for name in MEASURES))
    for row, one in found.items():
        name = "B, real and held out" if row == "B" else row
        print(f"  {name:38s}" + "".join(f"{one[measure]:10.3g}" for measure in MEASURES))


def _runs(out: str) -> dict[str, str]:
    """What is known of encoders and denoisers."""
    found = {}
    for one in recipes.ENCODERS:
        if (top := side_by_side.percent(out, f"encoder-{one}", "probe/top1")) == top:
            found[f"encoder {one}"] = f"linear probe {top:.2f}"
    for one in recipes.CONDITIONS:
        told = side_by_side.result(out, f"denoiser-{one}")
        if told:
            losses = [f"{told[f'{part}/loss']:.4f}" for part in "ab" if f"{part}/loss" in told]
            found[f"denoiser {one}"] = f"loss {' and on B '.join(losses)}"
    return found


def _cell(value: float, width: int) -> str:
    return " " * width if math.isnan(value) else f"{value:{width}.2f}"


def _figure(out: pathlib.Path, values: Values) -> None:
    """Left: a dot a seed, a line a row. Right: images, a line a set, of the same of A's recipes
    where they are A's."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 5.5), width_ratios=(1, 1.3))
    for place, (row, each) in enumerate(values.items()):
        colour = "#228833" if row.startswith("real") else "#ee6677"
        colour = "#4477aa" if row.startswith("class") else colour
        left.plot(each, [place] * len(each), "o", ms=4, color=colour, alpha=0.8)
    left.set_yticks(range(len(values)), list(values), fontsize=8)
    left.set_ylim(len(values) - 0.5, -0.5)
    left.grid(axis="y", color="#eeeeee")
    left.set_xlabel("top-1 on the real test images, %")
    names, lines = _lines(out)
    if lines:
        right.imshow(np.concatenate(lines))
        right.set_yticks([32 * n + 16 for n in range(len(lines))], names, fontsize=8)
    right.set_xticks([])
    fig.tight_layout()
    fig.savefig(out / "closed_set.png", dpi=120)
    plt.close(fig)


def _lines(out: pathlib.Path, across: int = 16) -> tuple[list[str], list[np.ndarray]]:
    from jaxfdsl.data import store

    places = recipes.Places(out)
    folders = {"A": places.real["a"]} | {one: places.images(one) for one in recipes.SETS}
    names, lines = [], []
    for name, folder in folders.items():
        if not pathlib.Path(folder, "store.json").exists():
            continue
        opened = store.open(folder)
        whole = len(store.open(places.real["a"]))
        if len(opened) >= whole:
            chosen = np.linspace(0, whole - 1, across).astype(int)
            images = small_images.read(opened, chosen, pixels=32)
            names.append(name)
            lines.append(np.concatenate(list(images), axis=1))
    return names, lines


def cost(args, budget, jobs) -> None:
    """Prints what the training and the sampling of all jobs takes on devices that are not here."""
    import jax

    jax.config.update("jax_platforms", "cpu")  # shapes alone
    from jaxfdsl import dryrun

    counts = collections.Counter(job.kind for job in jobs.values())
    row = recipes.Row()
    configs = {
        "encoder": recipes.encoder(budget, 0, {}),
        "denoiser": recipes.denoiser(budget, "rep", {}),
        "classifier": recipes.classifier(budget, 0, row, {}),
    }
    total = 0.0
    for kind, config in configs.items():
        told = dryrun.report(config, args.cost)
        seconds = told.hours * 3600
        total += seconds * counts[kind]
        print(
            f"{kind:11s}{counts[kind]:4d} x {config.steps:6,} steps of {config.batch_size:5,}: "
            f"{told.images_per_second:8,.0f} images/s, {told.flops:.3g} FLOP an image, "
            f"{told.peak_bytes / 1e9:.1f} GB, {seconds:6.0f} s each, "
            f"{seconds * counts[kind] / 60:5.1f} min"
        )
        if kind == "denoiser":  # a step of sampling is a third of one of training
            rate = 3 * told.images_per_second / budget.sample_steps
    sets = [recipes.SETS[job.arm] for job in jobs.values() if job.kind == "set"]
    passes = sum(made.times * (1 if made.guidance == 1 else 2) for made in sets)
    seconds = passes * 10 * budget.held_in / rate
    total += seconds
    print(f"sampling   {len(sets):4d} sets, {rate:,.0f} images/s: {seconds / 60:.1f} min")
    print(f"together {total / 60:.1f} min at {told.mfu.value:.1%} of the peak ({told.mfu.origin}); "
          "compiling, reading and measuring are not in it")  # fmt: skip
