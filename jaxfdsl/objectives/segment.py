"""Segmentation: the class of every pixel, from one linear map of each patch's features.

Strudel et al., "Segmenter" (ICCV 2021), the linear decoder: logits of each patch are enlarged to
the pixels bilinearly. All pixels of all classes (8192 x 224 x 224 x 255 numbers) are never there at
once: bands of pixel rows are made one after the other, and again for the gradient.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, UInt

BAND = 2**23  # numbers of a band of rows, 32 MB, or one row of every image if that is more

Masks = Int[Array, "B S S"] | UInt[Array, "B S S"]
Sums = dict[str, jax.Array]


def pixel_sums(patch_logits: Float[Array, "B h w K"], masks: Masks) -> Sums:
    """What is added up over pixels: `loss` float32[B], the sum of each image's cross-entropies, and
    over all images int32[K] `intersection` and `union` of what is there and what scores highest.

    The masks' side is a multiple of h and w; their values are classes, those below 0 no pixels.
    """
    batch, height, _, classes = patch_logits.shape
    side = masks.shape[1]
    patch = side // height
    rows = _rows_at_once(patch, batch * side * classes)
    # Band m lies between the centres of the patches m - 1 and m; the edges stand for what is beyond
    # them. So all bands have the same weights, and rows that no picture has are marked by -1.
    logits = jnp.pad(patch_logits, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    logits = jnp.moveaxis(logits, 1, 0)
    before = patch - patch // 2
    masks = jnp.pad(
        jnp.asarray(masks, jnp.int32),
        ((0, 0), (before, patch // 2), (0, 0)),
        constant_values=-1,
    )
    masks = jnp.moveaxis(masks.reshape(batch, height + 1, patch // rows, rows, side), 0, 2)
    shares = _shares(patch).reshape(patch // rows, rows)

    def band(carry: Sums, above_below_masks: tuple[jax.Array, ...]) -> tuple[Sums, None]:
        above, below, masks = above_below_masks

        @jax.checkpoint
        def some(carry: Sums, part: tuple[jax.Array, jax.Array]) -> tuple[Sums, None]:
            share, mask = part
            share = share[None, :, None, None]
            edge = above[:, None] * (1 - share) + below[:, None] * share
            sums = _sums(_widened(edge, patch, side), mask)
            return jax.tree.map(jnp.add, carry, sums), None

        return lax.scan(some, carry, (shares, masks))

    none = jnp.zeros(classes, jnp.int32)
    start = {"loss": jnp.zeros(batch), "intersection": none, "union": none}
    return lax.scan(band, start, (logits[:-1], logits[1:], masks))[0]


def _rows_at_once(patch: int, numbers: int) -> int:
    fitting = [n for n in range(1, patch + 1) if patch % n == 0 and n * numbers <= BAND]
    return max(fitting, default=1)


def _shares(patch: int) -> np.ndarray:
    """How far each of the pixels between two patch centres is on its way to the second."""
    return ((np.arange(patch) + (patch % 2 == 0) / 2) / patch).astype(np.float32)


def _widened(edge: Float[Array, "B R W K"], patch: int, side: int) -> Float[Array, "B R {side} K"]:
    """Patch columns, with one more on both sides, to pixel columns."""
    share = _shares(patch)[:, None]
    wide = edge[:, :, :-1, None] * (1 - share) + edge[:, :, 1:, None] * share
    wide = wide.reshape(*wide.shape[:2], -1, wide.shape[-1])
    first = patch - patch // 2
    return wide[:, :, first : first + side]


def _sums(logits: Float[Array, "B R S K"], mask: Int[Array, "B R S"]) -> Sums:
    inside = mask >= 0
    there = jnp.arange(logits.shape[-1]) == mask[..., None]
    # Comparisons, not a gather or a scatter: they fuse, and partition over a sharded batch.
    losses = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(there, logits, 0.0), axis=-1)
    fixed = lax.stop_gradient(logits)
    seen = (fixed >= jnp.max(fixed, axis=-1, keepdims=True)) & inside[..., None]
    return {
        "loss": jnp.sum(jnp.where(inside, losses, 0.0), axis=(1, 2)),
        "intersection": jnp.sum(there & seen, axis=(0, 1, 2), dtype=jnp.int32),
        "union": jnp.sum(there | seen, axis=(0, 1, 2), dtype=jnp.int32),
    }


def mean_iou(intersection: Any, union: Any) -> Any:
    """The mean of intersection / union over the classes that are there or were seen."""
    shares = intersection / jnp.maximum(union, 1)
    return jnp.sum(shares) / jnp.maximum(jnp.sum(union > 0), 1)


@dataclasses.dataclass(frozen=True)
class Segment:
    """Cross-entropy of `outputs["patch_logits"]`, enlarged to pixels, against `batch["mask"]`.

    The mean over the pixels of valid rows. The background, 0, is a class like any other.
    """

    head: ClassVar[str] = "patch_head"
    field: ClassVar[str] = "mask"

    def inputs(self, batch: Mapping[str, jax.Array], key: jax.Array) -> jax.Array:
        """What the model sees: the images."""
        return batch["image"]

    def loss(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The scalar to minimise, and of this batch {"miou", "pixel_accuracy"}."""
        sums = self.counts(outputs, batch)
        metrics = {
            "miou": mean_iou(sums["intersection"], sums["union"]),
            "pixel_accuracy": jnp.sum(sums["intersection"]) / jnp.maximum(sums["pixels"], 1),
        }
        return sums["loss"] / jnp.maximum(sums["valid"], 1.0), metrics

    def counts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """Sums over the valid rows of a batch: `loss` (mean of each image), `valid` (the rows),
        `pixels`, and int32[K] `intersection` and `union`.
        """
        masks = batch["mask"]
        valid = batch.get("valid", jnp.ones(len(masks), jnp.float32))
        masks = jnp.where(valid[:, None, None] > 0, jnp.asarray(masks, jnp.int32), -1)
        sums = pixel_sums(outputs["patch_logits"].astype(jnp.float32), masks)
        # `where`, because 0 times the infinite loss of a corrupt image is not 0.
        losses = jnp.where(valid > 0, sums["loss"] * valid, 0.0) / (masks.shape[1] * masks.shape[2])
        pixels = jnp.sum(masks >= 0, dtype=jnp.int32)
        return {**sums, "loss": jnp.sum(losses), "valid": jnp.sum(valid), "pixels": pixels}
