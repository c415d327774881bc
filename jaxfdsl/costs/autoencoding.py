"""What an autoencoder costs, counted by hand: a multiplication and an addition are two FLOP."""

import math
import re

from jaxfdsl.models import autoencoder
from jaxfdsl.models.autoencoder import Design

# Arrays of the pixels' size and the first level's width that are alive at the peak of encoding, in
# float32: of XLA's program for Stable Diffusion's, on a CPU, at 256 pixels.
_ALIVE = 3


def encoding(design: Design, side: int) -> float:
    """FLOP of an image of `side` x `side` pixels to its latent."""
    return _counted(design, side, ("encoder", "quant_conv"))


def decoding(design: Design, side: int) -> float:
    """FLOP of a latent to an image of `side` x `side` pixels."""
    return _counted(design, side, ("decoder", "post_quant_conv"))


def work_bytes(design: Design, side: int, images: int) -> float:
    """Bytes at the peak of encoding so many images of `side` x `side` pixels."""
    return 4.0 * _ALIVE * design.widths[0] * side**2 * min(images, autoencoder.CHUNK)


def _counted(design: Design, side: int, parts: tuple[str, ...]) -> float:
    """Convolutions and linear maps at the places of their outputs, and attention over all pairs."""
    total = 0
    for path, shape in autoencoder.shapes(design).items():
        if path.partition("/")[0] in parts and path.endswith("/kernel"):
            total += 2 * math.prod(shape) * _side(path, design, side) ** 2
    return float(total + 4 * (side // design.factor) ** 4 * design.widths[-1])


def _side(path: str, design: Design, side: int) -> int:
    """Places along a side of what a convolution puts out."""
    small = side // design.factor
    if path in ("encoder/conv_in/kernel", "decoder/conv_out/kernel"):
        return side
    if level := re.search(r"/down_blocks/(\d+)/(\w+)", path):
        return side >> (int(level[1]) + (level[2] == "downsamplers"))
    if level := re.search(r"/up_blocks/(\d+)/(\w+)", path):
        return small << (int(level[1]) + (level[2] == "upsamplers"))
    return small
