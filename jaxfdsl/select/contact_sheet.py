"""The best and the worst pictures of a store by a score, on one page."""

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from jaxfdsl import whole_file
from jaxfdsl.data.decode import View, centre_crop, decode_all
from jaxfdsl.data.store.reader import Store
from jaxfdsl.report.sheet import MARGIN, Sheet

COLUMNS, ROWS, SIDE, GAP = 8, 2, 112, 10  # of a half page; pixels
_WORDS = 40  # pixels for a score and a caption


def write(
    path: epath.PathLike,
    opened: Store,
    scores: Float[np.ndarray, " n"],
    kept: Int[np.ndarray, " k"],
    title: str,
) -> None:
    """A PNG with the highest and the lowest scores of all; those that are not kept are "out"."""
    usable = np.flatnonzero(np.isfinite(scores))
    order = usable[np.argsort(-scores[usable], kind="stable")]
    most = min(COLUMNS * ROWS, len(order))
    halves = {"best": order[:most], "worst": order[::-1][:most]}
    high = 40 + ROWS * (SIDE + _WORDS + GAP)
    sheet = Sheet(2 * MARGIN + COLUMNS * (SIDE + GAP) - GAP, 2 * MARGIN + 40 + 2 * high)
    sheet.text((MARGIN, MARGIN), title, "title", width=COLUMNS * (SIDE + GAP))
    for number, (name, rows) in enumerate(halves.items()):
        _half(sheet, MARGIN + 40 + number * high, name, opened, scores, rows, set(kept.tolist()))
    with whole_file.written(path) as file:
        sheet.page.save(file, "PNG")


def _half(
    sheet: Sheet,
    top: int,
    name: str,
    opened: Store,
    scores: np.ndarray,
    rows: np.ndarray,
    kept: set[int],
) -> None:
    sheet.text((MARGIN, top), name)
    view = View(SIDE)
    pictures: list[bytes | None] = list(opened.read(rows))
    images, _ = decode_all(pictures, lambda _, data: centre_crop(data, view), SIDE)
    captions = opened.captions(rows)
    for place, row in enumerate(rows.tolist()):
        down, across = divmod(place, COLUMNS)
        at = (MARGIN + across * (SIDE + GAP), top + 30 + down * (SIDE + _WORDS + GAP))
        sheet.picture(at, images[place], SIDE)
        told = f"{scores[row]:.3f}" + ("" if row in kept else " out")
        sheet.text((at[0], at[1] + SIDE + 2), told, "small", width=SIDE)
        sheet.text((at[0], at[1] + SIDE + 20), captions[place], "small", width=SIDE)
