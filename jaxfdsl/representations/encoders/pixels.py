"""The picture itself as a vector: a baseline that needs no model."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32

from jaxfdsl.config import ConfigError
from jaxfdsl.representations.encoders import Encoder

MOST = 64  # pixels along an edge


def open_pixels(text: str) -> Encoder:
    """The encoder "pixels:N": a square of N x N pixels, row by row, 0 to 1; D is 3 N^2.

    Raises ConfigError for what is no N.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ConfigError(
            f"--encoder=pixels:{text}: type the pixels along an edge, 1 to {MOST}, as in pixels:8."
        )
    side = int(text)
    made_by = {"family": "pixels", "weights": "none", "layer": "pixels", "licence": "the images'"}
    return Encoder(f"pixels:{side}", 3 * side**2, side, {}, _flat, made_by)


def _flat(params: Any, images: Float[Array, "B S S 3"]) -> Float32[jax.Array, "B D"]:
    return jnp.reshape(images, (len(images), -1)).astype(jnp.float32) / 255
