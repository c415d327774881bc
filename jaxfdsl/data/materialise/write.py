"""`materialise`: a formula data set as files, written shard by shard, kept across restarts."""

import itertools
import os
import pathlib
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.materialise import (
    SHARD_IMAGES,
    TARGETS,
    formats,
    images,
    loading,
    tfds_layout,
)
from jaxfdsl.data.materialise.manifest import NAME, Manifest, fill, opened
from jaxfdsl.data.prepare.shards import save
from jaxfdsl.generators import options as names


def materialise(
    dataset: Any,
    to: str,
    out: str | os.PathLike,
    *,
    shard_images: int = SHARD_IMAGES,
    command: str = "",
) -> Manifest:
    """Write what is missing of a `generators.Dataset` to the folder `out`, as PNG.

    to: one of TARGETS. Files get their names when they are whole, `manifest.json` keeps their
    sha256, and a second call keeps those that match: after a kill, call it again. Raises
    `ConfigError` before anything is written for an unknown format, an endless set, a folder that
    holds something else, and a disk that is too small.
    """
    check_target(to)
    check_size(dataset, shard_images)
    if to == "store":
        from jaxfdsl.data.materialise import store_layout

        store_layout.check(dataset)
    if "://" in str(out):
        raise ConfigError(f"--out={out}: type a local folder, and copy it afterwards.")
    path = pathlib.Path(out).expanduser()
    form = None if to in ("tfds", "store") else formats.FORMATS[to](dataset, path)
    asked = asked_for(dataset, to, shard_images, command)
    manifest = opened(path, asked)
    with terminal.waiting("drawing the first images"):
        first = first_images(dataset)
    check_room(manifest, len(dataset), form, first)
    count = -(-len(dataset) // shard_images)
    manifest.complete = False
    try:
        path.mkdir(parents=True, exist_ok=True)
        manifest.save()
    except OSError as error:
        raise ConfigError(f"{error}: type --out=DIR with a folder of yours.") from error
    if to != "store":  # which has a card of its own
        save(path / "README.md", loading.card(dataset, to, command, count))
    if to == "store":
        _write_store(manifest, dataset, shard_images)
    elif form is None:
        size = int(np.mean([len(one.image) for one in first]))
        _write_tfds(manifest, dataset, count, size)
    else:
        _write_shards(manifest, dataset, form, shard_images)
    manifest.complete = True
    manifest.save()
    return manifest


def check_target(to: str) -> None:
    """Raises `ConfigError` for a format that is not known."""
    if to not in TARGETS:
        near = names.nearest(to, TARGETS)
        raise ConfigError(f"--to={to}: type one of {', '.join(TARGETS)}{near}.")


def check_size(dataset: Any, shard_images: int) -> None:
    """Raises `ConfigError` for what cannot be cut into files."""
    if shard_images < 1:
        raise ConfigError(f"--shard_images={shard_images}: type 1 or more.")
    if dataset.instances is None:
        raise ConfigError(f"{dataset.name} is endless: type --instances=N, how many to write.")


def asked_for(dataset: Any, to: str, shard_images: int, command: str) -> dict[str, Any]:
    """What the manifest says of a set before its files."""
    return {
        "data_set": dataset.name,
        "format": to,
        "fingerprint": dataset.fingerprint(),
        "identity": dataset.identity(),
        "images": len(dataset),
        "classes": dataset.num_classes,
        "instances": dataset.instances,
        "size": dataset.size,
        "channels": dataset.channels,
        "shard_images": shard_images,
        "command": command,
    }


def _write_shards(manifest: Manifest, dataset: Any, form: formats.Format, each: int) -> None:
    total = len(dataset)
    ranges = [range(start, min(start + each, total)) for start in range(0, total, each)]
    files = [(form.path(number, len(ranges)), len(own)) for number, own in enumerate(ranges)]
    with (
        ThreadPoolExecutor(images.threads()) as pool,
        terminal.progress(total, desc=dataset.name, unit="images") as bar,
    ):

        def write(number: int, part: pathlib.Path) -> None:
            form.write(part, _counted(images.samples(dataset, ranges[number], pool), bar))

        fill(manifest, files, write, form.whole, bar)
    form.finish(dict(files))


def _write_store(manifest: Manifest, dataset: Any, each: int) -> None:
    from jaxfdsl.data.materialise import store_layout

    with terminal.progress(len(dataset), desc=dataset.name, unit="images") as bar:
        store_layout.write(dataset, manifest.out, each, bar, manifest.asked)
    for file, count in store_layout.files(manifest.out):
        manifest.enter(file, manifest.out / file, count)


def _write_tfds(manifest: Manifest, dataset: Any, count: int, size: int) -> None:
    final = tfds_layout.write(dataset, manifest.out, count, size, manifest.asked["fingerprint"])
    lengths = tfds_layout.lengths(final)
    for path in sorted(pathlib.Path(final).iterdir()):
        file = path.relative_to(manifest.out).as_posix()
        if file in manifest.files and not manifest.holds(file):
            raise ConfigError(
                f"{path} does not have the sha256 of {NAME}: remove {manifest.out} to write it "
                "again."
            )
        if file not in manifest.files:
            manifest.enter(file, path, lengths.get(path.name, 0))


def _counted(samples: Iterable[images.Sample], bar: Any) -> Iterator[images.Sample]:
    for one in samples:
        yield one
        bar.update()


def first_images(dataset: Any) -> list[images.Sample]:
    """The images that tell what the others will take."""
    with ThreadPoolExecutor(images.threads()) as pool:
        count = min(len(dataset), images.BATCH)
        return list(images.samples(dataset, range(count), pool))


def check_room(
    manifest: Manifest, total: int, form: formats.Format | None, first: list[images.Sample]
) -> None:
    """Raises `ConfigError` for a disk that is too small."""
    one = [form.size(image) if form else image.size for image in first]
    out = manifest.out.absolute()
    done = sum(file["images"] for file in manifest.files.values())
    needed = float(np.mean(one)) * (total - done)
    if form is None and not done:  # TFDS's files are entered at the end
        needed -= sum(file.stat().st_size for file in out.rglob("*.array_record*"))
    there = next(place for place in itertools.chain([out], out.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise ConfigError(
            f"{there} has {free / 1e9:.2f} GB free, and about {needed / 1e9:.2f} GB are needed: "
            "type --out=DIR on a larger disk, a smaller --size, or fewer --instances."
        )
