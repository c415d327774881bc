"""StableRep+ in minutes on a CPU: pictures of one caption find each other, and their caption.

    python -m jaxfdsl.main --config=configs/stablerep_demo.py --workdir=runs/stablerep_demo
    jaxfdsl evaluate runs/stablerep_demo

Nothing is downloaded. The captions say the parameters of 64 fractals ("fractaldb with maps 0.45
-0.22 -0.38 0.33 -0.87 -0.83 -0.30 -0.73 and num maps 3"), the pictures are drawn from the same
formulas: a batch has 16 captions with 4 pictures each, other points and other shapes every time.
No label is seen; captions are read as bytes.
Cost: a few minutes on two CPU cores. Measured: 5 minutes on two busy cores (147 s of CPU time); of
held-out pictures 43 % right by nearest neighbours and 32 % by captions (chance 1.6 %), of captions
58 % that find a picture of theirs first; 2.5 and 3.1 % with unseen captions.

The evaluations are of pictures that were never trained on: `knn` tells the categories apart by the
features, `zero_shot` by the captions alone (which are the classes here, so that it equals
`retrieval` from pictures to captions), `retrieval` goes both ways, and `unseen` does so with 64
captions that are new as well: so few captions teach which is which, and next to nothing of what
their numbers mean.
"""

from typing import Any

from ml_collections import ConfigDict

from jaxfdsl import config as c

OPTIONS = {"weights": "uniform", "pattern": "point", "color": "gray", "pad": 1}


def get_config() -> ConfigDict:
    config = c.default_config()
    config.batch_size = 64
    config.steps = 800
    config.log_every = 50
    config.checkpoint_every = 400
    config.model.update(patch_size=8, image_size=32, width=96, depth=3, num_heads=3, pool="mean")
    config.model.projector.update(hidden=256, output=64)
    config.model.text.update(width=64, depth=2, num_heads=2, context=88, output=64)
    config.optimizer.update(learning_rate=2e-3, b2=0.98)
    config.schedule.update(warmup_steps=100, final=1e-5)
    config.objective.classify.weight = 0.0
    config.objective.contrast.weight = 1.0
    config.objective.align.weight = 1.0
    config.data.group_size = 4
    shape: dict[str, Any] = {"num_classes": 64, "instances": 0, "size": 32}
    options = {**OPTIONS, "num_points": 4000}
    config.data.sources.fractals = c.formula_source("fractaldb", **shape, options=options)
    seen = config.data.sources.fractals
    held_out = c.held_out(seen)
    unseen = c.held_out(c.formula_source("fractaldb", **shape, options=options, search_seed=2))
    config.evals.knn = c.knn_eval(seen, held_out, num_train=1024, num_examples=1024, k=(5,))
    config.evals.zero_shot = c.zero_shot_eval(held_out, num_examples=1024, templates=("{}",))
    config.evals.retrieval = c.retrieval_eval(held_out, num_examples=1024, k=(1, 5))
    config.evals.unseen = c.retrieval_eval(unseen, num_examples=1024, k=(1, 5))
    return config
