"""Programs that XLA optimizes less, so that they compile in half the time: for tests of what is
drawn in a way that another test draws as users do, and of the ways of GPUs and TPUs on a CPU.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxfdsl.generators import dataset

UNOPTIMIZED = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}

_draw = jax.jit(dataset.draw_recipes, static_argnums=(0, 1, 4), compiler_options=UNOPTIMIZED)


def draw(db: dataset.Dataset, recipes, platform: str = "cpu") -> dict[str, np.ndarray]:
    """`Dataset.draw_recipes`, all images in one call, the way of `platform`."""
    recipes = jnp.asarray(recipes, jnp.uint32)
    return jax.device_get(_draw(db.family, db.size, recipes, db.table, platform))


def draw_first(db: dataset.Dataset, count: int) -> dict[str, np.ndarray]:
    """`Dataset.draw` of the first indices."""
    return draw(db, db.recipes(range(count)))
