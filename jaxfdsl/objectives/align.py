"""Image-text alignment: CLIP's two cross-entropies, with several images a caption.

Radford et al., arXiv 2103.00020, figure 3; with m images a caption Tian et al., arXiv 2306.00984
(StableRep+): an image's target is its one caption, a caption's is uniform over its images. With one
image a caption this is CLIP.
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxfdsl.objectives.objective import Objective


def alignment(
    images: Float[Array, "B K"],
    captions: Float[Array, "n K"],
    scale: Float[Array, ""],
    valid: Float[Array, " B"] | None = None,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The mean of both cross-entropies, and sums over images and captions.

    The B / n images of a caption are neighbours. Embeddings are normalised here; logits are
    exp(`scale`) times cosines. An image with `valid` 0 is in no sum and no target, nor is a caption
    that has no other. The sums: `to_text` and `to_image`, the cross-entropies; `text_top1` and
    `image_top1`, how many have a partner of theirs first; `images` and `captions`, the numbers.
    """
    count, views = len(captions), len(images) // len(captions)
    valid = jnp.ones(len(images)) if valid is None else valid
    images, captions = (_normalised(x) for x in (images, captions))
    logits = jnp.einsum("bk,nk->bn", images, captions, precision=jax.lax.Precision.HIGHEST)
    logits = jnp.exp(scale) * logits
    own = jnp.arange(count)[None] == (jnp.arange(len(images)) // views)[:, None]
    known = (valid > 0)[:, None]

    to_text = -jnp.sum(jnp.where(own, jax.nn.log_softmax(logits, axis=1), 0.0), axis=1)
    # An image that is not there is no candidate; -1e9 and not -inf, whose gradient is not finite.
    among = jax.nn.log_softmax(jnp.where(known, logits, -1e9), axis=0)
    there = jnp.sum(valid.reshape(count, views), axis=1)
    to_image = -jnp.sum(jnp.where(own & known, among, 0.0), axis=0) / jnp.maximum(there, 1.0)
    first = jnp.where(known, logits, -jnp.inf)
    sums = {
        "to_text": jnp.sum(jnp.where(valid > 0, to_text, 0.0)),
        "to_image": jnp.sum(jnp.where(there > 0, to_image, 0.0)),
        "text_top1": jnp.sum(own[jnp.arange(len(images)), jnp.argmax(logits, 1)] * valid),
        "image_top1": jnp.sum(own[jnp.argmax(first, 0), jnp.arange(count)] * (there > 0)),
        "images": jnp.sum(valid),
        "captions": jnp.sum(there > 0, dtype=jnp.float32),
    }
    each_image = sums["to_text"] / jnp.maximum(sums["images"], 1.0)
    each_caption = sums["to_image"] / jnp.maximum(sums["captions"], 1.0)
    return 0.5 * (each_image + each_caption), sums


def _normalised(x: jax.Array) -> jax.Array:
    # The norm's gradient at zero is not a number; an embedding there is none either.
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


@dataclasses.dataclass(frozen=True)
class Align(Objective):
    """`alignment` of `outputs["image_embedding"]` with `outputs["text_embedding"]`."""

    head: ClassVar[str] = "image_projection"
    field: ClassVar[str] = "tokens"
    cross_sample: ClassVar[bool] = True

    def parts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The scalar to minimise, and the sums that `metrics` makes its values of."""
        loss, sums = alignment(
            outputs["image_embedding"],
            outputs["text_embedding"],
            outputs["logit_scale"],
            batch.get("valid"),
        )
        return loss, {**sums, "logit_scale": outputs["logit_scale"]}

    def metrics(self, sums: Mapping[str, jax.Array]) -> dict[str, Float[Array, ""]]:
        """{"image_to_text", "text_to_image"}: shares that have a partner of theirs first; and the
        `logit_scale`."""
        images, captions = (jnp.maximum(sums[name], 1.0) for name in ("images", "captions"))
        return {
            "image_to_text": sums["text_top1"] / images,
            "text_to_image": sums["image_top1"] / captions,
            "logit_scale": sums["logit_scale"],
        }
