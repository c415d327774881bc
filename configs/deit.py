"""The augmentation of DeiT, which all recipes of the papers share (Touvron et al., ICML 2021).

The papers also list colour jitter .4; their program (timm's `create_transform`) leaves it out
wherever RandAugment is on, and so do the recipes here.
"""

from ml_collections import ConfigDict

HALF = (0.5, 0.5, 0.5)  # mean and deviation of some of the papers; the others take ImageNet's


def augment(
    config: ConfigDict,
    *,
    erasing: float = 0.25,
    repeats: int = 1,
    flip: str = "",
    half: bool = False,
) -> None:
    """Sets random resized crops of .08-1, RandAugment, mixup and cutmix, random erasing with that
    probability, and label smoothing.

    `repeats` is repeated augmentation; `flip` names the axes, "", "lr" or "lr ud"; `half` shifts
    pixels by .5 instead of ImageNet's mean.
    """
    config.augment.update(
        crop="random_resized",
        crop_scale=(0.08, 1.0),
        interpolation="bicubic",
        flip_lr="lr" in flip,
        flip_ud="ud" in flip,
        rand_augment="rand-m9-mstd0.5-inc1",
        color_jitter=0.0,
        erasing=erasing,
        mixup=0.8,
        cutmix=1.0,
        mixup_switch=0.5,
        mixup_mode="batch",
    )
    if half:
        config.augment.update(mean=HALF, std=HALF)
    config.data.repeats = repeats
    config.objective.classify.label_smoothing = 0.1
