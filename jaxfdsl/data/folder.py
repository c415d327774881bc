"""Image folders as PyTorch users have them: `path/split/class/picture.jpg`.

Classes, file names and order are those of torchvision's ImageFolder, except that classes are the
folder names of all splits together. Worker processes load this module: nothing in it touches a
device.
"""

import dataclasses
import difflib
import functools
import hashlib
import logging
import os
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import stored
from jaxfdsl.data.decode import View, in_threads
from jaxfdsl.data.records import Labels, Records

# torchvision's IMG_EXTENSIONS
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


@dataclasses.dataclass(frozen=True)
class FolderRecords(Records):
    """The files of one split; the listing travels to worker processes, so that rows stay what they
    are when files go.
    """

    root: str  # .../train
    split: str
    digest: str  # of the classes and the listing
    classes: tuple[str, ...] = dataclasses.field(compare=False, repr=False)
    counts: tuple[int, ...] = dataclasses.field(compare=False, repr=False)  # files of each class
    listing: bytes = dataclasses.field(compare=False, repr=False)  # names in their class, \0 after

    @property
    def identity(self) -> tuple[str, ...]:
        """Split and names; where the folder lies does not matter."""
        return ("folder", self.split, self.digest)

    def __len__(self) -> int:
        return sum(self.counts)

    def read(self, rows: Int64[np.ndarray, " n"]) -> tuple[list[bytes | None], Labels]:
        """The files' contents; None for a file that is not there any more or cannot be read."""
        labels = self.labels(rows)
        return in_threads(_contents, map(self._file, rows.tolist(), labels.tolist())), labels

    def labels(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Number of each file's class folder."""
        return np.searchsorted(np.cumsum(self.counts), rows, side="right")

    def where(self, row: int) -> str:
        """The file's path."""
        label = int(self.labels(np.array([row]))[0])
        return f"{os.fsdecode(self._file(row, label))} (image {row} of split {self.split!r})"

    def _file(self, row: int, label: int) -> bytes:
        ends = _ends(self.listing)
        name = self.listing[ends[row - 1] + 1 if row else 0 : ends[row]]
        return os.path.join(os.fsencode(self.root), os.fsencode(self.classes[label]), name)


@functools.lru_cache(maxsize=8)
def _ends(listing: bytes) -> Int64[np.ndarray, " n"]:
    return np.flatnonzero(np.frombuffer(listing, np.uint8) == 0)


def _contents(file: bytes) -> bytes | None:
    try:
        with open(file, "rb") as opened:
            return opened.read()
    except OSError:
        return None


@functools.lru_cache(maxsize=8)
def list_folder(root: str, split: str, classes: tuple[str, ...]) -> FolderRecords:
    """Lists the pictures of each class once a process, in torchvision's order."""
    names = [b"".join(name + b"\0" for name in _pictures(root, folder)) for folder in classes]
    listing = b"".join(names)
    digest = hashlib.sha256(listing)
    for folder, own in zip(classes, names, strict=True):
        digest.update(os.fsencode(folder) + b"/%d" % own.count(0))
    counts = tuple(own.count(0) for own in names)
    return FolderRecords(root, split, digest.hexdigest(), classes, counts, listing)


def _pictures(root: str, folder: str) -> Iterator[bytes]:
    """Names of a class's pictures, subfolders included, relative to the class's folder."""
    top = os.path.join(os.fsencode(root), os.fsencode(folder))
    for place, _, files in sorted(os.walk(top, followlinks=True)):
        inside = os.path.relpath(place, top) + b"/" if place != top else b""
        for name in sorted(files):
            if os.fsdecode(name).lower().endswith(EXTENSIONS):
                yield inside + name


def load(
    entry: ConfigDict, *, seed: int, train: bool, field: str, view: View | None = None
) -> stored.StoredSource:
    """The source of a `kind: "folder"` entry; raises `ConfigError` for what is not there."""
    path = os.path.abspath(os.path.expanduser(entry.path))
    root = os.path.join(path, entry.split) if entry.split else path
    _check_there(entry, path, root, field)
    roots = [root] if not entry.split else [os.path.join(path, name) for name in _folders(path)]
    there = {name for place in roots for name in _folders(place) if _any_picture(place, name)}
    empty = sorted(set(_folders(root)) - there)
    if not there or not any(_any_picture(root, name) for name in there):
        raise ConfigError(
            f"{field}.split={entry['split']!r}: {root} holds no class folder with pictures: type "
            f"a split of the layout {path}/<split>/<class>/picture.jpg" + _choices(path) + "."
        )
    if empty and train and not entry.classes:
        raise ConfigError(
            f"{field}.path={entry['path']!r}: the class folder {os.path.join(root, empty[0])} "
            f"holds no picture ({', '.join(EXTENSIONS)}): remove it, or put pictures into it."
        )
    records = list_folder(root, entry.split, tuple(sorted(there)))
    missing = [
        name for name, count in zip(records.classes, records.counts, strict=True) if not count
    ]
    if entry.classes:
        missing = []  # the list may leave them out
    if missing and train:
        raise ConfigError(
            f"{field}.split={entry['split']!r} has no picture of the class {missing[0]!r}, which "
            f"another split has: add pictures, or name the classes to keep: "
            f"--config.{field}.classes=FILE."
        )
    if missing:
        _tell_missing(root, tuple(missing), len(there))
    return stored.load(
        entry,
        records,
        records.classes,
        name=os.path.basename(path),
        num_classes=len(records.classes),
        seed=seed,
        train=train,
        field=field,
        view=view,
    )


def _check_there(entry: ConfigDict, path: str, root: str, field: str) -> None:
    if not entry.path or not os.path.isdir(path):
        parent = os.path.dirname(path)
        near = difflib.get_close_matches(os.path.basename(path), _folders(parent), n=1)
        hint = f"did you mean {os.path.join(parent, near[0])}?" if near else "type a folder's path."
        raise ConfigError(f"{field}.path={entry['path']!r} is not a folder: {hint}")
    if not os.path.isdir(root):
        raise ConfigError(
            f"{field}.split={entry['split']!r} is not a folder of {path}: type "
            f"--config.{field}.split=NAME" + _choices(path) + "."
        )


def _choices(path: str) -> str:
    """The splits that a folder has, as the end of a sentence."""
    folders = _folders(path)
    splits = [
        name
        for name in folders
        if any(_any_picture(os.path.join(path, name), inner) for inner in _folders(path, name))
    ]
    if splits:
        return f", one of {splits}"
    if any(_any_picture(path, name) for name in folders):
        return ", or '' for class folders right in the path"
    return ""


def _folders(*path: str) -> list[str]:
    """Sorted names of a folder's folders, hidden ones left out."""
    try:
        with os.scandir(os.path.join(*path)) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def _any_picture(root: str, folder: str) -> bool:
    """Whether a class has a picture; stops at the first, as a class may hold thousands."""
    inner = []
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            for entry in entries:
                if entry.name.lower().endswith(EXTENSIONS):
                    return True
                inner += [entry.name] if entry.is_dir() else []
    except OSError:
        return False
    return any(_any_picture(os.path.join(root, folder), name) for name in inner)


@functools.cache
def _tell_missing(root: str, missing: tuple[str, ...], classes: int) -> None:
    logging.warning(
        "%s has no picture of %d of the %d classes: %s%s",
        root,
        len(missing),
        classes,
        ", ".join(missing[:5]),
        ", ..." if len(missing) > 5 else "",
    )
