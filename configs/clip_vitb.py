"""CLIP, the baseline of StableRep+: ViT-B/16 whose images find their captions.

    jaxfdsl store import laion --webdataset --out stores/laion-10m
    python -m jaxfdsl.main --config=configs/clip_vitb.py:laion-10m --workdir=runs/clip
    jaxfdsl evaluate runs/clip --data tfds:imagenet2012 --evals linear_probe,zero_shot --names FILE

One image a caption and no contrast among images. NAME is cc12m, cc12m-made (images of its captions
by Stable Diffusion, guidance 2), or laion-3m, laion-10m (the default), laion-20m, laion-50m: each a
store of that name, of real images but for cc12m-made.
Cost: 109,000 steps of 8,192 images and captions, 1.1e20 FLOP: 77 H200 hours at 40 % of its peak
(configs/README.md), computed and not yet run here.
The published length, batch and augmentation are not known to us: those of configs/
stablerepplus_vitb.py, but for crops of half of the image or more and nothing else. CLIP's tokenizer
is --config.objective.align.tokenizer=tokenizer.json; without it captions are bytes.

Published (StableRep's authors' README for LAION, reviews of the paper for CC12M), linear probe on
ImageNet-1k:
    cc12m       70.3; zero-shot 40.2
    cc12m-made  67.8; zero-shot 34.9
    laion-3m    60.6
    laion-10m   69.9
    laion-20m   71.5
    laion-50m   72.9
So made images are worse than real ones for CLIP alone.

Made images inherit their generator's data, biases and licence: see the store's data card.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import stablerep_vitb_cc12m

NAMES = ("cc12m", "cc12m-made", "laion-3m", "laion-10m", "laion-20m", "laion-50m")


def get_config(name: str = "laion-10m") -> ConfigDict:
    config = stablerep_vitb_cc12m.get_config()
    config.update(batch_size=8192, steps=109_000)
    config.augment.update(
        crop_scale=(0.5, 1.0), flip_lr=False, color_jitter=0.0, hue=0.0, grayscale=0.0, blur=0.0
    )
    config.objective.contrast.weight = 0.0
    config.objective.align.weight = 1.0
    config.data.group_size = 1
    store = {"cc12m-made": "cc12m-w2"}.get(name, name)
    config.data.sources.images = c.store_source(f"stores/{store}")
    return config
