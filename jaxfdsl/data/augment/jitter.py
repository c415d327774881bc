"""Colour jitter: brightness, contrast, saturation and hue in a random order, one image of bytes.

torchvision's `ColorJitter` on Pillow's images.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxfdsl.data.augment import chance, colour, packed
from jaxfdsl.data.augment.chance import Stream
from jaxfdsl.data.augment.colour import ONE, Image, Scalar


def apply(image: Image, seed: chance.Seed, strength: float, hue: float) -> Image:
    """Factors evenly from `1 - strength` (at least 0) to `1 + strength`, and a turn of the colour
    circle of up to `hue` of a whole one either way.
    """
    words = chance.bits(seed, Stream.JITTER, 9)[1:]  # the first says whether there is any jitter
    low, high = round(max(0.0, 1 - strength) * ONE), round((1 + strength) * ONE)
    factors = chance.between(words[:3], low, high)
    ops = [
        lambda image: colour.brightness(image, factors[0]),
        lambda image: colour.contrast(image, factors[1]),
        lambda image: colour.color(image, factors[2]),
    ]
    if not strength:
        ops = []
    if hue:
        turn = (chance.uniform(words[3]) * 2 - 1) * (hue * 255)
        ops.append(functools.partial(turn_hue, turn=turn.astype(jnp.int32)))
    order = jnp.argsort(words[4 : 4 + len(ops)])
    return jax.lax.fori_loop(
        0, len(ops), lambda i, image: jax.lax.switch(order[i], ops, image), image
    )


def turn_hue(image: Image, turn: Scalar) -> Image:
    """`torchvision.transforms.functional.adjust_hue`: Pillow's HSV in bytes, `turn` added to H."""
    if image.shape[2] == 1:
        return image
    hue, saturation, value = _hsv(image)
    return _rgb((hue + turn) & 255, saturation, value)


def _hsv(image: Image) -> tuple[Array, Array, Array]:
    """Hue, saturation and value, int32 from 0 to 255 (`rgb2hsv_row` of Pillow's `Convert.c`)."""
    red, green, blue = (image[..., i].astype(jnp.int32) for i in range(3))
    most, least = (
        jnp.maximum(red, jnp.maximum(green, blue)),
        jnp.minimum(red, jnp.minimum(green, blue)),
    )
    span = jnp.maximum(most - least, 1)
    # In sixths of the circle, times the span, made positive.
    sixths = jnp.where(
        red == most,
        green - blue,
        jnp.where(green == most, 2 * span + blue - red, 4 * span + red - green),
    )
    sixths = jnp.where(sixths < 0, sixths + 6 * span, sixths)
    hue = _divided(sixths * 255, 6 * span)
    saturation = _divided((most - least) * 255, jnp.maximum(most, 1))
    return jnp.where(most == least, 0, hue), saturation, most


def _rgb(hue: Array, saturation: Array, value: Array) -> Image:
    """`hsv2rgb` of Pillow's `Convert.c`, in whole numbers."""
    place = hue * 6
    sector, rest = place // 255, place % 255
    low = _rounded(value * (255 - saturation), 255)
    falling = _rounded(value * (255 * 255 - saturation * rest), 255 * 255)
    rising = _rounded(value * (255 * 255 - saturation * (255 - rest)), 255 * 255)
    wheel = [
        (value, rising, low),
        (falling, value, low),
        (low, value, rising),
        (low, falling, value),
        (rising, low, value),
        (value, low, falling),
    ]
    sector = sector % 6
    channels = [
        jnp.select([sector == k for k in range(6)], [wheel[k][i] for k in range(6)])
        for i in range(3)
    ]
    return packed.stack(channels)


def _divided(total: Array, divisor: Array) -> Array:
    """Rounded down. In float32, as processors have no vectors of whole divisions: half a unit more
    keeps the quotient of numbers below 2**20 away from the next one, however it is rounded.
    """
    return ((total.astype(jnp.float32) + 0.5) / divisor.astype(jnp.float32)).astype(jnp.int32)


def _rounded(total: Array, divisor: int) -> Array:
    return (2 * total + divisor) // (2 * divisor)
