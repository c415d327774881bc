"""A data set: a formula, a table of categories, and instances. Image i is a function of i, for
ever.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped, UInt32

from . import categories
from .formulas.systems import Category

CHUNK = 64  # images drawn at once off the CPU: bounds the memory of a batch, see `Dataset.fields`
FINGERPRINT_IMAGES = 64


@dataclasses.dataclass(frozen=True)
class Dataset:
    """`num_classes` categories x `instances` images of side `size`, drawn when asked for.

    Index i is instance i // num_classes of category i % num_classes, so an endless set
    (instances=None) begins with the finite one. A recipe is the pair (category, instance), eight
    bytes.
    """

    name: str
    family: Any
    categories: Category
    instances: int | None
    size: int

    def __post_init__(self):
        if self.instances is not None and not 1 <= self.instances <= 2**31:
            raise ValueError(
                f"instances={self.instances}: give 1 to 2**31, or None for an endless set"
            )
        if not 8 <= self.size <= 2048:
            raise ValueError(f"size={self.size}: give a canvas of 8 to 2048 pixels")
        self.family.check(self.categories, self.size)

    @property
    def num_classes(self) -> int:
        return len(self.categories.num_maps)

    @property
    def channels(self) -> int:
        return self.family.channels

    def __len__(self) -> int:
        if self.instances is None:
            raise TypeError(f"{self.name} is endless; give instances=... for a finite set")
        return self.num_classes * self.instances

    @property
    def table(self) -> dict[str, Any]:
        """What the device needs to draw: an argument of the jitted function, never a constant in
        it.
        """
        return {"categories": self.categories, "constants": self.family.constants()}

    def recipes(self, indices: Sequence[int] | np.ndarray) -> UInt32[np.ndarray, "N 2"]:
        """Image indices -> (category, instance), on the host. IndexError outside the set."""
        flat = np.asarray(indices, np.int64).reshape(-1)
        limit = self.num_classes * (2**32 if self.instances is None else self.instances)
        if flat.size and not (flat.min() >= 0 and flat.max() < limit):
            bad = flat[(flat < 0) | (flat >= limit)][0]
            raise IndexError(f"image {bad} is not in {self.name}, whose images are 0..{limit - 1}")
        return np.stack([flat % self.num_classes, flat // self.num_classes], 1).astype(np.uint32)

    def fields(
        self, recipes: UInt32[Array, "N 2"], table: dict[str, Any]
    ) -> dict[str, Shaped[Array, "N ..."]]:
        """Draws recipes on the device: image uint8[N, size, size, channels], label int32[N]. Pure,
        for use under jit.

        Memory beside the result: on a CPU that of one image (below 4 MB at the published sizes),
        elsewhere that of CHUNK = 64 images (below 300 MB). No collective: under `jax.shard_map`
        every device draws its own recipes.
        """
        return draw_recipes(self.family, self.size, recipes, table)

    def draw(
        self, indices: Sequence[int] | np.ndarray, size: int | None = None
    ) -> dict[str, Shaped[Array, "N ..."]]:
        """Draws images by index: image uint8[N, size, size, channels], label int32[N]."""
        return self.draw_recipes(self.recipes(indices), size)

    def draw_recipes(
        self, recipes: UInt32[np.ndarray, "N 2"], size: int | None = None
    ) -> dict[str, Shaped[Array, "N ..."]]:
        """Draws any (category, instance) pairs, those beyond `instances` too."""
        return _draw_jitted(self.family, size or self.size, jnp.asarray(recipes), self.table)

    def fingerprint(self) -> str:
        """Hex sha256 of the family, its version and options, the table, and 64 fixed images: what a
        paper cites.
        """
        each = np.arange(FINGERPRINT_IMAGES)
        recipes = np.stack([each * self.num_classes // FINGERPRINT_IMAGES, each], 1).astype(
            np.uint32
        )
        digest = hashlib.sha256(self.identity().encode())
        digest.update(np.asarray(self.draw_recipes(recipes)["image"]).tobytes())
        return digest.hexdigest()

    def identity(self) -> str:
        """What the pictures hang on, without drawing any: family, version, options, canvas, table
        sha256.
        """
        options = dataclasses.asdict(self.family)
        return (
            f"{self.family.name} v{self.family.version} {sorted(options.items())} {self.size}px "
            f"{categories.sha256(self.categories)}"
        )


def draw_recipes(
    family: Any,
    size: int,
    recipes: UInt32[Array, "N 2"],
    table: dict[str, Any],
    platform: str | None = None,
) -> dict[str, Shaped[Array, "N ..."]]:
    """`Dataset.fields` as a function of the family and the canvas.

    The ways to draw on "cpu", "tpu" and others (`platform`, by default this process's) differ,
    their bytes do not. Only one is traced: name it to lower for a machine that is not here.
    """

    def one(recipe, **how):
        params = jax.tree.map(lambda v: v[recipe[0].astype(jnp.int32)], table["categories"])
        return family.draw(params, recipe[1], size, table["constants"], **how)

    platform = platform or jax.default_backend()
    with jax.named_scope(f"draw_{family.name}"):
        if platform == "cpu":  # one after the other: the points of one image stay in the cache
            drawn = lax.map(functools.partial(one, branch=True), recipes)
        else:
            backend = "matmul" if platform == "tpu" else "scatter"
            drawn = lax.map(functools.partial(one, backend=backend), recipes, batch_size=CHUNK)
    return {**drawn, "label": recipes[:, 0].astype(jnp.int32)}


_draw_jitted = jax.jit(draw_recipes, static_argnums=(0, 1))
