"""Sheets of small pictures: a white page in the type and colours of `curves.png`."""

import functools
from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

INK, GRAY, RULE, PAPER = (0, 0, 0), (85, 85, 85), (222, 222, 222), (255, 255, 255)
GREEN = (59, 156, 110)
MARGIN = 24
SIZES = {"title": 23, "label": 18, "small": 15}  # pixels, as `curves.png` has at 150 to the inch


@functools.cache
def font(kind: str) -> Any:
    """Matplotlib's own type: "title" is bold, "label" and "small" are not."""
    weight = "bold" if kind == "title" else "normal"
    found = font_manager.findfont(font_manager.FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(found, SIZES[kind])


class Sheet:
    """A page of `width` by `height` pixels to put text and pictures on."""

    def __init__(self, width: int, height: int):
        self.page = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self.page)

    def text(
        self, at: tuple[int, int], words: str, kind: str = "label", *, anchor: str = "la",
        color: tuple[int, int, int] | None = None, width: int = 0,
    ) -> None:  # fmt: skip
        """Writes words at a place, which `anchor` is of Pillow's; cut to `width` pixels."""
        while width and len(words) > 1 and self._draw.textlength(words, font(kind)) > width:
            words = words.rstrip("…")[:-1].rstrip() + "…"
        color = color or (INK if kind == "title" else GRAY)
        self._draw.text(at, words, color, font(kind), anchor)

    def picture(self, at: tuple[int, int], pixels: UInt8[np.ndarray, "h w 3"], side: int) -> None:
        """A square picture, brought to `side` pixels."""
        self.page.paste(resized(pixels, side), at)

    def frame(
        self, at: tuple[int, int], side: int, color: tuple[int, int, int], width: int = 1
    ) -> None:
        """A line of some width round a picture that is there."""
        (left, top), last = at, side - 1
        box = (left - width, top - width, left + last + width, top + last + width)
        self._draw.rectangle(box, outline=color, width=width)

    def line(self, at: tuple[int, int], length: int, color: tuple[int, int, int]) -> None:
        """A line downwards."""
        self._draw.line((*at, at[0], at[1] + length), color, 2)


def resized(pixels: UInt8[np.ndarray, "h w 3"], side: int) -> Image.Image:
    """A small picture shows its pixels, a large one is smooth, as in the gallery."""
    image = Image.fromarray(pixels)
    kind = Image.Resampling.BOX if image.width < side else Image.Resampling.LANCZOS
    return image.resize((side, side), kind)
