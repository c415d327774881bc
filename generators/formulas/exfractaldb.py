"""ExFractalDB: three-dimensional iterated function systems seen from random viewpoints (Kataoka et
al., CVPR 2022).

Defaults: canvas 224, 10,000 white points of one pixel on black, categories of variance above .05 on
each axis, the 145 published one-coefficient weights, a perspective camera of 45 degrees at distance
4. The published script turns the camera on the equator only (that makes MV-FractalDB); the paper's
random viewpoints are the default here, `views="equatorial"` is the script. Kept: line 109 of
weights_ins145.csv repeats line 100 (a slip of the published file, 144 distinct rows). Not kept: the
first steps from the origin are not drawn, parallel chains replace the one orbit, and each category
has one point sequence for all its instances where the script goes on with its random stream.

3D-OFDB (Nakamura et al., ICCV 2023) is views="equatorial" with 12 instances a category, the twelve
views of one model (its render1view): weights="none" takes the identity model of the paper,
weights="ofdb" the one row that its script takes (the first of weights_ins145: a times .4).
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8, UInt32

from ..drawing import chaos, noise, raster, silhouette, views
from . import systems
from .systems import apply_weight, check_headroom, propose_system

WEIGHT_UNIT = 10
LEVELS = (4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16)  # tenths
VIEWS, JITTERS = 12, 256
PAIR_BITS = 21  # 2,097,152 pairs of weight row and rotation, each once before any comes again
ROTATIONS = -(-(2**PAIR_BITS) // 145)  # 14,464
VARYING = (*"abcdefghijkl", "num_maps")
REFERENCE = 25  # the first candidate that the search accepts
WHITE = np.uint8(255)


@functools.cache
def weight_rows(count: int = 145) -> np.ndarray:
    """int32[145 or 1, 12] in tenths, in the order of weights_ins145.csv; row 6 is the identity."""
    identity = np.full(12, WEIGHT_UNIT)
    if count == 1:
        return identity[None].astype(np.int32)
    rows = []
    for coefficient in range(12):
        for level in LEVELS:
            row = identity.copy()
            row[coefficient] = level
            rows.append(row)
    rows.insert(6, identity)
    rows[108] = rows[99]  # the published slip
    return np.array(rows, np.int32)


@dataclasses.dataclass(frozen=True)
class ExFractalDB:
    """The family with its options; each default is the published value unless the module says
    otherwise.

    render: the published picture is points already; "outline" and "filled" are its silhouette.
    varying: how many of `VARYING`, in that order, differ between categories; the others stand as
    in candidate 25, the first that the search accepts.
    """

    views: Literal["random", "equatorial"] = "random"
    weights: Literal["ins145", "none", "ofdb"] = "ins145"
    num_points: int = 10_000
    min_variance: float = 0.05
    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = len(VARYING)

    name: ClassVar[str] = "exfractaldb"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = 224
    channels: ClassVar[int] = 1
    chains: ClassVar[int] = 200
    orbit_seed: ClassVar[int] = 1
    search_points: ClassVar[int] = 10_000
    Category: ClassVar[type] = systems.Category
    VARYING: ClassVar[tuple[str, ...]] = VARYING
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "min_variance": (0.0, 1.0),
        "varying": (1, len(VARYING)),
    }

    @property
    def threshold(self) -> float:
        """`score` at or above which a candidate becomes a category."""
        return self.min_variance

    @property
    def search_settings(self) -> str:
        """What the accepted candidates hang on beside the version, for the cache's file name."""
        own = "" if self.varying == len(VARYING) else f"-varying{self.varying}"
        return f"{self.search_points}points-variance{self.min_variance:g}{own}"

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its category; they travel with the table."""
        equatorial = self.views == "equatorial"
        return {
            "weights": self._weights(),
            "rotations": views.equatorial_rotations(VIEWS, JITTERS)
            if equatorial
            else views.random_rotations(ROTATIONS),
        }

    def check(self, table: systems.Category, size: int) -> None:
        """Refuses what could not be drawn: sums that could leave int32."""
        most = int(self._weights().max()) / WEIGHT_UNIT
        check_headroom(table, [most], WEIGHT_UNIT, f"weights={self.weights!r}")
        if self.num_points >= 2**17:
            raise ValueError(
                f"num_points={self.num_points}: give fewer than {2**17} for int32 sums"
            )

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> systems.Category:
        """Candidate `number` -> its system: n ~ U{2..7}, coefficients ~ U[-1, 1), p proportional to
        |det|.
        """
        return systems.Category(*propose_system(number, 3, xp, self.varying, REFERENCE))

    def score(self, params: systems.Category, branch: bool = False) -> Float[Array, ""]:
        """The least variance over the three axes of the normalised cloud, exact to 2**-16."""
        points = self._cloud(params, params.maps, self.search_points, branch)
        count = points[0].shape[0]
        variances = []
        for values in points:  # centred; Q12 squared is Q24, summed in two halves that fit int32
            square = values * values
            high, low = (square >> 8).sum(dtype=jnp.int32), (square & 255).sum(dtype=jnp.int32)
            variances.append((high + (low >> 8)) // count)
        least = jnp.minimum(jnp.minimum(variances[0], variances[1]), variances[2])
        return least.astype(jnp.float32) * np.float32(2**-16)

    def draw(
        self,
        params: systems.Category,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: raster.Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, UInt8[Array, "..."]]:
        """Instance `seed` of one category: image uint8[size, size, 1], 255 where a point is seen.

        Random views: weight row and rotation are a scattered pair that returns after 2**21 seeds.
        Equatorial: instance i is view i % 12 of weight row i // 12 % 145.
        """
        row, rotation = self._instance(seed, constants)
        image = self._models(params, row, rotation[None], size, constants, backend, branch)
        return {"image": image[0]}

    def draw_views(
        self,
        params: systems.Category,
        row: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        jitter: UInt32[Array, " V"],
        *,
        backend: raster.Backend = "scatter",
        branch: bool = False,
    ) -> UInt8[Array, "V size size 1"]:
        """Several rotations of one weighted model, whose points are computed once: uint8[V, size,
        size, 1].

        `jitter` indexes constants["rotations"]. Equal to the pictures that `draw` makes one by one.
        """
        rotations = constants["rotations"][jitter]
        return self._models(params, row, rotations, size, constants, backend, branch)

    def _weights(self) -> np.ndarray:
        whole = weight_rows(145)
        return {"ins145": whole, "none": weight_rows(1), "ofdb": whole[:1]}[self.weights]

    def _instance(self, seed, constants):
        weights, rotations = constants["weights"], constants["rotations"]
        if self.views == "equatorial":
            row = (seed // np.uint32(VIEWS)) % np.uint32(weights.shape[0])
            jitter = noise.below(noise.hash32(seed), JITTERS)
            return row, rotations[(seed % np.uint32(VIEWS)) * np.uint32(JITTERS) + jitter]
        pair = noise.scatter(seed, PAIR_BITS)
        count = np.uint32(weights.shape[0])
        return pair % count, rotations[(pair // count) % np.uint32(rotations.shape[0])]

    def _models(self, params, row, rotations, size, constants, backend, branch):
        maps = apply_weight(params.maps, constants["weights"][row], WEIGHT_UNIT)
        points = self._cloud(params, maps, self.num_points, branch)
        images = []
        for v in range(rotations.shape[0]):
            rows, cols = views.project(points, rotations[v], size)
            seen = raster.raster(rows, cols, size, op="occupied", backend=backend)
            if self.render in ("outline", "filled"):
                shape = silhouette.outline if self.render == "outline" else silhouette.filled
                seen = shape(seen > 0).astype(jnp.uint8)
            images.append((seen * WHITE)[..., None])
        return jnp.stack(images)

    def _cloud(self, params, maps, num_points: int, branch: bool):
        key = noise.host_key(self.orbit_seed)
        points = chaos.orbit(
            maps,
            params.thresholds,
            params.num_maps,
            key,
            num_points=num_points,
            chains=self.chains,
            branch=branch,
        )
        limits = [chaos.bounds(values) for values in points]
        low = jnp.minimum(jnp.minimum(limits[0][0], limits[1][0]), limits[2][0])
        high = jnp.maximum(jnp.maximum(limits[0][1], limits[1][1]), limits[2][1])
        return views.normalise(points, low, high)
