"""Augmentation on the device, the same for drawn and decoded images.

`crop` brings the images of one source to the model's size, `finish` does all the rest to the joined
batch, `evaluate` is what a model is tested on. Every sample has random numbers of its own, from the
step's key and its row in the global batch, so that the result does not depend on how the batch is
sharded; mixup and cutmix alone look at a neighbour. Ops on bytes give the bytes of Pillow, as timm
calls it, by integers, so that every processor makes the same image; those that turn or shift differ
from Pillow by 1 in less than 1 of 1,000 values. A field that is off leaves nothing in the program.
"""

from jaxfdsl.data.augment.checks import check
from jaxfdsl.data.augment.crops import FEW_PIXELS, crop, crop_masks, random_box
from jaxfdsl.data.augment.pipeline import evaluate, evaluate_masks, finish, mirrored, normalise

__all__ = [
    "FEW_PIXELS",
    "check",
    "crop",
    "crop_masks",
    "evaluate",
    "evaluate_masks",
    "finish",
    "mirrored",
    "normalise",
    "random_box",
]
