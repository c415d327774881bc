"""`gallery.png`: what the training images look like, a row a category, a column an instance; of
scenes, which hold several categories, every one beside its mask; of sets with one image a category,
that.
"""

import colorsys
from collections.abc import Sequence

import jax
import numpy as np
from etils import epath
from jaxtyping import Integer, UInt8
from PIL import Image, ImageDraw, ImageFont

from jaxfdsl import terminal, whole_file
from jaxfdsl.data.sources import Rows, Source

CELL, GAP, LEFT, TOP = 96, 3, 36, 44  # pixels
_AT_ONCE = 100  # images drawn by a call: a page of ten by ten is one
_INK, _PAPER, _EMPTY = (70, 70, 70), (255, 255, 255), (238, 238, 238)


def write(
    path: epath.PathLike, source: Source, *, rows: int = 10, columns: int = 10
) -> UInt8[np.ndarray, "H W 3"]:
    """Writes a PNG with the first instances of the first categories of `source`, or its first
    scenes; returns it.
    """
    with whole_file.written(path) as file:
        picture = _sheet(source, rows, columns)
        Image.fromarray(picture).save(file, "PNG")
    return picture


def _sheet(source: Source, rows: int, columns: int) -> UInt8[np.ndarray, "H W 3"]:
    masked = "mask" in source.targets
    count = max(1, columns // 2) if masked else columns
    single = not source.scenes and source.num_examples == source.num_classes
    wanted = rows * count if single else rows
    classes = source.num_classes or wanted  # images without labels have recipes
    images = _instances(source, wanted if source.scenes else min(wanted, classes), count)
    title = "a row a category, a column an instance"
    if not source.num_classes:
        title = "a row a recipe, a column an image"
    if single:  # one image a category: a cell each
        cells = np.concatenate(images)
        images = np.split(cells, range(count, len(cells), count))
        title = f"categories 0 to {len(cells) - 1}, one image each"
    if source.scenes:
        title = f"scenes of {source.num_classes} categories"
    if masked:
        title, columns = f"{title}, each beside its mask", 2 * count
    return compose(images, f"{source.name}: {title}", columns)


def _instances(source: Source, categories: int, count: int) -> list[UInt8[np.ndarray, "n S S C"]]:
    parts = [source.rows_of(category, count) for category in range(categories)]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    fields = _drawn(source, rows)
    images = fields["image"]
    if "mask" in source.targets:
        colour = np.broadcast_to(images, (*images.shape[:3], 3))
        images = np.stack([colour, painted(fields["mask"])], 1).reshape(-1, *colour.shape[1:])
    shown = len(images) // len(fields["image"])
    lengths = [shown * len(next(iter(part.values()))) for part in parts]
    return np.split(images, np.cumsum(lengths)[:-1])


def _drawn(source: Source, rows: Rows) -> dict[str, np.ndarray]:
    """The fields of many rows, so many at a time as a device has room for."""
    draw, total = jax.jit(source.fields), len(next(iter(rows.values())))
    drawn = []
    with terminal.progress(total, desc=source.name, unit="images") as bar:
        for start in range(0, total, _AT_ONCE):
            part = {name: values[start : start + _AT_ONCE] for name, values in rows.items()}
            drawn.append(jax.device_get(draw(part, source.table)))
            bar.update(len(next(iter(part.values()))))
    return {name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]}


def painted(masks: Integer[np.ndarray, "n S S"]) -> UInt8[np.ndarray, "n S S 3"]:
    """A colour for each class, far from those of the next ones, black for the background."""
    known = np.arange(1, masks.max(initial=0) + 1)
    hues = [colorsys.hsv_to_rgb(k * 0.618 % 1, 0.5 + k % 2 / 2, 1.0) for k in known]
    return np.round(255 * np.array([(0.0, 0.0, 0.0), *hues])).astype(np.uint8)[masks]


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
