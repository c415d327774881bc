"""Classification: cross-entropy against label ids, one an image (softmax) or several (binary).

Mixed images (mixup, cutmix) have two labels and a weight. Where every source keeps its own label
space, the softmax of a sample goes over the classes of its source alone: one head a source, stored
side by side in one matrix.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxfdsl.objectives.objective import Objective

Blocks = tuple[tuple[int, int], ...]  # [start, stop) of the classes of each source, in order


def cross_entropy(
    logits: Float[Array, "B K"], labels: Int[Array, " B"], smoothing: float = 0.0
) -> Float[Array, " B"]:
    """Cross-entropy with the target (1 - s) one_hot + s / K (Szegedy et al., arXiv 1512.00567, 7).

    The dense target is never formed, which matters at 21k classes.
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    loss = -(1.0 - smoothing) * _pick(log_probs, labels)
    return loss - smoothing * jnp.mean(log_probs, axis=-1) if smoothing else loss


def cross_entropy_within(
    logits: Float[Array, "B K"],
    labels: Int[Array, " B"],
    smoothing: float,
    blocks: Blocks,
) -> Float[Array, " B"]:
    """`cross_entropy` over the block of classes [start, stop) that the label lies in."""
    inside = _block_of(labels, blocks, logits.shape[-1])
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), where=inside, axis=-1)
    loss = -(1.0 - smoothing) * _pick(log_probs, labels)
    size = jnp.sum(inside, axis=-1, dtype=jnp.float32)
    mean = jnp.sum(jnp.where(inside, log_probs, 0.0), axis=-1) / size
    return loss - smoothing * mean if smoothing else loss


def _block_of(labels: Int[Array, " B"], blocks: Blocks, classes: int) -> Bool[Array, "B {classes}"]:
    starts = jnp.asarray([start for start, _ in blocks], labels.dtype)
    stops = jnp.asarray([stop for _, stop in blocks], labels.dtype)
    own = jnp.sum(labels[:, None] >= starts[None, :], axis=-1) - 1
    each = jnp.arange(classes, dtype=labels.dtype)[None, :]
    return (each >= starts[own][:, None]) & (each < stops[own][:, None])


def binary_cross_entropy(
    logits: Float[Array, "B K"],
    target: Float[Array, "B K"],
    smoothing: float = 0.0,
    pos_weight: bool = True,
) -> Float[Array, " B"]:
    """Mean over the K classes of the binary cross-entropy with a target from 0 to 1 for each.

    With `pos_weight` the loss of a class that is present counts K / (number of those present) times
    (Anderson and Farrell, WACV 2022, `training/model/multilabel.py`). Smoothed targets are s / K
    and 1 - s + s / K (timm's `BinaryCrossEntropy`).
    """
    logits = logits.astype(jnp.float32)
    classes = logits.shape[-1]
    count = jnp.maximum(jnp.sum(target, axis=-1, keepdims=True), 1.0)
    target = target * (1.0 - smoothing) + smoothing / classes
    weight = classes / count if pos_weight else jnp.ones_like(count)
    positive, negative = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -jnp.mean(weight * target * positive + (1.0 - target) * negative, axis=-1)


def present(labels: Int[Array, "B L"], classes: int) -> Bool[Array, "B {classes}"]:
    """Which classes are among the labels of each image; -1 is none."""
    each = jnp.arange(classes, dtype=labels.dtype)
    # Comparisons, not a scatter: see `_pick`.
    return jnp.any(each == labels[:, :, None], axis=1)


def in_top(
    logits: Float[Array, "B K"], labels: Int[Array, " B"] | Int[Array, "B L"], k: int
) -> Bool[Array, " B"]:
    """Whether fewer than k other classes score at least the label's score; NaN is never right.

    Of several labels the one with the best score counts.
    """
    best = _pick(logits, labels) if labels.ndim == 1 else _best(logits, labels)
    ahead = ~(logits < best[:, None])
    return jnp.sum(ahead, axis=-1) <= k


def _pick(values: Float[Array, "B K"], labels: Int[Array, " B"]) -> Float[Array, " B"]:
    # A masked sum, not a gather: it partitions over a sharded batch or class axis with no
    # all-gather, and it fuses.
    hit = jnp.arange(values.shape[-1], dtype=labels.dtype)[None] == labels[:, None]
    return jnp.sum(jnp.where(hit, values, 0), axis=-1)


def _best(values: Float[Array, "B K"], labels: Int[Array, "B L"]) -> Float[Array, " B"]:
    return jnp.max(jnp.where(present(labels, values.shape[-1]), values, -jnp.inf), axis=-1)


@dataclasses.dataclass(frozen=True)
class Classify(Objective):
    """Cross-entropy of `outputs["logits"]` against `batch["label"]`, averaged over valid rows.

    Labels int32[B] are one an image, labels int32[B, L], padded with -1, several. Mixed images also
    have `label_b`, shaped alike, and `label_weight` float32[B], the weight of `label`.
    """

    label_smoothing: float = 0.0
    pos_weight: bool = True  # of several labels alone
    blocks: Blocks = ()  # classes of each source, where a softmax keeps to one of them

    head: ClassVar[str] = "head"
    field: ClassVar[str] = "label"

    def parts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The scalar to minimise, a mean over valid rows, and what `metrics` makes its values of:
        sums over rows, so that those of a batch's parts add up to the batch's."""
        logits, labels = outputs["logits"], batch["label"]
        valid = batch.get("valid", jnp.ones(labels.shape[:1], jnp.float32))
        count = jnp.sum(valid)
        losses = self._losses(logits, batch, self.label_smoothing)
        if "label_b" in batch:
            first = batch["label_weight"] >= 0.5
            first = first.reshape(-1, *(1 for _ in labels.shape[1:]))
            labels = jnp.where(first, labels, batch["label_b"])
        top1 = jnp.sum(self._in_top(logits, labels, 1) * valid)
        # `where`, because 0 times the infinite loss of a corrupt image is not 0.
        loss = jnp.sum(jnp.where(valid > 0, losses * valid, 0.0)) / jnp.maximum(count, 1.0)
        return loss, {"top1": top1, "valid": count}

    def metrics(self, sums: Mapping[str, jax.Array]) -> dict[str, Float[Array, ""]]:
        """{"top1"} of the sums of `parts`: a mixed image is right when the heavier of its labels is
        found."""
        return {"top1": sums["top1"] / jnp.maximum(sums["valid"], 1.0)}

    def counts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> dict[str, Float[Array, ""]]:
        """Sums over the valid rows of a batch: loss (not smoothed), top1, top5, and the rows."""
        logits, labels, valid = outputs["logits"], batch["label"], batch["valid"]
        losses = self._losses(logits, batch, 0.0)
        return {
            "loss": jnp.sum(jnp.where(valid > 0, losses * valid, 0.0)),
            "top1": jnp.sum(self._in_top(logits, labels, 1) * valid),
            "top5": jnp.sum(self._in_top(logits, labels, 5) * valid),
            "valid": jnp.sum(valid),
        }

    def _losses(
        self, logits: jax.Array, batch: Mapping[str, jax.Array], smoothing: float
    ) -> Float[Array, " B"]:
        labels, mixed = batch["label"], "label_b" in batch
        if labels.ndim > 1:
            target = present(labels, logits.shape[-1]).astype(jnp.float32)
            if mixed:
                other = present(batch["label_b"], logits.shape[-1])
                weight = batch["label_weight"][:, None]
                target = weight * target + (1.0 - weight) * other
            return binary_cross_entropy(logits, target, smoothing, self.pos_weight)
        losses = self._softmax(logits, labels, smoothing)
        if not mixed:
            return losses
        others = self._softmax(logits, batch["label_b"], smoothing)
        # One product: of two, which one is rounded before they are added is the compiler's choice,
        # and it chooses otherwise where the batch is drawn by another program.
        return others + batch["label_weight"] * (losses - others)

    def _softmax(self, logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
        if len(self.blocks) > 1:
            return cross_entropy_within(logits, labels, smoothing, self.blocks)
        return cross_entropy(logits, labels, smoothing)

    def _in_top(self, logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
        if len(self.blocks) > 1 and labels.ndim == 1:
            inside = _block_of(labels, self.blocks, logits.shape[-1])
            logits = jnp.where(inside, logits, -jnp.inf)
        return in_top(logits, labels, k)
