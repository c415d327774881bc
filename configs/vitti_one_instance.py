"""ViT-Ti/16 pre-trained on a thousand images: 2D-OFDB, 3D-OFDB or 1p-frac.

    python -m jaxfdsl.main --config=configs/vitti_one_instance.py:ofdb2d-1k --workdir=runs/ofdb2d

The argument is ofdb2d-1k (the default), ofdb3d-1k or 1p-frac; for the 21k sets take batch 1024 and
300k steps (--config.batch_size=1024 --config.steps=300000).
Cost: 240,000 steps of batch 256, as published (80,000 epochs of three steps); 4.7e17 FLOP, not yet
run here. One image a class (12 views of one model in 3D-OFDB), drawn anew in every step.
Published (fine-tuned 1000 epochs on CIFAR-100): 2D-OFDB-1k 84.0 and 3D-OFDB-1k 83.8 (Nakamura et
al., ICCV 2023), 1p-frac 84.2 (Nakamura et al., ECCV 2024), against 57.7 from scratch.

AdamW, 5e-4, weight decay .05, warm-up of 5 epochs (15 steps), cosine, drop path .1, label smoothing
.1, random resized crop .08-1, flips left-right and up-down, mean and deviation .5.
Still to come of the published recipe: RandAugment (rand-m9-mstd0.5-inc1), mixup .8 and cutmix 1.0
(switch .5), random erasing .5 (pixel), colour jitter .4.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c

HALF = (0.5, 0.5, 0.5)


def get_config(name: str = "ofdb2d-1k") -> ConfigDict:
    config = c.default_config()
    config.batch_size = 256
    config.steps = 240_000
    config.log_every = 200
    config.eval_every = 20_000
    config.checkpoint_every = 5_000
    config.model.update(variant="vit_ti", patch_size=16, image_size=224, drop_path=0.1)
    config.optimizer.update(name="adamw", learning_rate=5e-4, weight_decay=0.05)
    config.schedule.update(name="cosine", warmup_steps=15, warmup_from=1e-6, final=1e-5)
    config.objective.classify.label_smoothing = 0.1
    config.augment.update(crop="random_resized", crop_scale=(0.08, 1.0), flip_lr=True, flip_ud=True)
    config.augment.update(mean=HALF, std=HALF)
    config.data.sources.images = c.formula_source(name)
    return config
