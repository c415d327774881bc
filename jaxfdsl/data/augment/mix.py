"""Mixup and cutmix of neighbours: rows 2i and 2i + 1 of a batch become mixtures of each other.

After timm's `Mixup` (Zhang et al. 2017, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899), which
pairs a batch with itself reversed: neighbours lie on one device, and are of one source. A row that
is not `valid` is not mixed, nor is its neighbour.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32
from ml_collections import ConfigDict

from jaxfdsl.data.augment import chance, erase
from jaxfdsl.data.augment.chance import Stream

GRID = 4096  # of the quantile function


class Mixture(NamedTuple):
    """How a pair is mixed."""

    kind: Int[Array, ""]  # 0: not at all, 1: mixup, 2: cutmix
    weight: Float[Array, ""]  # of a row's own image and label
    box: Int[Array, "4"]  # (top, left, height, width) that comes from the other row, of cutmix


def drawn(seed: chance.Seed, size: int, cfg: ConfigDict) -> Mixture:
    """What timm draws for a batch or a pair: whether, mixup or cutmix, how much, and where."""
    words = chance.bits(seed, Stream.MIX, 5)
    cut = chance.happens(words[0], _switch(cfg))
    share = quantile(chance.uniform(words[1]), cfg.mixup)
    cut_share = quantile(chance.uniform(words[1]), cfg.cutmix)
    share = jnp.where(cut, cut_share, share)
    box = cut_box(share, words[2:4], size)
    share = jnp.where(cut, 1 - (box[2] * box[3]).astype(jnp.float32) / size**2, share)
    mixed = chance.happens(words[4], cfg.mixup_prob)
    kind = jnp.where(mixed, 1 + cut.astype(jnp.int32), 0)
    return Mixture(kind, jnp.where(mixed, share, 1.0), box)


def kept_apart(mixture: Mixture, valid: Bool[Array, ""]) -> Mixture:
    """No mixture where a row of the pair is not valid."""
    kind, weight = jnp.where(valid, mixture.kind, 0), jnp.where(valid, mixture.weight, 1.0)
    return mixture._replace(kind=kind, weight=weight)


def apply(
    own: Float[Array, "H W 3"], other: Float[Array, "H W 3"], mixture: Mixture
) -> Float[Array, "H W 3"]:
    """A row's image, mixed with its neighbour's."""
    branches = (
        lambda own, other: own,
        lambda own, other: own * mixture.weight + other * (1 - mixture.weight),
        lambda own, other: jnp.where(erase.inside(mixture.box, own.shape[0]), other, own),
    )
    return jax.lax.switch(mixture.kind, branches, own, other)


def cut_box(share: Float[Array, ""], words: UInt32[Array, "2"], size: int) -> Int[Array, "4"]:
    """timm's `rand_bbox`: sides of sqrt(1 - share) of the image, about an evenly drawn centre, cut
    at the edges.
    """
    side = (size * jnp.sqrt(1 - share)).astype(jnp.int32)
    centre = chance.between(words, 0, size - 1)
    start = jnp.clip(centre - side // 2, 0, size)
    end = jnp.clip(centre + (side + 1) // 2, 0, size)
    return jnp.concatenate([start, end - start])


def quantile(uniform: Float[Array, ""], alpha: float) -> Float[Array, ""]:
    """A draw of Beta(alpha, alpha) from an even one; 1 where alpha is 0."""
    if alpha <= 0:
        return jnp.ones_like(uniform)
    below = jnp.minimum(uniform, 1 - uniform) * (2 * GRID)
    table = jnp.asarray(_powers(float(alpha)))
    first = jnp.minimum(below.astype(jnp.int32), GRID - 1)
    power = table[first] + (below - first) * (table[first + 1] - table[first])
    half = 0.5 * power ** (1 / alpha)
    return jnp.where(uniform < 0.5, half, 1 - half)


@functools.cache
def _powers(alpha: float) -> np.ndarray:
    """(2 x)**alpha for the quantiles x of Beta(alpha, alpha) at 0 to 1/2, float32[4097]: nearly
    straight, where x itself has a pole in its slope.
    """
    power = np.linspace(0, 1, 16 * GRID + 1)
    # With s = (2 x)**alpha the density is (1 - x)**(alpha - 1), smooth up to x = 1/2.
    density = (1 - 0.5 * power ** (1 / alpha)) ** (alpha - 1)
    mass = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(np.linspace(0, 1, GRID + 1), mass / mass[-1], power).astype(np.float32)


def _switch(cfg: ConfigDict) -> float:
    """The probability of cutmix."""
    if cfg.mixup and cfg.cutmix:
        return cfg.mixup_switch
    return 1.0 if cfg.cutmix else 0.0
