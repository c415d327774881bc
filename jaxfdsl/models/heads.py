"""From tokens to features to logits, in float32 whatever the trunk computes in.

A model has the heads that its objectives name, linear maps but for the projector: `head` of the
pooled features, whose output is `logits`, `patch_head` of each patch's, whose output is
`patch_logits`, `projector` (`models.projector`), whose output is `projection`, and
`image_projection`, whose output is `image_embedding`; beside the last one stands a text tower.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxfdsl.models.attention import LINEAR_INIT

NORM_EPSILON = 1e-6  # timm's, DeiT's, DINOv2's and big_vision's
NAMES = ("head", "patch_head", "projector", "image_projection", "text", "logit_scale")
OURS_ALONE = NAMES[1:]  # what other libraries' ViTs have no place for


def layer_norm(
    width: int, dtype, epsilon: float = NORM_EPSILON, *, rngs: nnx.Rngs
) -> nnx.LayerNorm:
    """LayerNorm whose statistics are float32 at every dtype.

    They are taken in one pass, Flax's default: two passes cost a tenth of a small model's step.
    """
    return nnx.LayerNorm(width, epsilon=epsilon, dtype=dtype, rngs=rngs)


def pool(tokens: Float[Array, "B N D"], kind: str) -> Float[Array, "B D"]:
    """The class token ("token", the first one) or the mean of all tokens ("mean"), in float32."""
    if kind == "token":
        return tokens[:, 0].astype(jnp.float32)
    return jnp.mean(tokens, axis=1, dtype=jnp.float32)


def embedding_head(width: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """Features (..., D) to what is compared with captions (..., outputs), as CLIP has it."""
    init = nnx.initializers.normal(width**-0.5)
    dtype = jnp.float32
    return nnx.Linear(width, outputs, use_bias=False, dtype=dtype, kernel_init=init, rngs=rngs)


def linear_head(width: int, outputs: int, *, rngs: nnx.Rngs) -> nnx.Linear:
    """A classifier: float32 features (..., D) to float32 logits (..., outputs)."""
    return nnx.Linear(width, outputs, dtype=jnp.float32, kernel_init=LINEAR_INIT, rngs=rngs)
