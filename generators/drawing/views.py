"""Looking at a cloud of points: rotations from host tables, a perspective camera, all in int32."""

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32

from .raster import fit

POINT_BITS = 12  # points are Q12, the unit box is [-1, 1]
ROTATION_BITS = 15
CAMERA_DISTANCE = 4
FIELD_OF_VIEW = 45.0  # degrees
FOCAL_BITS, FOCAL_MOST = 6, 2048  # a bit less beyond that canvas, for int32


@functools.cache
def random_rotations(count: int = 14464) -> np.ndarray:
    """int32[count, 3, 3] in Q15: rotations spread evenly over SO(3), the super-Fibonacci spirals of
    Alexa (CVPR 2022).

    14,464 rotations are 7 degrees apart. Taking one at random is a uniformly random viewpoint and
    roll.
    """
    phi, psi = np.sqrt(2.0), 1.533751168755204288118041
    s = np.arange(count) + 0.5
    r, big = np.sqrt(s / count), np.sqrt(1 - s / count)
    alpha, beta = 2 * np.pi * s / phi, 2 * np.pi * s / psi
    quaternions = np.stack(
        [r * np.sin(alpha), r * np.cos(alpha), big * np.sin(beta), big * np.cos(beta)], 1
    )
    return _quantise(_matrix(quaternions))


@functools.cache
def equatorial_rotations(views: int = 12, jitters: int = 256) -> np.ndarray:
    """int32[views * jitters, 3, 3] in Q15: the published script's cameras. View v stands on the
    equator at 360 v / views + 30 degrees and a jitter in (-pi, pi) degrees (the script converts to
    radians twice)."""
    jitter = ((np.arange(jitters) + 0.5) / jitters * 2 - 1) * np.pi
    angle = np.deg2rad(360 * np.arange(views)[:, None] / views + 30 + jitter).reshape(-1)
    cos, sin, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    # The camera at -4 R (1, 0, 0) looks along R (1, 0, 0): depth runs along that axis, right
    # along the third, up along y.
    # glReadPixels returns the lowest row first and the script does not turn it: row 0 shows the
    # bottom.
    right = np.stack([sin, zero, cos], 1)
    up = np.stack([zero, zero + 1, zero], 1)
    forward = np.stack([cos, zero, -sin], 1)
    return _quantise(np.stack([right, up, forward], 1))


def _matrix(q: np.ndarray) -> np.ndarray:
    x, y, z, w = q.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), -1, 0)


def _quantise(matrices: np.ndarray) -> np.ndarray:
    return np.round(matrices * (1 << ROTATION_BITS)).astype(np.int32)


def project(
    points: tuple[Int32[Array, " N"], ...], rotation: Int32[Array, "3 3"], size: int
) -> tuple[Int32[Array, " N"], Int32[Array, " N"]]:
    """Rows and columns of Q12 points seen by a camera at distance 4; the frame is `size` pixels for
    45 degrees.

    rotation rows: right, up (row 0 of the picture is the lowest), forward. Points may fall outside
    the frame.
    """
    x, y, z = points
    right, up, forward = (
        (row[0] * x + row[1] * y + row[2] * z) >> ROTATION_BITS for row in rotation
    )
    depth = forward + (CAMERA_DISTANCE << POINT_BITS)
    bits = FOCAL_BITS if size <= FOCAL_MOST else FOCAL_BITS - 1
    focal = round(size / 2 / np.tan(np.deg2rad(FIELD_OF_VIEW / 2)) * (1 << bits))
    rows, cols = (floor_quotient(v * focal >> bits, depth) + size // 2 for v in (up, right))
    return rows, cols


def floor_quotient(
    numerator: Int32[Array, "..."], denominator: Int32[Array, "..."]
) -> Int32[Array, "..."]:
    """floor(n / d) exactly, for |n| < 2**30, 0 < d < 2**24 and |n / d| < 2**18: a float guess, at
    most one off, mended by the remainder.

    Float division is not correctly rounded on every processor, so the guess is not trusted; integer
    division costs three times as much.
    """
    guess = jnp.floor(numerator.astype(jnp.float32) / denominator.astype(jnp.float32)).astype(
        jnp.int32
    )
    rest = numerator - guess * denominator
    return guess + (rest >= denominator).astype(jnp.int32) - (rest < 0).astype(jnp.int32)


def normalise(points: tuple[Int32[Array, "..."], ...], low, high) -> tuple[Int32[Array, " N"], ...]:
    """To [-1, 1] by the common bounds of all axes (so that the aspect stays), then centred on the
    mean, in Q12.
    """
    centred = []
    for values in points:
        flat = fit(values.reshape(-1), low, high, 2 << POINT_BITS)
        mean = lax.div(flat.sum(dtype=jnp.int32), jnp.int32(flat.shape[0]))
        centred.append(flat - mean)
    return tuple(centred)
