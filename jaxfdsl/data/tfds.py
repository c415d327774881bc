"""Real images: TFDS data sets in array_record form, read and decoded without TensorFlow.

Worker processes load this module: nothing in it touches a device.
"""

import dataclasses
import functools
import hashlib
import io
import json
import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int64, UInt8
from ml_collections import ConfigDict
from PIL import Image

from jaxfdsl.config import ConfigError, resolve_data_dir
from jaxfdsl.data.shuffle import hash64, permute, sample_order
from jaxfdsl.data.sources import Rows, Source

CACHE_BYTES = 2**30  # decoded sets up to this size are kept in memory, 5 times CIFAR-10
_THREADS = min(16, os.cpu_count() or 1)  # Pillow decodes outside the interpreter's lock,
_THREADED_BYTES = 8192  # but for images smaller than this the threads cost more than they bring
_SEARCHED = 2000  # images that are looked through for those of one class
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredSource(Source):
    """Part of one split of a prepared TFDS data set, decoded to a square canvas.

    Holds numbers and names alone, so that it travels to worker processes as it is; files are
    opened where rows are read.
    """

    num_examples: int
    directory: str  # .../cifar10/3.0.2
    split: str
    total: int  # images of the split
    skip: int  # images of a fixed shuffle of the split that come before this part
    seed: int
    train: bool

    @property
    def fingerprint(self) -> str:
        names = [self.name, os.path.basename(self.directory), self.split]
        numbers = [self.size, self.num_examples, self.total, self.skip]
        return hashlib.sha256(json.dumps(names + numbers).encode()).hexdigest()

    def rows(self, positions: Int64[np.ndarray, " n"]) -> Rows:
        """`image` uint8[n,S,S,3], `label` and `index` (row of the split) int32[n], `valid`."""
        positions = np.asarray(positions, np.int64)
        if self.train:
            places = sample_order(positions, self.num_examples, self.seed)
        else:
            places = positions % self.num_examples
        return self._rows_at(places)

    def rows_of(self, category: int, count: int) -> Rows:
        """Images of a class among the first few thousand; their order is the file's."""
        places = np.arange(min(self.num_examples, _SEARCHED))
        labels = _labels(self.directory, self.split, tuple(self._select(places).tolist()))
        return self._rows_at(places[labels == category][:count])

    def _rows_at(self, places: np.ndarray) -> Rows:
        if self.decodes:
            return _read(self.directory, self.split, self.size, self._select(places))
        with _lock:
            cached = _decoded(dataclasses.replace(self, seed=0, train=False))
        return {key: value[places] for key, value in cached.items()}

    def _select(self, places: np.ndarray) -> np.ndarray:
        """Rows of the split; parts are cut from one fixed order, so that they can be disjoint."""
        if self.num_examples == self.total:
            return places
        return permute(places + self.skip, self.total, hash64(0))

    def fields(self, rows: Mapping[str, Any], table: Any) -> dict[str, Any]:
        """The rows themselves: decoding is host work."""
        return dict(rows)


@functools.lru_cache(maxsize=8)
def _decoded(source: StoredSource) -> Rows:
    selected = source._select(np.arange(source.num_examples))
    return _read(source.directory, source.split, source.size, selected)


@functools.lru_cache(maxsize=8)
def _open(directory: str, split: str) -> Any:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    decoders = {"image": tfds.decode.SkipDecoding()}
    return builder.as_data_source(split=split, decoders=decoders)


@functools.lru_cache(maxsize=1)
def _labels(directory: str, split: str, selected: tuple[int, ...]) -> Int64[np.ndarray, " n"]:
    records = _open(directory, split).__getitems__(list(selected))
    return np.array([record["label"] for record in records], np.int64)


def _read(directory: str, split: str, size: int, selected: np.ndarray) -> Rows:
    records = _open(directory, split).__getitems__([int(row) for row in selected])
    images = decode_all([record["image"] for record in records], size)
    valid = np.array([image is not None for image in images], np.float32)
    for row in selected[valid == 0]:
        logging.warning("image %d of %s, split %s, cannot be decoded", row, directory, split)
    blank = np.zeros((size, size, 3), np.uint8)
    return {
        "image": np.array(
            [blank if image is None else image for image in images], np.uint8
        ).reshape(-1, size, size, 3),
        "label": np.array([record["label"] for record in records], np.int32),
        "index": selected.astype(np.int32),
        "valid": valid,
    }


def decode_all(encoded: Sequence[bytes], size: int) -> list[UInt8[np.ndarray, "S S 3"] | None]:
    """`decode` of each, in order; None stands where an image is corrupt."""

    def one(data: bytes) -> np.ndarray | None:
        try:
            return decode(data, size)
        except (OSError, ValueError, SyntaxError):  # what Pillow raises for broken files
            return None

    if sum(map(len, encoded)) < _THREADED_BYTES * len(encoded):
        return [one(data) for data in encoded]
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(one, encoded))


def decode(data: bytes, size: int) -> UInt8[np.ndarray, "S S 3"]:
    """An encoded image as RGB: shorter side resized to `size` (bicubic), then the centre square."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    shorter = min(image.size)
    if shorter != size:
        width, height = (max(size, round(side * size / shorter)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def load(entry: ConfigDict, *, seed: int, train: bool, field: str) -> StoredSource:
    """The source of a `kind: "tfds"` entry; raises `ConfigError` for data that is not there."""
    import tensorflow_datasets as tfds

    directory = find(entry.name, entry.data_dir, field)
    builder = tfds.builder_from_directory(directory)
    features = builder.info.features
    if not {"image", "label"} <= set(features) or not hasattr(features["label"], "num_classes"):
        raise ConfigError(
            f"{field}.name={entry['name']!r} has the features {sorted(features)}: "
            "type the name of a data set with an 'image' and a class 'label'."
        )
    _check_format(builder, directory, field)
    try:
        total = len(_open(directory, entry.split))
    except ValueError as error:
        raise ConfigError(
            f"{field}.split={entry['split']!r} is not in {directory}: "
            f"type one of {sorted(builder.info.splits)}, or a part such as 'train[:90%]'."
        ) from error
    skip, count = _part(entry, total, field)
    return StoredSource(
        name=entry.name,
        num_classes=features["label"].num_classes,
        size=entry.size,
        channels=3,
        num_examples=count,
        decodes=count * entry.size**2 * 3 > CACHE_BYTES,
        directory=directory,
        split=entry.split,
        total=total,
        skip=skip,
        seed=seed,
        train=train,
    )


def find(name: str, data_dir: str, field: str) -> str:
    """The folder of a prepared data set: `<data_dir>/<name>/[config/]<newest version>`."""
    name, _, version = name.partition(":")
    root = resolve_data_dir(data_dir)
    base = os.path.join(root, name)
    found = []
    for depth in ("", "*/", "*/*/"):
        for file in epath.Path(base).glob(f"{depth}dataset_info.json"):
            if version in ("", file.parent.name):
                numbers = tuple(int(part) for part in re.findall(r"\d+", file.parent.name))
                found.append((numbers, str(file.parent)))
    configs = sorted({os.path.dirname(place) for _, place in found})
    if len(configs) > 1:
        choices = [os.path.relpath(config, root) for config in configs]
        raise ConfigError(f"{field}.name={name!r} has several configs: type one of {choices}.")
    if found:
        return max(found)[1]
    wanted = os.path.join(base, version or "<version>", "dataset_info.json")
    raise ConfigError(
        f"{field}.data_dir={data_dir!r} holds no prepared data set {name!r} (looked for {wanted}): "
        f"type --config.data.data_dir=DIR with the folder that holds {name}/, or prepare it "
        f"once with: pip install tensorflow && tfds build {name} --file_format=array_record "
        f"--data_dir={root}"
    )


def _check_format(builder: Any, directory: str, field: str) -> None:
    formats = {form.value for form in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise ConfigError(
            f"{field}: {directory} holds {'/'.join(sorted(formats))} files, which only TensorFlow "
            "reads: convert them once with: pip install tensorflow && tfds convert_format "
            f"--dataset_version_dir={directory} --out_file_format=array_record"
        )


def _part(entry: ConfigDict, total: int, field: str) -> tuple[int, int]:
    skip = entry.skip_examples
    count = entry.num_examples or total - skip
    if skip < 0 or count <= 0 or skip + count > total:
        raise ConfigError(
            f"{field}.skip_examples={skip} with {field}.num_examples={count} asks for images "
            f"{skip} to {skip + count - 1} of {total}: type numbers whose sum is at most {total}."
        )
    return skip, count
