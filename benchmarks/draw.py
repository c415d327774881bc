"""How fast pictures are drawn on one core, against what a user would write instead.

    taskset -c 0 python benchmarks/draw.py

CPU time of the process, rounds alternate between all rows, the median is printed. The baseline is a
plain numba loop: float64 orbit, min and max, histogram. Needs numba (pip install -e ".[bench]").
All rows are the exact integer arithmetic that ships.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import argparse
import json
import pathlib
import time

import jax
import jax.numpy as jnp
import numba
import numpy as np
from jax import lax

from jaxfdsl import generators

IMAGES = 32


@numba.njit
def plain_loop(maps, cumulative, n, size, seed):
    """What one writes by hand: a 2-D chaos game of n points and its histogram."""
    np.random.seed(seed)
    xs, ys = np.empty(n), np.empty(n)
    x, y = 0.0, 0.0
    for i in range(n):
        r = np.random.random()
        j = 0
        while r > cumulative[j]:
            j += 1
        x, y = (
            maps[j, 0] * x + maps[j, 1] * y + maps[j, 4],
            maps[j, 2] * x + maps[j, 3] * y + maps[j, 5],
        )
        xs[i], ys[i] = x, y
    x0, y0 = xs.min(), ys.min()
    sx, sy = (size - 1) / (xs.max() - x0), (size - 1) / (ys.max() - y0)
    image = np.zeros((size, size), np.int32)
    for i in range(n):
        image[int((ys[i] - y0) * sy), int((xs[i] - x0) * sx)] += 1
    return image


def numba_row(db):
    systems = []
    for params in zip(*db.categories, strict=True):
        maps, thresholds, n = params
        cumulative = thresholds[:n] / 2**32
        cumulative[-1] = 1.0
        scaled = maps[:n].astype(float) / np.array([2**14] * 4 + [2**20] * 2)
        systems.append((scaled, cumulative))

    def run():
        for i in range(IMAGES):
            plain_loop(*systems[i % len(systems)], 100_000, 256, i)

    return run


def dataset_row(db, instance):
    recipes = jnp.asarray(
        np.stack([np.arange(IMAGES) % db.num_classes, instance + np.arange(IMAGES)], 1), jnp.uint32
    )
    table = jax.tree.map(jnp.asarray, db.table)
    fields = jax.jit(db.fields)
    return lambda: jax.block_until_ready(fields(recipes, table))


def views_row(db, views=12):
    table = jax.tree.map(jnp.asarray, db.table)
    turns = jnp.arange(views, dtype=jnp.uint32) * 1000

    @jax.jit
    def draw(table):
        def one(i):
            params = jax.tree.map(lambda v: v[i], table["categories"])
            row = (i * 7 % 145).astype(jnp.uint32)
            return db.family.draw_views(params, row, 224, table["constants"], turns, branch=True)

        return lax.map(one, jnp.arange(IMAGES))

    return lambda: jax.block_until_ready(draw(table))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    flat = {"num_classes": IMAGES, "instances": None}
    plain = generators.load(
        "fractaldb-1k", pattern="point", weights="none", num_points=100_000, size=256, **flat
    )
    rows = {
        "numba loop, 100,000 points, 256": (numba_row(plain), IMAGES),
        "2-D IFS points, 100,000, 256": (dataset_row(plain, 0), IMAGES),
        "FractalDB as published, 200,000, 362": (
            dataset_row(generators.load("fractaldb-1k", **flat), 40),
            IMAGES,
        ),
        "FractalDB hue, 200,000, 362": (
            dataset_row(generators.load("fractaldb-1k", color="hue", **flat), 40),
            IMAGES,
        ),
        "FractalDB density, 200,000, 362": (
            dataset_row(generators.load("fractaldb-1k", color="density", **flat), 40),
            IMAGES,
        ),
        "ExFractalDB, 1 view a model, 224": (
            dataset_row(generators.load("exfractaldb-1k", **flat), 0),
            IMAGES,
        ),
        "ExFractalDB, 12 views a model, 224": (
            views_row(generators.load("exfractaldb-1k", **flat)),
            IMAGES * 12,
        ),
    }
    times = {name: [] for name in rows}
    for run, _ in rows.values():
        run()
    for _ in range(args.rounds):
        for name, (run, images) in rows.items():
            began = time.process_time()
            run()
            times[name].append((time.process_time() - began) / images * 1e3)
    base = np.array(times["numba loop, 100,000 points, 256"])
    print(f"{'':38s}{'ms/image':>9s}{'img/core-s':>11s}{'ns/point':>9s}{'numba x':>8s}")
    table = {}
    for name, values in times.items():
        ms = float(np.median(values))
        ratio = float(np.median(base / np.array(values)))
        per_point = f"{ms * 10:9.1f}" if "256" in name else " " * 9
        shown = f"{ratio:8.1f}" if "256" in name else ""
        print(f"{name:38s}{ms:9.3f}{1e3 / ms:11.0f}{per_point}{shown}")
        table[name] = {"ms": ms, "ratio_to_numba_loop": ratio}
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
