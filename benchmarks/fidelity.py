"""Are our pictures of the published categories as true as the published script's own orbit?

Reference: a plain float64 orbit of 2,000,000 points from the origin, normalised by its own extent
as published. Each row compares with it (a) another float64 orbit of 200,000 points, as long as a
picture's, (b) our int32 chaos game of 200,000 points: intersection over union of occupied pixels,
and total-variation distance of the histograms, at 256 x 256.

    python benchmarks/fidelity.py --data ../shared/data/fractaldb1k            # 1,000 categories,
    unweighted python benchmarks/fidelity.py --data ../shared/data/fractaldb1k --weights
    --categories 200

Needs numba (pip install numba). About 5 minutes and 45 minutes on two cores.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import pathlib
import time

import jax
import jax.numpy as jnp
import numba
import numpy as np

from jaxfdsl import generators
from jaxfdsl.generators.drawing import raster
from jaxfdsl.generators.formulas import fractaldb

SIZE, PAD, POINTS, REFERENCE = 256, 6, 200_000, 2_000_000


@numba.njit(cache=True)
def float_orbit(maps, cumulative, n, seed):
    """The published loop: start at the origin, recorded; map j is the first with rand <= cumulative
    p.
    """
    np.random.seed(seed)
    xs, ys = np.zeros(n), np.zeros(n)
    x, y = 0.0, 0.0
    for i in range(1, n):
        r = np.random.random()
        j = 0
        while j < len(cumulative) - 1 and r > cumulative[j]:
            j += 1
        a, b, c, d, e, f = maps[j]
        x, y = a * x + b * y + e, c * x + d * y + f
        xs[i], ys[i] = x, y
    return xs, ys


def published_cleaning(x, y):
    """Drops the points that are NaN and the 100 before the first; the script does x, then y."""
    for first in (x, y):
        bad = np.flatnonzero(np.isnan(first))
        if len(bad):
            keep = ~np.isnan(first)
            keep[max(bad[0] - 100, 0) : bad[0]] = False
            x, y = x[keep], y[keep]
            break
    return x, y


def histogram(maps, cumulative, n, seed):
    with np.errstate(all="ignore"):
        x, y = published_cleaning(*float_orbit(maps, cumulative, n, seed))
        finite = np.isfinite(x) & np.isfinite(y)
        x, y = x[finite], y[finite]
        axes = []
        for v in (y, x):
            low, high = min(v.min(), 0.0), v.max()
            axes.append(
                (
                    (v / 2 - low / 2) / max(high / 2 - low / 2, 1e-300) * (SIZE - 2 * PAD) + PAD
                ).astype(np.int64)
            )
    return np.bincount(axes[0] * SIZE + axes[1], minlength=SIZE * SIZE)


def compare(a, b):
    iou = ((a > 0) & (b > 0)).sum() / max(((a > 0) | (b > 0)).sum(), 1)
    return iou, 0.5 * np.abs(a / a.sum() - b / b.sum()).sum()


def reference_rows(job):
    maps, cumulative, ours = job
    reference = histogram(maps, cumulative, REFERENCE, 1)
    spread = histogram(maps, cumulative, POINTS, 2)
    return *compare(spread, reference), *compare(ours, reference)


def ours(table, rows, batch=250):
    family = fractaldb.FractalDB(pattern="point")

    @jax.jit
    def counts(params, weight):
        def one(args):
            p, w = args
            maps = fractaldb.apply_weight(p.maps, w, fractaldb.WEIGHT_UNIT)
            r, c = family.pixels(p, maps, SIZE, POINTS, family.pad, True)
            return raster.raster(r, c, SIZE)

        return jax.lax.map(one, (params, weight))

    for start in range(0, len(rows), batch):
        index = rows[start : start + batch]
        params = type(table)(*(jnp.asarray(field[index[:, 0]]) for field in table))
        weight = jnp.asarray(fractaldb.weight_rows("0.4")[index[:, 1]])
        yield from np.asarray(counts(params, weight)).reshape(len(index), -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--categories", type=int, default=1000)
    parser.add_argument("--weights", action="store_true", help="all 25 rows of weights_0.4")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    began = time.time()
    folder = pathlib.Path(args.data) / "csv_rate0.2_category1000"
    systems = generators.categories.read_systems(folder)[: args.categories]
    table = generators.read_published(folder)
    weights = fractaldb.weight_rows("0.4") / fractaldb.WEIGHT_UNIT
    chosen = range(25) if args.weights else (2,)
    rows = np.array([(c, w) for c in range(len(systems)) for w in chosen])

    def jobs():
        for (c, w), picture in zip(rows, ours(table, rows), strict=True):
            cumulative = np.cumsum(systems[c][:, 6])
            yield systems[c][:, :6] * weights[w], cumulative, picture

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(args.workers, mp_context=context) as pool:
        results = np.array(list(pool.map(reference_rows, jobs(), chunksize=8)))
    mean = results.mean(0)
    print(f"{len(rows)} pictures of {len(systems)} categories, {time.time() - began:.0f} s")
    print(f"{'':34s}{'IoU':>8s}{'TV':>8s}")
    print(f"{'float64 orbit, 200,000 points':34s}{mean[0]:8.4f}{mean[1]:8.4f}")
    print(f"{'jaxfdsl int32, 200,000 points':34s}{mean[2]:8.4f}{mean[3]:8.4f}")
    print(f"{'ratio':34s}{mean[2] / mean[0]:8.4f}{mean[3] / mean[1]:8.4f}")
    if args.json:
        names = ("float_iou", "float_tv", "ours_iou", "ours_tv")
        pathlib.Path(args.json).write_text(json.dumps(dict(zip(names, mean.tolist(), strict=True))))


if __name__ == "__main__":
    main()
