"""VisualAtom (Takashima et al., CVPR 2023): nested closed polygons that two sine waves deform.

Defaults are what the published script makes (make_VisualAtom.sh): canvas 512, 200 to 1,000
vertices, 1 to 200 polygons, lines of one pixel in a random gray on black; instances of a category
differ in centre, noise and grays. Bare argparse defaults of the script, which some copies took:
noise=(2, 6), radius=(0, 50), growth=(0, 0.01). Kept: the noise's negative gradients are all -1; the
second frequency is drawn again while it equals the first, unless that is 0; what the script calls
`line_width` is the growth of a polygon over the last. Not kept: the script's seed is the number of
its process.
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
class VisualAtom:
    """The family with its options; each default is the published script's value.

    Pairs are least and greatest. Lengths are pixels of the 512 canvas and grow with `size`; the
    centre is (512 + U[-centre_spread, centre_spread]) / 2. oval_per: what has a radius and an oval
    of its own. render: vertices alone, or the silhouette of the published picture in the other of
    black and white. varying: how many of `VARYING`, from its start, differ between categories; the
    others stand in the middle of their range. broken_lines: how many random lines in the
    background's gray are drawn over the picture, as in RCDB's published failure case.
    """

    background: Literal["white", "black"] = "black"
    vertices: tuple[int, int] = (200, 1000)
    polygons: tuple[int, int] = (1, 200)
    noise: tuple[float, float] = (0.0, 4.0)
    growth: tuple[float, float] = (0.0, 0.1)
    radius: tuple[int, int] = (10, 60)
    frequencies: tuple[int, int] = (0, 20)
    oval: tuple[float, float] = (1.0, 2.0)
    centre_spread: int = 512
    gray: tuple[int, int] = (0, 255)
    oval_per: Literal["instance", "category"] = "category"
    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = 8
    broken_lines: int = 0

    name: ClassVar[str] = "visualatom"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = radial.CANVAS
    channels: ClassVar[int] = 1
    Category: ClassVar[type] = Category
    VARYING: ClassVar[tuple[str, ...]] = (
        *("vertices", "polygons", "noise", "growth", "radius", "frequencies", "oval", "centre"),
    )
    limits: ClassVar[dict[str, tuple[float, float]]] = {**contour.LIMITS, "varying": (1, 8)}
    gain: ClassVar[int] = 1  # noise lambda p - lambda

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
        return radial.propose(number, spans, fixed=fixed, xp=xp)

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
