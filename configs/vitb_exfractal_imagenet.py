"""ViT-B/16 pre-trained on 75 % ExFractalDB-21k and 25 % ImageNet-1k in every batch.

    python -m jaxfdsl.main --config=configs/vitb_exfractal_imagenet.py \\
        --config.data.data_dir=/data/tfds --workdir=runs/vitb_exfractal_imagenet

NAME is mixed (the default) or phases: formulas alone for the first half, then 75/25. A share is one
number, or one for each phase, whose first steps are `data.phase_starts`; shares sum to 1.
`data_dir` holds imagenet2012 as TFDS prepares it; `jaxfdsl prepare imagenet2012` makes it from the
official tar files.
Cost: 230,713 steps of batch 8192 as configs/vitb_exfractal.py, 2.0e20 FLOP: 140 H200 hours at 40 %
of its peak (configs/README.md), computed and not yet run here. The host decodes 2,048 JPEGs a step.

The recipe is ours, nothing is published for it. One softmax over the 21,000 + 1,000 classes
(--config.data.label_space=separate: one for each source). All else as configs/vitb_exfractal.py,
the missing flips included; repeated augmentation holds for both sources.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import vitb_exfractal

NAMES = ("mixed", "phases")


def get_config(name: str = "mixed") -> ConfigDict:
    config = vitb_exfractal.get_config()
    config.update(epochs=0.0, steps=230_713)  # epochs have no length where shares change
    config.schedule.update(warmup_epochs=0.0, warmup_steps=12_817)
    where = {"data_dir": config.data.get_ref("data_dir")}
    sources = config.data.sources
    del sources.exfractaldb
    formulas: float | tuple[float, ...] = 0.75
    real: float | tuple[float, ...] = 0.25
    if name == "phases":
        config.data.phase_starts = (0, 115_000)
        formulas, real = (1.0, 0.75), (0.0, 0.25)
    sources.exfractaldb = c.formula_source("exfractaldb-21k", instances=1000, share=formulas)
    sources.imagenet = c.tfds_source("imagenet2012", share=real, **where)
    config.evals.held_out = c.accuracy_eval(c.held_out(sources.exfractaldb), num_examples=32_768)
    test = c.tfds_source("imagenet2012", split="validation", **where)
    config.evals.imagenet = c.accuracy_eval(test, crop_fraction=0.875)
    return config
