"""Positions of patches: learned ones at another number of patches, and DINOv3's rotations."""

import numpy as np
from jaxtyping import Float

_OFFSET = 0.1  # patches; DINOv2's `interpolate_offset`


def resized(grid: Float[np.ndarray, "N D"], side: int, kind: str) -> Float[np.ndarray, "M D"]:
    """A square of positions for side x side patches, by cubic interpolation.

    `kind` is how the published model does it: "cubic", torch's `bicubic` (a = -3/4, edges
    repeated), as transformers has DINOv2; "offset", the same as if the new side were longer by a
    tenth of a patch, as DINOv2's own code; "antialiased", torch's with `antialias=True` (a = -1/2),
    as DINOv2 with registers. Raises ValueError where positions are not resized and must be.
    """
    old = round(len(grid) ** 0.5)
    if old == side:
        return grid
    if kind not in ("cubic", "offset", "antialiased"):
        raise ValueError(f"its positions are for {old} x {old} patches and not {side} x {side}")
    step = old / (side + _OFFSET * (kind == "offset"))
    weights = _antialiased(old, side, step) if kind == "antialiased" else _cubic(old, side, step)
    square = grid.reshape(old, old, -1).astype(np.float64)
    made = np.einsum("ij,kl,jld->ikd", weights, weights, square, optimize=True)
    return made.reshape(side * side, -1).astype(grid.dtype)


def rotations(
    side: int, head_width: int, theta: float
) -> tuple[Float[np.ndarray, "N d"], Float[np.ndarray, "N d"]]:
    """cos and sin of DINOv3's rotary positions of side x side patches (arXiv 2508.10104, 3.2).

    Centres of patches lie in [-1, 1], rows first; a quarter of a head's channels has the
    frequencies theta^-(4 i / d) for rows, the next quarter for columns, the second half again.
    """
    centres = 2 * (np.arange(side) + 0.5) / side - 1
    rows, columns = (x.reshape(-1, 1) for x in np.meshgrid(centres, centres, indexing="ij"))
    frequencies = theta ** -(np.arange(head_width // 4) * 4 / head_width)
    angles = 2 * np.pi * np.concatenate([rows * frequencies, columns * frequencies], axis=1)
    angles = np.tile(angles, 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _kernel(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic."""
    x = np.abs(x)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))


def _cubic(old: int, new: int, step: float) -> np.ndarray:
    places = (np.arange(new) + 0.5) * step - 0.5
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        source = np.floor(places) + tap
        inside = np.clip(source, 0, old - 1).astype(int)
        np.add.at(weights, (np.arange(new), inside), _kernel(places - source, -0.75))
    return weights


def _antialiased(old: int, new: int, step: float) -> np.ndarray:
    places = (np.arange(new)[:, None] + 0.5) * step - 0.5
    weights = _kernel((np.arange(old) - places) / max(step, 1.0), -0.5)
    return weights / weights.sum(axis=1, keepdims=True)
