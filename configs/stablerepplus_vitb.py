"""StableRep+: ViT-B/16 on made images, which find each other and their captions.

    python -m jaxfdsl.main --config=configs/stablerepplus_vitb.py:cc12m --workdir=runs/plus
    jaxfdsl evaluate runs/plus --data tfds:imagenet2012 --evals linear_probe,zero_shot --names FILE

The sum of StableRep's contrast and CLIP's two cross-entropies, weight 1 each, on the recipe of
configs/stablerep_vitb_cc12m.py. NAME is cc12m (the default) or redcaps, 1x of those recipes with
m = 6, or a row of the scaling with captions of LAION, 2 images of each, both in the batch of 8,192:
laion-1m, laion-3m, laion-10m, laion-20m, laion-50m, each from a store stores/laion-1m-w2 and so on.
Captions are read as CLIP does with --config.objective.align.tokenizer=tokenizer.json (its file);
without it they are bytes, of which the first 75 count.
Cost: 109,012 steps of cc12m, 9.8e19 FLOP: 69 H200 hours at 40 % of its peak (configs/README.md),
computed and not yet run here. The length of the published LAION runs is not known to us; here it is
109,000 steps, 72 hours.

Published (the authors' README), linear probe on ImageNet-1k, and with batch norm before it:
    cc12m      74.4, 74.3
    redcaps    75.4, 75.4
    laion-1m   63.2
    laion-3m   69.6
    laion-10m  73.5
    laion-20m  73.9
    laion-50m  74.1
CLIP on the real images of the same captions: configs/clip_vitb.py.

Made images inherit their generator's data, biases and licence: see the store's data card.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import stablerep_vitb_cc12m, stablerep_vitb_redcaps

LAION = ("laion-1m", "laion-3m", "laion-10m", "laion-20m", "laion-50m")
NAMES = ("cc12m", "redcaps", *LAION)


def get_config(name: str = "cc12m") -> ConfigDict:
    base = stablerep_vitb_redcaps if name == "redcaps" else stablerep_vitb_cc12m
    config = base.get_config()
    config.objective.align.weight = 1.0
    if name in LAION:
        config.update(batch_size=8192, steps=109_000)
        config.data.group_size = 2
        config.data.sources.images = c.store_source(f"stores/{name}-w2", size=256)
    return config
