"""The model of a run, or of any weights that `config.init_from` takes, to be looked at."""

import dataclasses
import json
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxfdsl import checkpoint
from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.interop import weights
from jaxfdsl.models import heads, transfer, variants, vit


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A trunk with its parameters, float32; `config.data.sources` is empty for weights that are not
    of a run. `words` says which they are.
    """

    config: ConfigDict
    model: vit.Model
    params: Any
    words: str


def load(path: str, step: int = 0) -> Loaded:
    """The newest checkpoint of the run at `path`, or that of `step`; its average where one is kept.

    Raises ConfigError, one sentence, for a place that holds neither a checkpoint nor weights.
    """
    if weights.is_foreign(path):
        if step:
            raise ConfigError(f"--step={step}: {path} is no run and has no steps: leave it out.")
        return _foreign(path)
    place = epath.Path(path) / "checkpoints" / str(step) if step else epath.Path(path)
    missing = "the workdir of a run that saved one, or a file of ViT weights"
    with checkpoint.reading(place, missing=missing, damaged="another --step"):
        meta = checkpoint.load_meta(place)
        params, origin = checkpoint.load_params(place)
    config = config_lib.from_json(json.dumps(meta["config"]))
    if config.objective.denoise.weight:
        raise ConfigError(
            f"{path} is a run of a denoiser, which has no features: type the workdir of a vision "
            "transformer's."
        )
    number = epath.Path(origin).parent.name
    params = {name: value for name, value in params.items() if name not in heads.NAMES}
    return Loaded(config, _trunk(config), jax.device_put(params), f"step {number} of {path}")


def _trunk(config: ConfigDict) -> vit.Model:
    """Without heads, in float32, and without kernels that need another device than this one."""
    config = config.copy_and_resolve_references()
    config.model.attention = "xla"
    return vit.build(config.model, {}, "float32")


def _foreign(path: str) -> Loaded:
    """Weights without a config: their shapes say all but the number of heads."""
    told = _told_heads(epath.Path(path))
    try:
        params, words = weights.load(path, told or 1)
        config, shaped = config_lib.default_config(), _shape(params, told)
        config.model.update(shaped)
        model = _trunk(config)
        params = params if told else _split(params, shaped["num_heads"])
        # Refuses what is no part of ours; the heads are left out.
        params, _ = transfer.adapt(params, jax.eval_shape(model.init, jax.random.key(0)))
    except (ValueError, KeyError, IndexError) as error:
        raise ConfigError(f"{error}: type another file of ViT weights.") from error
    return Loaded(config, model, jax.device_put(params), words)


def _told_heads(path: epath.Path) -> int:
    """What a folder of Hugging Face says; 0 where nothing does."""
    file = path / "config.json"
    try:
        told = json.loads(file.read_text()) if path.is_dir() and file.exists() else {}
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON ({error}): type another folder.") from error
    return int(told.get("num_attention_heads", 0)) if isinstance(told, dict) else 0


def _shape(params: Any, told_heads: int) -> dict[str, Any]:
    """Fields of `config.model`."""
    patch, _, _, width = params["patch_embed"]["kernel"].shape
    depth = sum(name.startswith("blocks_") for name in params)
    token = "cls_token" in params
    side = round((params["pos_embed"].shape[1] - token) ** 0.5)
    hidden = np.shape(params["blocks_0"]["mlp"]["fc1"]["kernel"])[1] if depth else 4 * width
    known = {(v.width, v.depth): v.num_heads for v in variants.VARIANTS.values()}
    return {
        "width": width,
        "depth": depth,
        "num_heads": told_heads or known.get((width, depth), max(1, width // 64)),
        "mlp_ratio": hidden / width,
        "patch_size": patch,
        "image_size": side * patch,
        "pool": "token" if token else "mean",
    }


def _split(params: Any, count: int) -> Any:
    """Queries, keys and values of so many heads, where one head was read."""

    def split(path: Any, x: np.ndarray) -> np.ndarray:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if "/attn/qkv/" in name:
            return x.reshape(*x.shape[:-2], count, -1)
        if name.endswith("/attn/proj/kernel"):
            return x.reshape(count, -1, x.shape[-1])
        return x

    return jax.tree_util.tree_map_with_path(split, params)
