"""ViT-B/16 on ExFractalDB-21k without labels: images of one formula find each other.

    python -m jaxfdsl.main --config=configs/multipositive_exfractal.py:multi --workdir=runs/multi

StableRep's multi-positive contrast with a formula in the caption's place. Nobody has published it:
no number here is known, and the rest of the recipe is StableRep's (Tian et al., NeurIPS 2023).
NAME is the set of positives, the images, steps and batch of 8,192 being the same:
    multi       the default: 4 instances of each of 2,048 categories
    pair        2 instances of each of 4,096 categories
    simclr      2 views of each of 4,096 instances, which are of different categories
    supcon      all images of a category: some 8 of each of ExFractalDB-1k's, as in a batch of 21k
                none comes twice
    supervised  none, cross-entropy with the 21,000 labels instead
Cost: 109,000 steps, 893M drawn images, 9.5e19 FLOP: 66 H200 hours at 40 % of its peak
(configs/README.md), computed and not yet run here. A smaller batch wants a lower rate:
2e-4 * batch / 256.

As StableRep on CC12M for 15 epochs: AdamW of b2 .98, weight decay .1, warm-up over a thirtieth,
cosine to 0, temperature .1; random resized crops of .08-1, colour jitter .4 and hue .1 (gray
pictures have neither saturation nor hue), grayscale .2, blur .5, flips. LayerNorm projector:
StableRep's batch norm is --config.model.projector.norm=batch; where train/contrast_loss stays at
log(8191) = 9.01, all images look alike to the model: take it, a longer warm-up or a lower rate.
Instances have no end: each round shows new ones of every category once, so that but for its seams
no category is its own negative.
On a GPU with little memory: --config.objective.contrast.block=512 --config.model.remat=dots.
The evaluation tells the categories of ExFractalDB-1k apart by nearest neighbours. For real images
see configs/finetune.py, or the verb evaluate with --kind=linear_probe and a folder.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c

NAMES = ("multi", "pair", "simclr", "supcon", "supervised")


def get_config(name: str = "multi") -> ConfigDict:
    config = c.default_config()
    config.batch_size = 8192
    config.steps = 109_000
    config.log_every = 100
    config.eval_every = 10_000
    config.checkpoint_every = 1_000
    config.model.update(variant="vit_b", patch_size=16, image_size=224, pool="token")
    config.optimizer.update(name="adamw", learning_rate=3.2e-3, weight_decay=0.1, b2=0.98)
    config.schedule.update(name="cosine", warmup_steps=3_633, final=0.0)
    config.augment.update(
        crop="random_resized", crop_scale=(0.08, 1.0), flip_lr=True,
        color_jitter=0.4, color_jitter_prob=0.8, hue=0.1, grayscale=0.2, blur=0.5,
    )  # fmt: skip
    config.objective.classify.update(weight=0.0, label_smoothing=0.0)
    config.objective.contrast.update(weight=1.0, temperature=0.1)
    config.data.group_size = 4
    known = "exfractaldb-21k"
    if name in ("pair", "simclr"):
        config.data.update(group_size=2, group_by="image" if name == "simclr" else "recipe")
    if name in ("supcon", "supervised"):
        config.data.group_size = 1
        config.objective.contrast.positives = "label"
        known = "exfractaldb-1k" if name == "supcon" else known
    if name == "supervised":
        config.objective.contrast.weight = 0.0
        config.objective.classify.weight = 1.0
    config.data.sources.exfractaldb = c.formula_source(known, instances=0)
    seen = c.formula_source("exfractaldb-1k")
    config.evals.knn = c.knn_eval(
        seen, c.held_out(seen), num_train=10_000, num_examples=10_000, k=(1, 10)
    )
    return config
