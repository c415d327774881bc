"""How far each head looks, block by block."""

from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_COLOR, _GRAY = "#4269d0", "#555555"


def draw(distances: Float[np.ndarray, "L H"], image_size: int, uniform: float) -> Figure:
    """A dot a head, and the mean of a block's heads as a line; `uniform` is the distance at which
    every patch is looked at alike. Dosovitskiy et al., arXiv 2010.11929, figure 7 right.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    depth, heads = distances.shape
    blocks = np.arange(1, depth + 1)
    axes.axhline(uniform, color=_GRAY, linewidth=1, linestyle=(0, (4, 4)), label="even attention")
    axes.plot(blocks, distances.mean(1), color=_COLOR, linewidth=1.6, label="mean of the heads")
    style: dict[str, Any] = {"marker": "o", "markersize": 6, "linestyle": "none", "alpha": 0.55}
    axes.plot(np.repeat(blocks, heads), distances.ravel(), color=_COLOR, label="a head", **style)
    axes.set_title("Mean attention distance", loc="left", fontsize=11, fontweight="bold")
    axes.set_ylabel(f"pixels (an image has {image_size})", color=_GRAY, fontsize=9)
    axes.set_xlabel("block", color=_GRAY, fontsize=9, loc="right")
    axes.set_xlim(0.5, depth + 0.5)
    axes.set_ylim(0, 1.12 * max(uniform, distances.max()))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=_GRAY, labelsize=9)
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.12), "ncols": 3}
    axes.legend(**where, frameon=False, fontsize=8, columnspacing=1.6, handlelength=1.8)
    return figure
