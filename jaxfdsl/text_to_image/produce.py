"""Which images are made, in which order, and how a killed run goes on.

Image number i is of caption i // seeds, with seed i % seeds: a function of the model, the caption
and the seed, whatever batch it is made in. Several processes make a part of the captions each.
"""

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PIL import Image

from jaxfdsl.config import ConfigError

# Of captions and seeds, one each, to pictures; None where the model's checker lets none through.
Draw = Callable[[Sequence[str], Sequence[int]], Sequence[Image.Image | None]]

FORMATS = ("png", "webp", "jpeg")


@dataclasses.dataclass(frozen=True)
class Order:
    """The images of one process of `parts`: captions part, part + parts, ..., each seed of each."""

    captions: Sequence[str]
    seeds: tuple[int, ...]
    part: int = 0
    parts: int = 1

    def __len__(self) -> int:
        return len(range(self.part, len(self.captions), self.parts)) * len(self.seeds)

    def __getitem__(self, number: int) -> tuple[int, int]:
        """The caption's number and the seed of an image."""
        caption, seed = divmod(number, len(self.seeds))
        return self.part + caption * self.parts, self.seeds[seed]

    def after(self, caption: int, seed: int) -> int:
        """The number of the image after that of a caption's number and a seed."""
        place = (caption - self.part) // self.parts
        return place * len(self.seeds) + self.seeds.index(seed) + 1


def part_of(text: str) -> tuple[int, int]:
    """(k, n) of "k/n", the k-th of n processes, from 0; raises ConfigError for anything else."""
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise ConfigError(f"--part={text}: type 0/8 for the first of eight processes.")
    return int(part), int(parts)


def produce(
    draw: Draw,
    order: Order,
    writer: Any,
    *,
    batch: int,
    size: int,
    format: str,
    source: str,
    start: int = 0,
) -> Iterator[int]:
    """Gives `writer` (a `store.Writer`) the images from number `start` on, and yields how many are
    behind it so far.

    A batch may hold images of several captions. The pictures are resized to `size` pixels (0: left)
    by Pillow's Lanczos filter; those that are None are left out.
    """
    done = start
    while done < len(order):
        wanted = [order[i] for i in range(done, min(done + batch, len(order)))]
        texts = [order.captions[caption] for caption, _ in wanted]
        pictures = draw(texts, [seed for _, seed in wanted])
        if len(pictures) != len(wanted):
            raise RuntimeError(f"the model made {len(pictures)} images of {len(wanted)} captions")
        for (caption, seed), text, picture in zip(wanted, texts, pictures, strict=True):
            if picture is None:
                continue
            writer.add(
                encoded(picture, size, format),
                group=caption,
                seed=seed,
                caption=text,
                source=source,
            )
        done += len(wanted)
        yield done


def encoded(picture: Image.Image, size: int, format: str) -> bytes:
    """The file of a picture, `size` pixels wide and high."""
    picture = picture.convert("RGB")
    if size and picture.size != (size, size):
        picture = picture.resize((size, size), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    if format == "webp":
        picture.save(file, format, lossless=True)
    elif format == "jpeg":
        picture.save(file, format, quality=95)
    else:
        picture.save(file, format)
    return file.getvalue()
