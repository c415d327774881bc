"""ViT-Ti/16 pre-trained on VisualAtom-1k: sinusoidal contours, drawn at 512 pixels.

    python -m jaxfdsl.main --config=configs/vitti_visualatom1k.py --workdir=runs/vitti_visualatom1k

Cost: 300 epochs of 1M drawn images at batch 256, 1,171,875 steps, 2.3e18 FLOP; not yet run here.
`--config.data.sources.visualatom.size=224` draws at the size of training, which is not published.
Published (Takashima et al., CVPR 2023; fine-tuned 1000 epochs): CIFAR-10 97.6, CIFAR-100 84.9,
ImageNet-100 90.3, against 78.3, 57.7 and 73.2 from scratch; ImageNet-1k 74.2 against 72.6.

AdamW, 1e-3, weight decay .05, warm-up of 5,000 steps from 1e-6, cosine to 1e-5, drop path .1, label
smoothing .1, random resized crop .08-1, ImageNet mean and deviation. The length for 1,000 classes
is not published; it is that of ExFractalDB-1k.
Still to come of the published recipe: RandAugment (rand-m9-mstd0.5-inc1), mixup .8 and cutmix 1.0
(switch .5), random erasing .25 (pixel), colour jitter .4, repeated augmentation x3.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c


def get_config() -> ConfigDict:
    config = c.default_config()
    config.batch_size = 256
    config.epochs = 300
    config.log_every = 200
    config.eval_every = 20_000
    config.checkpoint_every = 5_000
    config.model.update(variant="vit_ti", patch_size=16, image_size=224, drop_path=0.1)
    config.optimizer.update(name="adamw", learning_rate=1e-3, weight_decay=0.05)
    config.schedule.update(name="cosine", warmup_steps=5000, warmup_from=1e-6, final=1e-5)
    config.objective.classify.label_smoothing = 0.1
    config.augment.update(crop="random_resized", crop_scale=(0.08, 1.0), flip_lr=False)
    sources = config.data.sources
    sources.visualatom = c.formula_source("visualatom-1k")
    config.evals.held_out = c.accuracy_eval(c.held_out(sources.visualatom), num_examples=10_000)
    return config
