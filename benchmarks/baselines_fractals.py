"""What a user would write for fractals: pure Python as the published scripts, or numba and NumPy.

`fractaldb_scripted`, `exfractaldb_points` and `exfractaldb_views` work as the scripts of their
authors do: a Python loop over points, and for FractalDB a call of PIL's `paste` a point.
`plain_loop` and `svd_pipeline` are what one writes with numba instead. All were written from the
published formulas; none writes a file.
"""

import math
import random

import numba
import numpy as np
from PIL import Image

LEVELS = 1024  # of the background's palette
HUES = 180  # of OpenCV's circle


def systems(table) -> list[tuple[np.ndarray, np.ndarray]]:
    """A table of `systems.Category` as (maps float64[n, k], cumulative probabilities [n])."""
    linear = 4 if table.maps.shape[-1] == 6 else 9
    unit = np.array([2.0**14] * linear + [2.0**20] * (table.maps.shape[-1] - linear))
    found = []
    for maps, thresholds, n in zip(*table, strict=True):
        cumulative = thresholds[:n] / 2.0**32
        cumulative[-1] = 1.0
        found.append((maps[:n] / unit, cumulative))
    return found


def fractaldb_scripted(maps, cumulative, seed: int, size=362, points=200_000, pad=6) -> Image.Image:
    """A new random 3x3 patch for each point, pasted by PIL; gray 127, upside down at the end."""
    choices = np.random.RandomState(100).random_sample(points)
    steps, limits = maps.tolist(), cumulative.tolist()
    xs, ys = [0.0], [0.0]
    for i in range(points - 1):
        j = 0
        while choices[i] > limits[j]:
            j += 1
        a, b, c, d, e, f = steps[j]
        x, y = xs[i], ys[i]
        xs.append(a * x + b * y + e)
        ys.append(c * x + d * y + f)
    cols, rows = (_fit(np.array(v), size, pad) for v in (xs, ys))
    rng = random.Random(seed)
    image = Image.new("RGB", (size, size))
    for col, row in zip(cols.tolist(), rows.tolist(), strict=True):
        bits = rng.randrange(1, 512)
        patch = Image.new("RGB", (3, 3))
        for k in range(9):
            if bits >> k & 1:
                patch.putpixel((k % 3, k // 3), (127, 127, 127))
        image.paste(patch, (col + 1, row + 1))
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def _fit(values: np.ndarray, size: int, pad: int) -> np.ndarray:
    low = min(values.min(), 0.0)
    span = max(values.max() - low, 1e-30)
    return ((values - low) / span * (size - 2 * pad) + pad).astype(np.uint16)


def exfractaldb_points(maps, cumulative, seed: int, points=10_000) -> np.ndarray:
    """float64[points, 3] of one model: a Python loop, then the published normalisation."""
    rng = random.Random(seed)
    steps, limits = maps.tolist(), cumulative.tolist()
    x = y = z = 0.0
    cloud = []
    for _ in range(points):
        choice = rng.random()
        j = 0
        while choice > limits[j]:
            j += 1
        a, b, c, d, e, f, g, h, i, u, v, w = steps[j]
        x, y, z = (
            a * x + b * y + c * z + u,
            d * x + e * y + f * z + v,
            g * x + h * y + i * z + w,
        )
        cloud.append((x, y, z))
    found = np.array(cloud)
    low, high = found.min(), found.max()
    found = 2 * (found - low) / max(high - low, 1e-30) - 1
    return found - found.mean(0)


def exfractaldb_views(cloud: np.ndarray, seed: int, size=224, views=12) -> np.ndarray:
    """uint8[views, size, size]: the equatorial cameras, projected by NumPy in place of OpenGL."""
    jitter = np.random.default_rng(seed).uniform(-math.pi, math.pi, views)
    focal = size / 2 / math.tan(math.radians(22.5))
    images = np.zeros((views, size, size), np.uint8)
    for i in range(views):
        angle = math.radians(360 * i / views + 30 + jitter[i])
        cos, sin = math.cos(angle), math.sin(angle)
        depth = 4 + cloud @ [cos, 0.0, -sin]
        scale = focal / depth
        cols = (cloud @ [sin, 0.0, cos] * scale + size / 2).astype(np.int32)
        rows = (cloud[:, 1] * scale + size / 2).astype(np.int32)
        seen = (depth > 1) & (cols >= 0) & (cols < size) & (rows >= 0) & (rows < size)
        images[i, rows[seen], cols[seen]] = 255
    return images


@numba.njit
def plain_loop(maps, cumulative, n, size, seed):
    """What one writes by hand: a 2-D chaos game of n points and its histogram."""
    np.random.seed(seed)
    xs, ys = np.empty(n), np.empty(n)
    x, y = 0.0, 0.0
    for i in range(n):
        r = np.random.random()
        j = 0
        while r > cumulative[j]:
            j += 1
        x, y = (
            maps[j, 0] * x + maps[j, 1] * y + maps[j, 4],
            maps[j, 2] * x + maps[j, 3] * y + maps[j, 5],
        )
        xs[i], ys[i] = x, y
    x0, y0 = xs.min(), ys.min()
    sx, sy = (size - 1) / (xs.max() - x0), (size - 1) / (ys.max() - y0)
    image = np.zeros((size, size), np.int32)
    for i in range(n):
        image[int((ys[i] - y0) * sy), int((xs[i] - x0) * sx)] += 1
    return image


def svd_pipeline(maps, cumulative, seed: int, size=224, points=100_000) -> np.ndarray:
    """uint8[size, size, 3]: a coloured, patched fractal on plasma as Anderson and Farrell make it,
    with in-class jitter, random window, flips and blur. Loops over points and pixels are numba.
    """
    rng = np.random.default_rng(seed)
    maps, cumulative = _jittered(maps, cumulative, rng)
    scale, move = rng.uniform(0.5, 2, 2), rng.uniform(-0.2, 0.2, 2)
    orbit = _orbit(maps, cumulative, points, seed)
    counts = _window(*orbit, scale, move, size)
    mask = rng.integers(0, 2, (3, 3))
    density = np.zeros((size, size), np.int32)
    for row, col in zip(*np.nonzero(mask), strict=True):
        density += counts[row : row + size, col : col + size]
    if rng.random() < 0.5:
        density = density.T
    density = density[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
    heights = plasma(rng, size)
    x = np.arange(LEVELS) / LEVELS * 4 - 1.5
    rate, start = rng.uniform((64, 25.5, 76.5), (255, 76.5, 153)), rng.uniform(102, 153, 3)
    start[0] = rng.uniform(0, 255)
    ground = np.stack([x * rate[i] + start[i] for i in range(3)])
    ground = _rgb(ground[0] % 256, *np.minimum(ground[1:], 255))
    hue = (np.arange(256) + rng.uniform(0, 255)) % 256
    ink = _rgb(hue, 255 * rng.uniform(0.3, 1), 255 * rng.uniform(0.5, 1))
    image = _paint(density, ink, heights, ground)
    if rng.random() < 0.5:
        side = math.exp(-0.5 / rng.uniform(0.5, 1) ** 2)
        image = _blur(image, side / (1 + 2 * side))
    return image


def _jittered(maps, cumulative, rng):
    """One map times U(.8, 1.1), if it stays a contraction; four tries."""
    for _ in range(4):
        which, factor = rng.integers(len(maps)), rng.uniform(0.8, 1.1)
        changed = maps.copy()
        changed[which] *= factor
        a, b, c, d = changed[which, :4]
        det, norm = abs(a * d - b * c), a * a + b * b + c * c + d * d
        if det <= 1 and norm + 2 * det <= (1 + det) ** 2:
            share = np.abs(changed[:, 0] * changed[:, 3] - changed[:, 1] * changed[:, 2])
            limits = np.cumsum(share) / share.sum()
            limits[-1] = 1.0
            return changed, limits
    return maps, cumulative


@numba.njit
def _orbit(maps, cumulative, n, seed):
    np.random.seed(seed)
    xs, ys = np.empty(n), np.empty(n)
    a, b, c, d, e, f = maps[0]
    det = (1 - a) * (1 - d) - b * c
    x, y = ((1 - d) * e + b * f) / det, (c * e + (1 - a) * f) / det  # the fixed point of map 0
    x0, x1, y0, y1 = x, x, y, y
    for i in range(n):
        r = np.random.random()
        j = 0
        for k in range(len(cumulative) - 1):  # faster than a loop that ends early, by a fifth
            j += r > cumulative[k]
        x, y = (
            maps[j, 0] * x + maps[j, 1] * y + maps[j, 4],
            maps[j, 2] * x + maps[j, 3] * y + maps[j, 5],
        )
        xs[i], ys[i] = x, y
        x0, x1, y0, y1 = min(x0, x), max(x1, x), min(y0, y), max(y1, y)
    return xs, ys, np.array([x0, y0]), np.array([x1, y1])


@numba.njit
def _window(xs, ys, low, high, scale, move, size):
    """Hits of a random window, with a margin of one pixel for the patch. Rows are x."""
    counts = np.zeros((size + 2, size + 2), np.int32)
    extent = high - low
    half = np.maximum(extent / 2 * scale, 1e-12)
    corner = low + extent / 2 + extent * move - half
    unit = (size - 1) / (2 * half)
    for i in range(len(xs)):
        row, col = (xs[i] - corner[0]) * unit[0], (ys[i] - corner[1]) * unit[1]
        if -1 < row < size and -1 < col < size:
            counts[int(row) + 1, int(col) + 1] += 1
    return counts


def plasma(rng: np.random.Generator, size: int) -> np.ndarray:
    """float32[size, size] in about [-.5, 1.5]: diamond-square, level by level."""
    side = 1 << (size - 1).bit_length()
    grid = np.zeros((side + 1, side + 1), np.float32)
    grid[::side, ::side] = rng.random((2, 2))
    reach, fall = 1.0, math.exp(-rng.uniform(0.4, 0.8))
    step = side
    while step > 1:
        half, n = step // 2, side // step

        def noise(*shape, reach=reach):
            return (rng.random(shape, np.float32) - np.float32(0.5)) * np.float32(reach)

        corners = grid[::step, ::step]
        sums = corners[:-1] + corners[1:]
        centre = 0.25 * (sums[:, :-1] + sums[:, 1:]) + noise(n, n)
        grid[half::step, half::step] = centre
        wrapped = np.concatenate([centre[-1:], centre, centre[:1]])
        edges = corners[:, :-1] + corners[:, 1:] + wrapped[:-1] + wrapped[1:]
        grid[::step, half::step] = 0.25 * edges + noise(n + 1, n)
        wrapped = np.concatenate([centre[:, -1:], centre, centre[:, :1]], 1)
        edges = corners[:-1] + corners[1:] + wrapped[:, :-1] + wrapped[:, 1:]
        grid[half::step, ::step] = 0.25 * edges + noise(n, n + 1)
        reach *= fall
        step = half
    return grid[:size, :size]


def _rgb(hue, saturation, value) -> np.ndarray:
    """uint8[n, 3] from 8-bit HSV with OpenCV's circle of 180 hues."""
    turns = (np.array([5.0, 3.0, 1.0]) + (hue % HUES)[:, None] * (6 / HUES)) % 6
    fall = np.clip(np.minimum(turns, 4 - turns), 0, 1)
    value, saturation = np.atleast_1d(value)[:, None], np.atleast_1d(saturation)[:, None]
    return (value * (1 - saturation / 255 * fall) + 0.5).astype(np.uint8)


@numba.njit
def _paint(density, ink, heights, ground):
    size = density.shape[0]
    image = np.empty((size, size, 3), np.uint8)
    scale = 255.0 / max(density.max(), 1)
    for row in range(size):
        for col in range(size):
            hits = density[row, col]
            if hits:
                colour = ink[int(hits * scale)]
            else:
                level = int((heights[row, col] + 1.5) * (LEVELS / 4))
                colour = ground[min(max(level, 0), LEVELS - 1)]
            for channel in range(3):
                image[row, col, channel] = colour[channel]
    return image


@numba.njit
def _blur(image, side):
    """Three by three, separable, in 8.8 fixed point; the frame mirrors what is inside."""
    size = image.shape[0]
    outer = np.uint32(round(256 * side))
    middle = np.uint32(256) - 2 * outer
    rows, blurred = np.empty((size, size * 3), np.uint32), np.empty_like(image)
    flat = image.reshape(size, size * 3)
    for row in range(size):
        above, below = abs(row - 1), size - 1 - abs(size - 2 - row)
        for i in range(size * 3):
            sides = flat[above, i] + np.uint32(flat[below, i])
            rows[row, i] = outer * sides + middle * flat[row, i]
    for row in range(size):
        for col in range(size):
            left, right = abs(col - 1) * 3, (size - 1 - abs(size - 2 - col)) * 3
            for channel in range(3):
                total = rows[row, left + channel] + rows[row, right + channel]
                total = outer * total + middle * rows[row, col * 3 + channel]
                blurred[row, col, channel] = (total + 32768) >> 16
    return blurred
