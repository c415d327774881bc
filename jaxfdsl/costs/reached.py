"""Which share of a device's peak a training step is expected to reach (model FLOP utilisation)."""

import dataclasses

from jaxfdsl.models import denoiser, vit

# By width of the trunk. Assumed for accelerators: small models wait for memory. For a processor
# against the matrix products that it was seen to reach: RESULTS.md, Training.
ACCELERATOR = {192: 0.2, 384: 0.3, 768: 0.4}
PROCESSOR = {128: 0.34, 192: 0.38, 384: 0.56, 768: 0.67, 1024: 0.52}
TINY = 0.045  # of an accelerator for images of FEW tokens, as those of 32 pixels
FEW = 65


@dataclasses.dataclass(frozen=True)
class Share:
    """A share of the peak, and where it is from."""

    value: float
    origin: str


def expected(design: vit.Design | denoiser.Design, platform: str) -> Share:
    """What a model is expected to reach on "tpu", "gpu" or "cpu"."""
    if platform == "cpu":
        return Share(_at(PROCESSOR, design.size.width), "RESULTS.md")
    return Share(TINY if design.tokens <= FEW else _at(ACCELERATOR, design.size.width), "assumed")


def _at(table: dict[int, float], width: int) -> float:
    """The value of the greatest known width that is not above `width`."""
    return table[max([w for w in table if w <= width], default=min(table))]
