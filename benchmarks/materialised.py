"""Do other libraries read from every format just what is drawn, also after two kills?

    python benchmarks/materialised.py make DIR      # where jaxfdsl is installed
    python benchmarks/materialised.py check DIR     # where the libraries are: pip install torch
        # torchvision datasets webdataset grain tensorflow-datasets array_record importlib_resources

`make` writes 10,000 images (1,000 categories, 32 pixels) to each format twice: at one go, and
killed twice by SIGKILL, once in each half of the writing, and started again; both folders must
hold the same files. `check` reads every format with its own libraries and compares each pixel,
each label and the order (TFDS's is by hash: there each image is found by its recipe). Both print a
table and write DIR/make.json and DIR/check.json; DIR must not exist before.
"""

import glob
import hashlib
import io
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

FORMATS = ("folder", "webdataset", "parquet", "arrayrecord", "tfds")
CLASSES, INSTANCES, SIZE = 1000, 10, 32
COUNT = CLASSES * INSTANCES
Read = Iterator[tuple[int, np.ndarray, int]]  # of number in the set, picture, label


def make(root: pathlib.Path, seed: int = 0) -> None:
    """Writes the formats, what is drawn, and a line for each."""
    from jaxfdsl import generators

    root.mkdir(parents=True)
    chance = random.Random(seed)
    db = generators.load("fractaldb-1k", size=SIZE, instances=INSTANCES)
    drawn = [np.asarray(db.draw(range(i, i + 1000))["image"]) for i in range(0, COUNT, 1000)]
    np.save(root / "drawn.npy", np.concatenate(drawn)[..., 0])
    rows = {}
    for to in FORMATS:
        whole, killed = root / to, root / f"{to}-killed"
        start = time.monotonic()
        subprocess.run(_command(to, whole), check=True, capture_output=True)
        span = time.monotonic() - start
        total, left = _count(whole), []
        for first, last in ((0.2, 0.45), (0.55, 0.85)):
            there = int(chance.uniform(first, last) * total)
            left.append(_kill(to, killed, there, chance.uniform(0, 0.01) * span))
        subprocess.run(_command(to, killed), check=True, capture_output=True)
        one, other = _files(whole), _files(killed)
        different = sorted({*one.items()} ^ {*other.items()})
        rows[to] = {"seconds": span, "files": total, "killed_at": left, "equal": not different}
        said = "equal" if not different else f"DIFFERENT: {different[:3]}"
        print(
            f"{to:12s} {span:6.1f} s  killed with {left} of {total} files; the folders are {said}"
        )
    (root / "make.json").write_text(json.dumps(rows, indent=2) + "\n")
    if not all(row["equal"] for row in rows.values()):
        raise SystemExit(1)


def _kill(to: str, out: pathlib.Path, there: int, more: float) -> int:
    """Kills the writing `more` seconds after `out` has `there` files; how many it left."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(_command(to, out), stdout=quiet, stderr=quiet)
    while _count(out) < there:
        if process.poll() is not None:
            raise SystemExit(f"{to} ended with status {process.returncode}, not killed")
        time.sleep(0.02)
    time.sleep(more)
    process.kill()
    if process.wait() != -signal.SIGKILL:
        raise SystemExit(f"{to} was done before it was killed")
    return _count(out)


def _count(root: pathlib.Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))


def _command(to: str, out: pathlib.Path) -> list[str]:
    sizes = [f"--classes={CLASSES}", f"--instances={INSTANCES}", f"--size={SIZE}"]
    verb = ["materialise", "fractaldb-1k", "--to", to, "--out", str(out), "--shard_images=700"]
    return [sys.executable, "-m", "jaxfdsl.cli", *verb, *sizes]


def _files(root: pathlib.Path) -> dict[str, str]:
    files = [file for file in sorted(root.rglob("*")) if file.is_file()]
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
    }


def check(root: pathlib.Path) -> None:
    """Reads all formats; ends with status 1 where one differs."""
    drawn = np.load(root / "drawn.npy")
    rows = {}
    for name, read in READERS.items():
        seen = np.zeros(COUNT, int)
        wrong = 0
        for number, picture, label in read(root):
            seen[number] += 1
            same = (picture.reshape(SIZE, SIZE, -1) == drawn[number][..., None]).all()
            wrong += not (same and label == number % CLASSES)
        rows[name] = {"images": int(seen.sum()), "wrong": wrong, "once": bool((seen == 1).all())}
        once = "each once" if rows[name]["once"] else "NOT EACH ONCE"
        print(f"{name:32s} {rows[name]['images']:6d} images, {wrong} wrong, {once}", flush=True)
    (root / "check.json").write_text(json.dumps(rows, indent=2) + "\n")
    if any(row["wrong"] or not row["once"] for row in rows.values()):
        raise SystemExit(1)


def _by_class(place: int) -> int:
    """The number of the image at a place of a folder, whose order is by class."""
    return place // INSTANCES + CLASSES * (place % INSTANCES)


def image_folder(root: pathlib.Path) -> Read:
    import torchvision

    for i, (picture, label) in enumerate(
        torchvision.datasets.ImageFolder(str(root / "folder" / "train"))
    ):
        yield _by_class(i), np.asarray(picture), label


def hub_folder(root: pathlib.Path) -> Read:
    import datasets

    files = {"train": str(root / "folder" / "train" / "**")}
    for i, row in enumerate(datasets.load_dataset("imagefolder", data_files=files, split="train")):
        yield _by_class(i), np.asarray(row["image"]), row["label"]


def hub_parquet(root: pathlib.Path) -> Read:
    import datasets

    for i, row in enumerate(datasets.load_dataset(str(root / "parquet"), split="train")):
        yield i, np.asarray(row["image"]), row["label"]


def hub_webdataset(root: pathlib.Path) -> Read:
    import datasets

    files = {"train": str(root / "webdataset" / "*.tar")}
    for i, row in enumerate(datasets.load_dataset("webdataset", data_files=files, split="train")):
        yield i, np.asarray(row["png"]), row["cls"]


def web_dataset(root: pathlib.Path) -> Read:
    import webdataset

    tars = sorted(glob.glob(str(root / "webdataset" / "*.tar")))
    rows = webdataset.WebDataset(tars, shardshuffle=False).decode("pil").to_tuple("png", "cls")
    for i, (picture, label) in enumerate(rows):
        yield i, np.asarray(picture), int(label)


def array_record(root: pathlib.Path) -> Read:
    import grain
    from PIL import Image
    from tensorflow_datasets.proto import tf_example_pb2

    files = sorted(glob.glob(str(root / "arrayrecord" / "*.array_record-*")))
    data = grain.sources.ArrayRecordDataSource(files)
    for i in range(len(data)):
        fields = tf_example_pb2.Example.FromString(data[i]).features.feature
        picture = Image.open(io.BytesIO(fields["image"].bytes_list.value[0]))
        yield i, np.asarray(picture), fields["label"].int64_list.value[0]


def tfds_source(root: pathlib.Path) -> Read:
    import tensorflow_datasets as tfds

    data = tfds.builder("fractaldb_1k", data_dir=str(root / "tfds")).as_data_source("train")
    for row in data:
        number = int(row["category"]) + CLASSES * int(row["instance"])
        yield number, np.asarray(row["image"]), int(row["label"])


READERS = {
    "torchvision ImageFolder": image_folder,
    "datasets, imagefolder": hub_folder,
    "datasets, Parquet": hub_parquet,
    "datasets, webdataset": hub_webdataset,
    "webdataset": web_dataset,
    "Grain, array_record": array_record,
    "TFDS, as_data_source": tfds_source,
}


if __name__ == "__main__":
    {"make": make, "check": check}[sys.argv[1]](pathlib.Path(sys.argv[2]))
