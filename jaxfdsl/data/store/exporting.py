"""A store as files for others: folders a seed with CSVs, WebDataset tars, or Parquet.

Pictures are copied as they are. After a kill the same call goes on: `manifest.json` has the sha256
of each finished file. `card.json` keeps the card and the class names for `store import`.
"""

import csv
import hashlib
import json
import os
import pathlib
import tarfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.materialise import SHARD_IMAGES, formats
from jaxfdsl.data.materialise.manifest import Manifest, fill, opened
from jaxfdsl.data.prepare.shards import save
from jaxfdsl.data.store.reader import Store
from jaxfdsl.data.store.rows import NUMBERS, Row, stored

TARGETS = ("folder", "webdataset", "parquet")
CARD = "card.json"
_FIELDS = ("file_name", "sha256", *NUMBERS, "source", "caption")
_IN_FOLDER = 1000  # captions whose images lie in one folder


def export(
    store: Store, to: str, out: str | os.PathLike, *, shard_images: int = SHARD_IMAGES
) -> Manifest:
    """Write what is missing of a store to the folder `out` in one of TARGETS.

    Raises `ConfigError` for another format, an empty store and a folder that holds something else.
    """
    if to not in TARGETS:
        raise ConfigError(f"--to={to}: type one of {', '.join(TARGETS)}.")
    if shard_images < 1:
        raise ConfigError(f"--shard_images={shard_images}: type 1 or more.")
    if not len(store):
        raise ConfigError(f"{store.path} holds no image: write some first.")
    path, fingerprint = pathlib.Path(out).expanduser(), store.layout.fingerprint
    asked = {
        "data_set": str(store.card.get("title") or store.path.name),
        "format": to,
        "fingerprint": fingerprint,
        "images": len(store),
        "shard_images": shard_images,
    }
    manifest = opened(path, asked)
    manifest.complete = False
    try:
        path.mkdir(parents=True, exist_ok=True)
        manifest.save()
    except OSError as error:
        raise ConfigError(f"{error}: type --out=DIR with a folder of yours.") from error
    starts = range(0, len(store), shard_images)
    template, write, whole, finish = _FORMATS[to](store, path)
    files = [
        (template.format(number, len(starts)), min(shard_images, len(store) - start))
        for number, start in enumerate(starts)
    ]
    with terminal.progress(len(store), desc=f"to {to}", unit="images") as bar:

        def one(number: int, part: pathlib.Path) -> None:
            first = starts[number]
            write(part, first, _counted(stored(store, first, first + files[number][1]), bar))

        fill(manifest, files, one, whole, bar)
    finish(dict(files))
    text = {"card": store.card, "classes": store.classes}
    save(path / CARD, json.dumps(text, indent=1) + "\n")
    manifest.complete = True
    manifest.save()
    return manifest


def _counted(rows: Iterator[Row], bar: Any) -> Iterator[Row]:
    for row in rows:
        yield row
        bar.update()


def _webdataset(store: Store, out: pathlib.Path) -> tuple:
    """A tar a shard; the fields of an image in `.json`, its label and caption beside it too."""

    def write(part: pathlib.Path, first: int, rows: Iterator[Row]) -> None:
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, row in enumerate(rows, first):
                key = f"{number:09d}"
                formats.add_member(tar, f"{key}.{row.ending}", row.image)
                if row.caption:
                    formats.add_member(tar, f"{key}.txt", row.caption.encode())
                if row.label >= 0:
                    formats.add_member(tar, f"{key}.cls", str(row.label).encode())
                fields = {name: getattr(row, name) for name in (*NUMBERS, "source")}
                formats.add_member(tar, f"{key}.json", json.dumps(fields).encode())

    def finish(lengths: dict[str, int]) -> None:
        formats.write_info(out, lengths)

    return "train-{0:06d}.tar", write, pathlib.Path.is_file, finish


def _parquet(store: Store, out: pathlib.Path) -> tuple:
    """Files as the Hugging Face hub has them: Image, and ClassLabel where classes have names."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ConfigError('--to=parquet needs pyarrow: pip install "jaxfdsl[data]".') from error
    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    text = {"caption": pa.string(), "source": pa.string()}
    schema = pa.schema({"image": picture, **dict.fromkeys(NUMBERS, pa.int64()), **text})
    features: dict[str, Any] = {
        "image": {"_type": "Image"},
        **{name: {"dtype": "int64", "_type": "Value"} for name in NUMBERS},
        **{name: {"dtype": "string", "_type": "Value"} for name in text},
    }
    if store.classes:
        features["label"] = {"names": list(store.classes), "_type": "ClassLabel"}
    schema = schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})

    def write(part: pathlib.Path, first: int, rows: Iterator[Row]) -> None:
        lines = (
            {
                "image": {"bytes": row.image, "path": f"{number:09d}.{row.ending}"},
                **{name: getattr(row, name) for name in (*NUMBERS, *text)},
            }
            for number, row in enumerate(rows, first)
        )
        formats.write_rows(part, schema, lines)

    return "data/train-{0:05d}-of-{1:05d}.parquet", write, pathlib.Path.is_file, lambda _: None


def _folder(store: Store, out: pathlib.Path) -> tuple:
    """`SEED/GROUP.png` with `captions.csv` (path, caption), as StableRep has it, and `images.csv`
    with all fields of every image; `images/ROW.png` where images have no group and seed each.
    """
    by_seed = _each_has_its_seed(store)

    def name(number: int, row: Row) -> str:
        if by_seed:
            return f"{row.seed}/{_caption_path(row)}"
        return f"images/{number // _IN_FOLDER:06d}/{number:09d}.{row.ending}"

    def write(part: pathlib.Path, first: int, rows: Iterator[Row]) -> None:
        with part.open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(_FIELDS)
            for number, row in enumerate(rows, first):
                place, digest = name(number, row), hashlib.sha256(row.image).hexdigest()
                formats.place(out / place, row.image)
                numbers = [getattr(row, field) for field in NUMBERS]
                lines.writerow([place, digest, *numbers, row.source, row.caption])

    def whole(path: pathlib.Path) -> bool:
        return all(_same(out / one["file_name"], one["sha256"]) for one in _lines(path))

    def finish(lengths: dict[str, int]) -> None:
        _write_csv(out / "images.csv", _FIELDS, (one for f in lengths for one in _lines(out / f)))
        if by_seed:
            captions = _captions(one for file in lengths for one in _lines(out / file))
            _write_csv(out / "captions.csv", ("path", "caption"), captions)

    return "rows/train-{0:05d}.csv", write, whole, finish


_FORMATS = {"webdataset": _webdataset, "parquet": _parquet, "folder": _folder}


def _each_has_its_seed(store: Store) -> bool:
    """Whether group and seed name an image."""
    group, seed = (np.asarray(store.column(name)) for name in ("group", "seed"))
    if group.min() < 0 or seed.min() < 0:
        return False
    order = np.lexsort((seed, group))
    group, seed = group[order], seed[order]
    return not bool(((group[1:] == group[:-1]) & (seed[1:] == seed[:-1])).any())


def _caption_path(row: Row) -> str:
    return f"{row.group // _IN_FOLDER:06d}/{row.group:09d}.{row.ending}"


def _captions(lines: Iterator[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Every group once, by the name that its images have in the folder of each seed."""
    seen: set[int] = set()
    for one in lines:
        if int(one["group"]) not in seen:
            seen.add(int(one["group"]))
            yield {"path": one["file_name"].partition("/")[2], "caption": one["caption"]}


def _lines(path: pathlib.Path) -> Iterator[dict[str, str]]:
    if path.is_file():
        csv.field_size_limit(2**24)
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.DictReader(file)


def _same(path: pathlib.Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def _write_csv(path: pathlib.Path, fields: tuple[str, ...], lines: Iterator[dict]) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("w", newline="", encoding="utf-8") as file:
        made = csv.DictWriter(file, fields, lineterminator="\n")
        made.writeheader()
        made.writerows(lines)
    os.replace(part, path)
