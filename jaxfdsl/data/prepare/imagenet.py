"""ImageNet (ILSVRC 2012) from its two official tar files."""

import contextlib
import dataclasses
import importlib.resources
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.prepare import shards
from jaxfdsl.data.prepare.split import DataSet, Split, as_jpeg

TARS = {"train": "ILSVRC2012_img_train.tar", "validation": "ILSVRC2012_img_val.tar"}
_VALIDATION = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")


@dataclasses.dataclass(frozen=True)
class Counts:
    """What the complete files hold; `most` is the largest class of the training images."""

    train: int = 1_281_167
    classes: int = 1_000
    most: int = 1_300
    validation: int = 50_000


def imagenet2012(
    tars: str,
    data_dir: str = "",
    *,
    allow_partial: bool = False,
    counts: Counts | None = None,
    **options: Any,
) -> str:
    """Write `imagenet2012:5.1.0`, or the split whose tar is there, and return its folder.

    `tars` is the folder of the files as downloaded (never unpacked); `options` are those of
    `shards.write`. Classes are TFDS's: the synsets, sorted. Raises `ConfigError` for tars that
    are missing or cut short, and, unless `allow_partial`, for fewer images than published.
    """
    import tensorflow_datasets as tfds

    paths = {split: os.path.join(tars, name) for split, name in TARS.items()}
    paths = {split: path for split, path in paths.items() if os.path.isfile(path)}
    if not paths:
        raise ConfigError(
            f"--tars={tars!r} holds neither {' nor '.join(TARS.values())}: type the folder that "
            "holds one or both, as downloaded from https://image-net.org/download-images."
        )
    synsets = _shipped("labels.txt")
    made = DataSet(
        name="imagenet2012",
        version="5.1.0",
        features={
            "file_name": tfds.features.Text(),
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=synsets),
        },
        description="ILSVRC 2012, commonly known as ImageNet.",
        homepage="https://image-net.org/",
        splits=[],
    )
    left = [split for split in paths if split not in shards.prepared(made, data_dir)]
    with contextlib.ExitStack() as opened:
        splits = [
            _index(split, opened.enter_context(open(paths[split], "rb")), synsets) for split in left
        ]
        if not allow_partial:
            for split in splits:
                _check_counts(split, counts or Counts())
        return shards.write(dataclasses.replace(made, splits=splits), data_dir, **options)


class _TarImages(Split):
    """Images at known places of one uncompressed file."""

    def __init__(self, name: str, file: BinaryIO, found: Sequence[tuple[str, int, int, int]]):
        names, offsets, sizes, labels = zip(*found, strict=True)
        self.name, self.file = name, file
        self.keys = names
        self.offsets = np.array(offsets, np.int64)
        self.sizes = np.array(sizes, np.int64)
        self.labels = np.array(labels, np.int16)
        status = os.fstat(file.fileno())
        self.stamp = f"{status.st_size} {status.st_mtime_ns}"

    def example(self, place: int) -> tuple[dict[str, Any], bool]:
        stored = os.pread(self.file.fileno(), int(self.sizes[place]), int(self.offsets[place]))
        data, changed = as_jpeg(stored)
        name, label = self.keys[place], int(self.labels[place])
        return {"file_name": name, "image": data, "label": label}, changed


def _index(split: str, file: BinaryIO, synsets: Sequence[str]) -> _TarImages:
    """Where each image lies: the headers alone are read, the images when they are written."""
    members = _train if split == "train" else _validation
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            found = list(members(tar, synsets))
    except tarfile.TarError as error:
        raise ConfigError(
            f"{file.name} is cut short or no tar file ({error}): download it again."
        ) from error
    if not found:
        raise ConfigError(f"{file.name} holds no image: download it again.")
    return _TarImages(split, file, found)


def _train(tar: tarfile.TarFile, synsets: Sequence[str]) -> Iterator[tuple[str, int, int, int]]:
    """Name, offset, bytes and label of each image in the class tars inside the tar."""
    classes = {synset: label for label, synset in enumerate(synsets)}
    with terminal.progress(desc="looking through the training tar", unit="classes") as bar:
        for outer in filter(tarfile.TarInfo.isfile, tar):
            synset = posixpath.basename(outer.name).removesuffix(".tar")
            if synset not in classes:
                raise ConfigError(
                    f"{TARS['train']} holds {outer.name!r}, which is no class of ImageNet: type "
                    "--tars=DIR with the tar of 1,000 tars, as downloaded."
                )
            with tarfile.open(fileobj=tar.extractfile(outer), mode="r:") as inner:
                for image in filter(tarfile.TarInfo.isfile, inner):
                    start = outer.offset_data + image.offset_data
                    name = posixpath.basename(image.name)
                    yield name, start, image.size, classes[synset]
            bar.update()


def _validation(
    tar: tarfile.TarFile, synsets: Sequence[str]
) -> Iterator[tuple[str, int, int, int]]:
    """The same of the flat validation tar; the number in a name says which label is its own."""
    labels = _shipped("validation_labels.txt")
    for image in filter(tarfile.TarInfo.isfile, tar):
        name = posixpath.basename(image.name)
        match = _VALIDATION.fullmatch(name)
        if match is None or not 1 <= int(match[1]) <= len(labels):
            raise ConfigError(
                f"{TARS['validation']} holds {image.name!r}, which is no validation image of "
                "ImageNet: download it again."
            )
        yield name, image.offset_data, image.size, synsets.index(labels[int(match[1]) - 1])


def _check_counts(split: _TarImages, counts: Counts) -> None:
    images, expected = len(split.keys), getattr(counts, split.name)
    sizes = np.bincount(split.labels)
    classes, most = np.count_nonzero(sizes), sizes.max()
    wanted = counts.classes if split.name == "train" else classes
    allowed = counts.most if split.name == "train" else most
    if (images, classes) != (expected, wanted) or most > allowed:
        raise ConfigError(
            f"{split.file.name} holds {images:,} images of {classes:,} classes, at most {most:,} "
            f"of one; complete, {expected:,} of {wanted:,}, at most {allowed:,}: download it "
            "again, or type --allow_partial to take what is there."
        )


def _shipped(name: str) -> list[str]:
    """Lines of a file that TFDS ships: the synsets, or the labels of the validation images."""
    package = importlib.resources.files("tensorflow_datasets.datasets.imagenet2012")
    return package.joinpath(name).read_text().split()
