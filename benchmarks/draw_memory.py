"""Bytes that drawing takes beside the pictures: XLA's own count of temporaries, nothing runs.

    python benchmarks/draw_memory.py

For each set at its published canvas (or --size): the program that a CPU runs (one image after the
other), and the one that a GPU runs (64 at a time), the latter compiled for a CPU where there is no
GPU. Both are to stay the same whatever the batch.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import argparse
import json
import pathlib

import draw_sets as sets

BATCHES = {"cpu": (32, 256), "gpu": (64, 256)}


def temporaries(db, count: int, platform: str) -> float:
    """MB of temporary memory of the program that draws `count` images."""
    return sets.compiled(db, count, platform).memory_analysis().temp_size_in_bytes / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", default="all", help="comma-separated, as rcdb,visualatom")
    parser.add_argument("--platforms", default="cpu,gpu")
    parser.add_argument("--size", type=int, default=None)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    columns = [(p, count) for p in args.platforms.split(",") for count in BATCHES[p]]
    print("| MB beside the images | " + " | ".join(f"{p}, batch {n}" for p, n in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    found: dict[str, dict[str, float]] = {}
    for title, drawn in sets.chosen(args.families).items():
        db = drawn.load(args.size)
        row = {f"{p} {n}": temporaries(db, n, p) for p, n in columns}
        cells = " | ".join(f"{megabytes:.1f}" for megabytes in row.values())
        print(f"| {title}, {db.size} | {cells} |", flush=True)
        found[f"{title}, {db.size}"] = row
    worst = {p: max(r[f"{p} {n}"] for r in found.values()) for p, n in columns}
    print("\ngreatest: " + ", ".join(f"{p} {mb:.1f} MB" for p, mb in worst.items()))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
