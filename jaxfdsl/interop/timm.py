"""Our parameters under timm's `vit_*` names, and back: one table, read in both directions.

timm: https://github.com/huggingface/pytorch-image-models, `timm/models/vision_transformer.py`.
With mean pooling the last norm is timm's `fc_norm`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxfdsl.models.blocks import unstack_blocks
from jaxfdsl.models.heads import OURS_ALONE

FILE = "model.safetensors"  # the name that timm and the Hugging Face hub look for


class Row(NamedTuple):
    """A parameter under both names; `to` and `back` map the arrays, `back` given the head count."""

    ours: str
    timm: str
    to: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray, int], np.ndarray]


def _same(x: np.ndarray, heads: int = 0) -> np.ndarray:
    return x


def _transpose(x: np.ndarray, heads: int = 0) -> np.ndarray:
    return x.T


def _qkv(x: np.ndarray) -> np.ndarray:
    return x.reshape(x.shape[0], -1).T


def _qkv_back(x: np.ndarray, heads: int) -> np.ndarray:
    return x.T.reshape(x.shape[1], 3, heads, -1)


def _block(ours: str, timm: str, to: Callable = _same, back: Callable = _same) -> Row:
    return Row(f"blocks_{{i}}/{ours}", f"blocks.{{i}}.{timm}", to, back)


TABLE = (
    Row("cls_token", "cls_token", _same, _same),
    Row("pos_embed", "pos_embed", _same, _same),
    Row(
        "patch_embed/kernel",
        "patch_embed.proj.weight",
        lambda x: x.transpose(3, 2, 0, 1),
        lambda x, heads: x.transpose(2, 3, 1, 0),
    ),
    Row("patch_embed/bias", "patch_embed.proj.bias", _same, _same),
    _block("norm1/scale", "norm1.weight"),
    _block("norm1/bias", "norm1.bias"),
    _block("attn/qkv/kernel", "attn.qkv.weight", _qkv, _qkv_back),
    _block(
        "attn/qkv/bias",
        "attn.qkv.bias",
        lambda x: x.reshape(-1),
        lambda x, heads: x.reshape(3, heads, -1),
    ),
    _block(
        "attn/proj/kernel",
        "attn.proj.weight",
        lambda x: x.reshape(-1, x.shape[-1]).T,
        lambda x, heads: x.T.reshape(heads, -1, x.shape[0]),
    ),
    _block("attn/proj/bias", "attn.proj.bias"),
    _block("norm2/scale", "norm2.weight"),
    _block("norm2/bias", "norm2.bias"),
    _block("mlp/fc1/kernel", "mlp.fc1.weight", _transpose, _transpose),
    _block("mlp/fc1/bias", "mlp.fc1.bias"),
    _block("mlp/fc2/kernel", "mlp.fc2.weight", _transpose, _transpose),
    _block("mlp/fc2/bias", "mlp.fc2.bias"),
    Row("norm/scale", "norm.weight", _same, _same),
    Row("norm/bias", "norm.bias", _same, _same),
    Row("head/kernel", "head.weight", _transpose, _transpose),
    Row("head/bias", "head.bias", _same, _same),
)


def to_timm(params: Mapping) -> dict[str, np.ndarray]:
    """Our parameters, blocks stacked or not, as timm's flat state dict of contiguous arrays; the
    heads that timm's models lack are left out.
    """
    flat = flatten({k: v for k, v in unstack_blocks(params).items() if k not in OURS_ALONE})
    pooled = "cls_token" not in flat
    state = {}
    for name, value in flat.items():
        row, i = _find(name, "ours")
        key = row.timm.format(i=i)
        key = f"fc_{key}" if pooled and key.startswith("norm.") else key
        state[key] = np.ascontiguousarray(row.to(np.asarray(value)))
    return state


def from_timm(state: Mapping[str, np.ndarray], num_heads: int) -> dict:
    """timm's flat state dict as our nested parameters, one `blocks_{i}` a block.

    Raises ValueError that lists every name that the table does not have.
    """
    flat, unknown = to_ours(state, num_heads)
    if unknown:
        raise ValueError(f"not parameters of a timm vit_* model: {listed(unknown)}.")
    return nested(flat)


def to_ours(
    state: Mapping[str, np.ndarray], num_heads: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Our flat parameters ("blocks_0/norm1/scale") and, by their own names, the arrays that have
    no place among them; one that does not divide into the heads is left as it is.
    """
    ours: dict[str, np.ndarray] = {}
    unknown = {}
    for name, value in state.items():
        try:
            row, i = _find(re.sub(r"^fc_norm\.", "norm.", name), "timm")
        except KeyError:
            unknown[name] = value
            continue
        try:
            ours[row.ours.format(i=i)] = row.back(value, num_heads)
        except (ValueError, IndexError):
            ours[row.ours.format(i=i)] = value
    return ours, unknown


def folded(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state dict of DINOv2 or DeiT III as a plain ViT's: LayerScale (`ls1.gamma`, `gamma_1`) is
    multiplied into the linear map before it, and the mask token, which takes no part, left out.

    Raises ValueError for registers and distillation, whose tokens our models do not have.
    """
    tokens = {"register_tokens", "reg_token", "dist_token"} & set(state)
    if tokens:
        raise ValueError(f"it has tokens that our models do not have ({', '.join(sorted(tokens))})")
    plain = {n: x for n, x in state.items() if n != "mask_token"}
    # In the files that DINOv2's training writes, blocks lie in chunks.
    plain = {re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", n): x for n, x in plain.items()}
    for name in list(plain):
        found = re.fullmatch(r"(blocks\.\d+)\.(?:ls(\d)\.gamma|gamma_(\d))", name)
        if not found:
            continue
        linear = f"{found[1]}.{'attn.proj' if (found[2] or found[3]) == '1' else 'mlp.fc2'}"
        kernel, bias = (plain.get(f"{linear}.{leaf}") for leaf in ("weight", "bias"))
        gamma = plain[name]
        if kernel is None or bias is None or not gamma.shape == bias.shape == kernel.shape[:1]:
            continue  # listed as a name that has no place
        del plain[name]
        plain[f"{linear}.weight"], plain[f"{linear}.bias"] = kernel * gamma[:, None], bias * gamma
    return plain


def listed(names: Iterable[str]) -> str:
    """The names in order; those of later blocks are counted behind the first one's."""
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(re.sub(r"\d+(?=[./])", "{i}", name), []).append(name)
    more = {members[0]: len(members) - 1 for members in groups.values()}
    return ", ".join(f"{name} (and {n} like it)" if n else name for name, n in more.items())


def _find(name: str, side: str) -> tuple[Row, str]:
    generic = re.sub(r"^(blocks[_.])\d+", r"\1{i}", name)
    index = re.match(r"blocks[_.](\d+)", name)
    for row in TABLE:
        if getattr(row, side) == generic:
            return row, index[1] if index else ""
    raise KeyError(name)


def flatten(tree: Mapping, prefix: str = "") -> dict[str, Any]:
    """Nested parameters by their paths, "blocks_0/norm1/scale"."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inside = isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}/") if inside else {f"{prefix}{name}": value}
    return flat


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    params: dict[str, Any] = {}
    for name, value in flat.items():
        *path, leaf = name.split("/")
        node = params
        for part in path:
            node = node.setdefault(part, {})
        node[leaf] = value
    return params
