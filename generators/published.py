"""The published FractalDB search, step for step: NumPy's legacy stream from seed 1, float64, one
orbit a candidate.

It finds the published thousand again, with no difference above 1e-12 (`benchmarks/search.py
published`). Candidates consume the stream in a fixed amount, whatever becomes of them, so blocks of
them are drawn first and their orbits run side by side: the same numbers as the published loop, a
hundred times sooner in plain NumPy.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

POINTS, SIZE, PAD, MIN_FILL = 100_000, 512, 6, 0.2
BLOCK = 256  # candidates side by side: 0.4 GB of points


def search_published(
    num_classes: int,
    seed: int = 1,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Float[np.ndarray, "_ 7"]], int]:
    """The first `num_classes` accepted systems in order (rows a, b, c, d, e, f, p), and how many
    candidates that took.
    """
    stream = np.random.RandomState(seed)
    found: list[np.ndarray] = []
    tried = 0
    while True:
        systems, choices = draw_block(stream, BLOCK)
        filled = fill(systems, choices)
        for system, share in zip(systems, filled, strict=True):
            tried += 1
            if share >= MIN_FILL:
                found.append(system)
                if len(found) == num_classes:
                    return found, tried
        if progress is not None:
            progress(len(found), num_classes)


def draw_block(stream: np.random.RandomState, count: int):
    """Candidates in the stream's order: their systems float64[maps, 7], and for each step of each
    the number of its map, uint8[POINTS - 1, candidates].
    """
    systems = []
    choices = np.empty((POINTS - 1, count), np.uint8)
    for i in range(count):
        n = stream.randint(2, 8)
        maps = np.stack([stream.uniform(-1.0, 1.0, 6) for _ in range(n)])
        weight = np.abs(maps[:, 0] * maps[:, 3] - maps[:, 1] * maps[:, 2])
        probability = weight / weight.sum()
        draws = stream.random_sample(POINTS)[: POINTS - 1]
        cumulative = np.cumsum(probability)
        choice = np.zeros(POINTS - 1, np.uint8)
        for limit in cumulative[:-1]:
            choice += draws > limit
        choices[:, i] = choice
        systems.append(np.column_stack([maps, probability]))
    return systems, choices


def fill(systems: list[np.ndarray], choices: np.ndarray) -> Float[np.ndarray, " candidates"]:
    """Share of the 512 x 512 canvas that each candidate's 100,000 points occupy, of what
    `draw_block` gives. The orbit starts at the origin, recorded.
    """
    count = len(systems)
    padded = np.zeros((count, 7, 6))
    for i, system in enumerate(systems):
        padded[i, : len(system)] = system[:, :6]
    table = np.moveaxis(padded, 2, 0).reshape(6, -1)
    offset = np.arange(count) * 7
    points = np.zeros((2, POINTS, count))
    x, y = np.zeros(count), np.zeros(count)
    with np.errstate(all="ignore"):
        for t in range(POINTS - 1):
            a, b, c, d, e, f = table[:, offset + choices[t]]
            x, y = a * x + b * y + e, c * x + d * y + f
            points[0, t + 1], points[1, t + 1] = x, y
        return np.array([_occupied(points[:, :, i]) for i in range(count)]) / SIZE**2


def _occupied(points: np.ndarray) -> int:
    points = points[:, np.isfinite(points).all(0)]
    pixel = []
    for values in points:
        low, high = values.min(), values.max()
        start = values - low if low < 0 else values
        pixel.append(
            (start / (high - low) * (SIZE - 2 * PAD) + PAD).astype(np.uint16).astype(np.int64)
        )
    on_canvas = (pixel[0] < SIZE) & (pixel[1] < SIZE)
    return int(np.count_nonzero(np.bincount(pixel[1][on_canvas] * SIZE + pixel[0][on_canvas])))
