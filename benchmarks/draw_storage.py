"""Bytes on disk: what a named set needs, beside the PNGs that it stands for.

    python benchmarks/draw_storage.py

The first is counted as it happens: the sizes of all files that are not Python code and that
`generators.load` opens. The second is an estimate: the mean of `--images` RGB PNGs of random
images, as PIL writes them, times the images of the set, and the mean's standard error.
"""

import argparse
import io
import os
import sys

import numpy as np
from PIL import Image

from jaxfdsl import generators
from jaxfdsl.generators import catalog

NAMES = ("visualatom-1k", "visualatom-21k", "rcdb-1k", "fractaldb-1k", "exfractaldb-21k")


def opened_bytes(name: str) -> int:
    """Bytes of the data files that loading `name` opens."""
    seen: dict[str, int] = {}
    listening = True

    def hear(event, args):
        if listening and event == "open" and isinstance(args[0], str | os.PathLike):
            path = os.fspath(args[0])
            code = str(path).endswith((".py", ".pyc", ".so"))
            if not code and os.path.isfile(path):
                seen[str(path)] = os.path.getsize(path)

    sys.addaudithook(hear)
    table = generators.load(name).table
    listening = False
    assert table["categories"]
    return sum(seen.values())


def png_bytes(name: str, count: int, seed: int = 0) -> tuple[np.ndarray, int]:
    """The sizes of the PNGs of `count` random images, and how many images the set has."""
    db = generators.load(name)
    chosen = np.random.default_rng(seed).integers(0, len(db), count)
    sizes = []
    for start in range(0, count, 32):
        for image in np.asarray(db.draw(chosen[start : start + 32])["image"]):
            file = io.BytesIO()
            picture = image.squeeze() if image.shape[-1] == 1 else image
            Image.fromarray(picture).convert("RGB").save(file, "png")
            sizes.append(len(file.getvalue()))
    return np.array(sizes), len(db)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--names", nargs="+", default=NAMES)
    args = parser.parse_args()
    print("| set | data on disk, kB | images | mean RGB PNG, kB | as PNGs, GB |")
    print("|---|---|---|---|---|")
    for name in args.names:
        data, (sizes, images) = opened_bytes(name), png_bytes(name, args.images)
        mean, error = sizes.mean(), sizes.std() / len(sizes) ** 0.5
        print(
            f"| {name} | {data / 1e3:.1f} | {images:,} | {mean / 1e3:.1f} +- {error / 1e3:.1f} | "
            f"{mean * images / 1e9:,.1f} |",
            flush=True,
        )
    shipped = sum(file.stat().st_size for file in catalog.TABLES.iterdir())
    print(f"\nAll tables that ship: {shipped / 1e3:.1f} kB.")


if __name__ == "__main__":
    main()
