"""The two hypotheses of the contour paper (Kataoka et al., CVPR 2022), one run a NAME.

    python -m jaxfdsl.main --config=configs/hypotheses.py:rcdb-broken --workdir=runs/rcdb-broken

ViT-Ti/16, 1,000 categories of 1,000 images, as configs/vitti_1k.py:exfractaldb; its cost is that of
each run, none is run here. NAME is a set (the default is rcdb), a set and how it is drawn
(rcdb-points, -outline, -filled, -broken), a number of points (fractaldb-500points), or a set and
how many of its parameters vary (bezier-2vary); a wrong one is answered with the nearest.

Published, fine-tuned on CIFAR-10/CIFAR-100/Cars/Flowers. H1, contours are what matters: Perlin
noise 95.0/78.4/70.6/96.1, dead leaves 95.9/79.6/72.8/96.9, Bezier curves 96.7/80.3/82.8/98.5, RCDB
96.8/81.6/84.2/98.7, FractalDB 96.8/81.6/86.0/98.3. RCDB under 1,000 lines that break its contours
falls from 95.5/79.4/78.4/96.4 to 46.2/22.1/1.1/8.8. FractalDB of 500, 1k, 10k, 50k, 100k and 200k
points: CIFAR-10 14.5, 31.5, 35.0, 96.1, 96.0, 95.9; CIFAR-100 1.5, 1.9, 7.6, 80.4, 80.8, 80.6.
H2, more parameters make better labels (and the gain): Bezier curves 96.9/81.4/85.9/97.9 (+.2, +1.1,
+3.1, -.6), RCDB 97.0/82.2/86.5/98.9 (+.2, +.6, +2.4, +.2), ExFractalDB 97.2/81.8/87.0/98.9 (+.4,
+.2, +1.0, +.6); which parameters stood still is not published: here the last of a family's VARYING.
Fewer parameters of FractalDB and ExFractalDB mean other categories, which are searched first.
"""

import difflib

from ml_collections import ConfigDict

from jaxfdsl import config as c
from jaxfdsl.configs import vitti_1k

SETS = (
    *("perlin", "dead_leaves", "bezier", "rcdb", "visualatom"),
    *("fractaldb", "exfractaldb", "svd_fractal"),
)
RENDERS = ("points", "outline", "filled")
POINTS = (500, 1000, 10_000, 50_000, 100_000, 200_000)
VARYING = {
    "perlin": (1,),
    "dead_leaves": (2, 3),  # one alone makes fewer than 1,000 categories
    "bezier": (2, 3),
    "rcdb": (2, 3, 4, 5, 6),
    "visualatom": (2, 3, 4, 5, 6, 7),
    "fractaldb": (2, 4, 6),
    "exfractaldb": (3, 6, 9, 12),
    "svd_fractal": (1, 2, 3, 4),
}
SEARCHED = ("fractaldb", "exfractaldb")

RUNS: dict[str, dict] = {
    **{name: {"name": f"{name}-1k"} for name in SETS},
    **{f"{s}-{r}": {"name": f"{s}-1k", "options": {"render": r}} for s in SETS for r in RENDERS},
    "rcdb-broken": {"name": "rcdb-1k", "options": {"broken_lines": 1000}},
    "visualatom-broken": {"name": "visualatom-1k", "options": {"broken_lines": 1000}},
    **{
        f"fractaldb-{n}points": {"name": "fractaldb-1k", "options": {"num_points": n}}
        for n in POINTS
    },
    **{
        f"{name}-{count}vary": {
            "name": name if name in SEARCHED else f"{name}-1k",
            "num_classes": 1000,
            "options": {"varying": count},
        }
        for name, counts in VARYING.items()
        for count in counts
    },
}


def get_config(name: str = "rcdb") -> ConfigDict:
    if name not in RUNS:
        near = difflib.get_close_matches(name, list(RUNS), 1, cutoff=0)[0]
        raise c.ConfigError(
            f"--config=configs/hypotheses.py:{name}: there is no such run; the nearest is "
            f"--config=configs/hypotheses.py:{near}."
        )
    config = vitti_1k.get_config()
    config.data.sources = ConfigDict({"images": c.formula_source(**RUNS[name])})
    config.evals.held_out = c.accuracy_eval(
        c.held_out(config.data.sources.images), num_examples=10_000
    )
    return config
