"""Multi-head self-attention, with cuDNN's fused kernel where it can run."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Float32

# As timm draws every linear weight; its truncation at +-2 is a hundred deviations away.
LINEAR_INIT = nnx.initializers.normal(0.02)


def choose(name: str, head_width: int, dtype: jnp.dtype, backend: str | None = None) -> str:
    """Resolves `model.attention`: "auto" is "cudnn" where that kernel runs, else "xla".

    cuDNN's kernel takes 16-bit inputs and head widths that are multiples of 8 up to 128, on NVIDIA
    GPUs from Ampere on. `backend` defaults to that of this process.
    """
    if name != "auto":
        return name
    backend = backend or _backend()
    fits = head_width % 8 == 0 and head_width <= 128 and jnp.dtype(dtype).itemsize == 2
    return "cudnn" if backend == "gpu" and fits else "xla"


def compute_capability(device: Any) -> float:
    """NVIDIA's compute capability; 0 for other makers' names, such as "gfx942"."""
    try:
        return float(getattr(device, "compute_capability", 0))
    except (TypeError, ValueError):
        return 0.0


def _backend() -> str:
    backend, device = jax.default_backend(), jax.devices()[0]
    older = hasattr(device, "compute_capability") and compute_capability(device) < 8.0
    return "older gpu" if backend == "gpu" and older else backend


def attend(
    q: Float[Array, "B N H d"], k: Float[Array, "B N H d"], v: Float[Array, "B N H d"], kind: str
) -> Float[Array, "B N H d"]:
    """softmax(q k^T / sqrt(d)) v, the softmax in float32.

    "xla" is not `jax.nn.dot_product_attention(implementation="xla")`, which scales the N x N logits
    and not q: on a CPU that takes 22 % more time, forward and backward, for the same numbers (16 x
    197 x 3 x 64, float32: 55.6 against 45.6 ms of processor time; bfloat16: 63.7 against 52.3).
    """
    if kind == "cudnn":
        return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
    return jnp.einsum("bhqk,bkhd->bqhd", weigh(q, k).astype(v.dtype), v)


def weigh(q: Float[Array, "B N H d"], k: Float[Array, "B N H d"]) -> Float32[Array, "B H N N"]:
    """The attention probabilities softmax(q k^T / sqrt(d)), queries before keys."""
    q = q * jnp.asarray(q.shape[-1] ** -0.5, q.dtype)
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=jnp.float32)
    return jax.nn.softmax(logits, axis=-1)


class Attention(nnx.Module):
    """Self-attention over (B, N, D); parameters `qkv` (D, 3, H, d) and `proj` (H, d, D)."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        kind: str,
        dtype,
        init: Callable[..., jax.Array] = LINEAR_INIT,
        *,
        rngs: nnx.Rngs,
    ):
        head_width = width // num_heads
        options = {"dtype": dtype, "kernel_init": init, "rngs": rngs}
        self.kind = kind
        self.qkv = nnx.LinearGeneral(width, (3, num_heads, head_width), **options)
        self.proj = nnx.LinearGeneral((num_heads, head_width), width, axis=(-2, -1), **options)

    def __call__(
        self, x: Float[Array, "B N D"], constrain: Callable[..., jax.Array]
    ) -> Float[Array, "B N D"]:
        # cuDNN's kernel wants the three alike: cut along images and heads, nothing else.
        qkv = constrain(self.qkv(x), heads=3)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        return self.proj(attend(q, k, v, self.kind))
