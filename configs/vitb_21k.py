"""ViT-B/16 pre-trained on 21,000 categories of 1,000 images.

    python -m jaxfdsl.main --config=configs/vitb_21k.py:visualatom --workdir=runs/vitb_visualatom

NAME is fractaldb, exfractaldb (the default; configs/vitb_exfractal.py itself), rcdb or visualatom.
Cost: 90 epochs of 21M drawn images (1.9 billion), 2.0e20 FLOP: 140 H200 hours at 40 % of its peak
(configs/README.md), computed and not yet run here. FractalDB is drawn at 362 pixels, RCDB and
VisualAtom at 512; `--config.data.sources.images.size=224` is cheaper and not published.

Published, top-1 after fine-tuning on ImageNet-1k at 224 pixels; 79.8 from scratch, 81.8 from
ImageNet-21k (at 384: 83.0):
    fractaldb    81.8 (Kataoka et al., CVPR 2022)
    exfractaldb  82.7 (CVPR 2022), 83.8 at 384 (arXiv 2206.09132v2)
    rcdb         82.4 (CVPR 2022)
    visualatom   82.7 (Takashima et al., CVPR 2023), 83.7 at 384
and on CIFAR-10/CIFAR-100/Cars/Flowers/VOC12/Places-30/ImageNet-100 (CVPR 2023): RCDB
96.8/82.9/85.9/99.0/81.2/81.2/90.2, VisualAtom 97.7/86.7/89.2/99.0/82.4/81.6/91.3. With 50,000
categories (`--config.data.sources.images.name=rcdb-50k`; the length is not known to us) FractalDB
82.1, ExFractalDB 82.5, RCDB 82.6.

Recipe of configs/vitb_exfractal.py; VisualAtom's warm-up is 5,000 steps from 1e-6.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import vitb_exfractal

NAMES = ("fractaldb", "exfractaldb", "rcdb", "visualatom")


def get_config(name: str = "exfractaldb") -> ConfigDict:
    config = vitb_exfractal.get_config()
    if name == "visualatom":
        config.schedule.update(warmup_epochs=0.0, warmup_steps=5000, warmup_from=1e-6)
    config.data.sources = ConfigDict({"images": c.formula_source(f"{name}-21k")})
    config.evals.held_out = c.accuracy_eval(
        c.held_out(config.data.sources.images), num_examples=32_768
    )
    return config
