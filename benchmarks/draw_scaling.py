"""How the cost of drawing grows: with points, vertices, polygons, image size and batch; with cores.

    taskset -c 0 python benchmarks/draw_scaling.py
    python benchmarks/draw_scaling.py --cores

One core: CPU time, alternating rounds, medians; one category, so that its parameters stay the same.
--cores: wall time of `Dataset.draw`, which draws on as many threads as cores are allowed, in
processes held to one core and to two by turns. It means something only on an idle machine, so the
share of the time that the cores were busy beforehand is printed.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

if "--cores" not in sys.argv and "--timed" not in sys.argv:
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["JAX_PLATFORMS"] = "cpu"

IMAGES = 16
CORE_SETS = {  # and how many images a core's process draws
    "FractalDB": 256,
    "ExFractalDB": 1024,
    "RCDB": 256,
    "VisualAtom": 128,
    "SVD fractals": 256,
}


def sweeps() -> Iterator[tuple[str, str, dict[int, tuple[dict[str, Any], int | None, int]]]]:
    """(title, what grows, {value: (options, canvas, images a call)})."""
    points = {n: ({"num_points": n}, None, IMAGES) for n in (25_000, 50_000, 100_000, 200_000)}
    sizes = (128, 256, 512, 1024)
    batches = (1, 4, 16, 64, 256)
    yield "fractaldb-1k", "points", points
    yield "svd_fractal-1k", "points", points
    middle = {"vertices": (500, 500), "polygons": (100, 100), "noise": (2.0, 2.0)}
    yield (
        "visualatom",
        "vertices",
        {n: ({**middle, "vertices": (n, n)}, None, IMAGES) for n in (125, 250, 500, 1000)},
    )
    yield (
        "visualatom",
        "polygons",
        {n: ({**middle, "polygons": (n, n)}, None, IMAGES) for n in (25, 50, 100, 200)},
    )
    yield "fractaldb-1k", "canvas", {n: ({}, n, IMAGES) for n in sizes}
    yield "visualatom", "canvas", {n: (middle, n, IMAGES) for n in sizes}
    yield "svd_fractal-1k", "canvas", {n: ({}, n, IMAGES) for n in sizes}
    yield "fractaldb-1k", "batch", {n: ({}, None, n) for n in batches}
    yield "visualatom", "batch", {n: (middle, None, n) for n in batches}


def grow(rounds: int) -> dict[str, dict[int, float]]:
    """Prints a row a sweep: ms an image at each value."""
    import draw_sets as sets

    found = {}
    print("| set | what grows | ms an image |\n|---|---|---|")
    for name, what, values in sweeps():
        runs: dict[int, tuple[Callable, int]] = {}
        for value, (options, size, images) in values.items():
            drawn = sets.Drawn(name, {**options, "num_classes": 1})
            first = 82 if name == "fractaldb-1k" else 1  # of FractalDB's identity weights
            runs[value] = (sets.drawer(drawn.load(size), images, first), images)
        times: dict[int, list[float]] = {value: [] for value in runs}
        for _ in range(rounds + 1):
            for value, (run, images) in runs.items():
                began = time.process_time()
                run()
                times[value].append((time.process_time() - began) / images * 1e3)
        # The first round compiled.
        medians = {value: statistics.median(seen[1:]) for value, seen in times.items()}
        shown = ", ".join(f"{value:,}: {ms:.3f}" for value, ms in medians.items())
        print(f"| {name} | {what} | {shown} |", flush=True)
        found[f"{name} {what}"] = medians
    return found


def timed(title: str, cores: str, images: int):
    """In a process of its own: the median wall time of `Dataset.draw` on these cores."""
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    import draw_sets as sets

    db, seen = sets.SETS[title].load(), []
    for _ in range(6):
        began = time.perf_counter()
        db.draw(range(images))["image"].block_until_ready()
        seen.append(time.perf_counter() - began)
    print(statistics.median(seen[1:]))


def two_cores(rounds: int) -> dict[str, dict[str, float]]:
    """Prints how many times faster two cores draw than one."""
    print(f"cores busy before the start: {_busy():.0%}\n")
    print("| set | images | one core, s | two cores, s | times faster |\n|---|---|---|---|---|")
    found = {}
    for title, images in CORE_SETS.items():
        seen: dict[str, list[float]] = {"0": [], "0,1": []}
        for _ in range(rounds):
            for cores, times in seen.items():
                command = [sys.executable, __file__, "--timed", title, cores, str(images)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                times.append(float(done.stdout))
        one, two = (statistics.median(times) for times in seen.values())
        ratio = statistics.median(a / b for a, b in zip(*seen.values(), strict=True))
        print(f"| {title} | {images} | {one:.3f} | {two:.3f} | {ratio:.2f} |", flush=True)
        found[title] = {"one": one, "two": two, "ratio": ratio}
    return found


def _busy(seconds: float = 2.0) -> float:
    """The share of all cores' time that was not idle (Linux)."""

    def read():
        fields = pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        ticks = [int(field) for field in fields]
        return sum(ticks), ticks[3] + ticks[4]

    total, idle = read()
    time.sleep(seconds)
    later, still = read()
    return 1 - (still - idle) / (later - total)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cores", action="store_true", help="one core against two")
    parser.add_argument("--timed", nargs=3, metavar=("SET", "CORES", "IMAGES"), help="what it runs")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    if args.timed:
        title, cores, images = args.timed
        return timed(title, cores, int(images))
    found = two_cores(args.rounds) if args.cores else grow(args.rounds)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
