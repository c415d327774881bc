"""How fast a PyTorch DataLoader gives drawn images, beside one that reads stored PNGs of the same.

    python benchmarks/torch_loader.py

Writes --images of each set as a folder of PNGs into a temporary directory, as torchvision's
ImageFolder would read it, and passes over both in alternating rounds: batches of 64, tensors
uint8[3, S, S], medians. Workers persist and have drawn before; PNGs come from the page cache, the
fastest disk there is. CPU time is that of the main process with 0 workers. Needs PyTorch.
"""

import argparse
import json
import pathlib
import pickle
import statistics
import tempfile
import time

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader

from jaxfdsl.torch import FormulaImages

BATCH = 64


def to_tensor(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy())


class Stored(torch.utils.data.Dataset):
    """PNGs in a folder, `label-number.png`."""

    def __init__(self, folder: pathlib.Path):
        self.files = sorted(folder.glob("*.png"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        file = self.files[index]
        with Image.open(file) as picture:
            return to_tensor(picture.convert("RGB")), int(file.name.partition("-")[0])


def store(images: FormulaImages, count: int, folder: pathlib.Path) -> int:
    """Writes the first `count` images; returns their bytes."""
    for start in range(0, count, BATCH):
        stop = min(start + BATCH, count)
        batch = images.__getitems__(range(start, stop))
        for number, (picture, label) in zip(range(start, stop), batch, strict=True):
            picture.save(folder / f"{label:05d}-{number:06d}.png")
    return sum(file.stat().st_size for file in folder.iterdir())


def loader(data, workers: int) -> DataLoader:
    if not workers:
        return DataLoader(data, BATCH)
    # Drawing the PNGs has started JAX here, so workers cannot be forked.
    return DataLoader(
        data,
        BATCH,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="forkserver",
    )


def passed(over: DataLoader) -> tuple[float, float]:
    """Wall and CPU seconds of one pass."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in over:
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(name: str, args) -> list[dict]:
    grey = FormulaImages(name, rgb=False)
    with tempfile.TemporaryDirectory() as place:
        folder = pathlib.Path(place)
        stored_bytes = store(grey, args.images, folder)
        drawn = {
            "drawn, PIL": FormulaImages(name, transform=to_tensor),
            "drawn, tensor": FormulaImages(name, output="tensor"),
        }
        rows = {
            way: torch.utils.data.Subset(images, range(args.images))
            for way, images in drawn.items()
        }
        rows = {"stored PNGs": Stored(folder), **rows}
        columns = (0, args.workers)
        loaders = {(way, n): loader(data, n) for way, data in rows.items() for n in columns}
        for each in loaders.values():
            passed(each)
        rounds = [{key: passed(each) for key, each in loaders.items()} for _ in range(args.rounds)]
        whole = len(grey)
        kept = {way: len(pickle.dumps(images)) for way, images in drawn.items()}
        kept["stored PNGs"] = stored_bytes * whole // args.images
        del loaders  # ends the workers before their folder goes
    table = []
    for way in rows:
        wall = {n: statistics.median(r[way, n][0] for r in rounds) for n in columns}
        cpu = statistics.median(r[way, 0][1] for r in rounds)
        rate = {f"images/s, {n} workers": round(args.images / wall[n]) for n in columns}
        row = {"set": f"{name}, {grey.db.size} px", "way": way, **rate}
        row["CPU ms an image"] = round(1e3 * cpu / args.images, 2)
        row["kept for the whole set"] = f"{kept[way]:,} bytes"
        table.append(row)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", default=["fractaldb-1k", "exfractaldb-1k"])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="a file to write the table to")
    args = parser.parse_args()
    torch.set_num_threads(1)  # as in a worker
    table = [row for name in args.names for row in measure(name, args)]
    print("|", " | ".join(table[0]), "|")
    print("|" + "---|" * len(table[0]))
    for row in table:
        print("|", " | ".join(str(value) for value in row.values()), "|")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
