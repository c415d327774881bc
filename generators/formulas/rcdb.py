"""RCDB, the radial contour database (Kataoka et al., CVPR 2022): nested, noisy, closed polygons.

Defaults are what the published script makes (rcdb_render/make_rcdb.py and its RCDB_render.sh):
canvas 512, 3 to 200 vertices of an exponential law, 1 to 200 polygons, lines of one pixel in a
random gray on white; the first instance of a category has its radius, oval and centre, every later
one draws its own. Kept: grays run from 0 to 256, of which 256 is 255; the noise's negative
gradients are all -1; the parameter that the script calls `line_width` is the growth of a polygon
over the last. The paper's figures show a black ground (`background`). Not kept: the script's seed
is the number of its process.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8, UInt32

from ..drawing.raster import Backend
from . import contour, radial
from .radial import Category


@dataclasses.dataclass(frozen=True)
class RCDB:
    """The family with its options; each default is the published script's value.

    Pairs are least and greatest. Lengths are pixels of the 512 canvas and grow with `size`; the
    centre is (512 + U[-centre_spread, centre_spread]) / 2. oval_per: what has a radius and an oval
    of its own. render: vertices alone, or the silhouette of the published picture in the other of
    black and white. varying: how many of `VARYING`, from its start, differ between categories; the
    others stand in the middle of their range. broken_lines: how many random lines in the
    background's gray are drawn over the picture; 1,000 is the published failure case.
    """

    background: Literal["white", "black"] = "white"
    vertices: tuple[int, int] = (3, 200)
    mean_vertices: int = 100
    polygons: tuple[int, int] = (1, 200)
    noise: tuple[float, float] = (0.0, 4.0)
    growth: tuple[float, float] = (0.0, 0.1)
    radius: tuple[int, int] = (0, 100)
    oval: tuple[float, float] = (1.0, 2.0)
    centre_spread: int = 400
    gray: tuple[int, int] = (0, 256)
    oval_per: Literal["instance", "category"] = "instance"
    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = 7
    broken_lines: int = 0

    name: ClassVar[str] = "rcdb"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = radial.CANVAS
    channels: ClassVar[int] = 1
    Category: ClassVar[type] = Category
    VARYING: ClassVar[tuple[str, ...]] = (
        *("vertices", "polygons", "noise", "growth", "radius", "oval", "centre"),
    )
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        **contour.LIMITS,
        "mean_vertices": (1, 1000),
        "varying": (1, 7),
    }
    gain: ClassVar[int] = 2  # noise 2 lambda p - lambda

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its category; they travel with the table."""
        return radial.tables()

    def check(self, table: Category, size: int) -> None:
        """Refuses a table whose contours could leave int32 on this canvas."""
        radial.check(table, contour.ranges(self), size, self.gain, self.vertices[1])

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> Category:
        """Candidate `number` -> its category; every candidate is one."""
        spans = contour.ranges(self)
        fixed = contour.middle(spans, self.VARYING[self.varying :])
        return radial.propose(number, spans, fixed=fixed, mean_vertices=self.mean_vertices, xp=xp)

    def draw(
        self,
        params: Category,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, UInt8[Array, "..."]]:
        """Instance `seed` of one category: image uint8[size, size, 1]."""
        redrawn = ("radius", "oval", "centre") if self.oval_per == "instance" else ("centre",)
        image = contour.draw(
            self,
            params,
            seed,
            size,
            constants,
            redrawn=redrawn,
            gain=self.gain,
            backend=backend,
            branch=branch,
        )
        return {"image": image}
