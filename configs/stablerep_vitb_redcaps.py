"""StableRep: ViT-B/16 on images that Stable Diffusion made of RedCaps' captions, no label.

    jaxfdsl generate --captions redcaps.txt --out stores/redcaps-w2 --images_per_caption 10
    python -m jaxfdsl.main --config=configs/stablerep_vitb_redcaps.py:1x --workdir=runs/stablerep_rc
    jaxfdsl evaluate runs/stablerep_rc --data tfds:imagenet2012 --evals linear_probe,knn

NAME is 1x (the default), 2x or 3x: every caption comes 13, 27 and 40 times (11.6M captions assumed,
1,376 a step, six of ten images of each); 1x-downsample and 3x-downsample as in
configs/stablerep_vitb_cc12m.py, whose recipe this is.
Cost: 1x is 109,593 steps of 8,256 images, 9.6e19 FLOP: 67 H200 hours at 40 % of its peak
(configs/README.md), computed and not yet run here.

Published (the authors' README), linear probe on ImageNet-1k, without and with batch norm before it:
    1x             73.7, 74.6
    1x-downsample  73.4, 74.6
    3x             76.7, 76.6
    3x-downsample  76.4, 76.4

Made images inherit their generator's data, biases and licence: see the store's data card.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import stablerep_vitb_cc12m as cc12m

STEPS = {"1x": (109_593, 3_794), "2x": (227_616, 7_587), "3x": (337_209, 11_381)}
NAMES = (*STEPS, "1x-downsample", "3x-downsample")


def get_config(name: str = "1x") -> ConfigDict:
    config = cc12m.get_config(name)
    config.steps, config.schedule.warmup_steps = STEPS[name.partition("-")[0]]
    config.data.sources.images = c.store_source("stores/redcaps-w2", size=256)
    return config
