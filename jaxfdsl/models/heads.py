"""From tokens to features to logits, in float32 whatever the trunk computes in.

A model has the heads that its objectives name, each a linear map: `head` of the pooled features,
whose output is `logits`, and `patch_head` of each patch's, whose output is `patch_logits`.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxfdsl.models.attention import LINEAR_INIT

NORM_EPSILON = 1e-6
NAMES = ("head", "patch_head")


def layer_norm(width: int, dtype, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm with timm's epsilon; its statistics are float32 at every dtype.

    They are taken in one pass, Flax's default: two passes cost a tenth of a small model's step.
    """
    return nnx.LayerNorm(width, epsilon=NORM_EPSILON, dtype=dtype, rngs=rngs)


def pool(tokens: Float[Array, "B N D"], kind: str) -> Float[Array, "B D"]:
    """The class token ("token", the first one) or the mean of all tokens ("mean"), in float32."""
    if kind == "token":
        return tokens[:, 0].astype(jnp.float32)
    return jnp.mean(tokens, axis=1, dtype=jnp.float32)


def linear_head(width: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """A classifier: float32 features (..., D) to float32 logits (..., outputs)."""
    return nnx.Linear(width, outputs, dtype=jnp.float32, kernel_init=LINEAR_INIT, rngs=rngs)
