"""The best CIFAR-10 accuracy from one GPU-hour in all, no real image before fine-tuning.

    python -m jaxfdsl.main --config=configs/speedrun_cifar10.py:pretrain --workdir=runs/speed_pre
    python -m jaxfdsl.main --config=configs/speedrun_cifar10.py:finetune --workdir=runs/speed \\
        --config.init_from=runs/speed_pre --config.data.data_dir=/data/tfds

NAME is pretrain, finetune (ViT-Ti, patches of 4 on 32 pixels), or pretrain_cpu, finetune_cpu (four
blocks of width 96), the same within one hour of one core: 128,000 drawn images at 7.2 ms and
384,000 real ones at 6.1 (measured, XLA on one thread). Leave init_from out to see what scratch
gives in the second part. `data_dir` holds cifar10 as TFDS prepares it.
Cost of the GPU's hour, computed for an H200 and not measured here: 2.2 GFLOP an image and step, at
20,000 images/s (4.5 % of its peak: so small a model waits for memory, for the drawing and for the
augmentation); 16M drawn images 13 min, 40M real ones (800 epochs) 33 min, and 14 min in reserve
for compiling, drawing and evaluation. Where the first hundred steps show another speed, scale steps
and schedule.warmup_steps of both by it. RESULTS.md keeps the table of what was reached.

Coloured FractalDB, of the families with new shapes the one learnt soonest at 32 pixels (weights
"uniform", hue by density), drawn at twice the size that is seen. Nothing was tuned on a GPU.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import deit

NAMES = ("pretrain", "finetune", "pretrain_cpu", "finetune_cpu")


def get_config(name: str = "pretrain") -> ConfigDict:
    config = c.default_config()
    config.model.update(patch_size=4, image_size=32, pool="mean")
    config.augment.flip_lr = True
    small = name.endswith("_cpu")
    if small:
        config.model.update(width=96, depth=4, num_heads=4)
        config.batch_size = 64
        config.checkpoint_every = 1_000
    else:
        config.batch_size = 512
        config.log_every = 200
        config.checkpoint_every = 5_000
    return _pretrain(config, small) if name.startswith("pretrain") else _finetune(config, small)


def _pretrain(config: ConfigDict, small: bool) -> ConfigDict:
    config.steps = 2_000 if small else 31_250
    config.optimizer.learning_rate = 2e-3 if small else 1e-3
    config.schedule.update(warmup_steps=config.steps // 20, final=1e-5)
    if not small:
        config.augment.update(crop="random_resized", crop_scale=(0.35, 1.0))
    options = {"weights": "uniform", "pattern": "point", "color": "density", "pad": 2}
    images = config.data.sources.images = c.formula_source(
        "fractaldb-1k",
        num_classes=100 if small else 1000,
        instances=0,
        size=64,
        options={**options, "num_points": 6_250},  # 200,000 x (64 / 362)^2
    )
    config.evals.held_out = c.accuracy_eval(c.held_out(images), num_examples=5_000)
    return config


def _finetune(config: ConfigDict, small: bool) -> ConfigDict:
    config.steps = 6_000 if small else 78_125
    config.optimizer.learning_rate = 1e-3
    config.schedule.update(warmup_steps=config.steps // 20, final=1e-6)
    if small:
        config.augment.update(crop="pad", crop_pad=4)
    else:
        deit.augment(config, erasing=0.25, flip="lr")
        config.augment.crop_scale = (0.35, 1.0)
        config.model.drop_path = 0.1
        config.optimizer.ema = 0.9998
        config.eval_every = 15_625
    where = {"data_dir": config.data.get_ref("data_dir"), "size": 32}
    config.data.sources.cifar10 = c.tfds_source("cifar10", split="train", **where)
    config.evals.test = c.accuracy_eval(
        c.tfds_source("cifar10", split="test", **where), batch_size=512
    )
    return config
