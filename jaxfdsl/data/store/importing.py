"""Images of others as a store: folders with a CSV, WebDataset tars, Parquet files, other stores.

Pictures are copied as they are. After a kill the same call goes on behind the last full shard.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.materialise import SHARD_IMAGES
from jaxfdsl.data.store.exporting import CARD
from jaxfdsl.data.store.from_folder import FolderRows
from jaxfdsl.data.store.from_parquet import ParquetRows
from jaxfdsl.data.store.from_stores import StoreRows
from jaxfdsl.data.store.from_tars import TarRows
from jaxfdsl.data.store.layout import NAME
from jaxfdsl.data.store.rows import Notes
from jaxfdsl.data.store.writer import Writer

KINDS = ("csv", "webdataset", "parquet", "stores")
_FILES = {"webdataset": "*.tar", "parquet": "*.parquet"}


def run(
    folder: str | os.PathLike,
    out: str | os.PathLike,
    kind: str,
    *,
    file: str = "",
    merge_captions: bool = False,
    card: Mapping[str, Any] | None = None,
    shard_images: int = SHARD_IMAGES,
    tell: Callable[[str], None] = print,
) -> int:
    """Write what is missing of a folder's images to the store `out`; how many it has then.

    `kind` is one of KINDS, `file` the CSV. Images of a line (of a key, of a row) are a group
    unless a column says which; `merge_captions` makes one group of all that have a caption.
    `card` adds to what the folder's own `card.json` says. Raises `ConfigError` for what is not
    there or cannot be read, naming it.
    """
    place, notes = pathlib.Path(folder).expanduser(), Notes()
    if kind != "stores" and not place.is_dir():
        raise ConfigError(f"{folder} is no folder: type the folder of the images.")
    found: Any
    if kind == "stores":
        found = StoreRows(_stores(place, pathlib.Path(out).expanduser()))
        own, digest = {"card": found.card}, hashlib.sha256(found.identity.encode()).hexdigest()
    else:
        found, files = _found(place, kind, file, merge_captions, notes)
        own, digest = _own_card(place), _digest(place, kind, files, merge_captions)
    classes = own.get("classes") or getattr(found, "classes", None) or ()
    said = {**own.get("card", {}), **(card or {}), "imported": f"{kind} {digest[:16]}"}
    with (
        Writer(out, card=said, classes=tuple(classes), shard_images=shard_images) as writer,
        terminal.progress(desc="into the store", unit="images") as bar,
    ):
        bar.update(writer.done)
        for row in found.rows(writer.done):
            writer.add(
                row.image,
                label=row.label,
                group=row.group,
                seed=row.seed,
                caption=row.caption,
                source=row.source,
            )
            bar.update()
        if not len(writer):
            raise ConfigError(f"{place} has none of the images that {file or 'it'} should name.")
        total = len(writer)
    for line in notes.lines():
        tell(line)
    return total


def _found(
    place: pathlib.Path, kind: str, file: str, merge_captions: bool, notes: Notes
) -> tuple[Any, list[pathlib.Path]]:
    """What gives the rows, and the files that it reads them from."""
    if kind == "csv":
        listed = pathlib.Path(file).expanduser()
        return FolderRows(place, listed, merge_captions, notes), [listed]
    files = sorted(place.rglob(_FILES[kind]))
    if not files:
        raise ConfigError(f"{place} holds no {_FILES[kind]}: type another folder.")
    reader = {"webdataset": TarRows, "parquet": ParquetRows}[kind]
    return reader(files, merge_captions, notes), files


def _stores(place: pathlib.Path, out: pathlib.Path) -> list[pathlib.Path]:
    """The stores of a folder, or those whose paths a pattern names; never the one written."""
    found = sorted(place.iterdir()) if place.is_dir() else sorted(place.parent.glob(place.name))
    stores = [one for one in found if (one / NAME).is_file() and one.resolve() != out.resolve()]
    if not stores:
        raise ConfigError(f"{place} names no store: type a folder of stores, or 'sd15.part-*'.")
    return stores


def _own_card(place: pathlib.Path) -> dict[str, Any]:
    """What an export of ours says of itself."""
    path = place / CARD
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read ({error}): mend or remove it.") from error


def _digest(place: pathlib.Path, kind: str, files: list[pathlib.Path], merge: bool) -> str:
    """What decides which image stands where, so that a second call goes on with the same ones."""
    total = hashlib.sha256(f"{kind} {merge}".encode())
    try:
        for file in files:
            if kind == "csv":
                total.update(file.read_bytes())
            else:
                name = file.relative_to(place).as_posix()
                total.update(f"{name} {file.stat().st_size}\n".encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise ConfigError(f"{error}: type the path of a file that can be read.") from error
    return total.hexdigest()
