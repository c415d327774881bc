"""The network of RCG's representation generator: a residual MLP that predicts the clean vector.

Li, Katabi and He, arXiv 2312.03701, appendix; the released `SimpleMLP`. A block is LayerNorm, SiLU,
Linear; the time's (and the class's) embedding is added; LayerNorm, SiLU, dropout, Linear. The last
Linear of each block and of the network start at 0, the others as PyTorch's do.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int

Params = dict[str, Any]


def init(
    key: jax.Array,
    size: int,
    width: int,
    blocks: int,
    classes: int,
    time_size: int,
    class_size: int,
) -> Params:
    """float32 parameters for vectors of `size` numbers; those of the blocks have one more axis, the
    first. Without `classes` there is no embedding of them."""
    keys = iter(jax.random.split(key, 7))

    def block(key: jax.Array) -> Params:
        first, time, context = jax.random.split(key, 3)
        params = {
            "norm1": _norm(width),
            "linear1": _linear(first, width, width),
            "time": _linear(time, time_size, width),
            "norm2": _norm(width),
            "linear2": _zeros(width, width),
        }
        return params | ({"class": _linear(context, class_size, width)} if classes else {})

    params: Params = {
        "input": _linear(next(keys), size, width),
        "time1": _linear(next(keys), width, time_size),
        "time2": _linear(next(keys), time_size, time_size),
        "blocks": jax.vmap(block)(jax.random.split(next(keys), blocks)),
        "norm": _norm(width),
        "output": _zeros(width, size),
    }
    if classes:
        params["classes"] = jax.random.normal(next(keys), (classes, class_size))
    return params


def apply(
    params: Params,
    noisy: Float[Array, "B D"],
    times: Float[Array, " B"],
    labels: Int[Array, " B"] | None = None,
    *,
    dropout: float = 0.0,
    key: jax.Array | None = None,
) -> Float32[Array, "B D"]:
    """The vectors without their noise; `times` are 0 to 999, `labels` those of a network with
    classes, and with a `key` a share `dropout` of the hidden numbers is dropped."""
    width = params["input"]["kernel"].shape[1]
    time = _dense(params["time1"], frequencies(times, width))
    time = jax.nn.silu(_dense(params["time2"], jax.nn.silu(time)))
    about = None if labels is None else jax.nn.silu(params["classes"][labels])
    keys = (
        None if key is None else jax.random.split(key, params["blocks"]["norm1"]["bias"].shape[0])
    )

    def block(x: jax.Array, own: tuple[Params, jax.Array | None]) -> tuple[jax.Array, None]:
        its, its_key = own
        hidden = _dense(its["linear1"], jax.nn.silu(_normed(its["norm1"], x, 1e-5)))
        hidden += _dense(its["time"], time)
        if about is not None:
            hidden += _dense(its["class"], about)
        hidden = jax.nn.silu(_normed(its["norm2"], hidden, 1e-5))
        if dropout and its_key is not None:
            stays = jax.random.bernoulli(its_key, 1 - dropout, hidden.shape)
            hidden = jnp.where(stays, hidden / (1 - dropout), 0.0)
        return x + _dense(its["linear2"], hidden), None

    with jax.named_scope("rdm"):
        x, _ = jax.lax.scan(block, _dense(params["input"], noisy), (params["blocks"], keys))
        return _dense(params["output"], jax.nn.silu(_normed(params["norm"], x, 1e-6)))


def frequencies(times: Float[Array, " B"], size: int) -> Float[Array, "B {size}"]:
    """Cosines then sines of times at frequencies from 1 to 1/10,000; an odd last number is 0."""
    half = size // 2
    omega = jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = times.astype(jnp.float32)[:, None] * omega
    both = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return jnp.pad(both, ((0, 0), (0, size % 2)))


def _linear(key: jax.Array, inputs: int, outputs: int) -> Params:
    bound = 1 / math.sqrt(inputs)
    kernel, bias = (
        jax.random.uniform(one, shape, minval=-bound, maxval=bound)
        for one, shape in zip(jax.random.split(key), ((inputs, outputs), (outputs,)), strict=True)
    )
    return {"kernel": kernel, "bias": bias}


def _zeros(inputs: int, outputs: int) -> Params:
    return {"kernel": jnp.zeros((inputs, outputs)), "bias": jnp.zeros(outputs)}


def _norm(width: int) -> Params:
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def _dense(params: Params, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"]


def _normed(params: Params, x: jax.Array, epsilon: float) -> jax.Array:
    mean = jnp.mean(x, axis=-1, keepdims=True)
    variance = jnp.mean(jnp.square(x - mean), axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + epsilon) * params["scale"] + params["bias"]
