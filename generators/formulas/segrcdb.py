"""SegRCDB: scenes of radial contours with a mask (Shinoda et al., ICCV 2023).

Defaults are what the published script makes (make_SegRCDB.sh): canvas 512, 32 objects of 254
classes, each with its class's 3 to 500 vertices of an exponential law, 1 to 50 polygons, noise,
growth, radius and oval, and a centre of its own; lines of one pixel in a random gray on black,
later objects over earlier ones. The paper's set has 118,000 scenes, the script's default 20,000.

Masks are 0 for the background and the class id + 1 else. M1 (the script's): what is drawn. M2: the
ring between the first and the last polygon of an object with the lines of both; its hole is
background whatever lies under it, and an object of one polygon has no mask, as in the script. M3:
the inside of the last polygon. Insides are those of `drawing.polygon`. Not kept: the script's seed
is the number of its process, and it draws its candidates with Python's generator.
"""

import dataclasses
import functools
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int32, UInt32

from ..drawing import noise, polygon, polyline
from ..drawing.raster import Backend
from . import contour, radial
from .radial import Category

GRAY_BITS, CLASS_BITS, NUMBER_BITS = 8, 12, 6  # of a key, which begins with the object's number
MOST_CLASSES = 2**CLASS_BITS - 1


@dataclasses.dataclass(frozen=True)
class SegRCDB:
    """The family with its options; each default is the published script's value.

    Pairs are least and greatest. Lengths are pixels of the 512 canvas and grow with `size`; centres
    are (512 + U[-centre_spread, centre_spread]) / 2. render: vertices alone, or the line or the
    inside of each object's last polygon in white; M1 marks what is drawn then too. varying: how
    many of `VARYING`, from its start, differ between categories; the others stand in the middle of
    their range.
    """

    masks: Literal["M1", "M2", "M3"] = "M1"
    objects: int = 32
    vertices: tuple[int, int] = (3, 500)
    mean_vertices: int = 100
    polygons: tuple[int, int] = (1, 50)
    noise: tuple[float, float] = (0.0, 4.0)
    growth: tuple[float, float] = (0.0, 0.1)
    radius: tuple[int, int] = (0, 50)
    oval: tuple[float, float] = (1.0, 2.0)
    centre_spread: int = 512
    gray: tuple[int, int] = (0, 255)
    render: Literal["published", "points", "outline", "filled"] = "published"
    varying: int = 6

    name: ClassVar[str] = "segrcdb"
    version: ClassVar[int] = 1
    canvas: ClassVar[int] = radial.CANVAS
    channels: ClassVar[int] = 1
    has_mask: ClassVar[bool] = True
    Category: ClassVar[type] = Category
    VARYING: ClassVar[tuple[str, ...]] = (
        *("vertices", "polygons", "noise", "growth", "radius", "oval"),
    )
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        **contour.LIMITS,
        "objects": (1, 32),
        "mean_vertices": (1, 1000),
        "polygons": (1, 63),
        "gray": (0, 255),
        "varying": (1, 6),
    }
    gain: ClassVar[int] = 2  # noise 2 lambda p - lambda

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that every image reads beside its categories; they travel with the table."""
        return radial.tables()

    def check(self, table: radial.Category, size: int) -> None:
        """Refuses a table whose contours could leave int32 on this canvas, or of too many
        classes.
        """
        spans = contour.ranges(self)
        if len(table.vertices) > MOST_CLASSES:
            raise ValueError(
                f"{len(table.vertices)} categories: masks have room for {MOST_CLASSES}"
            )
        radial.check(table, spans, size, self.gain, self.vertices[1])

    def propose(self, number: UInt32[Array | np.ndarray, "*n"], xp: Any = jnp) -> radial.Category:
        """Candidate `number` -> its category; every candidate is one. Its centre is not used."""
        spans = contour.ranges(self)
        fixed = contour.middle(spans, (*self.VARYING[self.varying :], "centre"))
        return radial.propose(number, spans, fixed=fixed, mean_vertices=self.mean_vertices, xp=xp)

    def compose(
        self,
        table: radial.Category,
        seed: UInt32[Array, ""],
        size: int,
        constants: dict[str, Array],
        *,
        backend: Backend = "scatter",
        branch: bool = False,
    ) -> dict[str, Array]:
        """Scene `seed`: image uint8[size, size, 1], mask int32[size, size], and label int32[32],
        the categories of its objects, each once, padded with -1, whether they are seen or hidden.
        """
        scene = _cast(self, table, seed)
        paint = functools.partial(_paint, self, scene, constants, size, backend, branch)
        ends: Any = _ends(self, scene, constants, size, branch) if self._needs_ends else None
        if self.render in ("published", "points"):
            drawn = paint(points=self.render == "points")
            image = (drawn & (2**GRAY_BITS - 1)).astype(jnp.uint8)
            shown = drawn >> GRAY_BITS & MOST_CLASSES
        else:
            shape = _insides if self.render == "filled" else _outlines
            shown = shape(scene, ends, size, backend, branch)
            image = jnp.where(shown > 0, np.uint8(255), np.uint8(0))
        if self.masks != "M1":
            shown = (_rings if self.masks == "M2" else _insides)(scene, ends, size, backend, branch)
        again = jnp.tril(scene.ids[:, None] == scene.ids, -1).any(1)
        return {
            "image": image.reshape(size, size, 1),
            "mask": shown.reshape(size, size),
            "label": jnp.where(again, -1, scene.ids),
        }

    @property
    def _needs_ends(self) -> bool:
        return self.masks != "M1" or self.render in ("outline", "filled")


class Scene(NamedTuple):
    """The objects of a picture in the order of painting, with a leading axis."""

    params: Category
    ids: Int32[Array, " n"]
    walk: UInt32[Array, " n"]
    grays: UInt32[Array, " n"]


class Ends(NamedTuple):
    """Corners of the first and the last polygon of each object, and how many they have."""

    x: Int32[Array, "n 2 V"]
    y: Int32[Array, "n 2 V"]
    corners: Int32[Array, " n"]


def _cast(family: SegRCDB, table: Category, seed: UInt32[Array, ""]) -> Scene:
    spans = contour.ranges(family)

    def one(number):
        word = noise.mix(seed, number)
        chosen = noise.pick(word, len(table.vertices)).astype(jnp.int32)
        params = jax.tree.map(lambda field: field[chosen], table)
        key = noise.mix(word, radial.fingerprint(params))
        walk, grays = noise.mix(key, np.arange(8, 10, dtype=np.uint32))  # past `radial.place`'s
        return Scene(radial.place(params, key, spans, "centre"), chosen, walk, grays)

    return lax.optimization_barrier(jax.vmap(one)(lax.iota(jnp.uint32, family.objects)))


def _paint(family: SegRCDB, scene, tables, size: int, backend, branch: bool, *, points: bool):
    """Keys of all lines: object, polygon, class + 1 and gray, each in its bits."""

    def draw(number, canvas):
        own = jax.tree.map(lambda field: field[number], scene)

        def ink(polygon):
            gray = noise.mix(own.grays, polygon.astype(jnp.uint32))
            order = number << NUMBER_BITS | polygon + 1
            gray = radial.uniform(gray, family.gray)
            return order << CLASS_BITS + GRAY_BITS | own.ids + 1 << GRAY_BITS | gray

        return radial.trace(
            canvas,
            own.params,
            own.walk,
            ink,
            tables,
            size,
            gain=family.gain,
            vertices=family.vertices,
            most_polygons=family.polygons[1],
            points=points,
            backend=backend,
            branch=branch,
        )

    return lax.fori_loop(0, family.objects, draw, jnp.zeros(size * size, jnp.int32))


def _ends(family: SegRCDB, scene: Scene, tables, size: int, branch: bool) -> Ends:
    lanes = family.vertices[1] + 1

    def one(own: Scene):
        here = radial.rays(own.params, size, family.gain, lanes, tables)

        def walk(first, sums, block: int):
            return radial.walk(here, own.params, own.walk, first, sums, block, tables["noise"])

        if branch:  # from polygon to polygon, as many as there are
            first = walk(jnp.int32(0), radial.rest(lanes), 1)
            last = lax.fori_loop(1, own.params.polygons, lambda n, s: walk(n, s[2], 1), first)
            return [jnp.concatenate([v, w]) for v, w in zip(first[:2], last[:2], strict=True)]
        x, y, _ = walk(jnp.int32(0), radial.rest(lanes), family.polygons[1])
        return [jnp.stack([v[0], v[own.params.polygons - 1]]) for v in (x, y)]

    x, y = lax.map(one, scene)
    return Ends(x, y, scene.params.vertices)


def _outlines(scene: Scene, ends: Ends, size: int, backend: Backend, branch: bool):
    """Class + 1 of the lines of the last polygons."""
    return _edges(scene, ends, size, backend, jnp.array([0, 1])) & MOST_CLASSES


def _edges(scene: Scene, ends: Ends, size: int, backend: Backend, which: Int32[Array, "2"]):
    """Keys of the lines of the first and the last polygon as far as `which` is not 0: object + 1
    and class + 1.
    """

    def draw(number, canvas):
        key = (number + 1 << CLASS_BITS | scene.ids[number] + 1) * which
        key = jnp.where(ends.corners[number] > 0, key, 0)
        corners = ends.x[number], ends.y[number], ends.corners[number]
        return polyline.closed(canvas, *corners, key, size, backend=backend)

    return lax.fori_loop(0, len(scene.ids), draw, jnp.zeros(size * size, jnp.int32))


def _insides(scene: Scene, ends: Ends, size: int, backend: Backend, branch: bool):
    """Class + 1 of the insides of the last polygons, later objects over earlier ones."""

    def fill(shown, group):
        ids, ends, _ = group
        inside = _filled(ends, 1, size, backend, branch)
        for bit in range(polygon.TOGETHER):
            shown = jnp.where(inside >> np.uint8(bit) & 1, ids[bit] + 1, shown)
        return shown, None

    return lax.scan(fill, jnp.zeros(size * size, jnp.int32), _groups(scene, ends))[0]


def _rings(scene: Scene, ends: Ends, size: int, backend: Backend, branch: bool):
    """Class + 1 between the first and the last polygons and on their lines, 0 within the first."""
    # The script paints no mask where the first polygon is the last.
    ends = ends._replace(corners=jnp.where(scene.params.polygons > 1, ends.corners, 0))
    edges = _edges(scene, ends, size, backend, jnp.array([1, 1])) >> CLASS_BITS

    def fill(shown, group):
        ids, ends, first = group
        holes, insides = (_filled(ends, i, size, backend, branch) for i in range(2))
        for bit in range(polygon.TOGETHER):
            shown = jnp.where(insides >> np.uint8(bit) & 1, ids[bit] + 1, shown)
            shown = jnp.where(holes >> np.uint8(bit) & 1, 0, shown)
            shown = jnp.where(edges == first + bit + 1, ids[bit] + 1, shown)
        return shown, None

    return lax.scan(fill, jnp.zeros(size * size, jnp.int32), _groups(scene, ends))[0]


def _filled(ends: Ends, which: int, size: int, backend: Backend, branch: bool):
    corners = ends.x[:, which], ends.y[:, which], ends.corners
    return polygon.filled(*corners, size, backend=backend, branch=branch)


def _groups(scene: Scene, ends: Ends):
    """Ids, ends and the first number of eight objects at a time; what is missing has no corners."""
    missing = -len(scene.ids) % polygon.TOGETHER

    def grouped(field):
        field = jnp.pad(field, ((0, missing), *((0, 0) for _ in field.shape[1:])))
        return field.reshape(-1, polygon.TOGETHER, *field.shape[1:])

    ids, ends = jax.tree.map(grouped, (scene.ids, ends))
    return ids, ends, polygon.TOGETHER * lax.iota(jnp.int32, len(ids))
