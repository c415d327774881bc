"""ViT-B/16 pre-trained on 1,000 categories of 1,000 images.

    python -m jaxfdsl.main --config=configs/vitb_1k.py:rcdb --workdir=runs/vitb_rcdb1k

NAME is fractaldb, exfractaldb (the default), rcdb or visualatom.
Cost: 300 epochs of 1M drawn images at batch 256, 1,171,875 steps, 3.2e19 FLOP: 22 H200 hours at
40 % of its peak (configs/README.md), computed and not yet run here.

Published, top-1 after fine-tuning on ImageNet-1k at 224 pixels; 79.8 from scratch:
    fractaldb    none for this size
    exfractaldb  80.4 (Takashima et al., CVPR 2023)
    rcdb         82.3 (CVPR 2023)
    visualatom   82.3 (CVPR 2023)

Recipe of configs/vitti_1k.py, whose published script says so for ViT-Ti and ViT-B alike.
"""

from ml_collections import ConfigDict

from jaxfdsl.configs import vitti_1k

NAMES = vitti_1k.NAMES


def get_config(name: str = "exfractaldb") -> ConfigDict:
    config = vitti_1k.get_config(name)
    config.model.variant = "vit_b"
    return config
