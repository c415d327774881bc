"""ViT-Ti/16 on CIFAR-10, from a pre-training run or from scratch.

    python -m jaxfdsl.main --config=configs/finetune_cifar10.py \\
        --config.data.data_dir=/data/tfds --config.init_from=runs/vitti_exfractal1k

`data_dir` holds `cifar10/` as TFDS prepares it (file_format="array_record"); nothing is downloaded.
`init_from` gives the weights alone: the head is new, and the position embedding is resized when
the token count differs. Leave it out to train from scratch.
Cost: 1000 epochs of 50,000 images at batch 768, 65,104 steps, 3.8e17 FLOP; not yet run here.
Published (ViT-Ti/16, 224 pixels): 78.3 from scratch, 96.8 after FractalDB-1k, 97.2 after
ExFractalDB-1k, 98.0 after ImageNet-1k (Kataoka et al., CVPR 2022).

SGD with momentum .9, learning rate .01 x batch / 512, weight decay 1e-4, warm-up of 10 epochs,
cosine, label smoothing .1, no drop path, random resized crop .08-1, horizontal flip.
Still to come of the published recipe: RandAugment (rand-m9-mstd0.5-inc1), mixup .8 and cutmix 1.0
(switch .5), colour jitter .4.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c

BATCH_SIZE = 768
SCALE = BATCH_SIZE / 512  # the published program scales all three learning rates


def get_config() -> ConfigDict:
    config = c.default_config()
    config.batch_size = BATCH_SIZE
    config.epochs = 1000
    config.log_every = 65
    config.eval_every = 1_300
    config.checkpoint_every = 1_300
    config.model.update(variant="vit_ti", patch_size=16, image_size=224, drop_path=0.0)
    config.optimizer.update(name="sgd", learning_rate=0.01 * SCALE, weight_decay=1e-4, momentum=0.9)
    config.schedule.update(warmup_epochs=10, warmup_from=1e-6 * SCALE, final=1e-5 * SCALE)
    config.objective.classify.label_smoothing = 0.1
    config.augment.update(crop="random_resized", crop_scale=(0.08, 1.0), flip_lr=True)
    data_dir = config.data.get_ref("data_dir")
    config.data.sources.cifar10 = c.tfds_source("cifar10", split="train", data_dir=data_dir)
    config.evals.test = c.accuracy_eval(c.tfds_source("cifar10", split="test", data_dir=data_dir))
    return config
