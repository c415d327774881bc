"""Drawn images with their labels and recipes, encoded as PNG, in the order that is asked for."""

import dataclasses
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Int, Int64, Shaped
from PIL import Image

from jaxfdsl.data.prepare.shards import look_ahead

BATCH = 64  # images drawn by a call: one shape, one compilation, that of the fingerprint
_WAITING = 2 * BATCH  # images that may wait for an encoder: a batch while the next one is drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """One image of a data set: PNG bytes, and what they were drawn from."""

    index: int
    key: str  # category_instance, unique in its set
    category: int  # 0 of scenes, which hold several
    instance: int
    label: int | tuple[int, ...]  # several of scenes
    image: bytes
    mask: bytes | None  # 0 background, category + 1 elsewhere

    @property
    def labels(self) -> tuple[int, ...]:
        return self.label if isinstance(self.label, tuple) else (self.label,)

    @property
    def size(self) -> int:
        """Bytes of a record that holds all this, nearly."""
        return len(self.image) + len(self.mask or b"") + 130


def samples(
    dataset: Any, indices: Sequence[int] | Int64[np.ndarray, " n"], pool: ThreadPoolExecutor
) -> Iterator[Sample]:
    """The images `indices`, encoded by the pool while the device draws the next ones."""

    def drawn() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for start in range(0, len(indices), BATCH):
            part = np.asarray(indices[start : start + BATCH], np.int64)
            fields = draw(dataset, part)
            for place, index in enumerate(part.tolist()):
                yield index, {name: values[place] for name, values in fields.items()}

    return look_ahead(pool, _WAITING, lambda one: sample(dataset, *one), drawn())


def draw(dataset: Any, indices: Int[np.ndarray, " n"]) -> dict[str, Shaped[np.ndarray, "n ..."]]:
    """At most BATCH images on the host; a short batch is filled up, to compile once."""
    filled = np.concatenate([indices, np.repeat(indices[:1], BATCH - len(indices))])
    drawn = dataset.draw(filled)
    return {name: np.asarray(values)[: len(indices)] for name, values in drawn.items()}


def sample(dataset: Any, index: int, fields: Mapping[str, np.ndarray]) -> Sample:
    """One image of a drawn batch, encoded."""
    category, instance = (int(number) for number in dataset.recipes([index])[0])
    label = np.asarray(fields["label"])
    mask = fields.get("mask")
    return Sample(
        index=index,
        key=key(dataset, index),
        category=category,
        instance=instance,
        label=tuple(label[label >= 0].tolist()) if dataset.scenes else int(label),
        image=png(fields["image"]),
        mask=None if mask is None else png(mask[..., None].astype(mask_type(dataset))),
    )


def key(dataset: Any, index: int) -> str:
    """category_instance, such as 00012_00003; of scenes the instance."""
    category, instance = index % dataset.num_recipes, index // dataset.num_recipes
    return f"{instance:07d}" if dataset.scenes else f"{category:05d}_{instance:05d}"


def mask_type(dataset: Any) -> Any:
    """uint8, or uint16 where there are more categories than it holds."""
    return np.uint8 if dataset.num_outputs <= 256 else np.uint16


def png(image: Shaped[np.ndarray, "S S C"]) -> bytes:
    """Lossless; one channel stays grey."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def threads() -> int:
    """How many encode: one a processor."""
    return os.cpu_count() or 1
