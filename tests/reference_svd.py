"""Contractive systems, their pictures, MultiX scenes and 1p-frac classes once more, in plain NumPy
and whole numbers that never overflow, one map, level and object after the other.
"""

import numpy as np

from tests.reference import checked, fit, hash32, mix, orbit

GOLDEN = 0x9E3779B9
ONE = 2**15
MIXING = 32


def words(key, count, start=0):
    return [int(w) for w in mix(key, np.arange(start, start + count))]


def below(word, bound):
    return (int(word) >> 16) * bound >> 16


def fingerprint(maps):
    numbers = np.asarray(maps, np.int64).reshape(-1) & 0xFFFFFFFF
    return int(
        np.bitwise_xor.reduce(hash32(numbers.astype(np.uint64) + hash32(np.arange(numbers.size))))
    )


# Systems


def between(word, low, high):
    return low + (min(max(high - low, 0), ONE) * (word >> 16) >> 16)


def orthogonal(word):
    cosines = np.round(np.cos(2 * np.pi * np.arange(4096) / 4096) * ONE).astype(int)
    turn = word >> 20
    cos, sin = int(cosines[turn]), int(cosines[(turn - 1024) % 4096])
    one, two = 1 - 2 * (word & 1), 1 - 2 * (word >> 1 & 1)
    return [[cos * one, -sin * two], [sin * one, cos * two]]


def singular_values(count, total, pairs):
    """The paper's sequential sampler, in 2**-15ths."""
    left, slack, found = total, total - 3 * ONE * count + 3 * ONE, []
    for word1, word2 in pairs[: count - 1]:
        s1 = between(word1, -(-max(slack, 0) // 3), min(ONE, left))
        slack, left = slack - s1, left - s1
        s2 = between(word2, -(-max(slack, 0) // 2), min(s1, left // 2))
        slack, left = slack - 2 * s2 + 3 * ONE, left - 2 * s2
        found.append((s1, s2))
    s2 = between(pairs[count - 1][1], -(-max(left - ONE, 0) // 2), left // 3)
    return [*found, (left - 2 * s2, s2)]


def thresholds(maps, count):
    """2**24ths of cumulative |det|, the last map taking the rest."""
    share = [max(abs(int(m[0] * m[3] - m[1] * m[2])) // 2, 1) for m in maps[:count]]
    cumulative = [sum(share[: j + 1]) * 2**24 // sum(share) * 2**8 for j in range(count - 1)]
    return np.array(cumulative + [2**32 - 1] * (7 - count + 1), np.int64)


def system(number, maps=(2, 4), factor=None):
    """Candidate `number`: (maps int64[7, 6], thresholds int64[7], count)."""
    drawn = words(number, 26)
    count = maps[0] + below(drawn[0], maps[1] - maps[0] + 1)
    least, width = (5 + count) * ONE // 2, ONE // 2
    if factor is not None:
        least = round(factor[0] * ONE)
        width = round(factor[1] * ONE) - least
    per_map = [drawn[2 + 6 * j : 8 + 6 * j] for j in range(4)]
    values = singular_values(count, least + below(drawn[1], width), [w[:2] for w in per_map])
    rows = []
    for (s1, s2), (_, _, left, right, e, f) in zip(values, per_map, strict=False):
        u, v = orthogonal(left), orthogonal(right)
        row = []
        for i in range(2):
            half = [(u[i][k] * s + ONE // 2) // ONE for k, s in enumerate((s1, s2))]
            row += [(half[0] * v[0][j] + half[1] * v[1][j] + ONE) // 2**16 for j in range(2)]
        rows.append([*row, (e >> 11) - 2**20, (f >> 11) - 2**20])
    rows += rows[-1:] * (7 - count)
    return np.array(rows), thresholds(rows, count), count


def perturbed(number, base, delta, mode):
    """Class `number` of 1p-frac: the base's coefficients, each under its own error in 2**-16ths."""
    maps, limits, count = base
    maps = maps.copy()
    for i, word in enumerate(words(number, 12)):
        j, k = divmod(i, 6)
        error = ((word >> 16) - 2**15) * round(delta * 2**15) // 2**14
        value = int(maps[j, k])
        if mode == "additive":
            maps[j, k] += (error + 4) // 8 if k < 4 else error * 8
        elif k < 4:
            maps[j, k] += (value * error + 2**15) // 2**16
        else:
            maps[j, k] += (value // 64 * error + 2**9) // 2**10
    maps[2:] = maps[1]
    return maps, limits, count


# Instances


def contraction(row):
    """Both singular values at most 1, as (1 - s1)(1 - s2) >= 0 and s1 s2 <= 1."""
    a, b, c, d = (int(v) for v in row[:4])
    det = (abs(a * d - b * c) + 2**13) // 2**14
    total = max((a + d) ** 2 + (b - c) ** 2, (a - d) ** 2 + (b + c) ** 2)
    return det <= 2**14 and total <= (2**14 + det) ** 2


def replaced(params, which, row):
    maps, _, count = params
    maps = maps.copy()
    maps[which] = row
    maps[count:] = maps[count - 1]
    return maps, thresholds(maps, count), count


def scaled(params, drawn):
    maps, _, count = params
    for t in range(4):
        which = below(drawn[t], 256) * count >> 8
        row = (maps[which] * (819 + below(drawn[4 + t], 308)) + 512) // 1024
        if contraction(row):
            return replaced(params, which, row)
    return params


def turned(params, drawn):
    maps, _, count = params
    which, how = divmod(below(drawn[0], 256) * 3 * count >> 8, 3)
    angle = (below(drawn[1], 1024) + 0.5) / 1024 - 0.5
    cos, sin = (round(float(f(angle)) * 2**14) for f in (np.cos, np.sin))
    a, b, c, d, e, f = (int(v) for v in maps[which])
    half = 2**13

    def turn(x, y):
        return (cos * x - sin * y + half) // 2**14, (sin * x + cos * y + half) // 2**14

    if how == 0:
        (a, c), (b, d) = turn(a, c), turn(b, d)
    elif how == 1:
        (a, b), (c, d) = turn(a, b), turn(c, d)
    else:
        e, f = e + (drawn[2] >> 12) - 2**19, f + (drawn[3] >> 12) - 2**19
    return replaced(params, which, [a, b, c, d, e, f])


def seen(values, low, high, word1, word2, size):
    """Pixels of an axis under the random window, truncated towards zero."""
    scale = 2**11 + (below(word1, 2**15) * 3 * 2**11 >> 15)
    shift = (below(word2, 2**15) - 2**14) * 4 // 5
    bits = 30 - size.bit_length()
    rate = (size - 1 << bits) // max((high - low) * scale >> 11, 1)
    middle = low + high + ((high - low) * shift >> 15)
    place = checked((2 * values - middle) * rate + (size - 1 << bits - 1))
    return np.sign(place) * (np.abs(place) >> bits)


def density(params, key, size, num_points, patch=True, region="random", jitter="scale", flips=True):
    """Points, or patch pixels, of each pixel: int64[size, size]."""
    drawn = words(key, 18)
    if jitter != "none":
        params = {"scale": scaled, "svd": turned}[jitter](params, drawn[7:15])
    points = orbit(*params, None, num_points, 512, drawn[0], MIXING)
    place = []
    for i, values in enumerate(points):
        low, high = int(values.min()), int(values.max())
        if region == "box":
            place.append(fit(values, low, high, size - 1))
        else:
            place.append(seen(values, low, high, *drawn[3 + 2 * i : 5 + 2 * i], size))
    rows, cols = (v.reshape(-1) for v in place)
    if flips:
        if drawn[2] & 1:
            rows, cols = cols, rows
        if drawn[2] & 2:
            rows = size - 1 - rows
        if drawn[2] & 4:
            cols = size - 1 - cols
    image = np.zeros(size * size, np.int64)
    mask = [i for i in range(9) if drawn[1] >> i & 1] if patch else [4]
    for i in mask:  # bit i of a pixel's mask is its neighbour at (i // 3 - 1, i % 3 - 1)
        r, c = rows - (i // 3 - 1), cols - (i % 3 - 1)
        inside = (r >= 0) & (r < size) & (c >= 0) & (c < size)
        image += np.bincount((r * size + c)[inside], minlength=size * size)
    return image.reshape(size, size)


def hsv(hue, saturation, value, turn=180):
    """int64[..., 3] RGB of uint8 HSV, sector by sector, rounded half up."""
    hue, saturation, value = np.broadcast_arrays(hue, saturation, value)
    sector, rest = np.divmod(hue % turn * 6, turn)
    scale = 255 * turn

    def falling(part):
        return (value * (scale - saturation * part) + scale // 2) // scale

    v, p, q, t = falling(0 * rest), falling(0 * rest + turn), falling(rest), falling(turn - rest)
    choices = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)]
    return np.stack([np.choose(sector, [c[i] for c in choices]) for i in range(3)], -1)


def ink(counts, key, turn=180):
    """RGB of the densities, and where there is any."""
    drawn = words(key, 18)[15:]
    shift = below(drawn[0], 255 * 256)
    shrink = max(int(counts.max()).bit_length() - 20, 0)
    scale = (255 << 20) // max(int(counts.max()) >> shrink, 1)
    level = np.minimum((checked((counts >> shrink) * scale) + (shift % 256 << 12)) >> 20, 255)
    hue = (level + shift // 256) % 256
    saturation, value = (19584 + below(drawn[1], 45696)) >> 8, (32640 + below(drawn[2], 32640)) >> 8
    return hsv(hue, saturation, value, turn), counts > 0


def heights(key, decay, size):
    """Diamond-square heights in 2**-12ths, level after level."""
    reach = [
        round(0.5 * float(np.exp(-(0.4 + 0.4 * (decay + 0.5) / 256) * k)) * 4096) for k in range(12)
    ]
    corners = hash32(np.arange(4, dtype=np.uint64) * np.uint64(GOLDEN) + hash32(key))
    grid = (corners >> np.uint64(20)).astype(np.int64).reshape(2, 2)
    for level in range(max((size - 1).bit_length(), 1)):
        h = len(grid)
        side = 2 * h - 1
        own = int(hash32(int(key) ^ (level + 1)))

        def noise(kind, rows, cols, own=own, reach=reach[level]):
            counter = (np.arange(rows)[:, None] << 16 | np.arange(cols)).astype(np.uint64)
            bits = hash32(counter * np.uint64(GOLDEN) + hash32(own + kind))
            return ((bits >> np.uint64(16)).astype(np.int64) - 2**15) * reach >> 15

        wide = np.zeros((side, side), np.int64)
        wide[::2, ::2] = grid
        corner_sum = grid[:-1, :-1] + grid[:-1, 1:] + grid[1:, :-1] + grid[1:, 1:]
        wide[1::2, 1::2] = ((corner_sum + 2) >> 2) + noise(0, h - 1, h - 1)
        own_noise = np.zeros_like(wide)
        own_noise[::2, 1::2], own_noise[1::2, ::2] = noise(1, h, h - 1), noise(2, h - 1, h)
        # Beyond the frame lies the line next to the opposite edge.
        before, after = np.arange(-1, side - 1), np.arange(1, side + 1)
        before[0], after[-1] = side - 2, 1
        around = wide[before] + wide[after] + wide[:, before] + wide[:, after]
        edges = np.add.outer(np.arange(side), np.arange(side)) % 2 == 1
        wide[edges] = (((around + 2) >> 2) + own_noise)[edges]
        grid = wide
    return grid[:size, :size]


def scenery(key, size, turn=180):
    """RGB of the plasma."""
    drawn = words(key, 10, 64)
    x = (heights(drawn[0], drawn[1] >> 24, size) >> 2).clip(-1536, 2559)
    channels = []
    for i, (least, width, low, span) in enumerate(
        [(16320, 48960, 0, 65280), (6528, 13056, 26112, 13056), (19584, 19584, 26112, 13056)]
    ):
        rate, start = least + below(drawn[2 + 2 * i], width), low + below(drawn[3 + 2 * i], span)
        value = ((x * rate >> 10) + start) >> 8
        channels.append(value % 256 if i == 0 else np.minimum(value, 255) % 256)
    return hsv(*channels, turn)


def blurred(image, key):
    """The picture, blurred if its coin says so."""
    strength, coin = words(key, 10, 64)[8:]
    if coin >= 2**31:
        return image
    sigma = 0.5 + 0.5 * ((strength >> 24) + 0.5) / 256
    outer = float(np.exp(-0.5 / sigma**2))
    weight = round(256 * outer / (1 + 2 * outer))
    for _ in range(2):  # down, then across
        wide = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="reflect")
        image = (weight * (wide[:-2] + wide[2:]) + (256 - 2 * weight) * image + 128) >> 8
        image = image.swapaxes(0, 1)
    return image


def picture(params, seed, size, num_points, background=True, blur=True, turn=180, **how):
    """uint8[size, size, 3]: instance `seed` of one category."""
    key = int(mix(seed, fingerprint(params[0])))
    colours, inked = ink(density(params, key, size, num_points, **how), key, turn)
    image = scenery(key, size, turn) if background else np.zeros((size, size, 3), np.int64)
    image[inked] = colours[inked]
    return (blurred(image, key) if blur else image).astype(np.uint8)


def resized(image, side):
    """Bilinear, down and then across, weights in 256ths."""
    source = len(image)
    for _ in range(2):
        rows = []
        for i in range(side):
            along = min(max((2 * i + 1) * source - side, 0), (source - 1) * 2 * side)
            low, rest = divmod(along, 2 * side)
            weight = (rest * 256 + side) // (2 * side)
            high = min(low + 1, source - 1)
            rows.append((image[low] * (256 - weight) + image[high] * weight + 128) >> 8)
        image = np.stack(rows).swapaxes(0, 1)
    return image


def scene(systems, seed, size, num_points, objects=(1, 5)):
    """uint8[size, size, 3] and the categories on it, of MultiX scene `seed`."""
    key = int(mix(seed, 0x4D583130))
    image = scenery(key, size)
    shown = []
    for i in range(objects[0] + below(words(key, 1)[0], objects[1] - objects[0] + 1)):
        drawn = words(key, 8, 128 + 8 * i)
        category = int(drawn[0]) * len(systems) >> 32
        shown.append(category)
        params = systems[category]
        own = int(mix(drawn[1], fingerprint(params[0])))
        counts = density(params, own, size // 2, num_points, region="box", jitter="none")
        colours, inked = ink(counts, own)
        colours[~inked] = 0
        side = (9830 + (below(drawn[2], 2**15) * (39322 - 9830) >> 15)) * size >> 16
        row, col = (below(word, size) - side // 2 for word in drawn[3:5])
        rows, cols = np.arange(row, row + side), np.arange(col, col + side)
        on_canvas = np.ix_((rows >= 0) & (rows < size), (cols >= 0) & (cols < size))
        patch = resized(colours, side)[on_canvas]
        under = image[max(row, 0) : row + side, max(col, 0) : col + side]
        under[patch.any(-1)] = patch[patch.any(-1)]
    return blurred(image, key).astype(np.uint8), sorted(set(shown))
