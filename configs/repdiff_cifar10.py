"""Denoisers of CIFAR-10 that are told a class, a cluster or a representation: a closed set.

    python -m jaxfdsl.main --config=configs/repdiff_cifar10.py:encoder --workdir=runs/encoder
    jaxfdsl embed tfds:cifar10 --encoder runs/encoder --name ours
    python -m jaxfdsl.main --config=configs/repdiff_cifar10.py:rep --workdir=runs/rep
    jaxfdsl materialise runs/rep --to store --out stores/made --images 50000
    python -m jaxfdsl.main --config=configs/repdiff_cifar10.py:classify --workdir=runs/classify

NAME is encoder (SimCLR: ViT-Ti of patches of 4, no label), classify (the same classifier for every
made set, tested on the real test images), or one of rep, rep+label, cluster, label and none, which
differ in what the denoiser is told alone (cluster: jaxfdsl embed tfds:cifar10 --clusters 1000 --of
rep:ours --name ours-k1000). The samples above are of the training images' own vectors; `jaxfdsl
represent` makes others. Nothing but the 50,000 training images has a part in it. Runs that are
compared take other seeds (--config.seed), and equal steps. $TFDS_DATA_DIR holds cifar10 as TFDS
prepares it.
Cost: a denoiser, DiT-S/4 trained as SiT, 30,000 steps of 512; configs/README.md has all, computed
and not yet run here. At 16 pixels and a tenth of the images benchmarks/repdiff_small.py has been:
see RESULTS.md.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c

CONDITIONS = {
    "rep": "rep:ours",
    "rep+label": "rep:ours+label",
    "cluster": "cluster:ours-k1000",
    "label": "label",
    "none": "none",
}
NAMES = (*CONDITIONS, "encoder", "classify")


def get_config(name: str = "rep") -> ConfigDict:
    config = c.default_config()
    config.batch_size = 512
    config.log_every = 200
    config.checkpoint_every = 5_000
    config.model.update(variant="vit_ti", patch_size=4, image_size=32, pool="mean")
    config.augment.flip_lr = True
    where = {"data_dir": config.data.get_ref("data_dir"), "size": 32}
    config.data.sources.images = c.tfds_source("cifar10", split="train", **where)
    test = c.tfds_source("cifar10", split="test", **where)
    if name in CONDITIONS:
        config.steps = 30_000
        config.model.variant = "dit_s"
        config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3)
        config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
        config.optimizer.update(learning_rate=2e-4, weight_decay=0.0, b2=0.99)
        config.optimizer.update(ema=0.9999, ema_warmup=True)
        config.schedule.update(name="constant", warmup_steps=500)
        config.data.condition = CONDITIONS[name]
        return config
    config.schedule.update(warmup_steps=1_000, final=1e-6)
    if name == "classify":
        config.steps = 20_000
        config.augment.update(crop="pad", crop_pad=4)
        config.data.sources.images = c.store_source("stores/made", size=32)
        config.evals.test = c.accuracy_eval(test, batch_size=512)
        return config
    config.steps, config.batch_size = 10_000, 1024  # two views each of 512 images
    config.objective.classify.weight, config.objective.contrast.weight = 0.0, 1.0
    config.objective.contrast.temperature = 0.2
    config.model.projector.update(hidden=2048, output=128, norm="batch")
    config.data.update(group_size=2, group_by="image")
    config.augment.update(
        crop="random_resized", crop_scale=(0.2, 1.0), color_jitter=0.4, color_jitter_prob=0.8,
        hue=0.1, grayscale=0.2,
    )  # fmt: skip
    config.optimizer.update(b2=0.98)
    config.evals.probe = c.linear_probe_eval(config.data.sources.images, test, batch_size=512)
    return config
