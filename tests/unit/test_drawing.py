"""Rasters, integer quotients, rotations and palettes against numpy and identities."""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.generators.drawing import colour, noise, raster, views
from jaxfdsl.generators.formulas import exfractaldb, fractaldb


@pytest.mark.parametrize("size", [5, 64, 100])
@pytest.mark.parametrize("op", ["count", "occupied"])
def test_backends_agree_and_drop_what_is_outside(size, op):
    rng = np.random.default_rng(size)
    rows, cols = rng.integers(-3, size + 3, (2, 20_000)).astype(np.int32)
    inside = (rows >= 0) & (rows < size) & (cols >= 0) & (cols < size)
    expected = np.zeros((size, size), np.int64)
    np.add.at(expected, (rows[inside], cols[inside]), 1)
    if op == "occupied":
        expected = expected > 0
    for backend in ("scatter", "matmul"):
        drawn = raster.raster(jnp.asarray(rows), jnp.asarray(cols), size, op=op, backend=backend)
        np.testing.assert_array_equal(np.asarray(drawn), expected)


@pytest.mark.parametrize("span", [20, 244, 350, 1012])
def test_fit_is_the_proportion_to_a_twentieth_of_a_pixel(span):
    low, high = -31_000, 29_500
    values = np.arange(low, high + 1, 7, dtype=np.int32)
    fitted = np.asarray(raster.fit(jnp.asarray(values), jnp.int32(low), jnp.int32(high), span))
    exact = (values - low) * span / (high - low)
    assert fitted.min() == 0 and fitted.max() <= span
    assert (fitted <= exact).all() and (exact - fitted < 1.06).all()


def test_floor_quotient_is_exact():
    rng = np.random.default_rng(0)
    n = rng.integers(-(2**24) + 1, 2**24, 100_000).astype(np.int32)
    d = rng.integers(1, 2**24, 100_000).astype(np.int32)
    d[:50_000] = rng.integers(1, 30_000, 50_000)
    n[::3] = (n[::3] // d[::3]) * d[::3]  # exact multiples are where a rounded guess slips
    quotient = jax.jit(views.floor_quotient)(jnp.asarray(n), jnp.asarray(d))
    np.testing.assert_array_equal(np.asarray(quotient), n // d)


def test_hash_is_a_bijection_and_equal_in_numpy_and_jax():
    x = np.arange(2**16, dtype=np.uint32) * np.uint32(65_537)
    hashed = noise.hash32(x)
    assert len(np.unique(hashed)) == len(x)
    np.testing.assert_array_equal(hashed, np.asarray(noise.hash32(jnp.asarray(x))))
    ones = np.unpackbits(hashed.view(np.uint8)).mean()
    assert abs(ones - 0.5) < 0.002


def test_rotations_are_rotations_spread_evenly():
    for table in (views.random_rotations(), views.equatorial_rotations()):
        matrices = table / 2**views.ROTATION_BITS
        product = matrices @ np.swapaxes(matrices, 1, 2)
        assert np.abs(product - np.eye(3)).max() < 2e-4
    matrices = views.random_rotations() / 2**views.ROTATION_BITS
    assert np.abs(np.linalg.det(matrices) - 1).max() < 2e-4
    # Under the uniform measure of SO(3) every entry has mean 0 and variance 1/3.
    assert np.abs(matrices.mean(0)).max() < 0.005
    assert np.abs((matrices**2).mean(0) - 1 / 3).max() < 0.005


def test_the_camera_is_a_pinhole_at_distance_4_with_45_degrees():
    rng = np.random.default_rng(1)
    cloud = rng.uniform(-0.9, 0.9, (3, 5000))
    rotation = views.random_rotations()[4321]
    points = tuple(jnp.asarray(np.round(axis * 4096), jnp.int32) for axis in cloud)
    rows, cols = views.project(points, jnp.asarray(rotation), 224)
    right, up, forward = rotation / 2**15 @ cloud
    scale = 112 / np.tan(np.deg2rad(22.5)) / (4 + forward)
    assert np.abs(np.asarray(cols) - (112 + right * scale - 0.5)).max() < 0.6
    assert np.abs(np.asarray(rows) - (112 + up * scale - 0.5)).max() < 0.6


def test_weight_rows_are_the_published_files(shared_data):
    for name in fractaldb.MULTIPLIERS:
        path = shared_data / "fractaldb1k" / "weights" / f"weights_{name}.csv"
        published = np.loadtxt(path, delimiter=",")
        np.testing.assert_allclose(fractaldb.weight_rows(name) / 400, published, atol=1e-12)
    published = np.loadtxt(shared_data / "exfractaldb/weights/weights_ins145.csv", delimiter=",")
    np.testing.assert_allclose(exfractaldb.weight_rows() / 10, published, atol=1e-12)


def test_density_palette_is_hsv():
    packed = np.asarray(colour.density_palette(jnp.uint32(5)))
    rgb = (packed[:, None] >> np.array([0, 8, 16])) & 255
    assert (rgb[0] == 0).all()
    hsv = np.array([colorsys.rgb_to_hsv(*(row / 255)) for row in rgb[1:]])
    assert np.ptp(hsv[:, 2]) < 0.01 and np.ptp(hsv[:, 1]) < 0.02
    step = np.diff(np.unwrap(hsv[:, 0] * 2 * np.pi)) / (2 * np.pi)
    assert np.abs(step - 1 / 256).max() < 0.004, "one turn of hue over the densities"


def test_hsi_palette_has_its_intensity_and_saturation():
    rgb = colour.hsi_palette(intensity=0.3).astype(float) / 255  # nothing is clipped there
    assert np.abs(rgb.mean(1) - 0.3).max() < 0.01
    assert np.abs(1 - rgb.min(1) / rgb.mean(1) - 0.75).max() < 0.02
    published = colour.hsi_palette().astype(float) / 255
    assert np.abs(published.min(1) - 0.75 * 0.25).max() < 0.01
