"""ViT-B/16 pre-trained on VisualAtom-21k.

    python -m jaxfdsl.main --config=configs/vitb_visualatom.py --workdir=runs/vitb_visualatom

Cost: 90 epochs of 21M images drawn at 512 pixels (1.9 billion), 2.0e20 FLOP: about 140 H100 hours
at 40 % utilisation, computed and not yet run here.
Published (Takashima et al., CVPR 2023; fine-tuned on ImageNet-1k): 82.7 top-1 at 224 pixels, 83.7
at 384, against 79.8 from scratch (224) and 81.8, 83.0 from ImageNet-21k.

Recipe as configs/vitb_exfractal.py but for the warm-up: 5,000 steps from 1e-6.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import vitb_exfractal


def get_config() -> ConfigDict:
    config = vitb_exfractal.get_config()
    config.schedule.update(warmup_epochs=0.0, warmup_steps=5000, warmup_from=1e-6)
    sources = config.data.sources
    del sources.exfractaldb
    sources.visualatom = c.formula_source("visualatom-21k")
    config.evals.held_out = c.accuracy_eval(c.held_out(sources.visualatom), num_examples=32_768)
    return config
