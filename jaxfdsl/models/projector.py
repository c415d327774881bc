"""The head of contrastive learning: an MLP over the features, dropped after pre-training.

Three linear maps, 4096-4096-256 (Tian et al., arXiv 2306.00984, and the StableRep code that goes
with it), the hidden ones followed by a norm: LayerNorm and GELU, as the heads of SynCLR's code have
them, or StableRep's batch norm and ReLU.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from jaxfdsl.models.heads import layer_norm

BATCH_NORM_EPSILON = 1e-5  # torch's

# torch's own for linear maps, which the authors leave: uniform within 1 / sqrt(fan in).
_KERNEL = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


@dataclasses.dataclass(frozen=True)
class Projection:
    """What decides a projector's parameters and arithmetic, beside the trunk's width."""

    hidden: int = 4096
    output: int = 256
    layers: int = 3
    norm: str = "layer"  # or "batch"
    views: int = 1  # images of a group, neighbours in the batch: batch norm keeps them apart

    def widths(self, width: int) -> Iterator[tuple[int, int]]:
        """Inputs and outputs of each linear map over features of `width` numbers."""
        ends = [width, *[self.hidden] * (self.layers - 1), self.output]
        return itertools.pairwise(ends)


class ViewNorm(nnx.Module):
    """Batch norm of each view by itself: row r by the mean and variance of the rows r mod `views`.

    So the images of one group never share statistics ("separate" batch norm in StableRep's code).
    Those of the batch at hand always; no running ones are kept, as nothing is read out here later.
    Over several devices they are of the whole batch. Unreadable images (`valid` 0) count.
    """

    def __init__(self, width: int, views: int):
        self.views = views
        self.scale = nnx.Param(jnp.ones((width,)))
        self.bias = nnx.Param(jnp.zeros((width,)))

    def __call__(self, x: Float[Array, "B D"]) -> Float[Array, "B D"]:
        # Products with the one-hot view, and not a reshape to (groups, views): that would move rows
        # where a group spans devices.
        view = jax.nn.one_hot(jnp.arange(len(x)) % self.views, self.views, dtype=jnp.float32)
        counts = jnp.maximum(jnp.sum(view, axis=0), 1.0)[:, None]

        def mean(x: jax.Array) -> jax.Array:  # of each row's view
            means = _product("bv,bd->vd", view, x) / counts
            return _product("bv,vd->bd", view, means)

        x = x - mean(x)
        x = x * jax.lax.rsqrt(mean(x * x) + BATCH_NORM_EPSILON)
        return x * self.scale[...] + self.bias[...]


def _product(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, a, b, precision=jax.lax.Precision.HIGHEST)


class Projector(nnx.Module):
    """Float32 features (B, D) to float32 projections (B, output), not normalised."""

    def __init__(self, width: int, design: Projection, *, rngs: nnx.Rngs):
        self.design = design
        for i, (inputs, outputs) in enumerate(design.widths(width)):
            fc = nnx.Linear(inputs, outputs, dtype=jnp.float32, kernel_init=_KERNEL, rngs=rngs)
            setattr(self, f"fc{i}", fc)
            if i < design.layers - 1:
                views = ViewNorm(outputs, design.views) if design.norm == "batch" else None
                norm = views or layer_norm(outputs, jnp.float32, rngs=rngs)
                setattr(self, f"norm{i}", norm)

    def __call__(
        self, x: Float[Array, "B D"], constrain: Callable[..., jax.Array]
    ) -> Float[Array, "B K"]:
        last = self.design.layers - 1
        for i in range(last):
            # Without the constraint XLA may move the features to the cut kernels.
            x = constrain(getattr(self, f"norm{i}")(constrain(getattr(self, f"fc{i}")(x))))
            x = jax.nn.relu(x) if self.design.norm == "batch" else jax.nn.gelu(x, approximate=False)
        return constrain(getattr(self, f"fc{last}")(x))
