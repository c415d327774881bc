"""The noise of RCG's representation generator, and its way back: DDIM with an x0-prediction.

Song et al., arXiv 2010.02502, equation 12, with the schedule that latent diffusion calls "linear":
the square roots of beta are evenly spaced, not the betas (Rombach et al., `make_beta_schedule`;
diffusers' "scaled_linear"). RCG (Li et al., arXiv 2312.03701) samples in 250 steps with eta 1.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int64, UInt32

TIMES = 1000
FIRST, LAST = 0.0015, 0.0195  # betas

Predict = Callable[[Float[Array, "B D"], Float[Array, ""]], Float[Array, "B D"]]


def kept(first: float = FIRST, last: float = LAST, times: int = TIMES) -> Float64[np.ndarray, " T"]:
    """The share of the signal's variance that is left at each time: cumulative (1 - beta)."""
    betas = np.linspace(np.sqrt(first), np.sqrt(last), times, dtype=np.float64) ** 2
    return np.cumprod(1.0 - betas)


def visited(steps: int, times: int = TIMES) -> Int64[np.ndarray, " S"]:
    """The times that `steps` steps visit, falling: every (times / steps)-th, from 1 on, as latent
    diffusion has them; all of them, 0 included, where there are as many steps.

    Raises ValueError for more steps than times and for none.
    """
    if not 1 <= steps <= times:
        raise ValueError(f"steps={steps}: type a number from 1 to {times}.")
    return (np.arange(steps) * times // steps + (steps < times))[::-1].copy()


def table(steps: int, eta: float = 1.0, times: int = TIMES) -> Float32[np.ndarray, "S 4"]:
    """A row a step: its time, what is `kept` there and after it, and sigma of the fresh noise.

    The last step leads to time 0, whose noise has a deviation of .039, as in latent diffusion.
    """
    share, at = kept(times=times), visited(steps, times)
    here, after = share[at], np.append(share[at[1:]], share[0])
    sigma = eta * np.sqrt((1 - after) / (1 - here) * (1 - here / after))
    return np.stack([at, here, after, sigma], axis=1).astype(np.float32)


def step(
    noisy: Float[Array, "B D"],
    clean: Float[Array, "B D"],
    fresh: Float[Array, "B D"],
    row: Float[Array, "4"],
) -> Float[Array, "B D"]:
    """The less noisy vectors after a row of `table`, where `clean` is what the model predicts and
    `fresh` is standard normal noise."""
    _, here, after, sigma = row
    noise = (noisy - jnp.sqrt(here) * clean) / jnp.sqrt(1 - here)
    onward = jnp.sqrt(jnp.maximum(1 - after - sigma**2, 0.0))
    return jnp.sqrt(after) * clean + onward * noise + sigma * fresh


def sample(
    predict: Predict,
    keys: UInt32[Array, "B 2"],
    width: int,
    rows: Float[Array, "S 4"],
) -> Float[Array, "B D"]:
    """Vectors from noise; the noise of each is its own key's alone (raw keys of `jax.random`)."""

    def normal(number: jax.Array) -> jax.Array:
        def one(key: jax.Array) -> jax.Array:
            return jax.random.normal(jax.random.fold_in(key, number), (width,))

        return jax.vmap(one)(keys)

    def one(noisy: jax.Array, numbered: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        number, row = numbered
        return step(noisy, predict(noisy, row[0]), normal(number), row), None

    numbers = jnp.arange(1, len(rows) + 1)
    return jax.lax.scan(one, normal(jnp.zeros((), jnp.int32)), (numbers, rows))[0]
