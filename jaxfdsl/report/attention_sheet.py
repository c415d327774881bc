"""Attention on images: what each head of the last block looks at, and the rollout of all blocks."""

import matplotlib
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from jaxfdsl.report.sheet import MARGIN, Sheet

HEADS = 12  # shown at most
FROM = {"token": "the class token", "mean": "the mean of all patches"}
_CELL, _GAP, _TOP = 132, 6, 112
_COLORS = matplotlib.colormaps["inferno"]


def overlay(
    image: UInt8[np.ndarray, "S S 3"], attention: Float[np.ndarray, " n"], side: int = _CELL
) -> UInt8[np.ndarray, "{side} {side} 3"]:
    """A map over an image: from its lowest value, where the image is dark and gray, to its highest,
    in colours of fire over the same image.
    """
    patches = round(len(attention) ** 0.5)
    low, high = attention.min(), attention.max()
    scaled = (attention - low) / max(high - low, np.finfo(np.float32).tiny)
    grid = Image.fromarray(scaled.reshape(patches, patches).astype(np.float32))
    heat = np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 1)
    gray = Image.fromarray(image).convert("L").resize((side, side), Image.Resampling.LANCZOS)
    light = np.asarray(gray, np.float32)[..., None] / 255
    lit = 1 - (1 - _COLORS(0.9 * heat)[..., :3]) * (1 - 0.4 * light)  # as of two lamps
    return np.round(255 * lit).astype(np.uint8)


def draw(
    images: UInt8[np.ndarray, "B S S 3"],
    heads: Float[np.ndarray, "B H n"],
    rolled: Float[np.ndarray, "B n"],
    pool: str,
) -> Image.Image:
    """A row an image: it, each head of the last block, and the rollout."""
    count = min(heads.shape[1], HEADS)
    names = ["image", *(f"head {i + 1}" for i in range(count)), "rollout"]
    step = _CELL + _GAP
    width = max(2 * MARGIN + len(names) * step - _GAP, 640)
    sheet = Sheet(width, _TOP + len(images) * step - _GAP + MARGIN)
    sheet.text((MARGIN, 16), "Attention in the last block, and rolled out", "title")
    some = "" if count == heads.shape[1] else f", the first {count} of {heads.shape[1]} heads"
    sheet.text((MARGIN, 48), f"from {FROM[pool]} to each patch, bright is much{some}")
    for column, name in enumerate(names):
        sheet.text((MARGIN + column * step + _CELL // 2, _TOP - 10), name, "small", anchor="ms")
    for row, image in enumerate(images):
        top = _TOP + row * step
        sheet.picture((MARGIN, top), image, _CELL)
        for column, each in enumerate([*heads[row, :count], rolled[row]], 1):
            sheet.picture((MARGIN + column * step, top), overlay(image, each), _CELL)
    return sheet.page
