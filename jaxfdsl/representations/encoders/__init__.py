"""Image encoders as functions of images: our own runs, DINOv2, DINOv3, CLIP and SigLIP.

What an image's vector is:

    WORKDIR        the features before the run's heads, of the average (EMA) if one was kept
    vit:PATH       the same of any weights that `config.init_from` takes: timm, DeiT, MAE, ...
    dinov2:PATH    the class token behind the last norm (files of Hugging Face, Meta, timm)
    dinov3:PATH    the same (Hugging Face)
    clip:PATH      the image embedding behind the projection, its length as it is (Hugging Face)
    clip:PATH:pre  the class token before the last norm and the projection
    siglip:PATH    the attention-pooled head; SigLIP 2 of fixed sizes too (Hugging Face, big_vision)

PATH is a file of weights or a folder; without a family in front it is known by the names inside.
Nothing is downloaded, and reading runs nothing that a file brings. `jaxfdsl embed` knows two more
that need no weights: `pixels` here, and `representations.oracle`.
"""

import dataclasses
import difflib
import functools
import hashlib
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxfdsl.config import ConfigError
from jaxfdsl.report import checkpoint_model
from jaxfdsl.representations.encoders import published
from jaxfdsl.representations.encoders.families import FAMILIES

NAMES = ("ours", "vit", *FAMILIES)


@dataclasses.dataclass(frozen=True)
class Encoder:
    """`apply(params, images float32[B, S, S, 3] in 0..255) -> float32[B, width]`, to be jitted.

    S is `image_size`; `apply` normalises and resizes nothing. `params` are NumPy arrays, or JAX's
    of a run. `made_by` is JSON: the family, sha256 of the weights, layer, licence, image size, mean
    and deviation, and how the authors bring images to that size.
    """

    name: str
    width: int
    image_size: int
    params: Any
    apply: Callable[[Any, jax.Array], jax.Array]
    made_by: dict[str, Any]


def open_encoder(spec: str) -> Encoder:
    """The encoder that `spec` names; the module's docstring lists what it may be.

    Raises ConfigError, one sentence, for an encoder that is not known, for a path without weights,
    and for files that are damaged or whose arrays do not fit.
    """
    family, path, pre = _parts(spec)
    if not epath.Path(path).exists():
        raise ConfigError(
            f"encoder={spec!r}: there is no {path!r}: type the workdir of a run, or one of "
            f"{', '.join(f'{name}:PATH' for name in FAMILIES)} with a file or folder of weights."
        )
    if pre and family not in ("", "clip"):
        raise ConfigError(f"encoder={spec!r}: {family} has no layer pre: type clip:PATH:pre.")
    foreign = published.is_foreign(path)
    if family in FAMILIES and not foreign:
        raise ConfigError(
            f"encoder={spec!r}: {path} holds none of {', '.join(published.FILES)}: type the "
            "path of a folder that does, or of a file of weights."
        )
    if not foreign or family in ("ours", "vit"):
        return _ours(path, "vit" if foreign else "ours", pre)
    try:
        return Encoder(**published.load(path, family, pre=pre))
    except published.UnknownError:  # of no family that is read here: perhaps a plain ViT
        return _ours(path, "vit", pre)
    except (ValueError, FileNotFoundError) as error:
        raise ConfigError(f"{error}: type another file.") from error


def _parts(spec: str) -> tuple[str, str, bool]:
    """Family ("" where none is typed), path, and whether the layer is CLIP's `:pre`."""
    rest, pre = spec.removesuffix(":pre"), spec.endswith(":pre")
    family, colon, path = rest.partition(":")
    if epath.Path(rest).exists() or not re.fullmatch(r"[\w-]+", family) or path.startswith("//"):
        return "", rest, pre
    if not colon or family not in NAMES:
        close = difflib.get_close_matches(family.lower(), FAMILIES, n=1, cutoff=0.3)
        names = " or ".join(f"{name}:PATH" for name in close or FAMILIES)
        raise ConfigError(f"encoder={spec!r} is not known: type {names}, or the workdir of a run.")
    return family, str(epath.Path(path).expanduser()), pre


def _ours(path: str, family: str, pre: bool) -> Encoder:
    """A run's features, or those of a ViT without a run, which is normalised as ImageNet's are."""
    if pre:
        raise ConfigError(f"encoder={path!r}: only CLIP has a layer pre: leave :pre out.")
    loaded = checkpoint_model.load(path)
    config, model = loaded.config, loaded.model
    mean, std = (tuple(config.augment[name]) for name in ("mean", "std"))
    size = config.model.image_size
    licence = "that of the run's images" if family == "ours" else "not told by the file"
    design = model.design
    made_by = {
        "encoder": family,
        "family": family,
        "from": loaded.words.replace(path, _name(path)),
        "weights": _digest(loaded.params),
        "layer": f"features before the heads, {design.pool} pooling, behind the last norm",
        "licence": licence,
        "image_size": size,
        "patch_size": design.patch_size,
        "num_heads": design.size.num_heads,
        "mean": list(mean),
        "std": list(std),
        "preparation": "the central square, resized",
    }
    apply = functools.partial(_apply_ours, model.apply, mean, std)
    return Encoder(family, design.size.width, size, loaded.params, apply, made_by)


def _apply_ours(
    apply: Callable[..., Any], mean: Any, std: Any, params: Any, images: jax.Array
) -> jax.Array:
    with jax.default_matmul_precision("highest"):
        mean, std = jnp.asarray(mean, jnp.float32), jnp.asarray(std, jnp.float32)
        return apply(params, (images / 255 - mean) / std, train=False)["features"]


def _name(path: str) -> str:
    """Of a run or file, wherever it lies."""
    return epath.Path(path.partition("/checkpoints")[0]).resolve().name


def _digest(params: Any) -> str:
    """sha256 of names and values; a run has no single file."""
    total = hashlib.sha256()
    for path, value in jax.tree_util.tree_leaves_with_path(params):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()
