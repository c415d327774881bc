"""How fast a formula set is written to each format, and what an image takes there.

    python benchmarks/materialise.py

Writes --images images of --name at --size pixels to every target of `jaxfdsl materialise`, after a
warm-up that compiles, with PNGs encoded by a thread a core while the device draws. `on disk` is
whole blocks of the file system. `drawing` draws the same batches and writes nothing, `drawing,
encoding` makes the PNGs as well: what no format can be faster than.
"""

import argparse
import contextlib
import io
import json
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxfdsl import generators
from jaxfdsl.data.materialise import TARGETS, images, write


def seconds(function: Callable[[], Any], rounds: int) -> float:
    """The least wall time of a call; it says nothing."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        with contextlib.redirect_stderr(io.StringIO()):
            function()
        taken.append(time.perf_counter() - start)
    return min(taken)


def draw(db: Any) -> None:
    """All batches, and nothing else."""
    for start in range(0, len(db), images.BATCH):
        images.draw(db, np.arange(start, min(start + images.BATCH, len(db))))


def encode(db: Any) -> None:
    """All PNGs, thrown away."""
    with ThreadPoolExecutor(images.threads()) as pool:
        for _ in images.samples(db, range(len(db)), pool):
            pass


def stored(db: Any, to: str, rounds: int) -> dict[str, Any]:
    """One row of the table."""
    # The fingerprint and the first images, which a set of millions does not notice.
    before = seconds(lambda: (db.fingerprint(), write.first_images(db)), rounds)
    with tempfile.TemporaryDirectory() as folder:
        places = iter([pathlib.Path(folder) / str(number) for number in range(rounds)])
        taken = seconds(lambda: write.materialise(db, to, next(places)), rounds)
        paths = (pathlib.Path(folder) / "0").rglob("*")
        status = [os.stat(path) for path in paths if path.is_file()]
    return {
        "target": to,
        "images/s": round(len(db) / (taken - before)),
        "bytes/image": round(sum(one.st_size for one in status) / len(db)),
        "on disk": round(sum(one.st_blocks * 512 for one in status) / len(db)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="exfractaldb-1k")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=3, help="the best one counts")
    parser.add_argument("--json", help="a file to write the table to")
    args = parser.parse_args()
    classes = min(args.images, 64)
    db = generators.load(
        args.name, num_classes=classes, instances=args.images // classes, size=args.size
    )
    images.draw(db, np.arange(1))
    parts = {"drawing": draw, "drawing, encoding": encode}
    table: list[dict[str, Any]] = [
        {"target": name, "images/s": round(len(db) / seconds(lambda f=f: f(db), args.rounds))}
        for name, f in parts.items()
    ]
    table += [stored(db, to, args.rounds) for to in TARGETS]
    columns = list(table[-1])
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in table:
        print("|", " | ".join(str(row.get(key, "")) for key in columns), "|")
    device = f"{jax.devices()[0].device_kind}, {os.cpu_count()} processors, {platform.machine()}"
    print(f"\n{len(db)} images of {db.name}, {db.size} pixels; {device}.")
    if args.json:
        result = {"table": table, "images": len(db), "size": db.size, "device": device}
        pathlib.Path(args.json).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
