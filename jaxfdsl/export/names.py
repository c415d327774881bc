"""Our parameters under the names that Hugging Face and big_vision write: the tables by which
`interop` reads them, the other way round.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxfdsl.interop import big_vision, huggingface, timm
from jaxfdsl.models.blocks import unstack_blocks

Arrays = dict[str, np.ndarray]

_HUGGINGFACE = {ours: theirs for theirs, ours in huggingface.TABLE.items()}
_BIG_VISION = {ours: theirs for theirs, ours in big_vision.TABLE.items()}


def to_huggingface(params: Mapping[str, Any]) -> Arrays:
    """The state dict of a ViTForImageClassification, or of a ViTModel without a head; arrays."""
    state: Arrays = {}
    for name, value in timm.to_timm(params).items():
        parts = [name]
        if ".qkv." in name:
            parts = [name.replace(".qkv.", f".{part}.") for part in "qkv"]
        state |= dict(zip(parts, np.split(value, len(parts)), strict=True))
    prefix = "vit." if "head.weight" in state else ""
    made = {}
    for name, value in state.items():
        stem, dot, leaf = (name, "", "") if name in _HUGGINGFACE else name.rpartition(".")
        index = re.search(r"\.(\d+)\.", stem)
        theirs = _HUGGINGFACE[re.sub(r"\.\d+\.", ".{i}.", stem)]
        theirs = theirs.format(i=index[1] if index else "") + dot + leaf
        made[theirs if stem == "head" else prefix + theirs] = np.ascontiguousarray(value)
    return made


def to_big_vision(params: Mapping[str, Any]) -> Arrays:
    """The flat `params/` tree of big_vision's ViT that pools by its class token; arrays.

    Its class token has no position: ours is added to it, which changes nothing downstream.
    """
    ours = unstack_blocks(params)
    positions = np.asarray(ours["pos_embed"])
    ours |= {"cls_token": ours["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
    made = {}
    for name, value in timm.flatten(ours).items():
        stem, _, leaf = name.rpartition("/")
        index = re.match(r"blocks_(\d+)/", name)
        generic = re.sub(r"^blocks_\d+/", "blocks_{i}/", f"{stem}/{{leaf}}" if stem else name)
        theirs = _BIG_VISION[generic].format(i=index[1] if index else "", leaf=leaf)
        parts = ("query", "key", "value") if "/qkv/" in theirs else ("qkv",)
        # Kernels (D, 3, H, D / H), biases (3, H, D / H).
        pieces = np.moveaxis(value, -3, 0) if len(parts) > 1 else [value]
        for part, piece in zip(parts, pieces, strict=True):
            key = f"params/{theirs}".replace("/qkv/", f"/{part}/")
            made[key] = np.ascontiguousarray(piece)
    return made
