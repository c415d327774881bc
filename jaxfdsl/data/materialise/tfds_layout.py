"""A formula data set in TFDS's own order and layout, by the writer of `jaxfdsl prepare`."""

import functools
import pathlib
import re
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxfdsl.data.materialise import formats, images
from jaxfdsl.data.prepare import shards
from jaxfdsl.data.prepare.split import DataSet, Split

VERSION = "1.0.0"
SPLIT = "train"


def name_of(dataset: Any) -> str:
    """exfractaldb_1k for exfractaldb-1k: what TFDS takes as a name."""
    name = re.sub(r"\W", "_", dataset.name.lower())
    return name if name[0].isalpha() else f"fdsl_{name}"


def write(dataset: Any, out: pathlib.Path, shard_count: int, png_bytes: int, stamp: str) -> str:
    """Write what is missing to `out/<name>/1.0.0`, and return that folder.

    TFDS shuffles by the hash of the keys; batches are drawn in the order that comes of it.
    """
    with ThreadPoolExecutor(1) as pool:
        split = _Drawn(dataset, pool, shard_count, png_bytes, stamp)
        return shards.write(described(dataset, [split]), str(out), tell=lambda _: None)


def described(dataset: Any, splits: Sequence[Split] = ()) -> DataSet:
    """The set in TFDS's words."""
    return DataSet(
        name=name_of(dataset),
        version=VERSION,
        features=formats.tfds_features(dataset),
        description=f"{dataset.name}, images computed from formulas: {dataset.identity()}",
        homepage="",
        splits=splits,
    )


def lengths(final: str) -> dict[str, int]:
    """Images in each record file of a written set, by file name."""
    import tensorflow_datasets as tfds

    split = tfds.builder_from_directory(final).info.splits[SPLIT]
    return dict(zip(split.filenames, split.shard_lengths, strict=True))


class _Drawn(Split):
    """Images by their place in the set, drawn by the batch in the order of the files."""

    name = SPLIT

    def __init__(self, dataset: Any, pool: ThreadPoolExecutor, count: int, size: int, stamp: str):
        total = len(dataset)
        self.dataset, self.pool, self.num_shards, self.stamp = dataset, pool, count, stamp
        self.keys = [images.key(dataset, index) for index in range(total)]
        self.sizes = np.full(total, size, np.int64)
        self.batches: dict[int, Future] = {}
        self.lock = threading.Lock()

    @functools.cached_property
    def order(self) -> np.ndarray:
        """Indices in the order of the files."""
        return np.concatenate(shards.order_in_files(self)).astype(np.int64)

    @functools.cached_property
    def ranks(self) -> np.ndarray:
        """The place of each index in `order`."""
        return np.argsort(self.order)

    def example(self, place: int) -> tuple[dict[str, Any], bool]:
        with self.lock:
            number, inside = divmod(int(self.ranks[place]), images.BATCH)
            for ahead in (number, number + 1):  # the device draws while threads encode
                if ahead not in self.batches:
                    self.batches[ahead] = self.pool.submit(self._draw, ahead)
            # Threads are at most four images each ahead of the file.
            kept = 4 + 4 * images.threads() // images.BATCH
            for old in [one for one in self.batches if one < number - kept]:
                del self.batches[old]
            drawn = self.batches[number]
        fields = {name: values[inside] for name, values in drawn.result().items()}
        return formats.example(images.sample(self.dataset, place, fields)), False

    def _draw(self, number: int) -> dict[str, np.ndarray]:
        indices = self.order[number * images.BATCH : (number + 1) * images.BATCH]
        return images.draw(self.dataset, indices) if len(indices) else {}
