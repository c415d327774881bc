"""How one shard is written: WebDataset tar, Parquet, image folder, array_record."""

import abc
import csv
import hashlib
import io
import itertools
import json
import os
import pathlib
import tarfile
from collections.abc import Iterable
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data.materialise.images import Sample, mask_type
from jaxfdsl.data.prepare.shards import save

_BLOCK = 512  # of a tar
_DISK_BLOCK = 4096  # of most file systems: what a small file takes
_ROWS = 100  # of a row group: small enough to read for one picture


class Format(abc.ABC):
    """One way to store a data set; `template` names shard {0} of {1}."""

    template: str

    def __init__(self, dataset: Any, out: pathlib.Path):
        self.dataset, self.out = dataset, out

    def path(self, shard: int, count: int) -> str:
        """The shard's file, relative to `out`."""
        return self.template.format(shard, count)

    @abc.abstractmethod
    def write(self, part: pathlib.Path, samples: Iterable[Sample]) -> None:
        """One shard, to a temporary file."""

    def size(self, one: Sample) -> int:
        """Bytes that an image takes on the disk, nearly."""
        return one.size

    def whole(self, path: pathlib.Path) -> bool:
        """Whether what a shard of the right checksum names is there too."""
        return path.is_file()

    def finish(self, lengths: dict[str, int]) -> None:  # noqa: B027
        """What readers want beside the shards: images of each by its path."""


class WebDataset(Format):
    """Tars with `<key>.png`, `.cls` (one label), `.mask.png` and `.json`, in the set's order."""

    template = "train-{0:06d}.tar"

    def write(self, part: pathlib.Path, samples: Iterable[Sample]) -> None:
        """Equal images make equal tars: no times, no owners."""
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for one in samples:
                for ending, data in self._members(one).items():
                    add_member(tar, f"{one.key}.{ending}", data)

    def _members(self, one: Sample) -> dict[str, bytes]:
        members = {"png": one.image}
        if one.mask is not None:
            members["mask.png"] = one.mask
        if not self.dataset.scenes:
            members["cls"] = str(one.label).encode()
        family = self.dataset.family
        recipe = {
            "label": one.label,
            "category": one.category,
            "instance": one.instance,
            "size": self.dataset.size,
            "family": family.name,
            "version": family.version,
        }
        return {**members, "json": json.dumps(recipe).encode()}

    def size(self, one: Sample) -> int:
        """A header and whole blocks for each member."""
        return sum(_BLOCK + _up(len(data), _BLOCK) for data in self._members(one).values())

    def finish(self, lengths: dict[str, int]) -> None:
        """How many images there are."""
        write_info(self.out, lengths)


class Parquet(Format):
    """`data/train-*.parquet` with the schema that `datasets` shows as Image and ClassLabel."""

    template = "data/train-{0:05d}-of-{1:05d}.parquet"

    def __init__(self, dataset: Any, out: pathlib.Path):
        super().__init__(dataset, out)
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError as error:
            raise ConfigError(
                '--to parquet needs pyarrow: type pip install "jaxfdsl[data]".'
            ) from error

    def write(self, part: pathlib.Path, samples: Iterable[Sample]) -> None:
        """Row groups of 100 images, PNG bytes as they are."""
        write_rows(part, self._schema(), map(self._row, samples))

    def _row(self, one: Sample) -> dict[str, Any]:
        row: dict[str, Any] = {
            "image": {"bytes": one.image, "path": f"{one.key}.png"},
            "label": one.label,
            "category": one.category,
            "instance": one.instance,
        }
        if one.mask is not None:
            row["mask"] = {"bytes": one.mask, "path": f"{one.key}.mask.png"}
        return row

    def _schema(self) -> Any:
        import pyarrow as pa

        picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        classes: Any = {"names": class_names(self.dataset), "_type": "ClassLabel"}
        scenes = self.dataset.scenes
        columns = {"image": picture, "label": pa.list_(pa.int64()) if scenes else pa.int64()}
        # `Sequence` is what every release of `datasets` reads; the newer `List` is not.
        label = {"feature": classes, "_type": "Sequence"} if scenes else classes
        features = {"image": {"_type": "Image"}, "label": label}
        for name in ("category", "instance"):
            columns[name] = pa.int64()
            features[name] = {"dtype": "int64", "_type": "Value"}
        if self.dataset.has_mask:
            columns["mask"], features["mask"] = picture, {"_type": "Image"}
        metadata = {
            "huggingface": json.dumps({"info": {"features": features}}),
            "jaxfdsl": json.dumps({"data_set": self.dataset.name, **constants(self.dataset)}),
        }
        return pa.schema(columns, metadata=metadata)


class Folder(Format):
    """`train/CLASS/NNNNN.png`, masks beside it in `masks/`; a shard is the CSV of its images.

    Scenes have no class of their own: they lie in `images/train/`, their masks in `masks/train/`.
    """

    template = "recipes/train-{0:05d}.csv"

    def write(self, part: pathlib.Path, samples: Iterable[Sample]) -> None:
        """The images, each whole or not at all, and the CSV with their sha256 last."""
        with part.open("w", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(("file_name", "sha256", "label", "category", "instance", "mask_sha256"))
            for one in samples:
                image, mask = self._places(one)
                place(self.out / image, one.image)
                if one.mask is not None:
                    place(self.out / mask, one.mask)
                labels = " ".join(map(str, one.labels))
                sums = _sum(one.image), "" if one.mask is None else _sum(one.mask)
                lines.writerow((image, sums[0], labels, one.category, one.instance, sums[1]))

    def _places(self, one: Sample) -> tuple[str, str]:
        if self.dataset.scenes:
            return f"images/train/{one.key}.png", f"masks/train/{one.key}.png"
        name = f"train/{one.category:05d}/{one.instance:05d}.png"
        return name, f"masks/{name}"

    def size(self, one: Sample) -> int:
        """Whole blocks of the file system."""
        mask = 0 if one.mask is None else _up(len(one.mask), _DISK_BLOCK)
        return _up(len(one.image), _DISK_BLOCK) + mask + 120

    def whole(self, path: pathlib.Path) -> bool:
        """Every image as its line of the CSV says."""
        if not path.is_file():
            return False
        with path.open(newline="") as file:
            for line in csv.DictReader(file):
                image = line["file_name"]
                mask = image.replace("images/", "masks/") if self.dataset.scenes else ""
                sums = {image: line["sha256"], mask or f"masks/{image}": line["mask_sha256"]}
                for name, wanted in sums.items():
                    own = self.out / name
                    if wanted and (not own.is_file() or _sum(own.read_bytes()) != wanted):
                        return False
        return True


class ArrayRecord(Format):
    """Serialised `tf.train.Example`s in the set's order: random access by index."""

    template = "train.array_record-{0:05d}-of-{1:05d}"

    def write(self, part: pathlib.Path, samples: Iterable[Sample]) -> None:
        """A group of one image, as TFDS has it."""
        from array_record.python.array_record_module import ArrayRecordWriter

        from jaxfdsl.data.prepare import shards
        from jaxfdsl.data.prepare.split import DataSet

        made = DataSet("train", "1.0.0", tfds_features(self.dataset), "", "", ())
        serialize = shards.serializer(made)
        writer = ArrayRecordWriter(str(part), "group_size:1")
        try:
            for one in samples:
                writer.write(serialize(example(one)))
        finally:
            writer.close()


FORMATS: dict[str, type[Format]] = {
    "webdataset": WebDataset,
    "parquet": Parquet,
    "folder": Folder,
    "arrayrecord": ArrayRecord,
}


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A file in a tar, without time or owner."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


def write_info(out: pathlib.Path, lengths: dict[str, int]) -> None:
    """`_info.json`, from which timm's `wds/` reader takes the number of images."""
    split = {
        "name": "train",
        "num_samples": sum(lengths.values()),
        "filenames": list(lengths),
        "shard_lengths": list(lengths.values()),
    }
    text = json.dumps({"splits": {"train": split}}, indent=1)
    save(out / "_info.json", f"{text}\n")


def write_rows(part: pathlib.Path, schema: Any, rows: Iterable[dict[str, Any]]) -> None:
    """A Parquet file in row groups of 100, so that one picture costs little to read."""
    import pyarrow
    import pyarrow.parquet

    left = iter(rows)
    with pyarrow.parquet.ParquetWriter(part, schema, compression="none") as writer:
        while some := list(itertools.islice(left, _ROWS)):
            writer.write_table(pyarrow.Table.from_pylist(some, schema=schema))


def tfds_features(dataset: Any) -> dict[str, Any]:
    """What an example holds, in TFDS's words."""
    import numpy as np
    import tensorflow_datasets as tfds

    side, channels = dataset.size, dataset.channels
    label: Any = tfds.features.ClassLabel(names=class_names(dataset))
    features = {
        "image": tfds.features.Image(shape=(side, side, channels), encoding_format="png"),
        "label": tfds.features.Sequence(label) if dataset.scenes else label,
        "key": tfds.features.Text(),
        "index": tfds.features.Scalar(np.int64),
        "category": tfds.features.Scalar(np.int64),
        "instance": tfds.features.Scalar(np.int64),
    }
    if dataset.has_mask:
        features["mask"] = tfds.features.Image(
            shape=(side, side, 1), dtype=mask_type(dataset), encoding_format="png"
        )
    return features


def example(one: Sample) -> dict[str, Any]:
    """A sample as `tfds_features` describes it."""
    made = {name: getattr(one, name) for name in ("image", "key", "index", "category", "instance")}
    made["label"] = list(one.labels) if isinstance(one.label, tuple) else one.label
    return made if one.mask is None else {**made, "mask": one.mask}


def class_names(dataset: Any) -> list[str]:
    """The categories' numbers, as the published folders are called."""
    return [f"{number:05d}" for number in range(dataset.num_classes)]


def constants(dataset: Any) -> dict[str, Any]:
    """What all images of a set were drawn with."""
    return {
        "family": dataset.family.name,
        "version": dataset.family.version,
        "size": dataset.size,
        "identity": dataset.identity(),
    }


def place(path: pathlib.Path, data: bytes) -> None:
    """A file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _up(count: int, block: int) -> int:
    return -(-count // block) * block
