"""An image folder, `train/class/image.jpg`, as a data set of its own."""

import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxfdsl.config import ConfigError
from jaxfdsl.data.prepare import shards
from jaxfdsl.data.prepare.split import DataSet, Split, check

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif"}


def folder(name: str, directory: str, data_dir: str = "", **options: Any) -> str:
    """Write `<name>:1.0.0` from an image folder, bytes as they are, and return its folder.

    `directory` holds `train/` and others, each with a folder a class, or the classes themselves
    (one split, `train`). Labels are the sorted names of all classes. Raises `ConfigError`.
    """
    import tensorflow_datasets as tfds

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"{name!r}: type a name of small letters, digits and underscores.")
    root = pathlib.Path(directory).expanduser()
    if not root.is_dir():
        raise ConfigError(f"{directory!r} is no folder: type one that holds train/class/image.jpg.")
    parts = {part.name: part for part in _folders(root)} if _has_splits(root) else {"train": root}
    bad = [part for part in parts if not re.fullmatch(r"\w+", part)]
    if bad:
        raise ConfigError(f"{directory}: {bad[0]!r} cannot be a split: rename it, such as to val.")
    found = {part: _images(where) for part, where in parts.items()}
    classes = sorted({path.parent.name for paths in found.values() for path in paths})
    empty = [part for part, paths in found.items() if not paths]
    if empty:
        raise ConfigError(
            f"{parts[empty[0]]} holds no image in a folder of its class: type a folder with "
            "train/class/image.jpg or class/image.jpg."
        )
    made = DataSet(
        name=name,
        version="1.0.0",
        features={
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=classes),
        },
        description=f"The image folder {root.name}.",
        homepage="",
        splits=[_Files(part, parts[part], paths, classes) for part, paths in found.items()],
    )
    return shards.write(made, data_dir, **options)


class _Files(Split):
    def __init__(
        self, name: str, root: pathlib.Path, paths: Sequence[pathlib.Path], classes: Sequence[str]
    ):
        self.name, self.paths = name, paths
        labels = {label: number for number, label in enumerate(classes)}
        self.labels = [labels[path.parent.name] for path in paths]
        self.keys = [path.relative_to(root).as_posix() for path in paths]
        status = [os.stat(path) for path in paths]
        self.sizes = np.array([entry.st_size for entry in status], np.int64)
        self.stamp = str([*classes, *(entry.st_mtime_ns for entry in status)])

    def example(self, place: int) -> tuple[dict[str, Any], bool]:
        data = self.paths[place].read_bytes()
        check(data)
        example = {"file_name": self.keys[place], "image": data, "label": self.labels[place]}
        return example, False


def _has_splits(root: pathlib.Path) -> bool:
    """Whether `train/` holds folders: in a folder of classes it would hold images."""
    return (root / "train").is_dir() and bool(_folders(root / "train"))


def _folders(root: pathlib.Path) -> list[pathlib.Path]:
    return _visible(path for path in root.iterdir() if path.is_dir())


def _images(root: pathlib.Path) -> list[pathlib.Path]:
    return [
        path
        for category in _folders(root)
        for path in _visible(category.iterdir())
        if path.suffix.lower() in SUFFIXES and path.is_file()
    ]


def _visible(paths: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    return sorted(path for path in paths if not path.name.startswith("."))
