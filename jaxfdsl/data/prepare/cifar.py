"""CIFAR-10 and CIFAR-100 from the binary archives of https://www.cs.toronto.edu/~kriz/cifar.html"""

import dataclasses
import io
import os
import tarfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from jaxfdsl.config import ConfigError
from jaxfdsl.data.prepare import shards
from jaxfdsl.data.prepare.split import DataSet, Split

_HOME = "https://www.cs.toronto.edu/~kriz"
_PIXELS = 3 * 32 * 32
COUNTS = {"train": 50_000, "test": 10_000}


@dataclasses.dataclass(frozen=True)
class _Published:
    name: str
    archive: str
    files: dict[str, Sequence[str]]  # of each split
    labels: dict[str, str]  # the bytes before the pixels, with the file of their names


_CIFAR10 = _Published(
    "cifar10",
    "cifar-10-binary.tar.gz",
    {"train": [f"data_batch_{part}.bin" for part in range(1, 6)], "test": ["test_batch.bin"]},
    {"label": "batches.meta.txt"},
)
_CIFAR100 = _Published(
    "cifar100",
    "cifar-100-binary.tar.gz",
    {"train": ["train.bin"], "test": ["test.bin"]},
    {"coarse_label": "coarse_label_names.txt", "label": "fine_label_names.txt"},
)


def cifar10(tars: str, data_dir: str = "", **options: Any) -> str:
    """Write `cifar10:3.0.2` as PNGs, and return its folder; `options` as `_write`'s."""
    return _write(_CIFAR10, tars, data_dir, **options)


def cifar100(tars: str, data_dir: str = "", **options: Any) -> str:
    """Write `cifar100:3.0.2`, with `coarse_label` and `label`; `options` as `_write`'s."""
    return _write(_CIFAR100, tars, data_dir, **options)


def _write(
    published: _Published,
    tars: str,
    data_dir: str,
    *,
    allow_partial: bool = False,
    counts: dict[str, int] | None = None,
    **options: Any,
) -> str:
    import tensorflow_datasets as tfds

    path = os.path.join(tars, published.archive)
    files = _files(path)
    names = {
        field: _member(files, file, path).decode().split("\n")
        for field, file in published.labels.items()
    }
    classes = {field: [name for name in lines if name] for field, lines in names.items()}
    made = DataSet(
        name=published.name,
        version="3.0.2",
        features={
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            **{field: tfds.features.ClassLabel(names=names) for field, names in classes.items()},
        },
        description="Tiny images of 10 or 100 classes, by Alex Krizhevsky.",
        homepage=f"{_HOME}/cifar.html",
        splits=[],
    )
    there = shards.prepared(made, data_dir)
    splits = []
    for split in published.files.keys() - there.keys():
        data = b"".join(_member(files, file, path) for file in published.files[split])
        splits.append(_Images(split, data, list(classes), path))
        _check(splits[-1], classes, None if allow_partial else (counts or COUNTS)[split], path)
    splits.sort(key=lambda split: split.name, reverse=True)  # train first
    return shards.write(dataclasses.replace(made, splits=splits), data_dir, **options)


class _Images(Split):
    """Rows of label bytes and planes of red, green and blue; ids and keys are TFDS's."""

    num_shards = 1

    def __init__(self, name: str, data: bytes, fields: Sequence[str], path: str):
        width = len(fields) + _PIXELS
        if not data or len(data) % width:
            raise ConfigError(f"{path}: its {name} images are cut short: download it again.")
        rows = np.frombuffer(data, np.uint8).reshape(-1, width)
        self.name = name
        self.labels = dict(zip(fields, rows.T, strict=False))
        self.pixels = rows[:, len(fields) :].reshape(-1, 3, 32, 32)
        self.keys = range(len(rows))
        self.sizes = np.full(len(rows), _PIXELS, np.int64)
        self.stamp = str(zlib.crc32(data))

    def example(self, place: int) -> tuple[dict[str, Any], bool]:
        labels = {field: int(values[place]) for field, values in self.labels.items()}
        image = _png(self.pixels[place].transpose(1, 2, 0))
        return {"id": f"{self.name}_{place:05d}", "image": image, **labels}, False


def _png(pixels: UInt8[np.ndarray, "32 32 3"]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()


def _check(split: _Images, classes: dict[str, list[str]], expected: int | None, path: str) -> None:
    images = len(split.keys)
    for field, names in classes.items():
        sizes = np.bincount(split.labels[field], minlength=len(names))
        if len(sizes) > len(names):
            raise ConfigError(
                f"{path}: a {field} of {split.name} is {len(sizes) - 1}, of {len(names)} classes: "
                "download it again."
            )
        if expected is not None and (images != expected or len(set(sizes.tolist())) > 1):
            raise ConfigError(
                f"{path} holds {images:,} {split.name} images, {sizes.min():,} to {sizes.max():,} "
                f"of a {field}; complete, {expected:,}, equally many of each: download it again, "
                "or type --allow_partial to take what is there."
            )


def _files(path: str) -> dict[str, bytes]:
    """The archive's files by their own names, at most 184 MB."""
    if not os.path.isfile(path):
        folder, archive = os.path.split(path)
        raise ConfigError(
            f"--tars={folder!r} holds no {archive}: type the folder that holds it, as downloaded "
            f"from {_HOME}/{archive}."
        )
    try:
        with tarfile.open(path, "r:gz") as tar:
            return {
                os.path.basename(member.name): tar.extractfile(member).read()  # type: ignore[union-attr]
                for member in tar
                if member.isfile()
            }
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ConfigError(f"{path} cannot be unpacked ({error}): download it again.") from error


def _member(files: dict[str, bytes], name: str, path: str) -> bytes:
    if name not in files:
        raise ConfigError(
            f"{path} holds no {name}: download the binary version from {_HOME}/cifar.html."
        )
    return files[name]
