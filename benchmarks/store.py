"""How large a store is, how fast it is written and read in random order, and how fast it opens.

    python benchmarks/store.py

Writes --images small PNGs (smooth random pictures of --size pixels, four a caption) as a store, an
image folder and WebDataset tars, and reads them: the store's encoded pictures in random order by
batches of 256 through `Store.read`, through Grain's own reader of the same shards, as training
reads them (`source.rows`: groups of four, decoded, cut to a canvas), and with random resized crops;
the folder in random order; the tars from front to back, which is the only order that they have.
`wall` counts what others on the machine take, `CPU` is the images of a second of this process's
CPU time, all threads together. `cold` is after the files were dropped from the page cache.
Then a store of --rows made-up rows (columns, captions and shards of the right sizes, shards sparse)
is opened, and its captions' groups are found. The need is that of a ViT-B/16 at 224 pixels on an
H200 at half of its peak.
"""

import argparse
import functools
import io
import json
import os
import pathlib
import platform
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

BATCH, SEEDS, EACH = 256, 4, 10_000


def pictures(count: int, size: int) -> Iterator[bytes]:
    """PNGs as different from each other as pictures are, cheaply made."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        file = io.BytesIO()
        small.resize((size, size), Image.Resampling.BICUBIC).save(file, "PNG")
        yield file.getvalue()


def timed(count: int, function: Callable[[], Any]) -> dict[str, int]:
    """Images a second by the clock, and by this process's CPU time."""
    clock, cpu = time.perf_counter(), time.process_time()
    function()
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    return {"wall": round(count / clock), "CPU": round(count / cpu)}


def write_store(path: pathlib.Path, made: list[bytes]) -> None:
    from jaxfdsl.data import store

    card = {"generator": "benchmarks/store.py"}
    with store.Writer(path, card=card, shard_images=EACH) as writer:
        for row, data in enumerate(made):
            group = row // SEEDS
            writer.add(data, group=group, seed=row % SEEDS, caption=f"made-up caption {group}")


def write_folder(path: pathlib.Path, made: list[bytes]) -> None:
    for row, data in enumerate(made):
        folder = path / f"{row // 1000:05d}"
        if row % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{row:09d}.png").write_bytes(data)
    os.sync()


def write_tars(path: pathlib.Path, made: list[bytes]) -> None:
    from jaxfdsl.data.materialise import formats

    path.mkdir()
    for start in range(0, len(made), EACH):
        with tarfile.open(path / f"{start:09d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for row in range(start, min(start + EACH, len(made))):
                formats.add_member(tar, f"{row:09d}.png", made[row])
                caption = f"made-up caption {row // SEEDS}".encode()
                formats.add_member(tar, f"{row:09d}.txt", caption)
    os.sync()


def disk(path: pathlib.Path) -> dict[str, int]:
    """Bytes of the files, and of the blocks that they take."""
    files = [one.stat() for one in path.rglob("*") if one.is_file()]
    return {
        "files": len(files),
        "bytes": sum(one.st_size for one in files),
        "on disk": sum(one.st_blocks * 512 for one in files),
    }


def forget(path: pathlib.Path) -> None:
    """Drops a folder's files from the page cache; they are on the disk already."""
    for file in path.rglob("*"):
        if file.is_file():
            number = os.open(file, os.O_RDONLY)
            os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(number)


def batched(order: np.ndarray, read: Callable[[np.ndarray], Any]) -> Callable[[], None]:
    def run() -> None:
        for start in range(0, len(order), BATCH):
            read(order[start : start + BATCH])

    return run


def readers(place: pathlib.Path, count: int, size: int) -> dict[str, tuple]:
    """Of each way: the folder it reads, how many images, and what reads them."""
    import grain

    from jaxfdsl import config
    from jaxfdsl.data import decode, sources, store, stored
    from jaxfdsl.data.decode import View
    from jaxfdsl.data.sources import Group

    stored.CACHE_BYTES = 0  # nothing is kept decoded
    order = np.random.default_rng(1).permutation(count)
    opened = store.open(place / "store")
    records = grain.sources.ArrayRecordDataSource(opened.files)
    entry = config.store_source(str(place / "store"), size=size)
    canvas = sources.build(entry, seed=0, train=True, group=Group(SEEDS))
    entry.size = 0
    view = View(size, "random_resized")
    crops = sources.build(entry, seed=0, train=True, group=Group(SEEDS), view=view)

    def file(row: int) -> bytes:
        path = place / "folder" / f"{row // 1000:05d}" / f"{row:09d}.png"
        return path.read_bytes()

    def decoded(rows: np.ndarray) -> None:
        data = [file(row) for row in rows.tolist()]
        decode.decode_all(data, lambda _, one: decode.canvas(one, size), size)

    def tars() -> None:
        for path in sorted((place / "tars").glob("*.tar")):
            with tarfile.open(path) as tar:
                for member in tar:
                    opened_member = tar.extractfile(member)
                    assert opened_member is not None
                    opened_member.read()

    less, positions = order[: count // 5], np.arange(count // 5)
    return {
        "store: encoded": ("store", count, batched(order, opened.read)),
        "Grain on its shards: encoded": (
            "store",
            len(less),
            batched(less, lambda rows: records.__getitems__(rows.tolist())),
        ),
        "folder: encoded": (
            "folder",
            len(less),
            batched(less, lambda rows: [file(row) for row in rows.tolist()]),
        ),
        "tars, front to back: encoded": ("tars", count, tars),
        "store: rows, groups of 4": ("store", len(less), batched(positions, canvas.rows)),
        "store: rows, random crops": ("store", len(less), batched(positions, crops.rows)),
        "folder: decoded": ("folder", len(less), batched(less, decoded)),
    }


OPENING = """
import json, sys, time
from jaxfdsl.data import store
import numpy as np

def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

begun, before = time.perf_counter(), memory()
opened = store.open(sys.argv[1])
seconds, taken = time.perf_counter() - begun, memory() - before
rows = np.random.default_rng(0).integers(0, len(opened), 256)
begun = time.perf_counter()
opened.captions(rows), opened.column("label")[rows]
touched = time.perf_counter() - begun
from jaxfdsl.data.store.groups import grouped
begun = time.perf_counter()
made = grouped(np.asarray(opened.column("group")))
kept = (0 if made.order is None else made.order.nbytes) + made.starts.nbytes
print(json.dumps({"rows": len(opened), "groups": len(made), "open s": round(seconds, 2),
    "open MB": round(taken, 1), "256 rows ms": round(touched * 1e3, 1),
    "groups s": round(time.perf_counter() - begun, 2), "groups MB": round(kept / 2**20)}))
"""


def large(place: pathlib.Path, count: int, side_by_side: bool) -> dict[str, Any]:
    """A store of many rows, without its pictures: how fast another process opens it."""
    from jaxfdsl.data.store import columns
    from jaxfdsl.data.store.layout import COLUMNS, ENDS, TEXT, Layout, Shard

    place.mkdir()
    shards = tuple(
        Shard(min(EACH, count - start), 300_000_000, f"{start:064x}", EACH // 10, "0" * 64)
        for start in range(0, count, EACH)
    )
    captions = sum(shard.captions for shard in shards)
    length = 60
    layout = Layout(place, {}, (), ("sd15",), shards, captions * length, True)
    (place / "images").mkdir()
    for number, shard in enumerate(shards):
        with layout.shard_file(number).open("wb") as file:
            file.truncate(shard.bytes)  # sparse: no picture is read
    row = np.arange(count)
    group = row // 10 if side_by_side else row % (count // 10)  # else the seeds are the outer loop
    values = {"label": row * 0 - 1, "group": group, "seed": row % 10, "source": row * 0}
    for name, kind in COLUMNS.items():
        columns.append(layout.column_file(name), kind, 0, values.get(name, group))
    (place / TEXT).parent.mkdir()
    columns.append(place / ENDS, "<i8", 0, length * (np.arange(captions) + 1))
    with (place / TEXT).open("wb") as file:
        for _ in range(captions // 1000):
            file.write(b"c" * length * 1000)
    layout.save()
    asked = [sys.executable, "-c", OPENING, str(place)]
    return json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)


def need() -> float:
    """Images/s of a ViT-B/16 on an H200 at half of its peak."""
    import jax.numpy as jnp

    from jaxfdsl import config
    from jaxfdsl.costs import devices, flops
    from jaxfdsl.models import vit

    cfg = config.default_config().model
    cfg.variant, cfg.patch_size, cfg.image_size = "vit_b", 16, 224
    peak = devices.peak("NVIDIA H200") or 0.0
    return 0.5 * peak / flops.training(vit.design_of(cfg, {"head": 1000}, jnp.bfloat16))


def show(table: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in table for key in row))
    print(f"\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in table:
        print("|", " | ".join(f"{row.get(key, ''):,}" if isinstance(row.get(key), int) else
                              str(row.get(key, "")) for key in columns), "|")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--place", default="", help="a folder on the disk to measure")
    parser.add_argument("--out", default="runs/store.json")
    args = parser.parse_args()
    begun = os.getloadavg()
    with tempfile.TemporaryDirectory(dir=args.place or None) as folder:
        place = pathlib.Path(folder)
        made = list(pictures(args.images, args.size))
        mean = sum(map(len, made)) / len(made)
        writers = {"store": write_store, "folder": write_folder, "tars": write_tars}
        written = []
        for name, write in writers.items():
            rates = timed(len(made), functools.partial(write, place / name, made))
            size = disk(place / name)
            each = {f"{k}/image": round(size[k] / len(made)) for k in ("bytes", "on disk")}
            written.append({"format": name, **rates, "files": size["files"], **each})
        print(f"Writing {len(made):,} PNGs of {mean:.0f} bytes, images/s:")
        show(written)
        del made
        read = []
        for name, (where, count, run) in readers(place, args.images, args.size).items():
            forget(place / where)
            cold, warm = timed(count, run), timed(count, run)
            read.append({"reading": name, "images": count, **warm, "cold wall": cold["wall"]})
        print("\nReading, images/s:")
        show(read)
        opened = []
        for name, side in (("side by side", True), ("seed by seed", False)):
            if args.rows:
                made_up = large(place / f"large{side}", args.rows, side)
                opened.append({"a caption's images": name, **made_up})
        print("\nOpening:")
        show(opened)
    load = f"{begun[0]:.1f} before, {os.getloadavg()[0]:.1f} after"
    device = f"{os.cpu_count()} processors, {platform.machine()}, load {load}"
    print(
        f"\nA ViT-B/16 step on an H200 at half of its peak takes {need():,.0f} images/s. {device}."
    )
    out = pathlib.Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    result = {"written": written, "read": read, "opened": opened, "need": need(), "device": device}
    out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
