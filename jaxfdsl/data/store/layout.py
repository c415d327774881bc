"""`store.json`: what of a store counts, and how a file gets its name only when it is whole.

A store is a folder:

    store.json                        format, data card, class and source names, the shards
    images/00000.array_record, ...    encoded pictures, a record each, uncompressed, group_size:1
    columns/NAME.npy                  label, group, seed, source, caption: a number a row
    captions/text.bin, ends.npy       every different caption once, UTF-8, and where each ends
    rep/NAME.npy, score/NAME.npy, ... sidecar columns, written later; NAME.json says what made them
    index/NAME.npy                    lists of rows; NAME.json says what made them

Shards, columns and captions only grow. `store.json` is replaced last, whenever a shard is full:
what it does not count is not there, so that a kill at any byte leaves the store as it was.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from jaxtyping import Int64

from jaxfdsl.config import ConfigError

FORMAT = 1
NAME = "store.json"
COLUMNS = {"label": "<i4", "group": "<i8", "seed": "<i8", "source": "<i4", "caption": "<i4"}
ENDS, TEXT = "captions/ends.npy", "captions/text.bin"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file of pictures, and the checksums of it and of its rows in the columns."""

    images: int
    bytes: int
    sha256: str
    captions: int  # that no shard before it has
    rows_sha256: str  # of its part of each column, of `ends.npy` and of `text.bin`


@dataclasses.dataclass(frozen=True)
class Layout:
    """What `store.json` says."""

    root: pathlib.Path
    card: dict[str, Any]
    classes: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    shards: tuple[Shard, ...] = ()
    caption_bytes: int = 0
    closed: bool = False  # False while it is being written, and after a kill

    @property
    def starts(self) -> Int64[np.ndarray, " shards_and_one"]:
        """The first row of each shard, and the number of all rows."""
        return np.cumsum([0, *(shard.images for shard in self.shards)], dtype=np.int64)

    @property
    def images(self) -> int:
        return sum(shard.images for shard in self.shards)

    @property
    def captions(self) -> int:
        return sum(shard.captions for shard in self.shards)

    def shard_file(self, number: int) -> pathlib.Path:
        return self.root / "images" / f"{number:05d}.array_record"

    def column_file(self, name: str) -> pathlib.Path:
        return self.root / "columns" / f"{name}.npy"

    @property
    def fingerprint(self) -> str:
        """Of the pictures and all that is said of them; not of the place or the card."""
        sums = [(shard.images, shard.sha256, shard.rows_sha256) for shard in self.shards]
        text = json.dumps([FORMAT, self.classes, self.sources, sums])
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self) -> None:
        """Replace `store.json`, the disk first."""
        head = {
            "format": FORMAT,
            "images": self.images,
            "captions": self.captions,
            "caption_bytes": self.caption_bytes,
            "closed": self.closed,
            "card": self.card,
            "classes": self.classes,
            "sources": self.sources,
            "shard_fields": [field.name for field in dataclasses.fields(Shard)],
        }
        lines = ",\n".join(json.dumps(dataclasses.astuple(shard)) for shard in self.shards)
        text = f'{json.dumps(head, indent=1)[:-2]},\n "shards": [\n{lines}\n]\n}}\n'
        with whole(self.root / NAME) as file:
            file.write(text.encode())


def load(root: pathlib.Path) -> Layout:
    """What the store at `root` says; raises `ConfigError` where there is none that we can read."""
    path = root / NAME
    try:
        said = json.loads(path.read_bytes())
        version = said["format"]
    except FileNotFoundError:
        raise ConfigError(
            f"{root} is no store, as it has no {NAME}: type a store's folder."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): type another store's folder, or write it again."
        ) from error
    if version != FORMAT:
        raise ConfigError(
            f"{path} has the format {version}, and this version reads format {FORMAT}: type pip "
            "install --upgrade jaxfdsl, or write the store again."
        )
    try:
        layout = Layout(
            root,
            dict(said["card"]),
            tuple(said["classes"]),
            tuple(said["sources"]),
            tuple(Shard(*shard) for shard in said["shards"]),
            said["caption_bytes"],
            said["closed"],
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} lacks what a store says ({error}): type another store's folder."
        ) from error
    if (layout.images, layout.captions) != (said.get("images"), said.get("captions")):
        raise ConfigError(
            f"{path} counts {said.get('images')} images and its shards have {layout.images}: "
            "the file was altered; write the store again."
        )
    return layout


def check_size(layout: Layout, path: pathlib.Path, size: int, exactly: bool) -> None:
    """Raises `ConfigError` for a file that is gone, or not as long as it must be.

    A file that grows may be longer than what counts of it.
    """
    try:
        there = path.stat().st_size
    except FileNotFoundError:
        raise ConfigError(f"{path} is gone: {again(layout)}.") from None
    if there < size or (exactly and there != size):
        what = "truncated" if there < size else "altered"
        raise ConfigError(
            f"{path} is {what}: it has {there} bytes, and {layout.root / NAME} counts {size}: "
            f"{again(layout)}."
        )


def again(layout: Layout) -> str:
    """What to do about a file that cannot be used, as the end of a sentence."""
    return f"copy it again from where {layout.root.name} came from, or write the store again"


@contextlib.contextmanager
def whole(path: pathlib.Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when it is whole and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    to_disk(path.parent)


def to_disk(path: pathlib.Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
