"""Contractive fractals: bit for bit the NumPy reference, in distribution the published recipe."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxfdsl import generators
from jaxfdsl.generators import categories, dataset
from jaxfdsl.generators.drawing import background, blur, colour, stages
from jaxfdsl.generators.formulas import contractive, jitter, svd_fractal
from tests import programs
from tests import reference_svd as reference

PLAIN = {"background": False, "blur": False, "flips": False, "region": "box", "jitter": "none"}


def as_reference(table, i):
    maps, thresholds, count = (np.asarray(field[i]).astype(np.int64) for field in table)
    return maps, thresholds, int(count)


def load(num_classes=1000, **options):
    return generators.load("svd_fractal-1k", num_classes=num_classes, instances=None, **options)


def table_of(count):
    family = svd_fractal.SVDFractal()
    return categories.from_numbers(family, np.arange(count, dtype=np.uint32))


def test_systems_equal_numpy_on_host_and_device():
    numbers = np.random.default_rng(0).integers(0, 2**32, 200, dtype=np.uint32)
    family = svd_fractal.SVDFractal()
    host = family.propose(numbers, xp=np)
    for some, other in zip(host, jax.jit(family.propose)(jnp.asarray(numbers)), strict=True):
        np.testing.assert_array_equal(some, np.asarray(other))
    for i, number in enumerate(numbers):
        for some, other in zip(as_reference(host, i), reference.system(number), strict=True):
            np.testing.assert_array_equal(some, other)


@pytest.mark.parametrize(
    "size, points, count, options",
    [
        (48, 3000, 80, {}),
        (65, 3000, 20, {}),
        (40, 3000, 40, {"jitter": "svd", "hue": "full", "region": "box"}),
        (224, 100_000, 2, {}),
    ],
)
def test_pictures_equal_numpy(size, points, count, options):
    db = load(size=size, num_points=points, **options)
    draw = np.random.default_rng(size).integers
    recipes = np.stack([draw(0, 1000, count), draw(0, 2**32, count)], 1).astype(np.uint32)
    drawn = np.asarray(db.draw_recipes(recipes)["image"])
    options = dict(options)
    turn = svd_fractal.HUES[options.pop("hue", "opencv")]
    for (category, seed), image in zip(recipes, drawn, strict=True):
        params = as_reference(db.categories, category)
        expected = reference.picture(params, int(seed), size, points, turn=turn, **options)
        np.testing.assert_array_equal(image, expected)


def published_singular_values(rng, n):
    """The sequential sampler as the paper's code has it, in floats: s1, s2 of n maps."""
    alpha = rng.uniform((5 + n) / 2, (6 + n) / 2)
    p, q, found = alpha, alpha - 3 * n + 3, []
    for _ in range(n - 1):
        s1 = rng.uniform(max(0, q / 3), min(1, p))
        q, p = q - s1, p - s1
        s2 = rng.uniform(max(0, q / 2), min(s1, p / 2))
        q, p = q - 2 * s2 + 3, p - 2 * s2
        found.append((s1, s2))
    s2 = rng.uniform(max(0, (p - 1) / 2), p / 3)
    return np.array([*found, (p - 2 * s2, s2)])


def test_singular_values_have_the_published_distribution():
    table = table_of(6000)
    assert stats.chisquare(np.bincount(table.num_maps)[2:]).pvalue > 0.01
    rng = np.random.default_rng(7)
    for n in (2, 3, 4):
        own = table.maps[table.num_maps == n, :n, :4].reshape(-1, n, 2, 2) / 2**14
        values = np.linalg.svd(own, compute_uv=False)
        factor = (values * [1, 2]).sum((1, 2))
        assert values.max() < 1 + 1e-4, "a contraction"
        assert factor.min() > (5 + n) / 2 - 4e-4 and factor.max() < (6 + n) / 2 + 4e-4
        assert stats.kstest(factor, stats.uniform((5 + n) / 2, 0.5).cdf).pvalue > 0.01
        published = np.stack([published_singular_values(rng, n) for _ in range(2000)])
        for j in range(n):
            for k in range(2):
                same = stats.ks_2samp(values[:, j, k], published[:, j, k])
                assert same.pvalue > 0.01, (n, j, k)
    first = table.maps[:, 0, :4].reshape(-1, 2, 2) / 2**14
    assert abs((np.linalg.det(first) < 0).mean() - 0.5) < 0.02, "reflections are half"
    left = np.linalg.svd(first)[0][:, :, 0]
    assert stats.kstest((np.arctan2(left[:, 1], left[:, 0]) / np.pi) % 1, "uniform").pvalue > 0.01
    shift = table.maps[:, 0, 4:].reshape(-1) / 2**20
    assert stats.kstest(shift, stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_probabilities_follow_the_determinants():
    table = table_of(200)
    for i in range(200):
        n = int(table.num_maps[i])
        det = np.abs(np.linalg.det(table.maps[i, :n, :4].reshape(n, 2, 2) / 2**14))
        taken = np.diff(np.append(0, table.thresholds[i, : n - 1] / 2**32))
        np.testing.assert_allclose(taken, (det / det.sum())[:-1], atol=1e-4)


def test_a_contraction_is_told_by_whole_numbers():
    rng = np.random.default_rng(1)
    rows = rng.integers(-18_000, 18_001, (20_000, 4)).astype(np.int32)
    greatest = np.linalg.svd(rows.reshape(-1, 2, 2) / 2**14, compute_uv=False)[:, 0]
    told = np.asarray(jax.jit(jitter.contracts)(jnp.asarray(rows)))
    clear = np.abs(greatest - 1) > 3e-4
    np.testing.assert_array_equal(told[clear], greatest[clear] <= 1)
    assert 0.2 < told.mean() < 0.8


def test_jitter_is_the_published_one():
    table = table_of(500)
    bits = np.random.default_rng(2).integers(0, 2**32, (500, 8), dtype=np.uint32)
    changed = jax.jit(jax.vmap(jitter.scaled))(jax.tree.map(jnp.asarray, table), jnp.asarray(bits))
    rng, ratios, published = np.random.default_rng(3), [], []
    for i in range(500):
        n = int(table.num_maps[i])
        before, after = table.maps[i, :n].astype(float), np.asarray(changed.maps[i, :n])
        moved = (np.abs(before - after) > 0).any(-1)
        assert moved.sum() <= 1, "one map"
        greatest = np.linalg.svd(after[:, :4].reshape(n, 2, 2) / 2**14, compute_uv=False).max()
        assert greatest < 1 + 2e-4
        ratios.append((after @ before.T).trace() / (before @ before.T).trace())
        ratios[-1] = (after[moved] / before[moved])[0, 4:].mean() if moved.any() else 1.0
        values = np.linalg.svd(before[:, :4].reshape(n, 2, 2) / 2**14, compute_uv=False)[:, 0]
        for _ in range(4):
            which, factor = rng.integers(n), rng.uniform(0.8, 1.1)
            if values[which] * factor <= 1:
                break
        published.append(factor if values[which] * factor <= 1 else 1.0)
    assert stats.ks_2samp(ratios, published).pvalue > 0.01


def published_diamond_square(n, decay, rng):
    """The plain float algorithm, loop by loop."""
    s = 2**n + 1
    a = np.zeros((s, s))
    a[0, 0], a[0, -1], a[-1, 0], a[-1, -1] = rng.random(4)
    for k in range(1, n + 1):
        m, ss = 0.5 * np.exp(decay * (1 - k)), s // 2**k
        for r in range(ss, s, 2 * ss):
            for c in range(ss, s, 2 * ss):
                a[r, c] = (
                    a[r - ss, c - ss] + a[r - ss, c + ss] + a[r + ss, c - ss] + a[r + ss, c + ss]
                ) / 4 + rng.uniform(-m, m)
        for i in range(2**k + 1):
            for j in range(1 - i % 2, 2**k + 1, 2):
                r, c = i * ss, j * ss
                up, down = (r - ss if r else s - ss - 1), (r + ss if r < s - 1 else ss)
                left, right = (c - ss if c else s - ss - 1), (c + ss if c < s - 1 else ss)
                a[r, c] = (a[up, c] + a[down, c] + a[r, left] + a[r, right]) / 4
                a[r, c] += rng.uniform(-m, m)
    return a


def test_plasma_has_the_statistics_of_diamond_square():
    size, count = 32, 300
    draw = functools.partial(background.plasma, size=size, settle=stages.settler(None))
    rng = np.random.default_rng(4)
    keys, decays = rng.integers(0, 2**32, count, dtype=np.uint32), rng.integers(0, 256, count)
    ours = jax.jit(jax.vmap(draw))(jnp.asarray(keys), jnp.asarray(background.reaches()[decays]))
    ours = np.asarray(ours) / 2**background.HEIGHT_BITS
    plain = np.stack(
        [published_diamond_square(5, rng.uniform(0.4, 0.8), rng)[:size, :size] for _ in ours]
    )
    for name, measure in {
        "mean": lambda x: x.mean((1, 2)),
        "spread": lambda x: x.std((1, 2)),
        "step": lambda x: np.abs(np.diff(x, axis=2)).mean((1, 2)),
        "step of 8 rows": lambda x: np.abs(x[:, 8:] - x[:, :-8]).mean((1, 2)),
        "corner": lambda x: x[:, 0, 0],
        "edge": lambda x: x[:, 0, 13],
    }.items():
        assert stats.ks_2samp(measure(ours), measure(plain)).pvalue > 0.01, name


def published_counts(table, masks, points, size, rng):
    """The published picture before colour in float64: one orbit from the fixed point of map 0, its
    box, one mask an image. All categories take their steps together.
    """
    maps = table.maps.astype(float) / np.array([2**14] * 4 + [2**20] * 2)
    limits = table.thresholds[:, :3] / 2.0**32
    a, b, c, d, e, f = maps[:, 0].T
    det = 1 + a * d - b * c - a - d
    x, y = ((1 - d) * e + b * f) / det, ((1 - a) * f + c * e) / det
    row, orbit = np.arange(len(maps)), np.empty((points, 2, len(maps)))
    for step in orbit:
        choice = (rng.random(len(maps))[:, None] >= limits).sum(-1)
        a, b, c, d, e, f = maps[row, choice].T
        x, y = a * x + b * y + e, c * x + d * y + f
        step[:] = x, y
    seen = []
    for points_of, mask in zip(orbit.transpose(2, 1, 0), masks, strict=True):
        r, c = (((v - v.min()) * ((size - 1) / np.ptp(v))).astype(int) for v in points_of)
        image = np.bincount((r + 1) * (size + 2) + c + 1, minlength=(size + 2) ** 2)
        image = image.reshape(size + 2, size + 2)
        windows = [image[i : i + size, j : j + size] for i in range(3) for j in range(3)]
        seen.append(sum(w * (mask >> k & 1) for k, w in enumerate(windows)))
    return np.stack(seen)


def test_ink_and_gray_are_those_of_the_published_recipe():
    """500 categories at the published number of points a pixel, each with the same mask."""
    size, points, count = 64, 8192, 500  # whole steps of the 512 chains
    db = load(size=size, num_points=points, **PLAIN)
    recipes = np.stack([np.arange(count), np.arange(count) + 99], 1).astype(np.uint32)
    keys = [
        reference.mix(seed, reference.fingerprint(db.categories.maps[i])) for i, seed in recipes
    ]
    masks = np.array([reference.words(key, 2)[1] for key in keys])
    image = np.asarray(db.draw_recipes(recipes)["image"])
    ink = (image > 0).any(-1).mean((1, 2))
    table = categories.first(db.categories, count)
    plain = published_counts(table, masks, points, size, np.random.default_rng(5))
    assert abs(ink.mean() / (plain > 0).mean() - 1) < 0.02
    assert stats.ks_2samp(ink, (plain > 0).mean((1, 2))).pvalue > 0.01
    ours = np.stack(
        [
            reference.density(
                as_reference(db.categories, i), keys[i], size, points, True, "box", "none", False
            )
            for i in range(count)
        ]
    )

    def gray(counts):
        return (counts / np.maximum(counts.max((1, 2)), 1)[:, None, None] * 255).mean((1, 2))

    assert stats.ks_2samp(gray(ours), gray(plain)).pvalue > 0.01


def test_the_random_window_is_the_published_one():
    """Scale and middle of the window, recovered from where two far points land."""
    rng = np.random.default_rng(6)
    ends = jnp.asarray([[-20_000], [30_000]], jnp.int32)
    size = 1000

    @jax.jit
    @jax.vmap
    def place(bits):
        return svd_fractal.SVDFractal()._place(ends, bits, size)

    bits = rng.integers(0, 2**32, (4000, 4), dtype=np.uint32)
    low, high = np.asarray(place(jnp.asarray(bits)))[..., 0].astype(float).T
    scale = (size - 1) / (high - low)
    assert stats.kstest(scale, stats.uniform(0.5, 1.5).cdf).pvalue > 0.001
    middle = ((size - 1) / 2 - (low + high) / 2) / (high - low)
    assert stats.kstest(middle, stats.uniform(-0.2, 0.4).cdf).pvalue > 0.01


def test_hsv_is_that_of_opencv():
    hue, saturation, value = np.meshgrid(np.arange(256), [0, 77, 200, 255], [0, 128, 255])
    flat = [jnp.asarray(v.reshape(-1), jnp.int32) for v in (hue, saturation, value)]
    packed = np.asarray(jax.jit(functools.partial(colour.hsv, turn=180))(*flat))
    rgb = (packed[:, None] >> np.array([0, 8, 16])) & 255
    exact = [
        colorsys.hsv_to_rgb(h % 180 / 180, s / 255, v / 255)
        for h, s, v in zip(*(np.asarray(v) for v in flat), strict=True)
    ]
    assert np.abs(rgb - np.array(exact) * 255).max() <= 0.51


def test_blur_is_a_gaussian_of_three_pixels():
    rng = np.random.default_rng(8)
    image = rng.integers(0, 256, (20, 31, 3))
    packed = jnp.asarray(colour.pack(image.reshape(-1, 3)).reshape(20, 31))
    for place, sigma in ((0, 0.501), (255, 0.999)):
        weight = jnp.uint32(blur.side_weights()[place])
        drawn = np.asarray(colour.unpack(blur.blur(packed, weight, stages.settler(None))))
        kernel = np.exp(-np.array([1, 0, 1]) / 2 / sigma**2)
        kernel /= kernel.sum()
        wide = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode="reflect")
        exact = sum(
            kernel[i] * kernel[j] * wide[i : i + 20, j : j + 31] for i in range(3) for j in range(3)
        )
        assert np.abs(drawn - exact).max() < 2


def test_render_shows_points_outline_and_filled_shape():
    plain = {**PLAIN, "num_points": 5000, "size": 64}
    recipes = np.stack([np.arange(12), np.arange(12)], 1)

    def ink(**options):
        return programs.draw(load(**plain, **options), recipes)["image"]

    table = table_of(12)
    published, points = (
        np.stack(
            [
                reference.picture(as_reference(table, i), i, 64, 5000, **PLAIN, patch=patch)
                for i in range(12)
            ]
        )
        for patch in (True, False)
    )
    np.testing.assert_array_equal(ink(render="points"), points)
    published = published.max(-1) > 0
    filled, outline = ink(render="filled"), ink(render="outline")
    assert set(np.unique(filled)) == {0, 255}
    assert (filled.max(-1) > 0)[published].all() and (filled >= outline).all()
    assert (filled.max(-1) > 0).mean() > (outline.max(-1) > 0).mean() > 0
    gray = ink(color=False)
    assert set(np.unique(gray)) == {0, 127}
    np.testing.assert_array_equal(gray.max(-1) > 0, published)


def test_varying_parameters_are_the_first_of_the_list():
    numbers = np.arange(50, dtype=np.uint32)
    for varying, name in enumerate(contractive.VARYING, 1):
        table = svd_fractal.SVDFractal(varying=varying).propose(numbers, xp=np)
        values = np.linalg.svd(table.maps[:, 0, :4].reshape(-1, 2, 2) / 2**14, compute_uv=False)
        assert np.ptp(values[:, 0]) > 0.1, name
        assert (np.ptp(table.maps[:, 0, 4:], 0) > 0).all() == (varying >= 4)
        assert (np.ptp(table.num_maps) > 0) == (varying == 5)
    fixed = svd_fractal.SVDFractal(varying=1).propose(numbers, xp=np).maps[:, 0, :4]
    left = np.linalg.svd(fixed.reshape(-1, 2, 2) / 2**14)[0]
    assert np.ptp(np.abs(left[:, 0, 0])) < 0.05, "the rotations stay"


def test_refusals():
    with pytest.raises(ValueError, match=r"region='boxx': svd_fractal has 'random', 'box'"):
        load(region="boxx")
    with pytest.raises(ValueError, match=r"varying=6: give 1 to 5"):
        load(varying=6)
    with pytest.raises(ValueError, match=r"color=1: give True or False"):
        load(color=1)
    wild = categories.from_systems([np.array([[2.5, 2.5, 0, 0, 0.1, 0.1, 1.0]])])
    with pytest.raises(ValueError, match=r"category 0: with jitter='scale' a matrix row sums"):
        generators.load("svd_fractal", table=wild)
    wide = categories.from_systems([np.array([[1.5, 0.5, 0, 0.2, 0.1, 0.1, 1.0]])])
    with pytest.raises(ValueError, match=r"coefficients of at most 1.25 in magnitude, not 1.50"):
        generators.load("svd_fractal", table=wide)
    generators.load("svd_fractal", table=wide, jitter="none")


def test_one_canvas_of_4096_pixels():
    db = load(num_classes=1, size=4096, num_points=500, region="box")
    image = np.asarray(db.draw([0])["image"])
    assert image.shape == (1, 4096, 4096, 3) and image.std() > 1
    assert dataset.SIZES == (16, 4096)
