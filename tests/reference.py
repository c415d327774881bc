"""The pictures once more, in plain NumPy int64 loops that know nothing of XLA: what every processor
must reproduce.

int64 never overflows here, and `checked` refuses a value that int32 could not hold, so equality
with the int32 device code also proves that nothing wraps there.
"""

import numpy as np

MASK = 0xFFFFFFFF


def hash32(x):
    x = np.asarray(x, np.uint64) & MASK
    x ^= x >> np.uint64(16)
    x = (x * np.uint64(0x21F0AAAD)) & MASK
    x ^= x >> np.uint64(15)
    x = (x * np.uint64(0x735A2D97)) & MASK
    return x ^ (x >> np.uint64(15))


def mix(key, counter):
    return hash32(np.asarray(counter, np.uint64) * np.uint64(0x9E3779B9) + hash32(key))


def checked(values):
    assert np.abs(values).max(initial=0) < 2**31
    return values


def orbit(maps, thresholds, num_maps, seed, num_points, chains, key=None, mixing=0):
    """Coordinates int64[steps, chains] for each axis. maps int[7, d*d + d] in Q14 and Q20. The key
    of a fixed seed, or a key. `mixing` steps under equal chances come first.
    """
    dims = 2 if maps.shape[1] == 6 else 3
    bits = {2: 15, 3: 14}[dims]
    maps = maps[:num_maps].astype(np.int64)
    shift = maps[:, dims * dims :]
    shift = shift << (bits - 1 + 14 - int(np.abs(shift).max()).bit_length())
    key = int(mix(0, seed)) if key is None else int(key)
    lanes = np.arange(chains, dtype=np.uint64) * np.uint64(0x9E3779B9)
    point = np.zeros((dims, chains), np.int64)
    exponent, exponents, steps = 0, [], []
    equal = [(2**32 - 1) // num_maps * (j + 1) for j in range(7)]
    for t in range(mixing + 32 + -(-num_points // chains)):
        spread = int(np.bitwise_or.reduce((point ^ (point >> 63)).ravel()))
        more = max(spread.bit_length() - bits, 0)
        exponent, point = exponent + more, point >> more
        if t >= mixing + 32:
            steps.append(point)
            exponents.append(exponent)
        choice = hash32(lanes + hash32(key + t * 0x85EBCA6B))
        taken = np.full(chains, num_maps - 1)
        for j in reversed(range(num_maps - 1)):
            taken[choice < (equal if t < mixing else thresholds)[j]] = j
        matrix = maps[taken][:, : dims * dims].reshape(chains, dims, dims)
        total = np.einsum("cij,jc->ic", matrix, point) + (shift[taken].T >> exponent) + (1 << 13)
        point = checked(total) >> 14
    late = np.minimum(exponents[-1] - np.array(exponents), 31)
    return [np.stack([s[i] for s in steps]) >> late[:, None] for i in range(dims)]


def fit(values, low, high, span):
    shift = 30 - span.bit_length()
    return checked((values - low) * ((span << shift) // max(high - low, 1))) >> shift


def weighted(maps, weight, unit):
    return checked(maps.astype(np.int64) * weight + unit // 2) // unit


def fractaldb_occupied(maps, thresholds, num_maps, size, num_points, pad=6, mixing=0):
    """bool[size, size] in the script's orientation before its flips, and the points' rows and
    columns.
    """
    x, y = orbit(maps, thresholds, num_maps, 100, num_points, 512, mixing=mixing)
    cols, rows = (fit(v, min(v.min(), 0), max(v.max(), 0), size - 2 * pad) + pad for v in (x, y))
    image = np.zeros((size, size), bool)
    image[rows, cols] = True
    return image


def fractaldb_gray(params, weight, seed, size, num_points, patch, pad=6):
    """uint8[size, size]: one published-style instance."""
    maps, thresholds, num_maps = (np.asarray(v) for v in params)
    image = fractaldb_occupied(
        weighted(maps, weight, 400), thresholds, int(num_maps), size, num_points, pad
    )
    if patch:
        support = np.zeros_like(image)
        for r, c in zip(*np.nonzero(image), strict=True):
            support[r + 1 : r + 4, c + 1 : c + 4] = True
        words = maps.reshape(-1).astype(np.uint32).astype(np.uint64)
        own = np.bitwise_xor.reduce(hash32(words + hash32(np.arange(words.size))))
        key = mix(seed // 4, own)
        coin = hash32(np.arange(size * size, dtype=np.uint64) * np.uint64(0x9E3779B9) + hash32(key))
        image = support & (coin < 0x80402010).reshape(size, size)
    image = image[::-1]
    if seed % 4 in (1, 3):
        image = image[::-1]
    if seed % 4 >= 2:
        image = image[:, ::-1]
    return image.astype(np.uint8) * 127


def exfractaldb_pair(seed):
    """(weight row, rotation) of an instance: its low 21 bits, scattered, in base 145."""
    x = int(seed) & 0x1FFFFF
    for odd in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):
        x = x * odd & 0x1FFFFF
        x ^= x >> 11
    return x % 145, x // 145


def exfractaldb_cloud(maps, thresholds, num_maps, num_points=10_000):
    """int64[3, N] in Q12: normalised by the common bounds, centred."""
    points = orbit(maps, thresholds, num_maps, 1, num_points, 200)
    low, high = min(p.min() for p in points), max(p.max() for p in points)
    cloud = np.stack([fit(p.ravel(), low, high, 2 << 12) for p in points])
    total = checked(cloud.sum(1))
    mean = np.sign(total) * (np.abs(total) // cloud.shape[1])
    return cloud - mean[:, None]


def exfractaldb_picture(params, weight, rotation, size):
    """uint8[size, size]: one view."""
    maps, thresholds, num_maps = (np.asarray(v) for v in params)
    cloud = exfractaldb_cloud(weighted(maps, weight, 10), thresholds, int(num_maps))
    turned = checked(np.asarray(rotation, np.int64) @ cloud) >> 15
    depth = turned[2] + (4 << 12)
    focal = round(size / 2 / np.tan(np.deg2rad(22.5)) * 64)
    rows, cols = ((checked(turned[i] * focal) >> 6) // depth + size // 2 for i in (1, 0))
    seen = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
    image = np.zeros((size, size), np.uint8)
    image[rows[seen], cols[seen]] = 255
    return image
