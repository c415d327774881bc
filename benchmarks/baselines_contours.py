"""What a user would write for radial contours: NumPy and PIL instead of jaxfdsl.

Three ways to the same pictures. `scripted` works as the published scripts do: a Python loop over
vertices, `noise.pnoise1` twice for each, one `ImageDraw.line` a segment, RGB. `vectorised` takes
noise and vertices of all polygons from NumPy and draws the segments one call each. `buffered` draws
a polygon a call from a float32 buffer, which Pillow walks in C: the fastest that we could write
with NumPy and PIL. All were written from the published formulas.
"""

import math
import random
from typing import NamedTuple

import noise
import numpy as np
from PIL import Image, ImageDraw

from jaxfdsl.generators.drawing import pnoise

PLACES = 10_000.0
STEPS = np.array([float(int(g) or -1) for g in pnoise.GRADIENTS])


class Contour(NamedTuple):
    """One category in plain numbers; lengths in pixels of a canvas of 512."""

    vertices: int
    polygons: int
    noise: float
    growth: float
    radius: int
    frequencies: tuple[int, ...]
    oval: tuple[float, ...]
    centre: tuple[float, ...]


class Rules(NamedTuple):
    """What sets RCDB and VisualAtom apart."""

    gain: int  # noise is gain lambda p - lambda
    grays: int  # the greatest gray, both ends included
    background: int
    spread: int  # of the centre
    redrawn: bool  # radius and oval of their own for each instance


RCDB = Rules(gain=2, grays=256, background=255, spread=400, redrawn=True)
VISUALATOM = Rules(gain=1, grays=255, background=0, spread=512, redrawn=False)


def contours(table) -> list[Contour]:
    """A table of `radial.Category` in plain numbers."""
    return [
        Contour(
            vertices=int(table.vertices[i]),
            polygons=int(table.polygons[i]),
            noise=float(table.noise[i]) / 2**12,
            growth=float(table.growth[i]) / 2**14,
            radius=int(table.radius[i]),
            frequencies=tuple(int(f) for f in table.frequencies[i]),
            oval=tuple(float(o) / 2**12 for o in table.oval[i]),
            centre=tuple(float(c) / 2 for c in table.centre[i]),
        )
        for i in range(len(table.vertices))
    ]


def instance(contour: Contour, rules: Rules, rng: random.Random) -> Contour:
    """A later instance: centre, and in RCDB radius and oval, drawn anew."""
    centre = tuple((512 + rng.randint(-rules.spread, rules.spread)) / 2 for _ in range(2))
    if not rules.redrawn:
        return contour._replace(centre=centre)
    oval = (rng.uniform(1, 2), rng.uniform(1, 2))
    return contour._replace(centre=centre, oval=oval, radius=rng.randint(0, 100))


def scripted(contour: Contour, rules: Rules, seed: int, size: int = 512) -> Image.Image:
    """As the published scripts: Python loops, two calls of pnoise1 a vertex, a call a segment."""
    rng = random.Random(seed)
    shape = instance(contour, rules, rng)
    image = Image.new("RGB", (size, size), (rules.background,) * 3)
    draw = ImageDraw.Draw(image)
    cosines, sines, waves, x, y = [], [], [], [], []
    for i in range(shape.vertices):
        angle = 2 * math.pi * i / shape.vertices
        cosines.append(math.cos(angle))
        sines.append(math.sin(angle))
        waves.append(sum(math.sin(f * angle) / 2 for f in shape.frequencies))
        x.append(shape.radius * shape.oval[0] * cosines[i] + shape.centre[0])
        y.append(shape.radius * shape.oval[1] * sines[i] + shape.centre[1])
    for _ in range(shape.polygons):
        gray = min(rng.randint(0, rules.grays), 255)
        for i in range(shape.vertices):
            along = noise.pnoise1(rng.uniform(0, PLACES)) * rules.gain * shape.noise - shape.noise
            across = noise.pnoise1(rng.uniform(0, PLACES)) * rules.gain * shape.noise - shape.noise
            x[i] -= cosines[i] * (along - waves[i] - shape.growth)
            y[i] -= sines[i] * (across - waves[i] - shape.growth)
        for i in range(shape.vertices):
            j = (i + 1) % shape.vertices
            draw.line((x[i], y[i], x[j], y[j]), fill=(gray, gray, gray), width=1)
    return image


def vectorised(contour: Contour, rules: Rules, seed: int, size: int = 512) -> Image.Image:
    """Noise and vertices of all polygons at once, then a call of `ImageDraw.line` a segment."""
    points, grays = _polygons(contour, rules, seed)
    image = Image.new("L", (size, size), rules.background)
    draw = ImageDraw.Draw(image)
    for (x, y), gray in zip(points.transpose(0, 2, 1).tolist(), grays.tolist(), strict=True):
        for line in zip(x[:-1], y[:-1], x[1:], y[1:], strict=True):
            draw.line(line, fill=gray)
    return image


def buffered(contour: Contour, rules: Rules, seed: int, size: int = 512) -> Image.Image:
    """The same vertices, one call a polygon; Pillow reads a buffer as float32 pairs."""
    points, grays = _polygons(contour, rules, seed)
    image = Image.new("L", (size, size), rules.background)
    draw = ImageDraw.Draw(image)
    # Truncated here, because float32 would round some vertices into the next pixel.
    pixels = np.trunc(points).astype(np.float32)
    for polygon, gray in zip(pixels, grays.tolist(), strict=True):
        draw.line(polygon, fill=gray)
    return image


def _polygons(contour: Contour, rules: Rules, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Closed polygons float64[K, V + 1, 2] and their grays."""
    rng = np.random.default_rng(seed)
    shape = instance(contour, rules, random.Random(seed))
    angle = 2 * np.pi * np.arange(shape.vertices) / shape.vertices
    ray = np.stack([np.cos(angle), np.sin(angle)], 1)
    wave = sum(np.sin(f * angle) / 2 for f in shape.frequencies)
    drawn = pnoise1(rng.uniform(0, PLACES, (shape.polygons, shape.vertices, 2)))
    step = (rules.gain * shape.noise) * drawn
    step -= (shape.noise + shape.growth + wave)[:, None]
    np.cumsum(step, 0, out=step)
    step *= -ray
    step += shape.radius * np.array(shape.oval) * ray + np.array(shape.centre)
    grays = np.minimum(rng.integers(0, rules.grays + 1, shape.polygons), 255)
    return np.concatenate([step, step[:, :1]], 1), grays


def pnoise1(x: np.ndarray) -> np.ndarray:
    """`noise.pnoise1` of an array, with that package's gradients."""
    cell = x.astype(np.int32)
    t = x - cell
    fade = t * t * t * (t * (t * 6 - 15) + 10)
    left = STEPS[cell & 255] * t
    right = STEPS[(cell + 1) & 255] * (t - 1)
    return 0.4 * (left + fade * (right - left))
