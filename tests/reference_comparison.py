"""The comparison families once more, in plain loops over int64 and Python's integers."""

import functools
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


@functools.cache
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


def leaf_runs(radius, corners):
    """(which, row, left, right) from the centre, of discs (radius above 0) and polygons."""
    x0, y0 = corners[..., 0], corners[..., 1]
    x1, y1 = np.roll(x0, -1, 1), np.roll(y0, -1, 1)
    (x0, x1), (y0, y1) = (
        np.where(y1 < y0, v, v[::-1]) for v in (np.stack([x1, x0]), np.stack([y1, y0]))
    )
    slope = ((x1 - x0) << 16) // np.maximum(y1 - y0, 1)
    low = np.where(radius > 0, -radius, y0.min(1))
    height = np.where(radius > 0, radius, y1.max(1)) - low + 1
    which = np.repeat(np.arange(len(low)), height)
    dy = np.arange(len(which)) - np.repeat(np.cumsum(height) - height, height) + low[which]
    x0, y0, y1, slope, row = x0[which], y0[which], y1[which], slope[which], dy[:, None]
    flat = np.abs(slope) > 2**16
    steps = (np.clip(2 * (row - y0) + side * flat, 0, 2 * (y1 - y0)) for side in (-1, 1))
    ends = [checked((x0 << 17) + checked(slope * step)) for step in steps]
    begin = np.minimum(*ends) + np.where(flat, 2**17 - 2**12, 2**16) >> 17
    end = np.maximum(*ends) + np.where(flat, 2**12, 2**16) >> 17
    meets = (y0 <= row) & (row <= y1)
    reach = np.array([math.isqrt(max(v, 0)) for v in (radius[which] ** 2 - dy**2).tolist()])
    disc = radius[which] > 0
    left = np.where(disc, -reach, np.where(meets, begin, 2**20).min(1))
    right = np.where(disc, reach, np.where(meets, end, -(2**20)).max(1))
    return which, dy, left, right


def leaves(params, key, numbers, size, constants):
    """x, y, the radius of discs, the four corners of polygons from there."""
    shape, smallest, largest, exponent = (int(v) for v in params)
    law = sum(largest >= (smallest * int(bound) >> 8) for bound in constants["ratios"]) - 1
    steps = constants["radii"][exponent, max(law, 0)].astype(np.int64)
    turns = constants["turns"].astype(np.int64)
    words = mix(key, numbers[:, None] * 8 + np.arange(6)).astype(np.int64)
    x, y = (words[:, 1] >> 16) * size >> 16, (words[:, 1] & 65535) * size >> 16
    step = (steps < words[:, 2, None]).sum(1)
    radius = np.maximum((smallest + (largest - smallest) * step // 199) * size >> 16, 1)
    kind = (words[:, 3] >> 16) * 6 >> 16 if shape == 6 else np.full(len(numbers), shape)
    angles = np.stack([words[:, 4 + i // 2] >> (20, 8)[i % 2] & 4095 for i in range(4)], 1)

    def on_circle(angle):
        return radius[:, None] * turns[angle] >> 15

    signs = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]])
    side = np.where(
        kind[:, None] == 3, on_circle(angles[:, 0] >> 2), (radius * 46341 >> 16)[:, None]
    )
    box = side[:, None] * signs
    cosine, sine = turns[angles[:, :1]].transpose(2, 0, 1)
    turned = [cosine * box[..., 0] - sine * box[..., 1], sine * box[..., 0] + cosine * box[..., 1]]
    box = np.where((kind == 2)[:, None, None], np.stack(turned, -1) >> 15, box)
    picked = np.where(kind[:, None] == 4, angles[:, [0, 1, 2, 2]], np.sort(angles, 1))
    round_ = np.stack([on_circle(angle) for angle in picked.T], 1)
    corners = np.where((kind >= 4)[:, None, None], round_, box)
    return x, y, np.where(kind == 0, radius, 0), corners


def dead_leaves(params, seed, size, constants):
    """int64[size, size]: 1 + the number of the leaf seen, by painting one over the other."""
    key = mix(seed, fingerprint(params))
    canvas = np.zeros((size, size), np.int64)
    for first in range(0, 5000, 250):
        x, y, radius, corners = leaves(params, key, first + np.arange(250), size, constants)
        which, dy, left, right = leaf_runs(radius, corners)
        runs = np.stack([which, y[which] + dy, x[which] + left, x[which] + right], 1)
        latest = 0
        for leaf, row, begin, end in runs.tolist():
            if leaf != latest and canvas.all():
                return canvas
            if 0 <= row < size:
                canvas[row, max(begin, 0) : max(end + 1, 0)] = first + leaf + 1
            latest = leaf
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
        x, y, _, _ = leaves(params, key, np.arange(5000), size, constants)
        for number, at in enumerate(zip(y, x, strict=True), 1):
            centres[at] |= seen[at] == number
        ink &= centres
    return np.repeat(ink[..., None], 3, -1) * 255
