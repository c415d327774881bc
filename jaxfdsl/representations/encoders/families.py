"""The encoders whose published weights are read: what each is, and under whose terms.

What a folder's config.json and preprocessor_config.json say comes before what stands here.
"""

import dataclasses
from collections.abc import Mapping

from jaxfdsl.config import IMAGENET_MEAN, IMAGENET_STD


@dataclasses.dataclass(frozen=True)
class Family:
    """A published family of image encoders.

    `image_size` 0 is that of the learned positions. `heads` by width are those of the published
    sizes, for a file that lies without its config.json; `usual_heads` is what transformers takes
    where config.json says nothing.
    """

    name: str
    source: str
    kinds: tuple[str, ...]  # model_type in config.json
    licence: str
    layer: str
    pool: str  # as in `transformer.Design`
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    preparation: str  # how its authors bring an image to that size
    epsilon: float
    activation: str
    heads: Mapping[int, int]
    usual_heads: int
    rope_theta: float = 0.0


DINOV2 = Family(
    name="dinov2",
    source="Oquab et al., arXiv 2304.07193; registers: Darcet et al., arXiv 2309.16588",
    kinds=("dinov2", "dinov2_with_registers"),
    licence="Apache-2.0, code and weights",
    layer="class token behind the last norm",
    pool="token",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    image_size=224,
    preparation="shorter side to 256, bicubic, then the central 224",
    epsilon=1e-6,
    activation="gelu",
    heads={384: 6, 768: 12, 1024: 16, 1536: 24},
    usual_heads=12,
)
DINOV3 = Family(
    name="dinov3",
    source="Simeoni et al., arXiv 2508.10104",
    kinds=("dinov3_vit",),
    licence=(
        "DINOv3 License, Meta's own: commercial use under its conditions, and what is derived from "
        "the weights keeps it; read it before passing anything on"
    ),
    layer="class token behind the last norm",
    pool="token",
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    image_size=224,
    preparation="to 224 x 224, bilinear, without a crop",
    epsilon=1e-5,
    activation="gelu",
    heads={384: 6, 768: 12, 1024: 16, 1280: 20, 4096: 32},
    usual_heads=6,
    rope_theta=100.0,
)
CLIP = Family(
    name="clip",
    source="Radford et al., arXiv 2103.00020",
    kinds=("clip", "clip_vision_model"),
    licence="MIT for OpenAI's code; of its weights no licence is stated",
    layer="image embedding behind the projection, not of length 1",
    pool="projection",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
    image_size=0,
    preparation="shorter side to the image size, bicubic, then the central square",
    epsilon=1e-5,
    activation="quick_gelu",
    heads={768: 12, 1024: 16},
    usual_heads=12,
)
SIGLIP = Family(
    name="siglip",
    source="Zhai et al., arXiv 2303.15343; SigLIP 2: Tschannen et al., arXiv 2502.14786",
    kinds=("siglip", "siglip_vision_model"),
    licence="Apache-2.0",
    layer="attention-pooled head",
    pool="attention",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    image_size=0,
    preparation="to the image size, bicubic, without a crop",
    epsilon=1e-6,
    activation="gelu_pytorch_tanh",
    heads={768: 12, 1024: 16, 1152: 16, 1536: 16},
    usual_heads=12,
)
FAMILIES = {family.name: family for family in (DINOV2, DINOV3, CLIP, SIGLIP)}

PRE_LAYER = "class token before the last norm and the projection"  # what `clip:PATH:pre` gives
