"""Random erasing: one box of a normalised image becomes noise, a normal number a value.

timm's `RandomErasing` in its mode "pixel" with one box (Zhong et al. 2017, arXiv:1708.04896).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxfdsl.data.augment import chance
from jaxfdsl.data.augment.chance import Stream
from jaxfdsl.data.augment.crops import sides

AREA = (0.02, 1 / 3)  # of the image
ASPECT = (0.3, 1 / 0.3)


def box(seed: chance.Seed, size: int, probability: float) -> Int[Array, "4"]:
    """`(top, left, height, width)` of what is erased; height 0 where nothing is."""
    words = chance.bits(seed, Stream.ERASE, 23)
    # Ten tries; height over width here, which is as evenly spread as width over height.
    height, width = sides(words[:20], size, AREA, ASPECT)
    fits = (width < size) & (height < size)
    first = jnp.argmax(fits)
    extent = jnp.stack([height[first], width[first]])
    corner = chance.between(words[20:22], 0, size - extent)
    erased = jnp.any(fits) & chance.happens(words[22], probability)
    return jnp.concatenate([corner, jnp.where(erased, extent, 0)])


def apply(
    image: Float[Array, "H W 3"], seed: chance.Seed, box: Int[Array, "4"], *, branch: bool
) -> Float[Array, "H W 3"]:
    """The image with noise in the box. `branch` visits the box's rows alone, one after the other;
    otherwise noise is made for every pixel and mostly dropped. The values are the same.
    """
    noise_seed = chance.bits(seed, Stream.NOISE, 1)[0]
    if not branch:
        return jnp.where(inside(box, image.shape[0]), _noise(noise_seed, image.shape), image)
    top, left, height, width = box
    columns = jnp.arange(image.shape[1])[:, None]
    across = (columns >= left) & (columns < left + width)

    def row(y: Array, image: Array) -> Array:
        own = jax.lax.dynamic_index_in_dim(image, y, keepdims=False)
        noise = _noise(noise_seed, own.shape, y * own.size)
        return jax.lax.dynamic_update_index_in_dim(image, jnp.where(across, noise, own), y, 0)

    return jax.lax.fori_loop(top, top + height, row, image)


def inside(box: Int[Array, "4"], size: int) -> Bool[Array, "{size} {size} 1"]:
    """Which pixels of a square image lie in the box."""
    place = jnp.arange(size)
    down, across = ((place >= box[i]) & (place < box[i] + box[i + 2]) for i in (0, 1))
    return down[:, None, None] & across[None, :, None]


def _noise(
    seed: chance.Seed, shape: tuple[int, ...], first: Array | int = 0
) -> Float[Array, "..."]:
    count = 1
    for length in shape:
        count *= length
    places = jnp.asarray(first).astype(jnp.uint32) + jnp.arange(count, dtype=jnp.uint32)
    return chance.normal(chance.mix(seed, places)).reshape(shape)
