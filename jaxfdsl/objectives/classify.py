"""Classification: softmax cross-entropy against label ids, with label smoothing."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def cross_entropy(
    logits: Float[Array, "B K"], labels: Int[Array, " B"], smoothing: float = 0.0
) -> Float[Array, " B"]:
    """Cross-entropy with the target (1 - s) one_hot + s / K (Szegedy et al., arXiv 1512.00567, 7).

    The dense target is never formed, which matters at 21k classes.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    loss = -(1.0 - smoothing) * _pick(log_probs, labels)
    return loss - smoothing * jnp.mean(log_probs, axis=-1) if smoothing else loss


def in_top(logits: Float[Array, "B K"], labels: Int[Array, " B"], k: int) -> Bool[Array, " B"]:
    """Whether fewer than k other classes score at least the label's score; NaN is never right."""
    ahead = ~(logits < _pick(logits, labels)[:, None])
    return jnp.sum(ahead, axis=-1) <= k


def _pick(values: Float[Array, "B K"], labels: Int[Array, " B"]) -> Float[Array, " B"]:
    # A masked sum, not a gather: it partitions over a sharded batch or class axis with no
    # all-gather, and it fuses.
    hit = jnp.arange(values.shape[-1], dtype=labels.dtype)[None] == labels[:, None]
    return jnp.sum(jnp.where(hit, values, 0), axis=-1)


@dataclasses.dataclass(frozen=True)
class Classify:
    """Cross-entropy of `outputs["logits"]` against `batch["label"]`, averaged over valid rows."""

    label_smoothing: float = 0.0

    def inputs(self, batch: Mapping[str, jax.Array], key: jax.Array) -> jax.Array:
        """What the model sees: the images."""
        return batch["image"]

    def loss(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The scalar to minimise, and {"top1"}; rows with `valid` 0 weigh nothing."""
        logits, labels = outputs["logits"], batch["label"]
        valid = batch.get("valid", jnp.ones(labels.shape, jnp.float32))
        count = jnp.maximum(jnp.sum(valid), 1.0)
        losses = cross_entropy(logits, labels, self.label_smoothing)
        top1 = jnp.sum(in_top(logits, labels, 1) * valid) / count
        # `where`, because 0 times the infinite loss of a corrupt image is not 0.
        return jnp.sum(jnp.where(valid > 0, losses * valid, 0.0)) / count, {"top1": top1}


def counts(
    outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> dict[str, Float[Array, ""]]:
    """Sums over the valid rows of a batch: loss (not smoothed), top1, top5, and the rows."""
    logits, labels, valid = outputs["logits"], batch["label"], batch["valid"]
    losses = cross_entropy(logits, labels)
    return {
        "loss": jnp.sum(jnp.where(valid > 0, losses * valid, 0.0)),
        "top1": jnp.sum(in_top(logits, labels, 1) * valid),
        "top5": jnp.sum(in_top(logits, labels, 5) * valid),
        "valid": jnp.sum(valid),
    }
