"""Representation-conditioned diffusion on ImageNet-100: DiT-B/2 in latents, told DINOv2's vectors.

    jaxfdsl embed tfds:imagenet2012 --encoder dinov2:dinov2-base --name dinov2 --data_dir /data/tfds
    jaxfdsl embed tfds:imagenet2012 --autoencoder sd-vae-ft-ema --name sd --image_size 256 --flip \\
        --data_dir /data/tfds
    python -m jaxfdsl.main --config=configs/repdiff_imagenet100.py:rep --workdir=runs/repdiff \\
        --config.data.data_dir=/data/tfds --config.model.autoencoder=sd-vae-ft-ema
    jaxfdsl materialise runs/repdiff --to store --out stores/made --images 380000

NAME is rep (the default), rep+label, cluster (--clusters 1000 --of rep:dinov2 --name dinov2-k1000)
or label; CLIP's or DINOv3's vectors are --config.data.condition=rep:NAME, DiT-L/2 is
--config.model.variant=dit_l. `imagenet100.txt` is yours to write, a TFDS class name a line; which
100 classes the paper took is not known to us. `sd-vae-ft-ema` and `dinov2-base` are folders of
published weights, which nothing here downloads.
Cost: 125 epochs of batch 256, some 62,500 steps; configs/README.md has the hours of the denoiser
alone, computed and not yet run here. The second command encodes every image and its mirror image
once, 7.0e17 FLOP and 42 GB; --config.data.latents='' encodes in every step instead, which then is
3 times the work.

Published ("Representation-Conditioned Diffusion Models for Guided Training Data Generation", arXiv
2605.27495): of a classifier trained on made images alone, 10.76 points of top-1 more than of
class-conditioned ones, and with more images 2.0 more than of the real ones. Of the paper we know
the abstract alone, which has data, encoder and latents; 256 pixels, 125 epochs and the autoencoder
are of a sibling repository of its authors. The denoiser is ours: their U-Net is told the vector by
cross-attention to that one token, which adds the same numbers everywhere; here it modulates every
block of a DiT, under flow matching, with an average of the weights and 10 % of the vectors hidden.
The samples above are of the training images' own vectors, three of each; `jaxfdsl represent` makes
others.

DINOv2, DINOv3 and CLIP have seen far more than ImageNet-100: what such vectors bring may be theirs
in part, and a fair real baseline is given the same encoder. Samples of training images' vectors can
be near copies: see what jaxfdsl judge says of the distances.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c

CONDITIONS = {
    "rep": "rep:dinov2",
    "rep+label": "rep:dinov2+label",
    "cluster": "cluster:dinov2-k1000",
    "label": "label",
}
NAMES = tuple(CONDITIONS)


def get_config(name: str = "rep") -> ConfigDict:
    config = c.default_config()
    config.batch_size = 256
    config.epochs = 125
    config.log_every = 100
    config.checkpoint_every = 5_000
    config.model.update(variant="dit_b", patch_size=2, image_size=256)
    config.model.autoencoder = "sd-vae-ft-ema"
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.optimizer.update(learning_rate=1e-4, weight_decay=0.0, b2=0.99, ema=0.9999)
    config.schedule.update(name="constant", warmup_steps=500)
    config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3, flip_lr=True)
    config.data.condition = CONDITIONS[name]
    config.data.latents = "sd"
    where = {"data_dir": config.data.get_ref("data_dir"), "classes": "imagenet100.txt"}
    config.data.sources.images = c.tfds_source("imagenet2012", **where)
    return config
