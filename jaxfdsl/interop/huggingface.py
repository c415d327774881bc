"""Hugging Face's ViT and DINOv2 under timm's names: equal arrays, but query, key and value apart.

transformers: https://github.com/huggingface/transformers, `models/vit/modeling_vit.py` and
`models/dinov2/modeling_dinov2.py`. Its folders have these names whatever the version; since version
5 a model in memory has those of `NEWER`.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

PREFIXES = ("vit.", "dinov2.")  # of the classes with a classifier, which has none itself
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
# What DINOv2 calls otherwise; `timm.folded` takes LayerScale into the maps before it.
DINOV2 = {
    "embeddings.register_tokens": "reg_token",
    "embeddings.mask_token": "mask_token",
    "encoder.layer.{i}.norm1": "blocks.{i}.norm1",
    "encoder.layer.{i}.layer_scale1.lambda1": "blocks.{i}.ls1.gamma",
    "encoder.layer.{i}.norm2": "blocks.{i}.norm2",
    "encoder.layer.{i}.mlp.fc1": "blocks.{i}.mlp.fc1",
    "encoder.layer.{i}.mlp.fc2": "blocks.{i}.mlp.fc2",
    "encoder.layer.{i}.layer_scale2.lambda1": "blocks.{i}.ls2.gamma",
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
NEWER |= {  # DINOv2's, whose blocks kept their place
    new.replace("layers.", "encoder.layer."): old for new, old in NEWER.items() if "_proj" in new
}
UNUSED = r"pooler\.dense\.(weight|bias)"  # not on the way to the logits

# model_type: what transformers takes where config.json does not say.
EPSILONS = {"vit": 1e-12, "dinov2": 1e-6}


def to_timm_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """timm's flat state dict of a `ViTModel`'s, a `Dinov2Model`'s or their image classifiers'.

    Names that the table does not have stay as they are, for `timm.to_ours` to tell.
    """
    named = {}
    for name, value in state.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if not re.fullmatch(UNUSED, name):
            named[_renamed(name)] = value
    for query in [name for name in named if ".attn.q." in name]:
        parts = [query.replace(".attn.q.", f".attn.{part}.") for part in "qkv"]
        if all(part in named for part in parts):
            joined = np.concatenate([named.pop(part) for part in parts])
            named[query.replace(".attn.q.", ".attn.qkv.")] = joined
    return named


def check(config: Mapping[str, Any], num_heads: int, norm_epsilon: float) -> str:
    """A phrase on what differs a little from ours, according to config.json.

    Raises ValueError where the model computes otherwise.
    """
    kind = str(config.get("model_type", "vit"))
    known = kind if kind in EPSILONS else " or ".join(EPSILONS)
    wanted = {"num_attention_heads": num_heads, "hidden_act": "gelu", "model_type": known}
    wanted |= {"use_swiglu_ffn": False}
    wrong = [
        f"{name} is {config[name]!r} there and must be {value!r} here"
        for name, value in wanted.items()
        if config.get(name, value) != value
    ]
    if wrong:
        raise ValueError(f"its config.json does not fit: {', '.join(wrong)}")
    # Said and not refused: google/vit-* were trained with 1e-6, and their config.json has 1e-12.
    usual = EPSILONS[kind] if config else norm_epsilon
    epsilon = config.get("layer_norm_eps", usual)
    if epsilon == norm_epsilon:
        return ""
    return (
        f", where layer norms have epsilon {epsilon} and here {norm_epsilon}, which moves logits a "
        f"little: --config.model.norm_epsilon={epsilon} gives theirs"
    )


def _renamed(name: str) -> str:
    index = re.search(r"\.(\d+)\.", name)
    generic = re.sub(r"\.\d+\.", ".{i}.", name, count=1)
    stem, _, leaf = generic.rpartition(".")
    stem = NEWER.get(stem, stem)
    table = TABLE | DINOV2
    for key, rest in ((generic, ""), (stem, f".{leaf}")):
        if key in table:
            return table[key].format(i=index[1] if index else "") + rest
    return name
