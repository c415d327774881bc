"""The column `latent:NAME` of a set of pictures: what a frozen autoencoder encodes each as, once
instead of in every step of a denoiser (`data.latents`; `data.latents` the module reads it).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float32

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.data.latent_column import Rows
from jaxfdsl.data.materialise.manifest import versions
from jaxfdsl.data.records import Records
from jaxfdsl.data.store import columns, parts
from jaxfdsl.interop import autoencoder as interop
from jaxfdsl.models.autoencoder import CHUNK, Autoencoder
from jaxfdsl.representations import writing
from jaxfdsl.representations.encoders import Encoder
from jaxfdsl.representations.writing import How

PART = 512  # images of a part, which a kill loses at most
_MOST = float(np.finfo(np.float16).max)


def write(
    records: Records,
    name: str,
    path: str,
    image_size: int,
    how: How,
    tell: Callable[[str], None] = print,
) -> None:
    """Write the column `name` ("latent:..."), float16[N, v, s, s, 2 C]: mean and deviation of what
    the autoencoder at `path` encodes each image of `image_size` pixels as, computed in float32;
    with `how.flip` the mirror image's behind them.

    Images are as a run without augmentation sees them: cut on the host, or brought to `how.canvas`
    pixels and resized on the device. Parts, what is there and pictures that cannot be decoded are
    as of `writing.write`. Raises ConfigError as it does, and for weights that cannot be used.
    """
    file, vae = writing.place(records, name), opened(path, image_size)
    side = image_size // vae.factor
    shape = (2 if how.flip else 1, side, side, 2 * vae.channels)
    made_by = {
        "encoder": f"autoencoder {vae.digest[:8]}",
        "weights": vae.digest,
        "from": epath.Path(path).expanduser().name,
        "image_size": image_size,
        "canvas": how.canvas,
        "preparation": writing.PREPARATION,
        "flip": how.flip,
        "images": records.pictures,
    }
    if writing.is_there(file, name, made_by, how.replace):
        tell(f"{name} is there already, of these images and this autoencoder: {file}")
        return
    broken = writing.Unreadable(records, how.max_corrupt, tell)
    few = min(how.batch, CHUNK * jax.local_device_count())
    vectors = writing.Vectors(
        records,
        _encoder(vae, image_size, shape),
        dataclasses.replace(how, batch=few, flip=False),  # each picture's and its mirror image's
    )

    def compute(rows: writing.Rows, done: Callable[[int], Any]) -> Rows:
        return vectors(rows, done).astype(np.float16).reshape(len(rows), *shape)

    def check(rows: writing.Rows, values: Rows) -> None:
        broken.see(rows, values.reshape(len(values), -1)[:, :1].astype(np.float32))

    total = len(records)
    with parts.gathered(file, made_by, total, compute, each=PART, desc=name, check=check) as values:
        columns.link_sidecar(file, values, {**made_by, **broken.told, "versions": versions()})
    size, room = " x ".join(map(str, shape)), file.stat().st_size / 1e6
    tell(f"{name}: {total:,} latents of {size} numbers, {room:,.1f} MB: {file}")
    broken.list_others(name)


def opened(path: str, image_size: int) -> Autoencoder:
    """The autoencoder of a file or a folder, in float32; raises ConfigError for what cannot be used
    and for images that it does not divide."""
    try:
        vae = interop.load(epath.Path(path).expanduser())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--autoencoder={path} cannot be used ({error}): type the path of a folder with "
            f"config.json and {interop.FILES[0]}."
        ) from error
    if image_size % vae.factor:
        near = vae.factor * max(1, image_size // vae.factor)
        raise ConfigError(
            f"--image_size={image_size} is no multiple of {vae.factor}, by which the autoencoder's "
            f"latents are smaller: type --image_size={near}."
        )
    return vae


def _encoder(vae: Autoencoder, image_size: int, shape: tuple[int, ...]) -> Encoder:
    """An encoder whose vectors are a row of the column, flat."""
    usual = config_lib.default_config().augment
    usual.update(mean=(0.5,) * 3, std=(0.5,) * 3)

    def apply(params: Any, images: Float32[Array, "B S S 3"]) -> Float32[Array, "B d"]:
        cut = augment.crop(images.astype(jnp.uint8), None, usual, image_size)
        seen = (cut, cut[:, :, ::-1])[: shape[0]]
        told = [vae.encode(params, augment.normalise(one, usual)) for one in seen]
        pairs = [jnp.concatenate([mean, jnp.exp(0.5 * logvar)], -1) for mean, logvar in told]
        found = jnp.stack(pairs, axis=1).reshape(len(images), -1)
        return jnp.where(jnp.abs(found) > _MOST, jnp.inf, found)  # which float16 cannot hold

    width = int(np.prod(shape))
    return Encoder(f"autoencoder {vae.digest[:8]}", width, image_size, vae.params, apply, {})
