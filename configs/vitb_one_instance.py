"""ViT-B/16 pre-trained on one image a category.

    python -m jaxfdsl.main --config=configs/vitb_one_instance.py:ofdb3d-21k --workdir=runs/ofdb3d

NAME is ofdb2d-1k, ofdb3d-1k, 1p-frac, ofdb2d-21k or ofdb3d-21k (the default).
Cost: 1,000 categories, 240,000 steps of batch 256, 6.5e18 FLOP: 4.5 H200 hours at 40 % of its peak;
21,000, 300,000 steps of batch 1024, 3.2e19 FLOP: 23 hours (configs/README.md), computed and not yet
run here. Published: 1,088 V100 hours for the latter, against 5,120 for ExFractalDB-21k.

Published, top-1 after fine-tuning on ImageNet-1k at 224 pixels; 79.8 from scratch, 81.8 from
ImageNet-21k and 81.1 from 21,000 real images, one a class:
    ofdb2d-1k   none for this size
    ofdb3d-1k   none for this size
    1p-frac     82.1 (Nakamura et al., ECCV 2024; from notes of the paper, not from its table)
    ofdb2d-21k  82.2 (Nakamura et al., ICCV 2023)
    ofdb3d-21k  82.7 (ICCV 2023)

Recipe of configs/vitti_one_instance.py.
"""

from ml_collections import ConfigDict

from jaxfdsl.configs import vitti_one_instance

NAMES = vitti_one_instance.NAMES


def get_config(name: str = "ofdb3d-21k") -> ConfigDict:
    config = vitti_one_instance.get_config(name)
    config.model.variant = "vit_b"
    return config
