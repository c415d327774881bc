"""A formula data set as a store: categories are groups, instances seeds, in the set's order."""

import pathlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.materialise import formats, images


def check(dataset: Any) -> None:
    """Raises `ConfigError` for pictures of which a store cannot say what they show."""
    if dataset.scenes or dataset.has_mask:
        raise ConfigError(
            f"--to=store: a store has one label an image, and {dataset.name} has several or masks: "
            "type --to=tfds, webdataset, parquet or folder."
        )


def write(
    dataset: Any, out: pathlib.Path, shard_images: int, bar: Any, asked: Mapping[str, Any]
) -> None:
    """Write what is missing; image i of the set is row i."""
    card = {
        "title": dataset.name,
        "generator": f"{dataset.name}, {dataset.size} pixels, by jaxfdsl",
        "formula": asked["fingerprint"],
        "created_by": asked["command"] or "jaxfdsl.data.materialise",
    }
    classes = formats.class_names(dataset)
    with (
        store.Writer(out, card=card, classes=classes, shard_images=shard_images) as writer,
        ThreadPoolExecutor(images.threads()) as pool,
    ):
        bar.initial += writer.done
        bar.update(writer.done)
        for one in images.samples(dataset, range(writer.done, len(dataset)), pool):
            writer.add(
                one.image,
                label=one.labels[0],
                group=one.category,
                seed=one.instance,
                source=dataset.name,
            )
            bar.update()


def files(out: pathlib.Path) -> list[tuple[str, int]]:
    """What was written, by path, with the images in it."""
    layout = store.open(out).layout
    found = [(layout.shard_file(n), shard.images) for n, shard in enumerate(layout.shards)]
    found += [(path, 0) for path in sorted((layout.root / "columns").glob("*.npy"))]
    return [(path.relative_to(layout.root).as_posix(), count) for path, count in found]
