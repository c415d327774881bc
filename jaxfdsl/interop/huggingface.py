"""Hugging Face's ViT under timm's names: equal arrays, but query, key and value are apart.

transformers: https://github.com/huggingface/transformers, `models/vit/modeling_vit.py`. Its folders
have these names whatever the version; since version 5 a model in memory has those of `NEWER`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxfdsl.models.heads import NORM_EPSILON

MARK = "embeddings.patch_embeddings.projection.weight"

# Theirs, ours by way of timm. Each stands for a weight and a bias, the first two for an array.
TABLE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "encoder.layer.{i}.layernorm_before": "blocks.{i}.norm1",
    "encoder.layer.{i}.attention.attention.query": "blocks.{i}.attn.q",
    "encoder.layer.{i}.attention.attention.key": "blocks.{i}.attn.k",
    "encoder.layer.{i}.attention.attention.value": "blocks.{i}.attn.v",
    "encoder.layer.{i}.attention.output.dense": "blocks.{i}.attn.proj",
    "encoder.layer.{i}.layernorm_after": "blocks.{i}.norm2",
    "encoder.layer.{i}.intermediate.dense": "blocks.{i}.mlp.fc1",
    "encoder.layer.{i}.output.dense": "blocks.{i}.mlp.fc2",
    "layernorm": "norm",
    "classifier": "head",
}
NEWER = {
    "layers.{i}.layernorm_before": "encoder.layer.{i}.layernorm_before",
    "layers.{i}.attention.q_proj": "encoder.layer.{i}.attention.attention.query",
    "layers.{i}.attention.k_proj": "encoder.layer.{i}.attention.attention.key",
    "layers.{i}.attention.v_proj": "encoder.layer.{i}.attention.attention.value",
    "layers.{i}.attention.o_proj": "encoder.layer.{i}.attention.output.dense",
    "layers.{i}.layernorm_after": "encoder.layer.{i}.layernorm_after",
    "layers.{i}.mlp.fc1": "encoder.layer.{i}.intermediate.dense",
    "layers.{i}.mlp.fc2": "encoder.layer.{i}.output.dense",
}
UNUSED = r"pooler\.dense\.(weight|bias)|embeddings\.mask_token"  # not on the way to the logits


def to_timm_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """timm's flat state dict of a `ViTModel`'s or a `ViTForImageClassification`'s.

    Names that the table does not have stay as they are, and `timm.from_timm` lists them.
    """
    named = {}
    for name, value in state.items():
        name = name.removeprefix("vit.")
        if not re.fullmatch(UNUSED, name):
            named[_renamed(name)] = value
    for query in [name for name in named if ".attn.q." in name]:
        parts = [query.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(part in named for part in parts):
            joined = np.concatenate([named.pop(part) for part in parts])
            named[query.replace(".attn.q.", ".attn.qkv.")] = joined
    return named


def check(config: Mapping[str, Any], num_heads: int) -> str:
    """A phrase on what differs a little from ours, according to config.json.

    Raises ValueError where the model computes otherwise.
    """
    wanted = {"num_attention_heads": num_heads, "hidden_act": "gelu", "model_type": "vit"}
    wrong = [
        f"{name} is {config[name]!r} there and must be {value!r} here"
        for name, value in wanted.items()
        if config.get(name, value) != value
    ]
    if wrong:
        raise ValueError(f"its config.json does not fit: {', '.join(wrong)}")
    # 1e-12 by default there. Up to 8e-4 of logits around 1 at a random start, where the class token
    # is small; google/vit-* were trained with 1e-6 before they came there.
    epsilon = config.get("layer_norm_eps", NORM_EPSILON)
    same = epsilon == NORM_EPSILON
    return "" if same else f", where layer norms have epsilon {epsilon} and here {NORM_EPSILON}"


def _renamed(name: str) -> str:
    generic, _, leaf = re.sub(r"\.\d+\.", ".{i}.", name, count=1).rpartition(".")
    index = re.search(r"\.(\d+)\.", name)
    generic = NEWER.get(generic, generic)
    if name in TABLE:
        return TABLE[name]
    if generic not in TABLE:
        return name
    return f"{TABLE[generic].format(i=index[1] if index else '')}.{leaf}"
