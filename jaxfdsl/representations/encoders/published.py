"""Published encoders from files: which family, which numbers beside the arrays, and the digest."""

import functools
import hashlib
import json
from typing import Any

import numpy as np
from etils import epath

from jaxfdsl.interop import timm, weights
from jaxfdsl.representations.encoders import positions, reading, transformer
from jaxfdsl.representations.encoders.families import FAMILIES, PRE_LAYER, Family
from jaxfdsl.representations.encoders.transformer import ACTIVATIONS, Design

PARTS = f"{timm.FILE}.index.json"  # of weights that lie in several files
FILES = (*weights.FILES, PARTS)


class UnknownError(ValueError):
    """Weights of none of the families."""


def is_foreign(path: str) -> bool:
    """Whether these are weights of another program, and not a run of ours."""
    return weights.is_foreign(path) or (epath.Path(path) / PARTS).exists()


def load(path: str, family: str = "", *, pre: bool = False) -> dict[str, Any]:
    """The fields of an `Encoder`. `family` "" is found by the arrays' names, `pre` is CLIP's layer
    before the last norm.

    Raises UnknownError for weights of no family; ValueError, one sentence, for files that are
    damaged, arrays that do not fit, and a config.json that asks for what is not computed here.
    """
    files = _files(epath.Path(path))
    state: dict[str, np.ndarray] = {}
    for file in files:
        state |= weights.read(file)[0]
    found = reading.family_of(state)
    if not found and not family:
        raise UnknownError(f"{path} holds no weights of {', '.join(FAMILIES)}")
    if found and family and found != family:
        raise ValueError(f"{path} holds weights of {found}, not of {family}")
    told = FAMILIES[family or found]
    if pre and told.name != "clip":
        raise ValueError(f"{path} is of {told.name}, which has no layer pre (CLIP has one)")
    try:
        return _built(told, state, files, pre)
    except ValueError as error:
        raise ValueError(f"{path} does not fit {told.name}: {error}") from error


def _built(
    family: Family, state: dict[str, np.ndarray], files: list[epath.Path], pre: bool
) -> dict[str, Any]:
    config, complete = _config(files[0].parent / "config.json", family)
    prepared = _json(files[0].parent / "preprocessor_config.json")
    flat, layout, heads = reading.params_of(state, family.name, projection=not pre)
    patch, _, _, width = flat["patch/kernel"].shape
    size = _image_size(family, prepared, flat, patch)
    design = Design(
        num_heads=heads or _heads(family, config, complete, width),
        image_size=size,
        patch_size=patch,
        epsilon=_number(config, "layer_norm_eps", family.epsilon),
        activation=_activation(family, config, flat),
        pool="pre" if pre else family.pool,
        rope_theta=_number(config, "rope_theta", family.rope_theta) if family.rope_theta else 0.0,
        mean=_three(prepared, "image_mean", family.mean),
        std=_three(prepared, "image_std", family.std),
    )
    words = ""
    if "positions" in flat:
        old = round(len(flat["positions"]) ** 0.5)
        flat["positions"] = positions.resized(flat["positions"], size // patch, layout.resize)
        words = f"{layout.resize}, from {old} x {old} patches" if old != size // patch else ""
    if design.pool != "projection":
        flat.pop("projection/kernel", None)
    made_by = {
        "encoder": f"{family.name}-pre" if pre else family.name,
        "family": family.name,
        "source": family.source,
        "weights": _digest(files),
        "layer": PRE_LAYER if pre else family.layer,
        "licence": family.licence,
        "width": width,
        "depth": len(flat["blocks/norm1/scale"]),
        "num_heads": design.num_heads,
        "image_size": size,
        "patch_size": patch,
        "activation": design.activation,
        "mean": list(design.mean),
        "std": list(design.std),
        "preparation": family.preparation,
        "positions_resized": words,
    }
    return {
        "name": made_by["encoder"],
        "width": flat["projection/kernel"].shape[1] if design.pool == "projection" else width,
        "image_size": size,
        "params": timm.nested(flat),
        "apply": functools.partial(transformer.features, design),
        "made_by": made_by,
    }


def _files(path: epath.Path) -> list[epath.Path]:
    if not path.is_dir():
        return [path]
    for name in weights.FILES:
        if (path / name).exists():
            return [path / name]
    placed = _json(path / PARTS).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ValueError(f"{path / PARTS} names no files")
    files = [path / name for name in sorted({str(name) for name in placed.values()})]
    absent = [file.name for file in files if not file.exists()]
    if absent:
        raise ValueError(f"{path} lacks {', '.join(absent)}, which {PARTS} names")
    return files


def _config(file: epath.Path, family: Family) -> tuple[dict[str, Any], bool]:
    """What config.json says of the image encoder, and whether there is one: what it leaves out is
    then as transformers has it.

    Raises ValueError for a model that computes otherwise.
    """
    config = _json(file)
    kind = config.get("model_type", family.kinds[0])
    if kind not in family.kinds:
        wide = " (SigLIP 2 of any size: take a model of a fixed one)" if kind == "siglip2" else ""
        raise ValueError(
            f"model_type in config.json is {kind!r}{wide} and must be {' or '.join(family.kinds)}"
        )
    inner = config.get("vision_config", config)
    if not isinstance(inner, dict):
        raise ValueError("vision_config in config.json is no group of fields")
    return inner, bool(config)


def _number(config: dict[str, Any], name: str, usual: float) -> float:
    value = config.get(name, usual)
    if not isinstance(value, int | float):
        raise ValueError(f"{name}={value!r} in config.json is no number")
    return float(value)


def _heads(family: Family, config: dict[str, Any], complete: bool, width: int) -> int:
    """As config.json says; without one, as the published model of that width has."""
    usual = family.usual_heads if complete else family.heads.get(width)
    heads = config.get("num_attention_heads", usual)
    if heads is None:
        raise ValueError(
            f"no published model has width {width}, and without its config.json beside it the "
            "number of heads is not known"
        )
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise ValueError(f"num_attention_heads={heads} does not divide the width {width}")
    if family.rope_theta and width // heads % 4:
        raise ValueError(f"heads of {width // heads} channels are no multiple of 4, as RoPE needs")
    return heads


def _activation(family: Family, config: dict[str, Any], flat: dict[str, np.ndarray]) -> str:
    gated = flat["blocks/fc1/kernel"].shape[2] == 2 * flat["blocks/fc2/kernel"].shape[1]
    name = config.get("hidden_act", "silu" if gated else family.activation)
    if gated and family.name == "dinov2":
        name = "silu"  # whatever config.json says of the MLP that is not there
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(
            f"hidden_act in config.json is {name!r}, and not {' or '.join(ACTIVATIONS)}"
        )
    return name


def _image_size(
    family: Family, prepared: dict[str, Any], flat: dict[str, np.ndarray], patch: int
) -> int:
    """Of the learned positions, or as preprocessor_config.json says, in whole patches."""
    if not family.image_size:
        return round(len(flat["positions"]) ** 0.5) * patch
    size: Any = prepared.get("crop_size") or prepared.get("size") or {}
    size = size.get("height", family.image_size) if isinstance(size, dict) else size
    if not isinstance(size, int) or size < patch:
        raise ValueError(f"an image size of {size!r} in preprocessor_config.json is no patch wide")
    return size // patch * patch


def _three(prepared: dict[str, Any], field: str, usual: tuple[float, ...]) -> tuple[float, ...]:
    values = prepared.get(field, usual)
    numbers = isinstance(values, list | tuple) and all(isinstance(x, int | float) for x in values)
    if not numbers or len(values) != 3:
        raise ValueError(f"{field} in preprocessor_config.json is not three numbers")
    made = tuple(float(value) for value in values)
    if not np.isfinite(made).all() or (field == "image_std" and min(made) <= 0):
        raise ValueError(f"{field}={list(made)} in preprocessor_config.json cannot be divided by")
    return made


def _json(file: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file.name} is not JSON ({error})") from error
    return content if isinstance(content, dict) else {}


def _digest(files: list[epath.Path]) -> str:
    """sha256 of the file, or of the files one after another."""
    total = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(2**20):
                total.update(block)
    return total.hexdigest()
