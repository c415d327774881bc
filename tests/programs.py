"""One image or many drawn by a program of its own: the way of another processor, and, as tests
compile with few optimizations (conftest.py), what users' programs draw.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxfdsl.generators import dataset

AS_USERS: dict[str, int | bool] = {}
if jax.default_backend() == "cpu":  # what XLA does by itself, where conftest.py says otherwise
    AS_USERS["xla_backend_optimization_level"] = 3
    if jax.__version_info__ < (0, 11):
        AS_USERS["xla_cpu_use_fusion_emitters"] = True

_draw = jax.jit(dataset.draw_recipes, static_argnums=(0, 1, 4))
_draw_as_users = jax.jit(dataset.draw_recipes, static_argnums=(0, 1), compiler_options=AS_USERS)


def draw(db: dataset.Dataset, recipes, platform: str = "cpu") -> dict[str, np.ndarray]:
    """`Dataset.draw_recipes`, all images in one call, the way of `platform`."""
    recipes = jnp.asarray(recipes, jnp.uint32)
    return jax.device_get(_draw(db.family, db.size, recipes, db.table, platform))


def draw_as_users(db: dataset.Dataset, recipes) -> dict[str, np.ndarray]:
    """`Dataset.draw_recipes` with all of XLA's optimizations."""
    recipes = jnp.asarray(recipes, jnp.uint32)
    return jax.device_get(_draw_as_users(db.family, db.size, recipes, db.table))


def draw_first(db: dataset.Dataset, count: int) -> dict[str, np.ndarray]:
    """`Dataset.draw` of the first indices."""
    return draw(db, db.recipes(range(count)))
