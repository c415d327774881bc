"""Denoisers that work in a published autoencoder's latents (`model.autoencoder`).

Its weights are frozen. They go to the compiled programs as one of the tables, an argument: as
constants they would be compiled into them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from etils import epath
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data.augment import chance
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
    """A batch whose `image`, in -1..1, is a latent drawn from what the image is encoded as; the
    rows' numbers in the global batch and the step's key decide which. Without an autoencoder the
    batch as it is."""
    if autoencoder is None:
        return batch
    with jax.named_scope("encode"):
        images = batch["image"]
        shape = _shape(images, autoencoder)
        count = shape[1] * shape[2] * shape[3]

        def noise(seed: chance.Seed) -> Array:
            return chance.normal(chance.bits(seed, chance.Stream.LATENT, count))

        numbers = jax.vmap(noise)(chance.seeds(key, rows)).reshape(shape)
        return {**batch, "image": autoencoder.latents(tables[TABLE], images, numbers)}


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
