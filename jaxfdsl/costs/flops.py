"""FLOP of a ViT, counted by hand: a multiplication and an addition are two.

Matrix products alone, as is usual for model FLOP utilisation (Chowdhery et al., arXiv 2204.02311,
appendix B): XLA's own count of a program holds a scanned body once, whatever its length.
"""

from jaxfdsl.models.vit import Design


def forward(design: Design) -> float:
    """FLOP of one image through the model: patches, blocks, and every head."""
    size, tokens = design.size, design.tokens
    patches, hidden = design.side**2, int(design.size.width * design.size.mlp_ratio)
    embed = 2 * patches * 3 * design.patch_size**2 * size.width
    linear = 2 * tokens * size.width * (4 * size.width + 2 * hidden)  # qkv, proj, and the MLP
    attention = 4 * tokens**2 * size.width
    reads = {"head": 1, "patch_head": patches}
    heads = sum(2 * reads[name] * size.width * outputs for name, outputs in design.heads)
    return float(embed + size.depth * (linear + attention) + heads)


def training(design: Design) -> float:
    """FLOP of one image in a training step: the backward pass costs twice the forward one.

    What remat computes again is not counted, as it is no use of the model's.
    """
    return 3 * forward(design)
