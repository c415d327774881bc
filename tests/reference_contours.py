"""RCDB and VisualAtom once more, in plain NumPy int64 that knows nothing of XLA: what every
processor must reproduce. Lines are Bresenham's, step by step.
"""

import numpy as np

from tests.reference import checked, mix

# Perlin's permutation of 0..255; a gradient is made of its low four bits.
PERMUTATION = bytes.fromhex(
    "97a0895b5a0f830dc95f6035c2e907e18c24671e458e086325f0150a17be0694"
    "f778ea4b001ac53e5efcdbcb75230b2039b12158ed953857ae147d88aba844af"
    "4aa547868b301ba64d929ee7536fe57a3cd385e6dc695c29372ef528f4668f36"
    "41193fa101d85049d14c84bbd05912a9c8c4878274bc9f56a4646dc6adba0340"
    "34d9e2fa7c7b05ca2693767eff5255d4cfce3be32f103a11b6bd1c2adfb7aad5"
    "77f898022c9aa346dd99659ba72bac09811627fd13626c6e4f71e0e8b2b97068"
    "daf661e4fb22f2c1eed2900cbfb3a2f1513391ebf90eef6b31c0d61fb5c76a9d"
    "b854ccb07379322d7f0496fe8aeccd5dde72431d1848f38d80c34e42d73d9cb4"
)


def below(word, bound):
    return (np.asarray(word, np.uint64) >> np.uint64(16)) * np.uint64(bound) >> np.uint64(16)


def uniform(word, low, high):
    return low + below(word, high - low + 1).astype(np.int64)


def pnoise1(x):
    """The package `noise`'s pnoise1, of one octave, as its C code computes it but for float32."""
    cell = np.floor(x).astype(np.int64)
    t = x - cell
    hashes = np.frombuffer(PERMUTATION, np.uint8)
    left, right = (hashes[c & 255].astype(int) for c in (cell, cell + 1))
    gradients = [np.where(h & 8, -1, (h & 7) + 1) for h in (left, right)]
    fade = t * t * t * (t * (t * 6 - 15) + 10)
    a, b = gradients[0] * t, gradients[1] * (t - 1)
    return 0.4 * (a + fade * (b - a))


def noise_quantiles():
    """int64[4096]: middle quantiles over the 10,000 cells from 0 to 10,000, in Q12."""
    values = pnoise1(np.arange(256)[:, None] + (np.arange(1024) + 0.5) / 1024)
    often = np.bincount(np.arange(10_000) % 256)[:, None] + np.zeros(1024, int)
    order = np.argsort(values, axis=None)
    values = np.repeat(values.ravel()[order], often.ravel()[order])
    middles = (np.arange(4096) + 0.5) / 4096 * values.size
    return np.round(values[np.ceil(middles).astype(int) - 1] * 4096).astype(np.int64)


def angle(number, parts, sine):
    """cos or sin of number / parts turns, Q20, between two entries of a table of 4096."""
    table = np.round(np.cos(2 * np.pi / 4096 * np.arange(4097)) * 2**20).astype(np.int64)
    place, rest = divmod(number * 4096, parts)
    place = (place - 1024 * sine) % 4096
    return table[place] + (table[place + 1] - table[place]) * rest // parts


def fingerprint(params):
    words = np.concatenate([np.asarray(f).ravel() for f in params]).astype(np.int64) & 0xFFFFFFFF
    return np.bitwise_xor.reduce(mix(words, np.arange(words.size)))


def polygons(family, params, key, size, quantiles):
    """x and y, int64[polygons, vertices], in whole pixels."""
    gain = 1 if family.name == "visualatom" else 2
    v, count = int(params.vertices), int(params.polygons)
    i = np.arange(v)
    wave = sum(angle(i * int(f) % v, v, True) for f in params.frequencies) >> 7
    growth = (int(params.noise) * 4 + int(params.growth) + wave) * size // 512
    swing = gain * int(params.noise) * size // 512
    word = np.stack([mix(mix(mix(key, 8), k), i) for k in range(count)])
    corners = []
    for axis, shift in enumerate((20, 8)):
        turn = angle(i, v, axis)
        out = (int(params.radius) * int(params.oval[axis]) >> 4) * size // 512
        start = (int(params.centre[axis]) * size << 4) + (out * turn >> 20 << 6)
        drawn = quantiles[(word >> np.uint64(shift) & np.uint64(4095)).astype(int)]
        total = checked(np.cumsum(drawn, 0))
        moved = (swing * turn >> 20) * total >> 10
        order = np.arange(1, count + 1)[:, None]
        place = checked(start + order * (growth * turn >> 20) - moved)
        corners.append(np.sign(place) * (np.abs(place) >> 14))
    return corners


def polygon_grays(family, key, count):
    return np.minimum(uniform(mix(mix(key, 9), np.arange(count)), *family.gray), 255)


def lines(size, x0, y0, x1, y1, key):
    """int64[size, size]: the greatest key drawn on each pixel, 0 for none. Bresenham's lines, both
    ends included, all a step at a time: a step aside whenever the error reaches the length.
    """
    canvas = np.zeros((size, size), np.int64)
    dx, dy = np.abs(x1 - x0), np.abs(y1 - y0)
    aside, length = np.minimum(dx, dy), np.maximum(dx, dy)
    step_x, step_y = np.where(x1 < x0, -1, 1), np.where(y1 < y0, -1, 1)
    x, y, error = x0.copy(), y0.copy(), length // 2
    for step in range(int(length.max(initial=0)) + 1):
        seen = (step <= length) & (x >= 0) & (x < size) & (y >= 0) & (y < size)
        np.maximum.at(canvas, (y[seen], x[seen]), key[seen])
        error = error + aside
        turned = error >= length
        error = np.where(turned, error - length, error)
        x = x + np.where((dx > dy) | turned, step_x, 0)
        y = y + np.where((dx <= dy) | turned, step_y, 0)
    return canvas


def instance(family, params, seed):
    """The instance's own category, key by key as the families do it, and its key."""
    key = int(mix(seed, fingerprint(params)))
    if seed:
        words = mix(key, np.arange(5))
        spread = family.centre_spread
        own = {"centre": uniform(words[3:5], 512 - spread, 512 + spread)}
        if family.oval_per == "instance":
            low, high = (round(v * 4096) for v in family.oval)
            own["oval"] = uniform(words[1:3], low, high)
            own["radius"] = uniform(words[0], *family.radius)
        params = params._replace(**own)
    return params, key


def picture(family, params, seed, size, quantiles):
    """int64[size, size]: the published rendering."""
    params, key = instance(family, params, seed)
    x, y = polygons(family, params, key, size, quantiles)
    grays = polygon_grays(family, key, len(x))
    count, vertices = x.shape
    ends = [np.roll(v, -1, 1) for v in (x, y)]
    keys = np.repeat(np.arange(1, count + 1) << 8 | grays, vertices)
    canvas = lines(size, *(v.ravel() for v in (x, y, *ends)), keys)
    return np.where(canvas > 0, canvas & 255, 255 if family.background == "white" else 0)
