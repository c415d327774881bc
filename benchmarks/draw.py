"""How fast pictures are drawn on one core, against what a user would write instead.

    taskset -c 0 python benchmarks/draw.py

CPU time of the process, rounds alternate between all rows, medians are printed and their ratios;
rows of pure Python rest in most rounds. Compilation and one round are left out. Pictures are drawn
through `Dataset.fields` under jit, 32 categories in turn, in the exact integer arithmetic that
ships. The baselines (baselines_*.py) draw the same categories and encode no file unless a row says
so. Needs numba and noise (pip install -e ".[bench]"); with PyOpenGL and EGL, ExFractalDB is also
drawn by OpenGL as its script does.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import functools
import gc
import importlib.util
import io
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import baselines_contours as contours
import baselines_fractals as fractals
import draw_sets as sets
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from PIL import Image

VIEWS = 12


class Row(NamedTuple):
    """Something to time: a call makes `images` images. Slow rows run in few rounds."""

    run: Callable[[], Any]
    images: int
    slow: bool = False


class Pair(NamedTuple):
    """Ours against a baseline, and how many times faster it is meant to be."""

    ours: str
    baseline: str
    target: float | None = None


def each(make: Callable[[int], Any], count: int) -> Callable[[], list]:
    return lambda: [make(i) for i in range(count)]


def set_rows(families: str) -> dict[str, Row]:
    """Each set at its published canvas, and at 224 where that is another."""
    rows = {}
    for title, drawn in sets.chosen(families).items():
        canvas = drawn.load().size
        for size in dict.fromkeys((canvas, sets.NATIVE)):
            run = sets.drawer(drawn.load(size), drawn.images, drawn.first)
            rows[f"{title}, {size}"] = Row(run, drawn.images)
    return rows


def contour_rows(title: str, drawn: sets.Drawn, rules, count: int, target: float):
    """Three baselines of a contour family; the last is the fastest that we know."""
    table = contours.contours(drawn.load().categories)
    ways = {
        "script": (contours.scripted, None),
        "NumPy, PIL a segment": (contours.vectorised, target),
        "NumPy, PIL a polygon": (contours.buffered, None),
    }
    rows, pairs = {}, []
    for way, (draw, wanted) in ways.items():
        name = f"{title}: {way}"
        make = functools.partial(lambda draw, i: draw(table[i], rules, i + 1), draw)
        rows[name] = Row(each(make, count), count, slow=draw is not contours.buffered)
        pairs.append(Pair(title, name, wanted))
    return rows, pairs


def large_rows():
    title, drawn = "1,000 vertices x 200, 512", sets.LARGE_CASE
    ours = {title: Row(sets.drawer(drawn.load(), drawn.images, drawn.first), drawn.images)}
    rows, pairs = contour_rows(title, drawn, contours.VISUALATOM, drawn.images, 12)
    return {**ours, **rows}, pairs


def plain_rows():
    """The two-dimensional chaos game alone, beside a loop in numba."""
    title = "IFS points, 100,000, 256"
    options = {"pattern": "point", "weights": "none", "num_points": 100_000}
    drawn = sets.Drawn("fractaldb-1k", options, first=0)
    table = fractals.systems(drawn.load().categories)

    def loop(i):
        return fractals.plain_loop(*table[i], 100_000, 256, i)

    ours = Row(sets.drawer(drawn.load(256), drawn.images, 0), drawn.images)
    rows = {title: ours, f"{title}: numba loop": Row(each(loop, drawn.images), drawn.images)}
    return rows, [Pair(title, f"{title}: numba loop", 4)]


def fractaldb_rows():
    table = fractals.systems(sets.SETS["FractalDB"].load().categories)
    name = "FractalDB, 362: script"
    script = each(lambda i: fractals.fractaldb_scripted(*table[i], i), 1)
    rows = {name: Row(script, 1, slow=True)}
    return rows, [Pair("FractalDB, 362", name, 1000)]


def exfractaldb_rows():
    """Ours also with 12 views of a model, as the script has it."""
    db = sets.SETS["ExFractalDB"].load()
    title, models = "ExFractalDB, 224, 12 views a model", 8
    table = fractals.systems(db.categories)

    def cloud(i):
        return fractals.exfractaldb_points(*table[i], i)

    def numpy_views():
        return [fractals.exfractaldb_views(cloud(i), i) for i in range(models)]

    def stored():
        for images in numpy_views():
            for image in images:
                Image.fromarray(image).convert("RGB").save(io.BytesIO(), "png")

    rows = {
        title: Row(twelve_views(db), sets.CATEGORIES * VIEWS),
        f"{title}: Python points, NumPy cameras": Row(numpy_views, models * VIEWS, slow=True),
        f"{title}: the same, PNGs encoded": Row(stored, models * VIEWS, slow=True),
    }
    if importlib.util.find_spec("OpenGL"):
        import baselines_opengl

        camera = baselines_opengl.Camera(224)

        def opengl():
            for i in range(models):
                for image in camera.views(cloud(i), i):
                    Image.fromarray(image).save(io.BytesIO(), "png")

        rows[f"{title}: script (OpenGL, PNGs encoded)"] = Row(opengl, models * VIEWS, slow=True)
    pairs = []
    for ours in (title, "ExFractalDB, 224"):
        pairs += [Pair(ours, name) for name in list(rows)[1:]]
        pairs[-1] = pairs[-1]._replace(target=50)  # the way that is most like the script
    return rows, pairs


def twelve_views(db) -> Callable[[], Any]:
    table = jax.tree.map(jnp.asarray, db.table)
    turns = jnp.arange(VIEWS, dtype=jnp.uint32) * 1000

    @jax.jit
    def draw(table):
        def one(i):
            params = jax.tree.map(lambda v: v[i], table["categories"])
            row = (i * 7 % 145).astype(jnp.uint32)
            return db.family.draw_views(params, row, 224, table["constants"], turns, branch=True)

        return lax.map(one, jnp.arange(sets.CATEGORIES))

    return lambda: jax.block_until_ready(draw(table))


def svd_rows():
    table = fractals.systems(sets.SETS["SVD fractals"].load().categories)
    name = "SVD fractals, 224: numba and NumPy"
    pipeline = each(lambda i: fractals.svd_pipeline(*table[i], i + 1), sets.CATEGORIES)
    rows = {name: Row(pipeline, sets.CATEGORIES)}
    return rows, [Pair("SVD fractals, 224", name, 4)]


BASELINES = {
    "fractaldb": (plain_rows, fractaldb_rows),
    "exfractaldb": (exfractaldb_rows,),
    "rcdb": (
        lambda: contour_rows("RCDB, 512", sets.SETS["RCDB"], contours.RCDB, sets.CATEGORIES, 8),
    ),
    "visualatom": (
        lambda: contour_rows(
            "VisualAtom, 512", sets.SETS["VisualAtom"], contours.VISUALATOM, sets.CATEGORIES, 12
        ),
        large_rows,
    ),
    "svd_fractal": (svd_rows,),
}


def measure(rows: dict[str, Row], rounds: int, slow_rounds: int) -> dict[str, np.ndarray]:
    """CPU ms an image of each row in each round; NaN where a slow row rested."""
    times = {name: np.full(rounds, np.nan) for name in rows}
    for row in rows.values():
        if not row.slow:
            row.run()
    slow = set(np.linspace(0, rounds - 1, min(rounds, slow_rounds)).astype(int).tolist())
    gc.collect()
    gc.freeze()  # a plain script's garbage collector has no JAX to walk through
    for i in range(rounds):
        for name, row in rows.items():
            if not row.slow or i in slow:
                began = time.process_time()
                row.run()
                times[name][i] = (time.process_time() - began) / row.images * 1e3
    return times


def report(times: dict[str, np.ndarray], pairs: list[Pair]) -> dict[str, Any]:
    medians = {name: float(np.nanmedian(values)) for name, values in times.items()}
    print("| | ms an image | images a core-second |\n|---|---|---|")
    for name, ms in medians.items():
        print(f"| {name} | {ms:.3f} | {1e3 / ms:,.{0 if ms < 100 else 2}f} |")
    print("\n| ours | baseline | times faster | target | |\n|---|---|---|---|---|")
    ratios = {}
    for ours, baseline, target in pairs:
        if ours not in times:
            continue
        ratio = medians[baseline] / medians[ours]
        wanted, verdict = ("", "") if target is None else (f"{target:g}", "met")
        if target is not None and ratio < target:
            verdict = f"missed by {1 - ratio / target:.0%}"
        shown = f"{ratio:,.{0 if ratio >= 100 else 1}f}"
        print(f"| {ours} | {baseline.rpartition(': ')[2]} | {shown} | {wanted} | {verdict} |")
        ratios[f"{ours} / {baseline}"] = ratio
    return {"ms": medians, "ratios": ratios}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--slow_rounds", type=int, default=3, help="of baselines in pure Python")
    parser.add_argument("--families", default="all", help="comma-separated, as rcdb,visualatom")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    rows, pairs = set_rows(args.families), []
    for family, made in BASELINES.items():
        if args.families == "all" or family in args.families.split(","):
            for make in made:
                more, compared = make()
                rows |= more
                pairs += compared
    found = report(measure(rows, args.rounds, args.slow_rounds), pairs)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
