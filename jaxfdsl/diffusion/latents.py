"""Denoisers that work in a published autoencoder's latents (`model.autoencoder`).

Its weights are frozen. They go to the compiled programs as one of the tables, an argument: as
constants they would be compiled into them. With `data.latents` a step reads what it would encode,
and does without them.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.data.augment import chance
from jaxfdsl.data.sources import Source
from jaxfdsl.interop import autoencoder as interop
from jaxfdsl.models.autoencoder import Autoencoder, Design

TABLE = "model.autoencoder"  # among the tables, and in a run's identity: no source has a dot


def opened(config: ConfigDict, dtype: Any) -> Autoencoder | None:
    """The autoencoder of a run, None where its denoiser works on pixels; it computes in `dtype`.
    Raises ConfigError for a file that cannot be used."""
    path = config.model.autoencoder
    if not path:
        return None
    try:
        return interop.load(epath.Path(path).expanduser(), dtype)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


def design(config: ConfigDict, absent: Design | None = None) -> Design | None:
    """What `opened` would build, of which no weights are read; `absent` where no file is there."""
    path = config.model.autoencoder
    if not path:
        return None
    place = epath.Path(path).expanduser()
    if absent and not place.exists():
        return absent
    try:
        return interop.design_at(place)
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


def _refusal(path: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"model.autoencoder={path!r} cannot be used ({error}): type the path of a folder with "
        f"config.json and {interop.FILES[0]}, or --config.model.autoencoder='' for pixels."
    )


def side_and_channels(config: ConfigDict, absent: Design | None = None) -> tuple[int, int]:
    """The side of what the denoiser works on, and its channels: pixels, or numbers of a latent.

    Raises ConfigError for images that latents cannot be cut from.
    """
    cfg, made = config.model, design(config, absent)
    if made is None:
        return cfg.image_size, 3
    if cfg.image_size % (made.factor * cfg.patch_size):
        raise ConfigError(
            f"model.image_size={cfg.image_size} gives no whole patches of {cfg.patch_size} of "
            f"latents with a side {made.factor} times smaller: type "
            f"--config.model.image_size=N with N a multiple of {made.factor * cfg.patch_size}."
        )
    return cfg.image_size // made.factor, made.channels


def drawn(
    batch: dict[str, Any],
    key: Array,
    rows: Int[Array, " B"],
    tables: dict[str, Any],
    autoencoder: Autoencoder | None,
) -> dict[str, Any]:
    """A batch whose `image` float32[B, S, S, 3], in -1..1, has become float32[B, s, s, C]: a latent
    drawn from what the image is encoded as. The rows' numbers in the global batch and the step's
    key decide which. Without an autoencoder the batch as it is."""
    if autoencoder is None:
        return batch
    with jax.named_scope("encode"):
        images = batch["image"]
        noise = _noise(chance.seeds(key, rows), _shape(images, autoencoder))
        return {**batch, "image": autoencoder.latents(tables[TABLE], images, noise)}


def read(
    batch: dict[str, Any],
    key: Array,
    rows: Int[Array, " B"],
    autoencoder: Autoencoder,
    flip: bool,
) -> dict[str, Any]:
    """As `drawn` of what `augment.finish` makes, where `image` is float16[B, v, s, s, 2 C], rows of
    a column (`data.latents`): the same noise, and with `flip` the same images mirrored."""
    with jax.named_scope("read"):
        made, seeds = batch["image"], chance.seeds(key, rows)
        own = made[:, 0]
        if flip:
            turned = augment.mirrored(seeds)[:, None, None, None]
            own = jnp.where(turned, made[:, 1], own)
        mean, deviation = jnp.split(own.astype(jnp.float32), 2, axis=-1)
        image = autoencoder.scaled(mean + deviation * _noise(seeds, mean.shape))
        return {**batch, "image": image}


def check_columns(autoencoder: Autoencoder | None, sources: Mapping[str, Source]) -> None:
    """Raises ConfigError for a column that another autoencoder made."""
    for name, source in sources.items():
        column = source.latents
        if column and autoencoder and column.weights != autoencoder.digest:
            raise ConfigError(
                f"data.latents={column.wanted.name!r}: data.sources.{name} has a column of another "
                f"autoencoder (sha256 {column.weights[:12]}..., and model.autoencoder="
                f"{column.wanted.autoencoder!r} has {autoencoder.digest[:12]}...): type that one's "
                f"path, or write the column again by {column.again}."
            )


def _noise(seeds: Array, shape: tuple[int, ...]) -> Array:
    """Standard normal, each image's own."""
    count = math.prod(shape[1:])

    def one(seed: chance.Seed) -> Array:
        return chance.normal(chance.bits(seed, chance.Stream.LATENT, count))

    return jax.vmap(one)(seeds).reshape(shape)


def expected(
    batch: dict[str, Any], weights: Any, autoencoder: Autoencoder | None
) -> dict[str, Any]:
    """As `drawn`, but the mean: no chance."""
    if autoencoder is None:
        return batch
    images = batch["image"]
    zeros = jnp.zeros(_shape(images, autoencoder), jnp.float32)
    return {**batch, "image": autoencoder.latents(weights, images, zeros)}


def _shape(images: Array, autoencoder: Autoencoder) -> tuple[int, int, int, int]:
    count, side = images.shape[:2]
    small = side // autoencoder.factor
    return count, small, small, autoencoder.channels
