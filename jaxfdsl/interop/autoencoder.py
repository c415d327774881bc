"""Published weights of Stable Diffusion's autoencoder as our parameters.

diffusers: https://github.com/huggingface/diffusers, a folder with config.json and
`diffusion_pytorch_model.safetensors`. Its names are ours with other leaves; older files call the
attention's four maps otherwise, and some have them as 1 x 1 convolutions.
"""

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxfdsl.interop import timm, weights
from jaxfdsl.models import autoencoder
from jaxfdsl.models.autoencoder import Autoencoder, Design

FILES = tuple(
    f"diffusion_pytorch_model{end}" for end in (".safetensors", ".fp16.safetensors", ".bin")
)
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
SCALE = 0.18215  # Rombach et al., section 4: a deviation of 1 on their training images

# What config.json may say and our functions compute; a list has it once a level.
FITS = {
    "_class_name": "AutoencoderKL",
    "act_fn": "silu",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": "DownEncoderBlock2D",
    "up_block_types": "UpDecoderBlock2D",
    "mid_block_add_attention": True,
    "latents_mean": None,
    "latents_std": None,
}


def load(path: epath.PathLike, dtype: Any = "float32") -> Autoencoder:
    """The autoencoder of a file, of a folder of diffusers' that has it, or of a whole pipeline's
    folder; what config.json does not say is as in Stable Diffusion 1. Its parameters are NumPy
    arrays of `dtype`, the type in which it will compute.

    Raises ValueError, one sentence, for a model or a file that does not fit; FileNotFoundError.
    """
    file = _file(epath.Path(path))
    config = _config(file.parent / "config.json")
    design = _design(config)
    state, _ = weights.read(file)
    try:
        params = to_ours(state, design)
    except ValueError as error:
        raise ValueError(f"{file} is no such autoencoder: {error}") from error
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return Autoencoder(
        params=timm.nested({k: x.astype(jnp.dtype(dtype)) for k, x in params.items()}),
        encode=functools.partial(autoencoder.encode, design),
        decode=functools.partial(autoencoder.decode, design),
        scale=float(config.get("scaling_factor", SCALE)),
        shift=float(config.get("shift_factor") or 0.0),
        channels=design.channels,
        factor=design.factor,
        digest=digest,
        design=design,
    )


def design_at(path: epath.PathLike) -> Design:
    """Its design alone, of which config.json is read and no weights. Raises as `load`."""
    return _design(_config(_file(epath.Path(path)).parent / "config.json"))


def table(design: Design) -> dict[str, str]:
    """Our paths by diffusers' names, one for each array of the file."""
    named = {}
    for ours in autoencoder.shapes(design):
        path, _, leaf = ours.replace("/", ".").rpartition(".")
        named[f"{path}.{LEAVES[leaf]}"] = ours
    return named


def to_ours(state: Mapping[str, np.ndarray], design: Design) -> dict[str, np.ndarray]:
    """Our flat parameters, float32, of the arrays of a file.

    Raises ValueError that names every array that is missing, unknown, or of another shape, type
    or value than it may be.
    """
    named, shapes = table(design), autoencoder.shapes(design)
    found = {_newer(name): value for name, value in state.items()}
    missing = [name for name in named if name not in found]
    unknown = [name for name in found if name not in named]
    if any(".down." in name for name in unknown):
        raise ValueError(
            "it has the names of CompVis' own code: type the path of the folder of diffusers' that "
            "has the same weights"
        )
    if missing or unknown:
        parts = [f"it has no {timm.listed(missing)}"] if missing else []
        parts += [f"{timm.listed(unknown)} is not known"] if unknown else []
        raise ValueError(" and ".join(parts))
    made = {ours: _array(found[name], len(shapes[ours])) for name, ours in named.items()}
    wrong = [
        f"{name} is of shape {found[name].shape}"
        for name, ours in named.items()
        if made[ours].shape != shapes[ours]
    ]
    if wrong:
        raise ValueError(f"{wrong[0]}, which config.json does not fit ({len(wrong)} such arrays)")
    bad = [name for name, ours in named.items() if not np.isfinite(made[ours]).all()]
    if bad:
        raise ValueError(f"not all values are finite in {timm.listed(bad)}")
    return made


def _newer(name: str) -> str:
    """The name that diffusers gives an array since version 0.17."""
    older = re.fullmatch(rf"(.*\.attentions\.0\.)({'|'.join(OLDER)})(\..*)", name)
    return f"{older[1]}{OLDER[older[2]]}{older[3]}" if older else name


def _array(value: np.ndarray, axes: int) -> np.ndarray:
    """(out, in, height, width) as (height, width, in, out), and (out, in) as (in, out)."""
    value = value.astype(np.float32)
    if axes == 2 and value.ndim == 4 and value.shape[2:] == (1, 1):
        value = value[:, :, 0, 0]
    return value.transpose((2, 3, 1, 0)) if value.ndim == 4 else value.T


def _file(path: epath.Path) -> epath.Path:
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there")
        return path
    for folder in (path, path / "vae"):
        for name in FILES:
            if (folder / name).exists():
                return folder / name
    raise FileNotFoundError(f"{path} has no {FILES[0]}, and no vae/{FILES[0]}")


def _config(file: epath.Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{file} is not a JSON object")
    for name, wanted in FITS.items():
        said = config.get(name, wanted)
        wrong = [one for one in (said if isinstance(said, list) else [said]) if one != wanted]
        if wrong:
            raise ValueError(f"{file} says {name}={wrong[0]!r}, and it must be {wanted!r} here")
    for name in ("scaling_factor", "shift_factor"):
        if not isinstance(config.get(name) or 0.0, int | float):
            raise ValueError(f"{file} says {name}={config[name]!r}, and it must be a number")
    return config


def _design(config: Mapping[str, Any]) -> Design:
    usual = Design()
    widths = config.get("block_out_channels", usual.widths)
    if not isinstance(widths, list | tuple) or not widths:
        raise ValueError(f"config.json says block_out_channels={widths!r}, no list of numbers")
    counts = {"layers_per_block": usual.layers, "norm_num_groups": usual.groups}
    counts = {name: config.get(name, default) for name, default in counts.items()}
    counts["latent_channels"] = config.get("latent_channels", usual.channels)
    told = [*counts.items(), *(("block_out_channels", width) for width in widths)]
    for name, value in told:
        if type(value) is not int or value < 1:
            raise ValueError(f"config.json says {name}={value!r}, no whole number above 0")
    if odd := [width for width in widths if width % counts["norm_num_groups"]]:
        groups = counts["norm_num_groups"]
        raise ValueError(f"config.json says norm_num_groups={groups}, no divisor of {odd[0]}")
    return Design(
        widths=tuple(widths),
        layers=counts["layers_per_block"],
        groups=counts["norm_num_groups"],
        channels=counts["latent_channels"],
        quant=config.get("use_quant_conv", usual.quant),
        post_quant=config.get("use_post_quant_conv", usual.post_quant),
    )
