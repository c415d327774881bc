"""Names of published encoders' arrays, one table a family and layout, and what each becomes.

transformers: https://github.com/huggingface/transformers, `models/{dinov2, dinov2_with_registers,
dinov3_vit, clip, siglip}`. DINOv2's own files: https://github.com/facebookresearch/dinov2 (timm has
the same names). SigLIP's own: https://github.com/google-research/big_vision, `models/vit.py`.
"""

import dataclasses
from typing import NamedTuple


class Row(NamedTuple):
    """An array under both names. `shape` has a letter for a size that several arrays share, as it
    lies with us (inputs before outputs): D width, H hidden, N positions, R registers, p patch.
    """

    theirs: str
    ours: str
    shape: str
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Layout:
    """How the files of a family name their arrays. `mark` begins a name that no other family has;
    `prefixes` are taken off names, which then fit `ignored` or a row. `resize` is how positions
    come to another number of patches: "cubic", "antialiased", "offset" (see `positions`), or ""
    where there are none or the published model takes one image size.
    """

    family: str
    mark: str
    rows: tuple[Row, ...]
    prefixes: tuple[str, ...] = ()
    ignored: str = "$."
    resize: str = ""
    flax: bool = False  # arrays lie as ours do, heads on an axis of their own


def _norm(theirs: str, ours: str) -> list[Row]:
    pairs = (("weight", "scale"), ("bias", "bias"))
    return [Row(f"{theirs}.{leaf}", f"{ours}/{our_leaf}", "D") for leaf, our_leaf in pairs]


def _linear(theirs: str, ours: str, shape: str = "D D", *, optional: bool = False) -> list[Row]:
    """`optional`: the bias may be absent, and is zero then."""
    return [
        Row(f"{theirs}.weight", f"{ours}/kernel", shape),
        Row(f"{theirs}.bias", f"{ours}/bias", shape.split()[1], optional),
    ]


def _qkv(before: str, parts: str, *, optional: bool = False) -> list[Row]:
    return [
        row
        for part, ours in zip(parts.split(), "qkv", strict=True)
        for row in _linear(f"{before}.{part}", f"blocks/{ours}", optional=optional)
    ]


_MLP = {
    "plain": [("fc1", "fc1", "D H"), ("fc2", "fc2", "H D")],
    # SwiGLU: silu(x gate) (x up); in one map the gate comes first.
    "joined": [("weights_in", "fc1", "D 2H"), ("weights_out", "fc2", "H D")],
    "w12": [("w12", "fc1", "D 2H"), ("w3", "fc2", "H D")],
    "apart": [("gate_proj", "gate", "D H"), ("up_proj", "up", "D H"), ("down_proj", "fc2", "H D")],
    "up": [("up_proj", "fc1", "D H"), ("down_proj", "fc2", "H D")],
}


def _mlp(block: str, kind: str) -> list[Row]:
    return [
        row
        for theirs, ours, shape in _MLP[kind]
        for row in _linear(f"{block}.mlp.{theirs}", f"blocks/{ours}", shape)
    ]


def _scale(theirs: str, ours: str) -> Row:
    return Row(theirs, f"blocks/{ours}", "D")  # LayerScale, folded into the map before it


def _dinov2(mlp: str, registers: bool) -> Layout:
    block = "encoder.layer.{i}"
    rows = [
        Row("embeddings.cls_token", "cls_token", "D"),
        Row("embeddings.position_embeddings", "positions", "N D"),
        Row("embeddings.patch_embeddings.projection.weight", "patch/kernel", "p p 3 D"),
        Row("embeddings.patch_embeddings.projection.bias", "patch/bias", "D"),
        *_norm(f"{block}.norm1", "blocks/norm1"),
        *_qkv(f"{block}.attention.attention", "query key value", optional=True),
        *_linear(f"{block}.attention.output.dense", "blocks/proj"),
        _scale(f"{block}.layer_scale1.lambda1", "scale1"),
        *_norm(f"{block}.norm2", "blocks/norm2"),
        *_mlp(block, mlp),
        _scale(f"{block}.layer_scale2.lambda1", "scale2"),
        *_norm("layernorm", "norm"),
    ]
    if registers:
        rows.append(Row("embeddings.register_tokens", "registers", "R D"))
    return Layout(
        "dinov2",
        "encoder.layer.0.layer_scale1.",
        tuple(rows),
        prefixes=("dinov2.", "dinov2_with_registers."),
        ignored=r"embeddings\.mask_token|classifier\..*",
        resize="antialiased" if registers else "cubic",
    )


def _dinov2_own(mlp: str, registers: str) -> Layout:
    rows = [
        Row("cls_token", "cls_token", "D"),
        Row("pos_embed", "positions", "N D"),
        Row("patch_embed.proj.weight", "patch/kernel", "p p 3 D"),
        Row("patch_embed.proj.bias", "patch/bias", "D"),
        *_norm("blocks.{i}.norm1", "blocks/norm1"),
        *_linear("blocks.{i}.attn.qkv", "blocks/qkv", "D 3D", optional=True),
        *_linear("blocks.{i}.attn.proj", "blocks/proj"),
        _scale("blocks.{i}.ls1.gamma", "scale1"),
        *_norm("blocks.{i}.norm2", "blocks/norm2"),
        *_mlp("blocks.{i}", mlp),
        _scale("blocks.{i}.ls2.gamma", "scale2"),
        *_norm("norm", "norm"),
    ]
    if registers:
        rows.append(Row(registers, "registers", "R D"))
    return Layout(
        "dinov2",
        "blocks.0.ls1.",
        tuple(rows),
        prefixes=("module.", "backbone."),
        ignored=r"mask_token|dino_head\..*|ibot_head\..*",
        resize="antialiased" if registers else "offset",
    )


def _dinov3(mlp: str) -> Layout:
    rows = (
        Row("embeddings.cls_token", "cls_token", "D"),
        Row("embeddings.register_tokens", "registers", "R D", optional=True),
        Row("embeddings.patch_embeddings.weight", "patch/kernel", "p p 3 D"),
        Row("embeddings.patch_embeddings.bias", "patch/bias", "D"),
        *_norm("layer.{i}.norm1", "blocks/norm1"),
        *_qkv("layer.{i}.attention", "q_proj k_proj v_proj", optional=True),
        *_linear("layer.{i}.attention.o_proj", "blocks/proj", optional=True),
        _scale("layer.{i}.layer_scale1.lambda1", "scale1"),
        *_norm("layer.{i}.norm2", "blocks/norm2"),
        *_mlp("layer.{i}", mlp),
        _scale("layer.{i}.layer_scale2.lambda1", "scale2"),
        *_norm("norm", "norm"),
    )
    return Layout(
        "dinov3",
        "layer.0.layer_scale1.",
        rows,
        prefixes=("model.",),  # in memory, since version 5 of transformers
        ignored=r"embeddings\.mask_token",
    )


_LAYERS = "encoder.layers.{i}"
_CLIP_BLOCK = (
    *_norm(f"{_LAYERS}.layer_norm1", "blocks/norm1"),
    *_qkv(f"{_LAYERS}.self_attn", "q_proj k_proj v_proj"),
    *_linear(f"{_LAYERS}.self_attn.out_proj", "blocks/proj"),
    *_norm(f"{_LAYERS}.layer_norm2", "blocks/norm2"),
    *_mlp(_LAYERS, "plain"),
)
_BESIDE = r"text_model\..*|text_projection\..*|logit_(scale|bias)|.*position_ids"

CLIP = Layout(
    "clip",
    "pre_layrnorm.",
    (
        Row("embeddings.class_embedding", "cls_token", "D"),
        Row("embeddings.position_embedding.weight", "positions", "N D"),
        Row("embeddings.patch_embedding.weight", "patch/kernel", "p p 3 D"),
        *_norm("pre_layrnorm", "norm_pre"),  # spelt so
        *_CLIP_BLOCK,
        *_norm("post_layernorm", "norm"),
        Row("visual_projection.weight", "projection/kernel", "D E", optional=True),
    ),
    prefixes=("vision_model.",),
    ignored=_BESIDE,
)
SIGLIP = Layout(
    "siglip",
    "head.probe",
    (
        Row("embeddings.position_embedding.weight", "positions", "N D"),
        Row("embeddings.patch_embedding.weight", "patch/kernel", "p p 3 D"),
        Row("embeddings.patch_embedding.bias", "patch/bias", "D"),
        *_CLIP_BLOCK,
        *_norm("post_layernorm", "norm"),
        Row("head.probe", "pool/probe", "D"),
        Row("head.attention.in_proj_weight", "pool/qkv/kernel", "D 3D"),
        Row("head.attention.in_proj_bias", "pool/qkv/bias", "3D"),
        *_linear("head.attention.out_proj", "pool/proj"),
        *_norm("head.layernorm", "pool/norm"),
        *_linear("head.mlp.fc1", "pool/fc1", "D H"),
        *_linear("head.mlp.fc2", "pool/fc2", "H D"),
    ),
    prefixes=("vision_model.",),
    ignored=_BESIDE,
)


def _siglip_own() -> Layout:
    """As `interop.big_vision.plain` leaves the names: one entry a block, the three maps joined."""
    rows = [
        Row("pos_embedding", "positions", "N D"),
        Row("embedding/kernel", "patch/kernel", "p p 3 D"),
        Row("embedding/bias", "patch/bias", "D"),
        Row("Transformer/encoder_norm/scale", "norm/scale", "D"),
        Row("Transformer/encoder_norm/bias", "norm/bias", "D"),
        Row("MAPHead_0/probe", "pool/probe", "D"),
    ]
    parts = {
        "MultiHeadDotProductAttention_0/qkv": ("qkv", "D 3D"),
        "MultiHeadDotProductAttention_0/out": ("proj", "D D"),
        "Dense_0": ("fc1", "D H"),
        "Dense_1": ("fc2", "H D"),
    }
    block, head = "Transformer/encoderblock_{i}/", "MAPHead_0/"
    for theirs, ours in ((block, "blocks/"), (head, "pool/")):
        for name, (part, shape) in parts.items():
            name = f"MlpBlock_0/{name}" if name.startswith("Dense") else name
            rows.append(Row(f"{theirs}{name}/kernel", f"{ours}{part}/kernel", shape))
            rows.append(Row(f"{theirs}{name}/bias", f"{ours}{part}/bias", shape.split()[1]))
    norms = ((block, 0, "blocks/norm1"), (block, 1, "blocks/norm2"), (head, 0, "pool/norm"))
    for theirs, number, ours in norms:
        for leaf in ("scale", "bias"):
            rows.append(Row(f"{theirs}LayerNorm_{number}/{leaf}", f"{ours}/{leaf}", "D"))
    return Layout(
        "siglip", "MAPHead_0/probe", tuple(rows), ignored=r"(params/)?(txt/.*|[tb])", flax=True
    )


LAYOUTS = (
    *(_dinov2(mlp, reg) for mlp in ("plain", "joined", "apart") for reg in (False, True)),
    *(
        _dinov2_own(mlp, reg)
        for mlp in ("plain", "w12")
        for reg in ("", "register_tokens", "reg_token")  # the last is timm's
    ),
    *(_dinov3(mlp) for mlp in ("up", "apart")),
    CLIP,
    SIGLIP,
    _siglip_own(),
)
