"""The runs of representation_conditioned.sh: NAME is encoder, denoiser or classifier.

All three are small enough for a CPU; configs/repdiff_cifar10.py has the same at the size of a GPU.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c

NAMES = ("encoder", "denoiser", "classifier")


def get_config(name: str) -> ConfigDict:
    config = c.default_config()
    config.batch_size = 64
    config.log_every = 100
    config.checkpoint_every = 500
    config.model.update(patch_size=4, image_size=16, width=64, depth=3, num_heads=4, pool="mean")
    config.optimizer.update(learning_rate=2e-3)
    config.schedule.update(warmup_steps=50, final=1e-5)
    config.data.sources.real = c.store_source("", size=16)  # the script says which
    if name == "encoder":  # SimCLR: two views of an image find each other
        config.steps, config.batch_size = 200, 128
        config.model.projector.update(hidden=256, output=64, layers=2, norm="batch")
        config.objective.classify.weight, config.objective.contrast.weight = 0.0, 1.0
        config.data.update(group_size=2, group_by="image")
        config.augment.update(crop="random_resized", crop_scale=(0.3, 1.0), flip_lr=True)
    elif name == "denoiser":
        config.steps = 2_000
        config.model.update(variant="dit_s", pool="token")
        config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
        config.optimizer.update(weight_decay=0.0, b2=0.99, ema=0.99)
        config.augment.update(mean=(0.25,) * 3, std=(0.25,) * 3)  # black and grey: -1 and 1
        config.data.condition = "rep:ours"
    else:
        config.steps = 300
        options = {"weights": "uniform", "pattern": "point", "num_points": 1000, "pad": 1}
        drawn = c.formula_source("fractaldb-1k", num_classes=10, size=16, options=options)
        config.evals.new = c.accuracy_eval(c.held_out(drawn), num_examples=640)
    return config
