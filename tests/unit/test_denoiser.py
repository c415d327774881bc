"""The diffusion transformer and its flow."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxfdsl.models import denoiser, sampler, variants
from jaxfdsl.models.variants import Variant
from jaxfdsl.objectives.denoise import Denoise, draw_times


def design(**changes):
    usual = {
        "size": Variant(32, 2, 2),
        "image_size": 8,
        "channels": 3,
        "patch_size": 2,
        "cond_size": 5,
        "output_channels": 3,
        "attention": "xla",
        "scan_blocks": False,
        "remat": "none",
        "dtype": np.dtype("float32"),
    }
    return denoiser.Design(**{**usual, **changes})


@pytest.fixture(scope="module")
def model():
    return denoiser.build(design())


@pytest.fixture(scope="module")
def params(model):
    """Every parameter moved off its start, which is zero where it says nothing."""
    leaves, tree = jax.tree.flatten(jax.jit(model.init)(jax.random.key(0)))
    rng = np.random.default_rng(0)
    moved = [x + 0.1 * rng.standard_normal(x.shape).astype(np.float32) for x in leaves]
    return jax.tree.unflatten(tree, moved)


@pytest.fixture(scope="module")
def seen():
    rng = np.random.default_rng(1)
    return {
        "images": jnp.asarray(rng.standard_normal((4, 8, 8, 3)), jnp.float32),
        "times": jnp.array([0.1, 0.4, 0.7, 1.0]),
        "conds": jnp.asarray(rng.standard_normal((4, 5)), jnp.float32),
        "known": jnp.array([True, True, False, True]),
    }


def test_the_gradient_of_the_norm_is_the_one_that_jax_finds():
    def written_out(x):
        spread = jnp.mean(jnp.square(x - x.mean(-1, keepdims=True)), -1, keepdims=True)
        return (x - x.mean(-1, keepdims=True)) / jnp.sqrt(spread + 1e-6)

    rng = np.random.default_rng(0)
    x, given = (jnp.asarray(rng.normal(2, 3, (5, 7)), jnp.float32) for _ in range(2))
    for norm in (written_out, denoiser.plain_norm):
        value, back = jax.vjp(norm, x)
        if norm is written_out:
            expected = value, back(given)[0]
    np.testing.assert_allclose(value, expected[0], atol=1e-6)
    np.testing.assert_allclose(back(given)[0], expected[1], atol=1e-6)


PUBLISHED = {"dit_s": 33, "dit_b": 130, "dit_l": 458, "dit_xl": 675}  # arXiv 2212.09748, table 4


@pytest.mark.parametrize(("name", "millions"), PUBLISHED.items())
def test_published_parameter_counts(name, millions):
    """DiT-*/2 of 32 x 32 x 4 latents, 1,000 classes, learned variances, its fixed positions
    counted, as the paper does."""
    size = variants.DENOISERS[name]
    made = design(size=size, image_size=32, channels=4, output_channels=8, cond_size=1000)
    shapes = jax.eval_shape(denoiser.build(made).init, jax.random.key(0))
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) + size.width * made.tokens
    assert count // 10**6 == millions or round(count / 1e6) == millions
    if name == "dit_xl":
        assert count == 675_129_632  # what the authors' code counts


def test_it_starts_as_zero(model, seen):
    fresh = jax.jit(model.init)(jax.random.key(0))
    found = jax.jit(model.velocity)(fresh, *seen.values())
    assert found.shape == (4, 8, 8, 3) and not np.any(found)


def test_without_a_condition_nothing_of_it_is_seen(model, params, seen):
    """The null path is the unconditional model, whatever the vector holds."""
    other = seen["conds"].at[2].set(jnp.nan)
    run = jax.jit(model.velocity)
    first, second = (run(params, *({**seen, "conds": c}).values()) for c in (seen["conds"], other))
    np.testing.assert_array_equal(first, second)
    known = run(params, *({**seen, "known": jnp.ones(4, bool)}).values())
    assert np.abs(known[2] - first[2]).max() > 1e-3
    np.testing.assert_allclose(known[:2], first[:2], atol=1e-6)


def test_a_class_is_a_row_of_the_matrix(model, params, seen):
    """With one-hot vectors the matrix is DiT's table of class embeddings."""
    classes = jnp.array([3, 0, 1, 3])
    swapped = params["cond_embed"]["kernel"][jnp.array([3, 0, 1, 3, 2])]
    moved = {**params, "cond_embed": {"kernel": swapped}}
    run, known = jax.jit(model.velocity), jnp.ones(4, bool)
    first = run(params, seen["images"], seen["times"], jax.nn.one_hot(classes, 5), known)
    rows = jax.nn.one_hot(jnp.array([0, 1, 2, 3]), 5)
    second = run(moved, seen["images"], seen["times"], rows, known)
    np.testing.assert_allclose(first, second, atol=1e-6)


def test_stacked_blocks_are_the_same_model(model, params, seen):
    from jaxfdsl.models.blocks import stack_blocks

    stacked = denoiser.build(design(scan_blocks=True, remat="full"))
    first = jax.jit(model.velocity)(params, *seen.values())
    second = jax.jit(stacked.velocity)(stack_blocks(params), *seen.values())
    np.testing.assert_allclose(first, second, atol=2e-6)


def test_positions_are_maes():
    """The row of place (row 1, column 2) of a 3 x 3 grid, by hand."""
    found = denoiser.positions(8, 3)[1 * 3 + 2]
    omega = np.array([1.0, 1 / 100])
    angles = [np.sin(2 * omega), np.cos(2 * omega), np.sin(omega), np.cos(omega)]
    np.testing.assert_allclose(found, np.concatenate(angles), atol=1e-7)


def test_euler_is_exact_on_a_constant_field():
    noise = jax.random.normal(jax.random.key(0), (3, 4))
    field = jnp.array([[1.0, -2.0, 0.5, 3.0]])
    for method in sampler.METHODS:
        found = sampler.integrate(lambda x, t: jnp.broadcast_to(field, x.shape), noise, 8, method)
        np.testing.assert_allclose(found, noise - field, atol=1e-6)


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_the_sampler_converges_at_its_order(method, order):
    """From N(0, 1) to N(m, s^2): x0 = m + s e, with the exact velocity of that flow."""
    m, s = 2.0, 0.3

    def velocity(x, t):
        t = t[:, None]
        variance = (1 - t) ** 2 * s**2 + t**2
        gain = (t - (1 - t) * s**2) / variance
        return gain * (x - (1 - t) * m) - m

    with jax.enable_x64(True):
        noise = jnp.linspace(-2, 2, 9, dtype=jnp.float64)[:, None]
        errors = [
            float(jnp.abs(sampler.integrate(velocity, noise, n, method) - (m + s * noise)).max())
            for n in (32, 64)
        ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_guidance_of_one_is_the_conditional_model():
    conditional, other = (lambda x, t: x * 2), (lambda x, t: x * jnp.nan)
    x, t = jnp.ones((2, 3)), jnp.ones(2)
    np.testing.assert_array_equal(sampler.guided(conditional, other, 1.0)(x, t), 2 * x)
    base = sampler.guided(conditional, lambda x, t: x, 3.0)(x, t)
    np.testing.assert_array_equal(base, 4 * x)  # 1 + 3 (2 - 1)


def test_noise_hangs_on_the_seed_alone():
    first = sampler.noise(jnp.array([5, 6, 7]), (4, 4, 3))
    second = sampler.noise(jnp.array([7, 5]), (4, 4, 3))
    np.testing.assert_array_equal(first[::-2], second)
    pair = sampler.noise(jnp.array([[5, 6], [6, 5]], jnp.uint32), (4, 4, 3))
    assert (pair[0] != pair[1]).all() and (pair[0] != first[0]).all()
    many = np.asarray(sampler.noise(jnp.arange(500), (64,)))
    assert abs(many.mean()) < 0.02 and abs(many.std() - 1) < 0.02


def test_the_target_is_the_velocity_of_the_path():
    """Where the model is at time t, moving against the target for t arrives at the image."""
    batch = {
        "image": jnp.asarray(np.random.default_rng(0).standard_normal((6, 4, 4, 3)), jnp.float32),
        "cond": jnp.zeros((6, 2)),
    }
    seen = Denoise(hidden=0.5).inputs(batch, jax.random.key(3))
    back = seen["images"] - seen["times"][:, None, None, None] * seen["target"]
    np.testing.assert_allclose(back, batch["image"], atol=1e-5)
    loss, _ = Denoise().loss({"velocity": seen["target"], "target": seen["target"]}, batch)
    assert float(loss) == 0


def test_corrupt_images_weigh_nothing():
    velocity = jnp.zeros((2, 4, 4, 3)).at[1].set(jnp.nan)
    outputs = {"velocity": velocity, "target": jnp.ones((2, 4, 4, 3))}
    loss, _ = Denoise().loss(outputs, {"valid": jnp.array([1.0, 0.0])})
    assert float(loss) == 1.0


def test_a_tenth_of_the_conditions_is_hidden():
    batch = {"image": jnp.zeros((4000, 1, 1, 1)), "cond": jnp.zeros((4000, 1))}
    known = Denoise().inputs(batch, jax.random.key(0))["known"]
    assert float(jnp.mean(known)) == pytest.approx(0.9, abs=0.02)


def test_times_are_uniform_or_logit_normal():
    uniform = np.sort(draw_times("uniform", jax.random.key(0), 4000))
    np.testing.assert_allclose(uniform, np.linspace(0, 1, 4000), atol=0.03)
    logits = np.asarray(draw_times("logit_normal", jax.random.key(0), 4000), np.float64)
    logits = np.log(logits / (1 - logits))
    assert abs(logits.mean()) < 0.05 and abs(logits.std() - 1) < 0.05
