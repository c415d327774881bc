"""SegRCDB and the insides of polygons once more, in plain NumPy int64 and fractions, row by row."""

from fractions import Fraction

import numpy as np

from tests.reference import mix
from tests.reference_contours import fingerprint, lines, polygon_grays, polygons, uniform


def sides(x, y):
    """(column, row) of both ends of each side, the upper or left one first."""
    corners = list(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))
    pairs = zip(corners, corners[1:] + corners[:1], strict=True)
    return [tuple(sorted(pair, key=lambda p: p[::-1])) for pair in pairs]


def inside(x, y, size):
    """bool[size, size] of a closed polygon with whole corners: the crossings of each row, sorted,
    and every second stretch between them with the pixel nearest to either end.
    """
    found = np.zeros((size, size), bool)

    def fill(row, first, last):
        found[row, max(first, 0) : max(last + 1, 0)] = True

    for row in range(size):
        crossings = []
        for (x0, y0), (x1, y1) in sides(x, y):
            if y0 == y1 == row:
                fill(row, x0, x1)
            elif y0 <= row < y1:
                crossings.append(x0 + Fraction((row - y0) * (x1 - x0), y1 - y0))
            elif row == y1:
                fill(row, x1, x1)
        crossings.sort()
        half = Fraction(1, 2)
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            last = 0 if right == -half else -((half - right) // 1)  # PIL rounds -1/2 up
            fill(row, (left + half) // 1, last)
    return found


def cast(family, table, seed):
    """Category, its number and the key of each object."""
    for number in range(family.objects):
        word = int(mix(seed, number))
        chosen = word * len(table.vertices) >> 32
        params = type(table)(*(field[chosen] for field in table))
        key = int(mix(word, fingerprint(params)))
        spread = family.centre_spread
        centre = uniform(mix(key, np.arange(3, 5)), 512 - spread, 512 + spread)
        yield params._replace(centre=centre), chosen, key


def scene(family, table, seed, size, quantiles):
    """image, mask int64[size, size] and the categories, of the published rendering."""
    image, mask = np.zeros((2, size, size), np.int64)
    objects = list(cast(family, table, seed))
    for params, chosen, key in objects:
        x, y = polygons(family, params, key, size, quantiles)
        count, vertices = x.shape
        gray = polygon_grays(family, key, count)
        ends = [np.roll(v, -1, 1) for v in (x, y)]
        keys = np.repeat(np.arange(1, count + 1) << 8 | gray, vertices)
        drawn = lines(size, *(v.ravel() for v in (x, y, *ends)), keys)
        image[drawn > 0] = drawn[drawn > 0] & 255
        if family.masks == "M1":
            mask[drawn > 0] = chosen + 1
        elif family.masks == "M3":
            mask[inside(x[-1], y[-1], size)] = chosen + 1
        elif count > 1:
            mask[inside(x[-1], y[-1], size)] = chosen + 1
            mask[inside(x[0], y[0], size)] = 0
            once = np.ones(vertices, np.int64)
            for i in (0, -1):
                edge = lines(size, x[i], y[i], ends[0][i], ends[1][i], once)
                mask[edge > 0] = chosen + 1
    return image, mask, [chosen for _, chosen, _ in objects]
