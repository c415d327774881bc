"""Filled shapes and outlines against scans written plainly in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.generators.drawing import silhouette


def filled(ink):
    inside = np.zeros_like(ink)
    for r in range(len(ink)):
        for c in range(len(ink)):
            row, col = ink[r], ink[:, c]
            inside[r, c] = (
                row[: c + 1].any() and row[c:].any() and col[: r + 1].any() and col[r:].any()
            )
    return inside


def outline(ink):
    inside = filled(ink)
    framed = np.pad(inside, 1)
    core = framed[:-2, 1:-1] & framed[2:, 1:-1] & framed[1:-1, :-2] & framed[1:-1, 2:]
    return inside & ~core


@pytest.mark.parametrize("size", [16, 37, 64])
@pytest.mark.parametrize("share", [0.0, 0.004, 0.05, 0.6, 1.0])
def test_shapes_equal_a_scan_in_four_directions(size, share):
    ink = np.random.default_rng(size).random((8, size, size)) < share
    ink[0] = np.eye(size, dtype=bool) & (share > 0)
    for shape, plain in ((silhouette.filled, filled), (silhouette.outline, outline)):
        expected = np.stack([plain(image) for image in ink])
        drawn = jax.jit(jax.vmap(shape))(jnp.asarray(ink))
        np.testing.assert_array_equal(np.asarray(drawn), expected)
        np.testing.assert_array_equal(np.asarray(shape(jnp.asarray(ink[1]))), expected[1])


def test_a_closed_convex_line_is_filled_to_its_rim():
    y, x = np.mgrid[:100, :100]
    distance = np.hypot(x - 48, 1.3 * (y - 51))
    ring = np.abs(distance - 30) < 0.9
    solid = distance < 30.9
    np.testing.assert_array_equal(np.asarray(silhouette.filled(jnp.asarray(ring))), solid)
    rim = np.asarray(silhouette.outline(jnp.asarray(ring)))
    np.testing.assert_array_equal(np.asarray(silhouette.outline(jnp.asarray(solid))), rim)
    assert rim.sum() < ring.sum() and not (rim & ~ring).any()


def test_a_shape_cut_by_the_frame_has_its_outline_there():
    ink = np.zeros((20, 20), bool)
    ink[:8, 3:12] = True
    rim = np.asarray(silhouette.outline(jnp.asarray(ink)))
    assert rim[0, 3:12].all() and rim[7, 3:12].all() and rim[:8, 3].all()
    assert rim.sum() == 2 * 9 + 2 * 6
