"""`gallery.png`: what the training images look like, a row a category, a column an instance."""

from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxfdsl.data.sources import Source

CELL, GAP, LEFT, TOP = 96, 3, 36, 44  # pixels
_INK, _PAPER, _EMPTY = (70, 70, 70), (255, 255, 255), (238, 238, 238)


def write(
    path: epath.PathLike, source: Source, *, rows: int = 10, columns: int = 10
) -> UInt8[np.ndarray, "H W 3"]:
    """Writes a PNG with the first instances of the first categories of `source`; returns it."""
    images = _instances(source, min(rows, source.num_classes), columns)
    picture = compose(images, f"{source.name}: a row a category, a column an instance", columns)
    with epath.Path(path).open("wb") as file:
        Image.fromarray(picture).save(file, "PNG")
    return picture


def _instances(source: Source, categories: int, count: int) -> list[UInt8[np.ndarray, "n S S C"]]:
    parts = [source.rows_of(category, count) for category in range(categories)]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    images = np.asarray(jax.jit(source.fields)(rows, source.table)["image"])
    lengths = [len(next(iter(part.values()))) for part in parts]
    return np.split(images, np.cumsum(lengths)[:-1])


def compose(
    images: Sequence[UInt8[np.ndarray, "n S S C"]], title: str, columns: int
) -> UInt8[np.ndarray, "H W 3"]:
    """A grid with numbered rows and columns; a category with too few images leaves cells empty."""
    step = CELL + GAP
    size = (LEFT + columns * step, TOP + len(images) * step)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((LEFT, 6), title, _INK, ImageFont.load_default(14))
    small = ImageFont.load_default(11)
    for column in range(columns):
        draw.text((LEFT + column * step + CELL // 2, TOP - 4), str(column), _INK, small, "mb")
    for row, instances in enumerate(images):
        top = TOP + row * step
        draw.text((LEFT - 8, top + CELL // 2), str(row), _INK, small, "rm")
        for column in range(columns):
            left = LEFT + column * step
            if column < len(instances):
                sheet.paste(_thumbnail(instances[column]), (left, top))
            else:
                draw.rectangle((left, top, left + CELL - 1, top + CELL - 1), _EMPTY)
    return np.asarray(sheet)


def _thumbnail(pixels: UInt8[np.ndarray, "S S C"]) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    # Small images are shown with their pixels, large ones smoothly.
    kind = Image.Resampling.NEAREST if image.width < CELL else Image.Resampling.LANCZOS
    return image.resize((CELL, CELL), kind)
