"""RandAugment's draws against timm's definition, and its notation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxfdsl import config
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.data.augment import chance, rand_augment
from jaxfdsl.data.augment.affine import LEVELS
from jaxfdsl.data.augment.rand_augment import NONE, OPS, Policy

TIMM = (  # `_RAND_INCREASING_TRANSFORMS`
    "AutoContrast", "Equalize", "Invert", "Rotate", "PosterizeIncreasing", "SolarizeIncreasing",
    "SolarizeAdd", "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing",
    "SharpnessIncreasing", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip
DRAWS = 20_000


def draws(policy):
    seeds = chance.seeds(jax.random.key(0), jnp.arange(DRAWS))
    sampled = jax.jit(jax.vmap(lambda seed: rand_augment.sample(policy, seed)))(seeds)
    return tuple(np.asarray(part) for part in sampled)  # ops and levels, [draws, layers]


@pytest.fixture(scope="module")
def papers():
    return draws(rand_augment.parse("rand-m9-mstd0.5-inc1"))


def test_the_ops_are_timms():
    assert tuple(name.removesuffix("Increasing") for name in TIMM) == OPS
    assert rand_augment.parse("rand-m9-mstd0.5-inc1") == Policy(9, 2, 0.5, 0.5, True)


def test_ops_are_drawn_evenly_with_replacement_and_done_half_of_the_time(papers):
    ops, _ = papers
    assert ops.shape == (DRAWS, 2)
    for layer in range(2):
        counts = np.bincount(ops[:, layer], minlength=NONE + 1)
        assert abs(counts[NONE] / DRAWS - 0.5) < 0.015
        assert stats.chisquare(counts[:NONE]).pvalue > 1e-3
    pairs = np.bincount(ops[:, 0] * (NONE + 1) + ops[:, 1], minlength=(NONE + 1) ** 2)
    each = np.array([1 / 30] * NONE + [1 / 2])
    expected = DRAWS * np.outer(each, each).ravel()
    assert stats.chisquare(pairs, expected).pvalue > 1e-3  # the layers do not know of each other


def test_magnitudes_are_normal_and_clipped_at_ten(papers):
    _, levels = papers
    found = np.abs(levels).ravel() / LEVELS * 10
    rng = np.random.default_rng(0)
    timms = np.clip(rng.normal(9, 0.5, found.size), 0, 10)
    assert stats.ks_2samp(found, timms).pvalue > 1e-3
    assert abs(np.mean(found == 10) - stats.norm.sf(2)) < 2e-3
    positive = np.mean(levels > 0)
    assert abs(positive - 0.5) < 0.01
    assert abs(np.corrcoef(levels.T)[0, 1]) < 0.02


def test_deviations_above_a_hundred_are_even_and_none_is_none():
    _, even = draws(rand_augment.parse("rand-m8-mstd101-n1"))
    assert stats.kstest(np.abs(even).ravel() / LEVELS * 10, stats.uniform(0, 8).cdf).pvalue > 1e-3
    ops, fixed = draws(rand_augment.parse("rand-m7-n3-p1-inc1"))
    assert set(np.abs(fixed).ravel()) == {int(0.7 * LEVELS)} and fixed.shape == (DRAWS, 3)
    assert NONE not in ops


def test_arguments_are_timms():
    # At magnitude 9: `_posterize_increasing_level_to_arg` and its like, and those without inc.
    level = jnp.int32(int(0.9 * LEVELS))
    found = rand_augment.levels_of(rand_augment.parse("rand-m9-inc1"), level)
    assert [int(found[k]) for k in ("Posterize", "Solarize", "SolarizeAdd")] == [1, 26, 98]
    assert abs(int(found["enhance"]) / LEVELS - 1.81) < 1e-3
    found = rand_augment.levels_of(rand_augment.parse("rand-m9-inc1"), -level)
    assert abs(int(found["enhance"]) / LEVELS - 0.19) < 1e-3
    found = rand_augment.levels_of(rand_augment.parse("rand-m9"), -level)
    assert [int(found[k]) for k in ("Posterize", "Solarize")] == [3, 230]
    assert abs(int(found["enhance"]) / LEVELS - 1.72) < 1e-3


@pytest.mark.parametrize(
    ("notation", "said"),
    [
        ("rand-m9-mst0.5-inc1", "'mst0.5' is not known (did you mean 'mstd'?)"),
        ("rand-m9-w0", "'w0' is not known"),
        ("randaug-m9", "'randaug' is not 'rand'"),
        ("rand-m30", "'m' is at most 10"),
        ("rand-m9.5", "'m9.5' is not a whole number"),
        ("rand-m9-p2", "'p' is at most 1"),
        ("rand-m9-m8", "'m' is there twice"),
    ],
)
def test_other_notations_are_refused_with_a_suggestion(notation, said):
    cfg = config.default_config().augment
    cfg.rand_augment = notation
    with pytest.raises(ConfigError) as error:
        augment.check(cfg)
    assert said in str(error.value)
    assert "--config.augment.rand_augment=rand-m9-mstd0.5-inc1" in str(error.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rand_augment": "rand-m9", "three_augment": True}, "augment.three_augment=True and"),
        ({"erasing": 1.5}, "augment.erasing=1.5: type a probability, from 0 to 1."),
        ({"mixup": -0.8}, "augment.mixup=-0.8: type 0 or more."),
        ({"hue": 0.7}, "augment.hue=0.7"),
        ({"mixup_mode": "elem"}, "augment.mixup_mode='elem': type one of batch, pair."),
        ({"std": (0.2, 0.0, 0.2)}, "augment.std=(0.2, 0.0, 0.2): type three numbers above 0."),
    ],
)
def test_values_that_cannot_be_meant_are_refused(values, said):
    cfg = config.default_config().augment
    augment.check(cfg)
    cfg.update(values)
    with pytest.raises(ConfigError) as error:
        augment.check(cfg)
    assert said in str(error.value)
