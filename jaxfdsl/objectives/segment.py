"""Segmentation: the class of every pixel, from one linear map of each patch's features.

Strudel et al., "Segmenter" (ICCV 2021), the linear decoder: logits of each patch are enlarged to
the pixels bilinearly. All pixels of all classes (8192 x 224 x 224 x 255 numbers) are never there at
once: one row of pixels of every image is made after the other, and each leaves its share of the
gradient, which is of the patches' size, so that none is made again.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxfdsl.objectives.objective import Objective

Sums = dict[str, jax.Array]


@jax.custom_vjp
def pixel_sums(
    patch_logits: Float[Array, "B h w K"], masks: Int[Array, "B S S"], weights: Float[Array, " B"]
) -> Sums:
    """What is added up over pixels: `loss`, the weighted sum of the images' cross-entropies, and
    int32[K] `intersection` and `union` of what is there and what scores highest.

    The masks' side is a multiple of h = w; their values are classes, those below 0 no pixels. The
    loss is differentiable by the logits alone. Images of weight 0 add nothing to it, whatever their
    logits.
    """
    return _over_bands(patch_logits, masks, weights, with_slope=False)[0]


def _sums_and_slope(patch_logits, masks, weights):
    return _over_bands(patch_logits, masks, weights, with_slope=True)


def _scaled_slope(slope, cotangents):
    return cotangents["loss"] * slope, None, None


pixel_sums.defvjp(_sums_and_slope, _scaled_slope)


def _over_bands(logits, masks, weights, *, with_slope: bool) -> tuple[Sums, Any]:
    """The sums, and the slope of the loss by the logits."""
    batch, height, _, classes = logits.shape
    side = masks.shape[1]
    patch = side // height
    # Band m lies between the centres of the patches m - 1 and m; the edges stand for what is beyond
    # them. So all bands have the same weights, and rows that no picture has are marked by -1.
    lines = jnp.moveaxis(logits, 1, 0)
    pairs = jnp.concatenate([lines[:1], lines]), jnp.concatenate([lines, lines[-1:]])
    rests = (patch - patch // 2, patch // 2)
    masks = jnp.pad(masks, ((0, 0), rests, (0, 0)), constant_values=-1)
    masks = jnp.moveaxis(masks, 1, 0).reshape(height + 1, patch, batch, side)
    shares = jnp.asarray(_shares(patch))
    columns = jnp.asarray(_columns(patch, height))
    none = jnp.zeros(classes, jnp.int32)
    start = {"loss": jnp.zeros(()), "intersection": none, "union": none}

    def band(sums: Sums, ends_and_masks) -> tuple[Sums, Any]:
        *ends, own = ends_and_masks
        ends = [_times("sw,bwk->bsk", columns, end) for end in ends]
        flat = [jnp.zeros_like(end) for end in ends] if with_slope else []

        def row(carry, share_and_mask) -> tuple[Any, None]:
            (sums, slopes), (share, mask) = carry, share_and_mask
            more, slope = _row(ends, share, mask, weights, with_slope=with_slope)
            slopes = [a + b for a, b in zip(slopes, slope, strict=True)]
            return (jax.tree.map(jnp.add, sums, more), slopes), None

        (sums, slopes), _ = lax.scan(row, (sums, flat), (shares, own))
        return sums, [_times("sw,bsk->bwk", columns, slope) for slope in slopes]

    sums, slopes = lax.scan(band, start, (*pairs, masks))
    if not with_slope:
        return sums, None
    above, below = slopes
    slope = (above[1:] + below[:-1]).at[0].add(above[0]).at[-1].add(below[-1])
    return sums, jnp.moveaxis(slope, 0, 1)


def _row(ends, share, mask, weights, *, with_slope: bool) -> tuple[Sums, list[jax.Array]]:
    """The sums over a row of pixels (B, S), and what it adds to the slope by the rows of pixels at
    the patch centres above and below it (B, S, K).
    """
    logits = ends[0] * (1 - share) + ends[1] * share
    classes = logits.shape[-1]
    each = jnp.arange(classes)
    inside = mask >= 0
    # Comparisons, not gathers: they fuse, and partition over a sharded batch or class axis.
    there = each == mask[..., None]
    top = jnp.max(logits, axis=-1, keepdims=True)
    total = jnp.log(jnp.sum(jnp.exp(logits - top), axis=-1, keepdims=True)) + top
    picked = jnp.sum(jnp.where(there, logits, 0.0), axis=-1)
    weight = jnp.where(inside, weights[:, None], 0.0)
    # `where`, because 0 times the infinite loss of a corrupt image is not 0.
    losses = jnp.where(weight > 0, (total[..., 0] - picked) * weight, 0.0)
    best = jnp.min(jnp.where(logits >= top, each, classes), axis=-1)
    known, seen = _counts(mask, inside, classes), _counts(best, inside, classes)
    both = _counts(mask, inside & (best == mask), classes)
    sums = {"loss": jnp.sum(losses), "intersection": both, "union": known + seen - both}
    if not with_slope:
        return sums, []
    weight = weight[..., None]
    slope = jnp.where(weight > 0, (jnp.exp(logits - total) - there) * weight, 0.0)
    return sums, [slope * (1 - share), slope * share]


def _counts(values: Int[Array, "B S"], counted: jax.Array, classes: int) -> Int[Array, " K"]:
    """How often each class comes among `values`: a product of one-hot tens and ones, so to say."""
    base = int(np.ceil(np.sqrt(classes)))
    digits = jnp.arange(base)
    tens = (values[..., None] // base == digits) & counted[..., None]
    ones = values[..., None] % base == digits
    table = _times("bsi,bsj->ij", tens.astype(jnp.float32), ones.astype(jnp.float32))
    return table.reshape(-1)[:classes].astype(jnp.int32)


def _times(how: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum(how, a, b, precision=lax.Precision.HIGHEST)


def _shares(patch: int) -> np.ndarray:
    """How far each of the pixels between two patch centres is on its way to the second."""
    return ((np.arange(patch) + (patch % 2 == 0) / 2) / patch).astype(np.float32)


def _columns(patch: int, patches: int) -> np.ndarray:
    """float32[S, patches]: what the patches of a row add to each of its pixels."""
    place = np.arange(patch * patches) + patch - patch // 2
    share = _shares(patch)[place % patch]
    near = np.clip(np.stack([place // patch - 1, place // patch]), 0, patches - 1)
    each = np.eye(patches, dtype=np.float32)
    return each[near[0]] * (1 - share[:, None]) + each[near[1]] * share[:, None]


def mean_iou(intersection: Any, union: Any) -> Any:
    """The mean of intersection / union over the classes that are there or were seen."""
    shares = intersection / jnp.maximum(union, 1)
    return jnp.sum(shares) / jnp.maximum(jnp.sum(union > 0), 1)


@dataclasses.dataclass(frozen=True)
class Segment(Objective):
    """Cross-entropy of `outputs["patch_logits"]`, enlarged to pixels, against `batch["mask"]`.

    The mean over the pixels of valid rows. The background, 0, is a class like any other.
    """

    head: ClassVar[str] = "patch_head"
    field: ClassVar[str] = "mask"

    def parts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[Float[Array, ""], dict[str, jax.Array]]:
        """The scalar to minimise, a mean over valid rows, and what `metrics` makes its values of:
        sums over rows, so that those of a batch's parts add up to the batch's."""
        sums = self.counts(outputs, batch)
        loss, rows = sums.pop("loss"), sums.pop("valid")
        return loss / jnp.maximum(rows, 1.0), sums

    def metrics(self, sums: Mapping[str, jax.Array]) -> dict[str, Float[Array, ""]]:
        """{"miou", "pixel_accuracy"} of the sums of `parts`."""
        return {
            "miou": mean_iou(sums["intersection"], sums["union"]),
            "pixel_accuracy": jnp.sum(sums["intersection"]) / jnp.maximum(sums["pixels"], 1),
        }

    def counts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> dict[str, jax.Array]:
        """Sums over the valid rows of a batch: `loss` (mean of each image), `valid` (the rows),
        `pixels`, and int32[K] `intersection` and `union`.
        """
        masks = batch["mask"]
        valid = batch.get("valid", jnp.ones(len(masks), jnp.float32))
        masks = jnp.where(valid[:, None, None] > 0, jnp.asarray(masks, jnp.int32), -1)
        weights = valid / (masks.shape[1] * masks.shape[2])
        sums = pixel_sums(outputs["patch_logits"].astype(jnp.float32), masks, weights)
        pixels = jnp.sum(masks >= 0, dtype=jnp.int32)
        return {**sums, "valid": jnp.sum(valid), "pixels": pixels}
