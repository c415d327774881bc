"""Sizes of trunks: ViT as timm names them, DiT as its paper does, and free ones on top of them."""

import dataclasses
import difflib


@dataclasses.dataclass(frozen=True)
class Variant:
    """A trunk's size: `width` D, `depth` blocks, `num_heads` heads of D / num_heads channels."""

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float = 4.0


# Ti and S: Touvron et al., arXiv 2012.12877, table 1. B, L, H: Dosovitskiy et al., arXiv
# 2010.11929, table 1. g: Zhai et al., arXiv 2106.04560, table 2. H and g come with patches of 14.
VARIANTS = {
    "vit_ti": Variant(192, 12, 3),
    "vit_s": Variant(384, 12, 6),
    "vit_b": Variant(768, 12, 12),
    "vit_l": Variant(1024, 24, 16),
    "vit_h": Variant(1280, 32, 16),
    "vit_g": Variant(1408, 40, 16, 48 / 11),
}
# Denoisers: Peebles and Xie, arXiv 2212.09748, table 1.
DENOISERS = {
    "dit_s": Variant(384, 12, 6),
    "dit_b": Variant(768, 12, 12),
    "dit_l": Variant(1024, 24, 16),
    "dit_xl": Variant(1152, 28, 16),
}

_HEAD_WIDTH = 64


def resolve(
    name: str, width: int = 0, depth: int = 0, num_heads: int = 0, mlp_ratio: float = 0.0
) -> Variant:
    """Returns the variant `name` with every non-zero argument in place of its own value.

    A width without a number of heads gets heads of 64 channels, as Ti, S, B and L have.
    Raises ValueError for an unknown name and for heads that do not divide the width.
    """
    known = VARIANTS | DENOISERS
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1) or list(known)
        raise ValueError(f"model.variant={name!r} is not known: type {' or '.join(close)}.")
    base = known[name]
    num_heads = num_heads or (max(width // _HEAD_WIDTH, 1) if width else base.num_heads)
    width = width or base.width
    if width % num_heads:
        raise ValueError(
            f"model.width={width} cannot be split into {num_heads} heads: "
            f"type --config.model.num_heads=N with N a divisor of {width}."
        )
    return Variant(width, depth or base.depth, num_heads, mlp_ratio or base.mlp_ratio)
