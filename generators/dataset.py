"""A data set: a formula, a table of categories, and instances. Image i is a function of i, for
ever.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Shaped, UInt32

from . import categories, options

SIZES = (16, 4096)  # pixels
CHUNK = 64  # images drawn at once off the CPU: bounds the memory of a batch, see `Dataset.fields`
IMAGES_A_CORE = 4  # a core less than this is not worth a thread
FINGERPRINT_IMAGES = 64


@dataclasses.dataclass(frozen=True)
class Dataset:
    """`num_classes` categories x `instances` images of side `size`, drawn when asked for.

    Index i is instance i // num_classes of category i % num_classes, so an endless set
    (instances=None) begins with the finite one. A recipe is the pair (category, instance), eight
    bytes. A scene family puts several categories on one image: index i is then scene i, its recipe
    (0, i), and `instances` counts scenes.
    """

    name: str
    family: Any
    categories: Any  # the family's Category: a NamedTuple of arrays, one row a category
    instances: int | None
    size: int

    def __post_init__(self):
        if self.instances is not None and not 1 <= options.whole(
            "instances", self.instances
        ) <= 2**31:
            raise ValueError(
                f"instances={self.instances}: give 1 to 2**31, or None for an endless set"
            )
        object.__setattr__(self, "size", options.whole("size", self.size))
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise ValueError(f"size={self.size}: give a canvas of {SIZES[0]} to {SIZES[1]} pixels")
        self.family.check(self.categories, self.size)

    @property
    def num_classes(self) -> int:
        """Categories of the table."""
        return len(self.categories[0])

    @property
    def scenes(self) -> bool:
        """Whether an image holds several categories, picked by hash."""
        return hasattr(self.family, "compose")

    @property
    def num_recipes(self) -> int:
        """What recipes count first: categories, or 1 for scenes."""
        return 1 if self.scenes else self.num_classes

    @property
    def has_mask(self) -> bool:
        """Whether `mask` int32[N, size, size] comes with the images: 0 background, id + 1 else."""
        return getattr(self.family, "has_mask", False)

    @property
    def num_outputs(self) -> int:
        """How many values a pixel of the mask can take, or else how many labels there are."""
        return self.num_classes + self.has_mask

    @property
    def channels(self) -> int:
        """1, gray, or 3."""
        return self.family.channels

    def __len__(self) -> int:
        if self.instances is None:
            raise TypeError(f"{self.name} is endless; give instances=... for a finite set")
        return self.num_recipes * self.instances

    @property
    def table(self) -> dict[str, Any]:
        """What the device needs to draw: an argument of the jitted function, never a constant in
        it.
        """
        return {"categories": self.categories, "constants": self.family.constants()}

    def recipes(self, indices: Sequence[int] | np.ndarray) -> UInt32[np.ndarray, "N 2"]:
        """Image indices -> (category, instance), on the host. IndexError outside the set."""
        given = np.asarray(indices).reshape(-1)
        if given.size and given.dtype.kind not in "iu":
            raise IndexError(f"image {given[0]!r}: give whole numbers")
        flat = given.astype(np.int64)
        limit = self.num_recipes * (2**32 if self.instances is None else self.instances)
        if flat.size and not (flat.min() >= 0 and flat.max() < limit):
            bad = flat[(flat < 0) | (flat >= limit)][0]
            raise IndexError(f"image {bad} is not in {self.name}, whose images are 0..{limit - 1}")
        return np.stack([flat % self.num_recipes, flat // self.num_recipes], 1).astype(np.uint32)

    def fields(
        self, recipes: UInt32[Array, "N 2"], table: dict[str, Any]
    ) -> dict[str, Shaped[Array, "N ..."]]:
        """Draws recipes on the device: image uint8[N, size, size, channels], label int32[N]. Pure,
        for use under jit. Scenes have label int32[N, k], padded with -1, and may have a mask.

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
        canvas = self if size in (None, self.size) else dataclasses.replace(self, size=size)
        platform = jax.default_backend()
        if platform != "cpu":
            table = jax.device_put(self.table)
            return _draw_jitted(self.family, canvas.size, jnp.asarray(recipes), table, platform)
        parts = canvas._host_parts(recipes)
        if len(parts) == 1:
            return parts[0]
        return {
            name: jnp.concatenate([part[name] for part in parts])[: len(recipes)]
            for name in parts[0]
        }

    def draw_on_host(
        self, recipes: UInt32[np.ndarray, "N 2"]
    ) -> dict[str, Shaped[np.ndarray, "N ..."]]:
        """`draw_recipes` on all processor cores, whatever accelerator there is, in NumPy."""
        parts = self._host_parts(recipes)
        return {
            name: np.concatenate([part[name] for part in parts])[: len(recipes)]
            for name in parts[0]
        }

    def _host_parts(self, recipes) -> list[dict[str, Array]]:
        """The images in equal parts, a core each; the last one filled up."""
        host = jax.local_devices(backend="cpu")[0]
        cores = max(1, min(_cores(), len(recipes) // IMAGES_A_CORE))
        share = -(-len(recipes) // cores)
        filled = np.concatenate([recipes, np.repeat(recipes[:1], share * cores - len(recipes), 0)])
        table = jax.device_put(self.table, host)

        def part(own):
            own = jax.device_put(own, host)
            return jax.block_until_ready(
                _draw_jitted(self.family, self.size, own, table, "cpu")
            )

        if cores == 1:
            return [part(filled)]
        with concurrent.futures.ThreadPoolExecutor(cores) as pool:
            return list(pool.map(part, np.split(filled, cores)))

    def fingerprint(self) -> str:
        """Hex sha256 of the family, its version and options, the table, and 64 fixed images: what a
        paper cites.
        """
        each = np.arange(FINGERPRINT_IMAGES)
        recipes = np.stack([each * self.num_recipes // FINGERPRINT_IMAGES, each], 1).astype(
            np.uint32
        )
        digest = hashlib.sha256(self.identity().encode())
        drawn = self.draw_recipes(recipes)
        for name in sorted(drawn) if self.scenes else ("image",):
            digest.update(np.asarray(drawn[name]).tobytes())
        return digest.hexdigest()

    def identity(self) -> str:
        """What the pictures hang on, without drawing any: family, version, options, canvas, table
        sha256.
        """
        changed = {  # an option that a later release adds changes no older name
            field.name: getattr(self.family, field.name)
            for field in dataclasses.fields(self.family)
            if getattr(self.family, field.name) != field.default
        }
        return (
            f"{self.family.name} v{self.family.version} {sorted(changed.items())} {self.size}px "
            f"{categories.sha256(self.categories)}"
        )


def _cores() -> int:
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(allowed(0)) if allowed else os.cpu_count() or 1


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

    scenes = hasattr(family, "compose")

    def one(recipe, **how):
        if scenes:
            return family.compose(table["categories"], recipe[1], size, table["constants"], **how)
        params = jax.tree.map(lambda v: v[recipe[0].astype(jnp.int32)], table["categories"])
        drawn = family.draw(params, recipe[1], size, table["constants"], **how)
        return {**drawn, "label": recipe[0].astype(jnp.int32)}

    platform = platform or jax.default_backend()
    with jax.named_scope(f"draw_{family.name}"):
        if platform == "cpu":  # one after the other: the points of one image stay in the cache
            drawn = lax.map(functools.partial(one, branch=True), recipes)
        else:
            backend = "matmul" if platform == "tpu" else "scatter"
            drawn = lax.map(functools.partial(one, backend=backend), recipes, batch_size=CHUNK)
    return drawn


_draw_jitted = jax.jit(draw_recipes, static_argnums=(0, 1, 4))
