"""big_vision's and vit_jax's `.npz` as our parameters: the arrays lie as ours do.

https://github.com/google-research/big_vision, `models/vit.py`. There GELU is its tanh formula, and
with mean pooling the norm comes before the mean, so logits differ a little from ours until a run
has gone on. vit_jax has the older names of `OLDER`.
"""

import re
from collections.abc import Mapping

import numpy as np

WORDS = "big_vision's names, where GELU is its tanh formula and here exact"
BLOCK = "Transformer/encoderblock_{i}"
TABLE = {
    "cls": "cls_token",
    "pos_embedding": "pos_embed",
    "embedding/{leaf}": "patch_embed/{leaf}",
    f"{BLOCK}/LayerNorm_0/{{leaf}}": "blocks_{i}/norm1/{leaf}",
    f"{BLOCK}/MultiHeadDotProductAttention_0/qkv/{{leaf}}": "blocks_{i}/attn/qkv/{leaf}",
    f"{BLOCK}/MultiHeadDotProductAttention_0/out/{{leaf}}": "blocks_{i}/attn/proj/{leaf}",
    f"{BLOCK}/LayerNorm_1/{{leaf}}": "blocks_{i}/norm2/{leaf}",
    f"{BLOCK}/MlpBlock_0/Dense_0/{{leaf}}": "blocks_{i}/mlp/fc1/{leaf}",
    f"{BLOCK}/MlpBlock_0/Dense_1/{{leaf}}": "blocks_{i}/mlp/fc2/{leaf}",
    "Transformer/encoder_norm/{leaf}": "norm/{leaf}",
    "head/{leaf}": "head/{leaf}",
}
OLDER = {
    "Transformer/posembed_input/": "",
    "/LayerNorm_2/": "/LayerNorm_1/",
    "/MultiHeadDotProductAttention_1/": "/MultiHeadDotProductAttention_0/",
    "/MlpBlock_3/": "/MlpBlock_0/",
}
PREFIXES = ("opt/target/", "params/", "img/")  # in this order, each where every weight has it


def is_layout(names: list[str]) -> bool:
    """Whether these are the names of such a file."""
    return any("Transformer/" in name or name.endswith("embedding/kernel") for name in names)


def to_ours(
    state: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Our flat parameters ("blocks_0/norm1/scale") and the arrays that have no place among them.

    Raises ValueError for a model that pools by attention (`MAPHead_0`).
    """
    named = plain(state)
    if any(name.startswith("MAPHead") for name in named):
        raise ValueError("it pools by attention (MAPHead_0), and our models by token or mean")
    ours, unknown = {}, {}
    for name, value in named.items():
        index = re.search(r"encoderblock_(\d+)/", name)
        leaf = name.rpartition("/")[2]
        generic = re.sub(r"encoderblock_\d+", "encoderblock_{i}", name)
        key = generic if generic in TABLE else generic.removesuffix(leaf) + "{leaf}"
        if key in TABLE:
            ours[TABLE[key].format(i=index[1] if index else "", leaf=leaf)] = value
        else:
            unknown[name] = value
    return ours, unknown


def plain(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without prefixes and older names, one entry a block, query, key and value joined."""
    for prefix in PREFIXES:
        inside = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        state = inside if is_layout(list(inside)) else state
    named: dict[str, np.ndarray] = {}
    for name, value in state.items():
        for old, new in OLDER.items():
            name = name.replace(old, new)
        if name.startswith("Transformer/encoderblock/"):  # stacked, for a scan
            for i, layer in enumerate(value):
                named[name.replace("encoderblock/", f"encoderblock_{i}/")] = layer
        else:
            named[name] = value
    for query in [name for name in named if "/query/" in name]:
        parts = [query.replace("/query/", f"/{part}/") for part in ("query", "key", "value")]
        if all(part in named for part in parts):
            # Kernels (D, H, d) to (D, 3, H, d), biases (H, d) to (3, H, d).
            joined = np.stack([named.pop(part) for part in parts], axis=-3)
            named[query.replace("/query/", "/qkv/")] = joined
    return named
