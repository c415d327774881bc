"""ViT-B/16 pre-trained on SegRCDB: every pixel of 118,000 drawn scenes has a class.

    python -m jaxfdsl.main --config=configs/segrcdb.py --workdir=runs/segrcdb

Cost: 300 epochs of 118,000 scenes of 512 pixels at batch 32, 1,106,250 steps, 2.3e19 FLOP: about
16 H100 hours at 40 % utilisation, computed and not yet run here. `patch_head` is new for every
task, the rest starts another run with --config.init_from=runs/segrcdb.
Published (Shinoda et al., ICCV 2023; UPerNet with Swin-B): mIoU of 43.85 on ADE20k and 73.06 on
Cityscapes, against 31.40 and 54.65 from scratch and 43.39 and 72.21 from COCO-Stuff-118k.

As published: masks of drawn lines (--config.data.sources.segrcdb.options.masks=M2 or M3 for rings
and insides), 254 classes and the background, AdamW, 6e-4, weight decay .01, warm-up of 1,500 steps
from 6e-10, drop path .3, crops of a quarter of the scene to all of it, horizontal flips, batch of
4 on each of 8 GPUs. Not as published: a ViT with one linear map of each patch (Segmenter's decoder)
in place of UPerNet on Swin-B and its second head; cosine in place of a straight line to 0; scenes
are not shrunk by up to half; no photometric distortion.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c


def get_config() -> ConfigDict:
    config = c.default_config()
    config.batch_size = 32
    config.epochs = 300
    config.log_every = 100
    config.eval_every = 20_000
    config.checkpoint_every = 5_000
    config.model.update(variant="vit_b", patch_size=16, image_size=512, pool="mean", drop_path=0.3)
    config.optimizer.update(name="adamw", learning_rate=6e-4, weight_decay=0.01)
    config.schedule.update(name="cosine", warmup_steps=1500, warmup_from=6e-10, final=0.0)
    config.objective.classify.weight = 0.0
    config.objective.segment.weight = 1.0
    config.augment.update(
        crop="random_resized", crop_scale=(0.25, 1.0), crop_ratio=(1.0, 1.0), flip_lr=True
    )
    sources = config.data.sources
    sources.segrcdb = c.formula_source("segrcdb", options={"masks": "M1"})
    config.evals.held_out = c.segmentation_eval(c.held_out(sources.segrcdb), num_examples=2048)
    return config
