"""TFDS data sets in array_record form, read without TensorFlow.

Worker processes load this module: nothing in it touches a device.
"""

import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import shlex
from typing import Any

import numpy as np
from etils import epath
from jaxtyping import Int64, Shaped
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError, resolve_data_dir
from jaxfdsl.data import stored
from jaxfdsl.data.decode import View
from jaxfdsl.data.records import Labels, Records
from jaxfdsl.data.store import columns

# All that the command `tfds` of 4.9.10 imports; Beam cannot live beside our Pillow and protobuf.
_INSTALL = "pip install tensorflow-datasets tensorflow apache-beam mlcroissant importlib-resources"
SECONDS_A_LABEL = 4e-4  # ImageNet: a record holds its picture too, measured from the page cache


@dataclasses.dataclass(frozen=True)
class TfdsRecords(Records):
    """One split of a prepared data set."""

    name: str
    directory: str  # .../cifar10/3.0.2
    split: str
    label: str = "label"
    shuffled = True  # TFDS shuffles what it writes
    label_cost = SECONDS_A_LABEL

    @property
    def identity(self) -> tuple[str, ...]:
        """Name, version and split; the label's feature where it is not the usual one."""
        own = () if self.label == "label" else (self.label,)
        return (self.name, os.path.basename(self.directory), self.split, *own)

    def __len__(self) -> int:
        return len(_open(self.directory, self.split))

    def read(self, rows: Int64[np.ndarray, " n"]) -> tuple[list[bytes | None], Labels]:
        """The encoded pictures and their labels."""
        examples = self._examples(rows)
        return [one["image"].bytes_list.value[0] for one in examples], self._labels(examples)

    def labels(self, rows: Int64[np.ndarray, " n"]) -> Labels:
        """The labels; the pictures beside them are read, and not decoded."""
        return self._labels(self._examples(rows))

    def where(self, row: int) -> str:
        """The row's data set and split."""
        return f"image {row} of {self.name}, split {self.split!r} in {self.directory},"

    def sidecar(self, name: str) -> pathlib.Path | None:
        """rep/train-dino.npy of "rep:dino" beside the data, a row a picture of the split; of a
        part such as 'train[:90%]' another file. None in a bucket, which NumPy cannot map."""
        if "://" in self.directory:
            return None
        kind, sign, own = name.partition(":")
        split = self.split
        if not re.fullmatch(r"\w+", split):
            digest = hashlib.sha256(split.encode()).hexdigest()[:8]
            split = "_".join([*re.findall(r"\w+", split), digest])
        return columns.sidecar_file(pathlib.Path(self.directory), f"{kind}{sign}{split}-{own}")

    @property
    def pictures(self) -> str:
        """Those of the split, whichever feature is its label."""
        if self.label != "label":
            return dataclasses.replace(self, label="label").pictures
        return super().pictures

    @property
    def typed(self) -> str:
        """tfds:NAME with its options."""
        root = self.directory.rpartition(f"/{self.name.partition(':')[0]}/")[0]
        where = f"tfds:{self.name} --split={shlex.quote(self.split)}"
        where += f" --label={shlex.quote(self.label)}" * (self.label != "label")
        return f"{where} --data_dir={shlex.quote(root)}" if root else where

    def mapped(self, name: str) -> Shaped[np.ndarray, "N ..."]:
        """As of all records; one that is not there is named with the command that writes it."""
        file = self.sidecar(name)
        if file is not None and not file.is_file():
            raise ConfigError(
                f"the column {name!r} of {self.name}, split {self.split!r}, is not there ({file}): "
                f"write it by jaxfdsl embed tfds:{self.name} --split={shlex.quote(self.split)} "
                f"--name={name.partition(':')[2]}."
            )
        return super().mapped(name)

    def _examples(self, rows: np.ndarray) -> list[Any]:
        # TFDS's own decoding takes three times as long, and would decode other pictures too.
        from tensorflow_datasets.proto import tf_example_pb2

        if not len(rows):
            return []
        encoded = _open(self.directory, self.split).__getitems__([int(row) for row in rows])
        return [tf_example_pb2.Example.FromString(one).features.feature for one in encoded]

    def _labels(self, examples: list[Any]) -> Labels:
        several = [list(one[self.label].int64_list.value) for one in examples]
        return several if self.multi_label else np.array([one[0] for one in several], np.int64)


@functools.lru_cache(maxsize=8)
def _open(directory: str, split: str) -> Any:
    """Random access to a split's serialised examples."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(directory).as_data_source(split=split).data_source


def load(
    entry: ConfigDict, *, seed: int, train: bool, field: str, view: View | None = None
) -> stored.StoredSource:
    """The source of a `kind: "tfds"` entry; raises `ConfigError` for data that is not there."""
    import tensorflow_datasets as tfds

    directory = find(entry.name, entry.data_dir, field)
    builder = tfds.builder_from_directory(directory)
    classes, multi_label = _classes(builder.info.features, entry, field)
    _check_format(builder, directory, field)
    records = TfdsRecords(entry.name, directory, entry.split, entry.label, multi_label=multi_label)
    try:
        len(records)
    except ValueError as error:
        raise ConfigError(
            f"{field}.split={entry['split']!r} is not in {directory}: "
            f"type one of {sorted(builder.info.splits)}, or a part such as 'train[:90%]'."
        ) from error
    return stored.load(
        entry,
        records,
        classes.names,
        name=entry.name,
        num_classes=classes.num_classes,
        seed=seed,
        train=train,
        field=field,
        view=view,
    )


def _classes(features: Any, entry: ConfigDict, field: str) -> tuple[Any, bool]:
    """The ClassLabel that a label feature is, or is a sequence of, and whether it is one."""
    found = {}
    for name, feature in features.items():
        # A sequence lends its feature's attributes, so that it must be asked for first.
        several = hasattr(feature, "feature")
        inner = feature.feature if several else feature
        if hasattr(inner, "num_classes"):
            found[name] = inner, several
    if "image" not in features or not found:
        raise ConfigError(
            f"{field}.name={entry['name']!r} has the features {sorted(features)}: "
            "type the name of a data set with an 'image' and a class 'label'."
        )
    if entry.label not in found:
        raise ConfigError(
            f"{field}.label={entry['label']!r} is not a class feature of {entry['name']!r}: type "
            f"--config.{field}.label={sorted(found)[0]}"
            + (f", or one of {sorted(found)[1:]}." if len(found) > 1 else ".")
        )
    return found[entry.label]


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
        f"type --config.data.data_dir=DIR with the folder that holds {name}/, or "
        f"{_preparation(name, root)}"
    )


def _preparation(name: str, root: str) -> str:
    if name in ("imagenet2012", "cifar10", "cifar100"):
        return (
            f"write it once with: jaxfdsl prepare {name} --tars=DIR --data_dir={root} "
            "(jaxfdsl prepare --help says what to download into DIR)"
        )
    return (
        f"prepare it once, in another environment, with: {_INSTALL} && tfds build {name} "
        f"--file_format=array_record --data_dir={root}"
    )


def _check_format(builder: Any, directory: str, field: str) -> None:
    formats = {form.value for form in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise ConfigError(
            f"{field}: {directory} holds {'/'.join(sorted(formats))} files, which only TensorFlow "
            f"reads: convert them once, in another environment, with: {_INSTALL} && tfds "
            f"convert_format --dataset_version_dir={directory} --out_file_format=array_record"
        )
