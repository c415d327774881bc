"""StableRep: ViT-B/16 on images that Stable Diffusion made of CC12M's captions, no label.

    jaxfdsl generate --captions cc12m.txt --out stores/cc12m-w2 --images_per_caption 10 --guidance 2
    python -m jaxfdsl.main --config=configs/stablerep_vitb_cc12m.py:1x --workdir=runs/stablerep
    jaxfdsl evaluate runs/stablerep --data tfds:imagenet2012 --evals linear_probe,knn

Six of the ten images of each caption stand in a batch and are positives of each other. NAME:
    1x, 2x, 3x                    the default, and the longer schedules: every caption comes 15, 31
                                  and 46 times (10M captions assumed, 1,376 a step)
    1x-downsample, 3x-downsample  5 % of the images go to 64 or 128 pixels and back, which closes
                                  the gap to sets of small images
    m2, m3, m4, m8                so many images a caption, batch and steps of 1x
    w1.5, w2, w3, w4, w6, w8      guidance scales: each reads a store of its own, stores/cc12m-w1.5
                                  and so on, which `jaxfdsl generate --guidance` is to write before;
                                  w2 is 1x
Cost: 1x is 109,012 steps of 8,256 images, 9.5e19 FLOP: 67 H200 hours at 40 % of its peak
(configs/README.md), computed and not yet run here. The 100M images before it cost more: a review
of the paper tells of some 0.8 s each on an A100, 930 days of one.

Published (the authors' README), linear probe on ImageNet-1k, without and with batch norm before it:
    1x             72.8, 73.7
    1x-downsample  71.4, 73.5
    3x             75.7, 75.6
    3x-downsample  75.4, 75.2
As two reviews have it, small guidance (2 to 3) is best and more images a caption help; the scale of
the published run is not known to us, their command for images has 2. Their batch norm is
--config.model.projector.norm=batch; layer norm is the default here, as batch norm is told to have
made ViT-L diverge. Batch 8,256 is that of their command, 43 captions on each of 32 GPUs.

Made images inherit their generator's data, biases and licence: see the store's data card.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c

STEPS = {"1x": (109_012, 3_634), "2x": (225_291, 7_267), "3x": (334_302, 10_901)}  # and of warm-up
IMAGES = ("m2", "m3", "m4", "m8")
GUIDANCE = ("w1.5", "w2", "w3", "w4", "w6", "w8")
NAMES = (*STEPS, "1x-downsample", "3x-downsample", *IMAGES, *GUIDANCE)


def get_config(name: str = "1x") -> ConfigDict:
    config = c.default_config()
    config.batch_size = 8256
    schedule, _, downsample = name.partition("-")
    config.steps, warmup = STEPS.get(schedule, STEPS["1x"])
    config.log_every = 100
    config.checkpoint_every = 1_000
    config.model.update(variant="vit_b", patch_size=16, image_size=224, pool="token")
    config.optimizer.update(name="adamw", learning_rate=3.2e-3, weight_decay=0.1, b2=0.98)
    config.schedule.update(name="cosine", warmup_steps=warmup, final=0.0)
    config.augment.update(
        crop="random_resized", crop_scale=(0.08, 1.0), flip_lr=True, color_jitter=0.4,
        color_jitter_prob=0.8, hue=0.1, grayscale=0.2, blur=0.5,
        downsample=0.05 if downsample else 0.0,
    )  # fmt: skip
    config.objective.classify.update(weight=0.0, label_smoothing=0.0)
    config.objective.contrast.update(weight=1.0, temperature=0.1)
    config.data.group_size = int(name[1:]) if name in IMAGES else 6
    guidance = name if name in GUIDANCE else "w2"
    config.data.sources.images = c.store_source(f"stores/cc12m-{guidance}", size=256)
    return config
