"""ViT-Ti/16 pre-trained on 21,000 categories of 1,000 images.

    python -m jaxfdsl.main --config=configs/vitti_21k.py:visualatom --workdir=runs/vitti_21k

NAME is fractaldb, exfractaldb (the default), rcdb or visualatom.
Cost: 90 epochs of 21M drawn images (1.9 billion), 1.4e19 FLOP: 20 H200 hours at 20 % of its peak
(configs/README.md; so small a model is bound by memory traffic, and by the drawing), computed and
not yet run here.

Published, top-1 after fine-tuning on ImageNet-1k at 224 pixels; 72.6 from scratch, 74.1 from
ImageNet-21k:
    fractaldb    73.0 (Kataoka et al., CVPR 2022)
    exfractaldb  73.6 (CVPR 2022)
    rcdb         73.1 (CVPR 2022; 72.8 in CVPR 2023)
    visualatom   73.8 (Takashima et al., CVPR 2023)
With 50,000 categories (`--config.data.sources.images.name=rcdb-50k`; the length is not known to us)
FractalDB 73.4, ExFractalDB 73.7, RCDB 73.4.

Recipe of configs/vitb_21k.py.
"""

from ml_collections import ConfigDict

from jaxfdsl.configs import vitb_21k

NAMES = vitb_21k.NAMES


def get_config(name: str = "exfractaldb") -> ConfigDict:
    config = vitb_21k.get_config(name)
    config.model.variant = "vit_ti"
    return config
