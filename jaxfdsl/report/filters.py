"""The filters of the first layer as pictures: their principal components, and each as it is."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64, UInt8
from PIL import Image

from jaxfdsl.report.sheet import MARGIN, Sheet

ROWS, COLUMNS, CELL = 4, 7, 84  # of components, as in the paper's figure, and their side in pixels
SINGLE_ROWS, SINGLE_COLUMNS, SINGLE = 7, 20, 46  # at most, of single filters
_GAP, _TOP = 6, 84

Kernel = Float[np.ndarray, "p p 3 D"]


def principal_components(kernel: Kernel, count: int) -> Float64[np.ndarray, "n p p 3"]:
    """The first `count` principal components of the D filters, those of the most variance first.

    Their signs are arbitrary: here their values sum to something positive. Dosovitskiy et al.,
    arXiv 2010.11929, figure 7 left.
    """
    filters = kernel.reshape(-1, kernel.shape[-1]).T.astype(np.float64)
    _, _, axes = np.linalg.svd(filters - filters.mean(0), full_matrices=False)
    axes = axes[:count]
    axes = axes * np.where(axes.sum(1, keepdims=True) < 0, -1, 1)
    return axes.reshape(-1, *kernel.shape[:3])


def strongest(kernel: Kernel, count: int) -> Float[np.ndarray, "n p p 3"]:
    """At most `count` single filters, those of the largest norm, in the model's order."""
    filters = np.moveaxis(kernel, -1, 0)
    norms = np.linalg.norm(filters.reshape(len(filters), -1), axis=1)
    return filters[np.sort(np.argsort(-norms, kind="stable")[:count])]


def to_bytes(
    filters: Float[np.ndarray, "n p p 3"], *, centred: bool = False
) -> UInt8[np.ndarray, "n p p 3"]:
    """Each filter from its lowest value, black, to its highest, white, its channels together;
    `centred`, so that zero is gray.
    """
    each: dict[str, Any] = {"axis": (1, 2, 3), "keepdims": True}
    low, high = filters.min(**each), filters.max(**each)
    if centred:
        high = np.maximum(high, -low)
        low = -high
    scaled = (filters - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    return np.round(255 * scaled).astype(np.uint8)


def draw(kernel: Kernel) -> Image.Image:
    """Both, side by side."""
    (patch, _, _, width), step = kernel.shape, SINGLE + _GAP
    components = to_bytes(principal_components(kernel, ROWS * COLUMNS), centred=True)
    single = to_bytes(strongest(kernel, SINGLE_ROWS * SINGLE_COLUMNS))
    right = MARGIN + COLUMNS * (CELL + _GAP) + MARGIN
    sheet = Sheet(
        right + SINGLE_COLUMNS * step - _GAP + MARGIN, _TOP + ROWS * (CELL + _GAP) - _GAP + MARGIN
    )
    sheet.text((MARGIN, 16), "Principal components of the filters", "title")
    sheet.text((MARGIN, 48), f"the first {len(components)}, zero is gray")
    sheet.text((right, 16), "Single filters", "title")
    shown = f"all {width}" if len(single) == width else f"the {len(single)} largest of {width}"
    sheet.text((right, 48), f"{shown}, {patch} × {patch} pixels, each scaled by itself")
    for place, pixels in enumerate(components):
        row, column = divmod(place, COLUMNS)
        sheet.picture((MARGIN + column * (CELL + _GAP), _TOP + row * (CELL + _GAP)), pixels, CELL)
    for place, pixels in enumerate(single):
        row, column = divmod(place, SINGLE_COLUMNS)
        sheet.picture((right + column * step, _TOP + row * step), pixels, SINGLE)
    return sheet.page
