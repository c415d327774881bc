"""A diffusion model in minutes on a CPU: told a fractal's parameters, it makes pictures of it.

    python -m jaxfdsl.main --config=configs/repdiff_demo.py --workdir=runs/repdiff_demo
    jaxfdsl materialise runs/repdiff_demo --recipes FILE.npz --to store --out made

Nothing is downloaded. The pictures are fractals of 16 kinds, every one with other points and its
maps a little different; a transformer learns the way from noise to them (flow matching). What it is
told of a picture is the vector of the fractal's parameters, all of them: the representation that no
encoder could better. With --config.data.condition=label it is told the number of its kind.
Cost: COST

samples.png in the workdir has a row a picture: the first one is drawn, the others are made from the
same parameters and seven seeds. `held_out` is the loss on pictures that were never trained on.
"""

from ml_collections import ConfigDict

from jaxfdsl import config as c


def get_config() -> ConfigDict:
    config = c.default_config()
    config.batch_size = 32
    config.steps = 2_000
    config.log_every = 50
    config.eval_every = 500
    config.checkpoint_every = 500
    config.model.update(
        variant="dit_s", patch_size=4, image_size=32, width=64, depth=4, num_heads=4
    )
    config.optimizer.update(learning_rate=2e-3, weight_decay=0.0, b2=0.99, ema=0.99)
    config.schedule.update(warmup_steps=100, final=1e-5)
    config.objective.classify.weight = 0.0
    config.objective.denoise.weight = 1.0
    config.data.condition = "recipe"
    config.augment.update(mean=(0.25,) * 3, std=(0.25,) * 3)  # black and grey become -1 and 1
    options = {"weights": "uniform", "pattern": "point", "render": "filled", "pad": 1}
    config.data.sources.fractals = c.formula_source(
        "fractaldb",
        num_classes=16,
        instances=0,
        size=32,
        options={**options, "flips": False, "num_points": 4000},
    )
    held_out = c.held_out(config.data.sources.fractals)
    config.evals.held_out = c.denoising_eval(held_out, num_examples=1024)
    return config
