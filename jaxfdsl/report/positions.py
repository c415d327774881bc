"""Which positions a model takes to be alike: the similarity of its position embeddings."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MOST = 16  # rows and columns of tiles that can still be seen
_GRAY = "#555555"


def similarity(
    positions: Float[np.ndarray, "1 N D"], prefix: int
) -> Float64[np.ndarray, "s s s s"]:
    """The cosine of every patch's position embedding (row, column) with every other one's.

    The `prefix` first ones, the class token's, are left out.
    """
    grid = positions[0, prefix:].astype(np.float64)
    side = round(len(grid) ** 0.5)
    unit = grid / np.maximum(np.linalg.norm(grid, axis=1, keepdims=True), np.finfo(np.float64).tiny)
    return (unit @ unit.T).reshape(side, side, side, side)


def draw(similar: Float64[np.ndarray, "s s s s"]) -> Figure:
    """A tile a position: how alike it is to each of the image's. Dosovitskiy et al., arXiv
    2010.11929, figure 7 centre.
    """
    side = len(similar)
    chosen = np.unique(np.linspace(0, side - 1, min(side, MOST)).round().astype(int))
    step = side + max(1, round(side / 8))
    page = np.full((len(chosen) * step - (step - side),) * 2, np.nan)
    for row, down in enumerate(chosen):
        for column, across in enumerate(chosen):
            top, left = row * step, column * step
            page[top : top + side, left : left + side] = similar[down, across]
    figure = Figure(figsize=(6.6, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    shown = axes.imshow(page, vmin=-1, vmax=1, cmap="viridis", interpolation="nearest")
    places = np.arange(len(chosen)) * step + (side - 1) / 2
    axes.set_xticks(places, chosen + 1)
    axes.set_yticks(places, chosen + 1)
    axes.set_xlabel("column of the patch", color=_GRAY, fontsize=9)
    axes.set_ylabel("row of the patch", color=_GRAY, fontsize=9)
    axes.tick_params(colors=_GRAY, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Similarity of positions", loc="left", fontsize=11, fontweight="bold")
    bar = figure.colorbar(shown, ax=axes, shrink=0.7, ticks=[-1, 0, 1], aspect=28)
    bar.set_label("cosine", color=_GRAY, fontsize=9)
    bar.ax.tick_params(colors=_GRAY, labelsize=8, length=0)
    bar.outline.set_visible(False)
    return figure
