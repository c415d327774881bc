"""The noise of the contour families: `pnoise1` of the package `noise` at uniform random places.

The published scripts call it at independent places in [0, 10,000), so what reaches a picture is
its distribution and no more: white noise, drawn here from a table of quantiles.
"""

import functools

import numpy as np

QUANTILES = 4096
NOISE_BITS = 12
PLACES = 10_000
# (hash & 7) + 1, or 0 for what stands for -1, of the 256 entries of Perlin's permutation: the
# package returns -1 for every negative gradient, where the published algorithm has -1 to -8.
GRADIENTS = (
    "8100004000163082058060046160807580001060000064010220060805000050"
    "0687010703084060046700008060570720022010205010300583500755070041"
    "5030006074700365000401027000080680030047006080002780430002103010"
    "0725033203100432242000002170680005014030057000000340004014038005"
)


@functools.cache
def quantiles() -> np.ndarray:
    """int32[4096] in Q12: the middle quantiles of pnoise1(U(0, 10,000)), from -0.95 to 0.95."""
    steps = np.array([int(g) or -1 for g in GRADIENTS], float)
    # 10,000 places are 39 periods of 256 cells and 16 cells more.
    weight = np.where(np.arange(256) < PLACES % 256, PLACES // 256 + 1, PLACES // 256)
    within = (np.arange(1024) + 0.5) / 1024
    fade = within * within * within * (within * (within * 6 - 15) + 10)
    left = steps[:, None] * within
    right = np.roll(steps, -1)[:, None] * (within - 1)
    values = 0.4 * (left + fade * (right - left)).reshape(-1)
    order = np.argsort(values, kind="stable")
    share = np.cumsum(np.repeat(weight, within.size)[order])
    middles = (np.arange(QUANTILES) + 0.5) / QUANTILES * share[-1]
    drawn = values[order][np.searchsorted(share, middles)]
    return np.round(drawn * 2**NOISE_BITS).astype(np.int32)
