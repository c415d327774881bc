"""From noise to images along a learned flow: dx/dt = v(x, t), from t = 1 to t = 0.

A sample is a function of the parameters, its condition and its seed; its noise does not hang on the
batch that it is in.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, UInt32

METHODS = ("euler", "heun")

Velocity = Callable[[Float[Array, "B ..."], Float[Array, " B"]], Float[Array, "B ..."]]


def integrate(
    velocity: Velocity, noise: Float[Array, "B ..."], steps: int, method: str = "heun"
) -> Float[Array, "B ..."]:
    """x at t = 0 of the x at t = 1, in `steps` equal steps.

    "euler" is of first order and calls `velocity` once a step, "heun" of second order and calls it
    twice (the explicit trapezoidal rule; Karras et al., arXiv 2206.00364, algorithm 1).
    """
    if method not in METHODS or steps < 1:
        known = f"one of {', '.join(METHODS)}, and 1 step or more"
        raise ValueError(f"method={method!r}, steps={steps}: type {known}")
    size = 1.0 / steps

    def step(x: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        # Times are multiples of the step, not sums of it, so that the last one is 0 exactly.
        now, then = (1.0 - (number + i) / steps for i in (0, 1))
        times = jnp.full(x.shape[:1], 1.0, x.dtype)
        slope = velocity(x, now * times)
        moved = x - size * slope
        if method == "heun":
            moved = x - size * 0.5 * (slope + velocity(moved, then * times))
        return moved, None

    return jax.lax.scan(step, noise, jnp.arange(steps, dtype=noise.dtype))[0]


def guided(conditional: Velocity, other: Velocity, guidance: float) -> Velocity:
    """other + guidance (conditional - other): away from what `other` predicts.

    `other` without a condition is classifier-free guidance (Ho and Salimans, arXiv 2207.12598), of
    a weaker model autoguidance (Karras et al., arXiv 2406.02507). At 1 it is `conditional` alone,
    which then is all that is computed.
    """
    if guidance == 1.0:
        return conditional

    def velocity(x: jax.Array, times: jax.Array) -> jax.Array:
        base = other(x, times)
        return base + guidance * (conditional(x, times) - base)

    return velocity


def noise(
    seeds: Int[Array, " B"] | UInt32[Array, "B 2"], shape: tuple[int, ...]
) -> Float[Array, "B ..."]:
    """Standard normal numbers of `shape`, each sample's from its own seed of one or two words."""

    def one(seed: jax.Array) -> jax.Array:
        key = functools.reduce(jax.random.fold_in, jnp.atleast_1d(seed), jax.random.key(0))
        return jax.random.normal(key, shape)

    return jax.vmap(one)(seeds)


def on_devices(draw: Callable[..., jax.Array], mesh: Mesh) -> Callable[..., jax.Array]:
    """`draw(params, conds, seeds)` as one program in which each device of a mesh of one axis makes
    its own rows: nothing moves between them, and what a row is does not hang on how many they are.
    """
    rows = P(*mesh.axis_names)
    specs = (P(), rows, rows)
    return jax.jit(jax.shard_map(draw, mesh=mesh, in_specs=specs, out_specs=rows, check_vma=False))
