"""The comparison families once more, in plain loops over int64 and Python's integers."""

import bisect
import itertools
import math
from fractions import Fraction

import numpy as np
from PIL import Image, ImageDraw

from tests.reference import checked, mix


def fingerprint(params):
    words = np.array([int(v) for v in params], np.uint64)
    return np.bitwise_xor.reduce(mix(words, np.arange(len(words))))


def candidate(number, ranges, fixed, varying):
    """The fields of a candidate: floor(low + fraction * count), fractions by powers of 1 / g."""
    root = 2.0
    for _ in range(200):
        root = (1 + root) ** (1 / (len(ranges) + 1))
    fields = []
    for i, (low, high) in enumerate(ranges):
        fraction = (number * round(root ** -(i + 1) * 2**32) + 2**31) % 2**32
        value = low + ((fraction >> 16) * (high - low + 1) >> 16)
        fields.append(value if i < varying else fixed[i])
    return fields


def perlin_height(params, seed, size):
    """int64[size, size]: the noise of one instance, Q14."""
    key = mix(seed, fingerprint(params))
    phase = [int(mix(key, i)) >> 20 for i in range(2)]
    angle = 2 * np.pi * np.arange(256) / 256
    directions = np.round(np.stack([np.cos(angle), np.sin(angle)], 1) * 2**14).astype(np.int64)
    t = np.arange(4096) / 4096
    fade = np.round((6 * t**5 - 15 * t**4 + 10 * t**3) * 4096).astype(np.int64)
    (column, x), (row, y) = (
        np.divmod(np.arange(size) * int(f) * 16 // size + p, 4096)
        for f, p in zip(params, phase, strict=True)
    )
    row, y = row[:, None], y[:, None]

    def gradient(down, right):
        return directions[mix(key, 2 + (row + down) * 64 + column + right) >> np.uint64(24)]

    def blend(a, b, share):
        return a + (checked((b - a) * share) >> 12)

    side = []
    for down in range(2):
        left, right = gradient(down, 0), gradient(down, 1)
        level = blend(left[..., 0] * x >> 12, right[..., 0] * (x - 4096) >> 12, fade[x])
        slope = blend(left[..., 1], right[..., 1], fade[x])
        side.append(level + (checked(slope * (y - 4096 * down)) >> 12))
    return blend(*side, fade[y])


def peaks(height):
    """Where no neighbour is higher."""
    framed = np.pad(height, 1, constant_values=-(2**14))
    sides = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    return height >= np.max(sides, 0)


def rim(labels):
    """Where a neighbour, or the frame's outside, has another label."""
    framed = np.pad(labels.astype(np.int64), 1, constant_values=-1)
    sides = framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:]
    return np.any([side != labels for side in sides], 0)


def perlin(params, seed, size, render="published"):
    """uint8[size, size]."""
    height = perlin_height(params, seed, size)
    if render == "published":
        return np.clip(128 + (height * 181 >> 14), 0, 255).astype(np.uint8)
    ink = height > 0
    shown = {"filled": ink, "outline": ink & rim(ink), "points": ink & peaks(height)}[render]
    return shown.astype(np.uint8) * 255


def bernstein(points):
    """Weights in Q14 of 65 steps, by rounding exact cumulative fractions."""
    rows = []
    for step in range(65):
        t, total, row = Fraction(step, 64), Fraction(0), []
        for k in range(points):
            before = round(total * 2**14)
            total += math.comb(points - 1, k) * t**k * (1 - t) ** (points - 1 - k)
            row.append(round(total * 2**14) - before)
        rows.append(row)
    return rows


def bezier_points(params, seed, size):
    """A list of curves, each 65 whole pixels (x, y)."""
    points, curves, *box = (int(v) for v in params)
    key = mix(seed, fingerprint(params))
    place, side = int(mix(key, 0)), size * 16
    box = [side * extent // 256 for extent in box]
    low = [
        (half * (side - b)) >> 16 for half, b in zip((place >> 16, place & 65535), box, strict=True)
    ]
    weights, drawn = np.array(bernstein(points)), []
    for curve in range(curves):
        words = mix(key, 1 + curve * 32 + np.arange(points)).astype(np.int64)
        halves = words >> 16, words & 65535
        control = np.stack(
            [at + (h * b >> 16) for h, b, at in zip(halves, box, low, strict=True)], 1
        )
        drawn.append(checked(weights @ control) >> 18)
    return drawn


def bezier(params, seed, size, render="published"):
    """uint8[size, size]; lines by PIL."""
    image = Image.new("L", (size, size))
    pen = ImageDraw.Draw(image)
    for curve in bezier_points(params, seed, size):
        corners = [tuple(int(v) for v in point) for point in curve]
        if render == "points":
            pen.point(corners, 255)
        else:
            for ends in itertools.pairwise(corners):
                pen.line(ends, 255)
    return np.asarray(image)


def leaf_rows(leaf, size):
    """(row, left, right) of one leaf: (kind, x, y, radius, corners)."""
    disc, x, y, radius, corners = leaf
    if disc:
        for dy in range(-radius, radius + 1):
            reach = math.isqrt(radius * radius - dy * dy)
            yield y + dy, x - reach, x + reach
        return
    edges = []
    for a, b in zip(corners, [*corners[1:], corners[0]], strict=True):
        (x0, y0), (x1, y1) = (b, a) if b[1] < a[1] else (a, b)
        edges.append((x0, y0, y1, ((x1 - x0) << 16) // max(y1 - y0, 1)))
    for dy in range(min(c[1] for c in corners), max(c[1] for c in corners) + 1):
        lefts, rights = [], []
        for x0, y0, y1, slope in edges:
            if y0 <= dy <= y1:
                flat = abs(slope) > 2**16
                steps = (
                    min(max(2 * (dy - y0) + side * flat, 0), 2 * (y1 - y0)) for side in (-1, 1)
                )
                ends = [(x0 << 17) + slope * step for step in steps]
                lefts.append(min(ends) + (2**17 - 2**12 if flat else 2**16) >> 17)
                rights.append(max(ends) + (2**12 if flat else 2**16) >> 17)
        yield y + dy, x + min(lefts), x + max(rights)


def leaves(params, key, size, constants):
    """All leaves of one picture, in the order of their fall."""
    shape, smallest, largest, exponent = (int(v) for v in params)
    law = sum(largest >= (smallest * int(ratio) >> 8) for ratio in constants["ratios"]) - 1
    steps = constants["radii"][exponent, max(law, 0)].tolist()
    turns = constants["turns"].tolist()

    def turned(x, y, angle):
        cosine, sine = turns[angle]
        return (cosine * x - sine * y) >> 15, (sine * x + cosine * y) >> 15

    def on_circle(radius, angle):
        return tuple(radius * part >> 15 for part in turns[angle])

    for word in mix(key, np.arange(5000)[:, None] * 8 + np.arange(6)).tolist():
        x, y = (word[1] >> 16) * size >> 16, (word[1] & 65535) * size >> 16
        step = bisect.bisect_left(steps, word[2])
        radius = max((smallest + (largest - smallest) * step // 199) * size >> 16, 1)
        kind = shape if shape < 6 else (word[3] >> 16) * 6 >> 16
        angles = [word[4 + i // 2] >> (20, 8)[i % 2] & 4095 for i in range(4)]
        half = radius * 46341 >> 16
        if kind == 3:
            w, h = on_circle(radius, angles[0] >> 2)
            corners = [(w, h), (w, -h), (-w, -h), (-w, h)]
        elif kind < 3:
            corners = [(half, half), (half, -half), (-half, -half), (-half, half)]
            if kind == 2:
                corners = [turned(*corner, angles[0]) for corner in corners]
        else:
            picked = angles[:3] if kind == 4 else sorted(angles)
            corners = [on_circle(radius, angle) for angle in picked]
        yield kind == 0, x, y, radius, corners


def dead_leaves(params, seed, size, constants):
    """int64[size, size]: 1 + the number of the leaf seen, by painting one over the other."""
    key = mix(seed, fingerprint(params))
    canvas = np.zeros((size, size), np.int64)
    for number, leaf in enumerate(leaves(params, key, size, constants)):
        for row, left, right in leaf_rows(leaf, size):
            if 0 <= row < size:
                canvas[row, max(left, 0) : max(right + 1, 0)] = number + 1
        if canvas.all():
            break
    return canvas


def dead_leaves_picture(params, seed, size, constants, render="published"):
    """uint8[size, size, 3]."""
    seen = dead_leaves(params, seed, size, constants)
    key = mix(seed, fingerprint(params))
    words = np.concatenate([[0], mix(key, np.arange(5000) * 8).astype(np.int64)])[seen]
    if render == "published":
        return np.stack([(words >> 10 * i & 1023) * 255 >> 10 for i in range(3)], -1)
    ink = words >> 31 > 0
    if render == "outline":
        ink &= rim(seen)
    if render == "points":
        centres = np.zeros_like(ink)
        for number, (_, x, y, _, _) in enumerate(leaves(params, key, size, constants)):
            centres[y, x] |= seen[y, x] == number + 1
        ink &= centres
    return np.repeat(ink[..., None], 3, -1) * 255
