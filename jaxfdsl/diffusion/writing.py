"""Samples into a store, in batches of one shape, kept across restarts.

Image i is made at place i % batch of batch i // batch, however many there are and wherever a killed
run goes on, so that its bytes are the same: a matrix product may round a row by where it stands.
Each device of this process makes whole batches.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import UInt8

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.condition import ASKED
from jaxfdsl.data.materialise import images as pictures
from jaxfdsl.data.prepare.shards import look_ahead
from jaxfdsl.data.store import columns, layout
from jaxfdsl.diffusion.recipes import Recipes, noise_seeds
from jaxfdsl.diffusion.sampling import Sampler
from jaxfdsl.models import sampler as flows


def usual_batch() -> int:
    """Images that a device makes at once."""
    return 64 if jax.default_backend() == "cpu" else 256


def samples(
    sampler: Sampler, recipes: Recipes, first: int, last: int, batch: int
) -> Iterator[tuple[int, UInt8[np.ndarray, "S S 3"]]]:
    """Images `first` to `last` - 1 of the set with their numbers; while these are looked at, the
    devices make the next ones."""
    devices = jax.local_devices()
    mesh = Mesh(np.asarray(devices), ("batch",))
    rows, whole = (NamedSharding(mesh, spec) for spec in (P("batch"), P()))
    draw = flows.on_devices(sampler.draw, mesh)
    params = jax.device_put(sampler.params, whole)
    at_once = batch * len(devices)

    def start(at: int) -> Any:
        recipe, seed = recipes.of(np.arange(at, at + at_once))  # past `last` too: one shape
        given = recipes.cond[recipe], noise_seeds(recipe, seed)
        return draw(params, *jax.device_put(given, rows))

    begin = first // at_once * at_once
    waiting = start(begin) if first < last else None
    for at in range(begin, last, at_once):
        made, waiting = waiting, start(at + at_once) if at + at_once < last else None
        for place, image in enumerate(np.asarray(made), at):
            if first <= place < last:
                yield place, image


def write(
    sampler: Sampler,
    recipes: Recipes,
    out: str | os.PathLike,
    count: int,
    *,
    card: dict[str, Any],
    batch: int,
    shard_images: int,
    bar: Any,
) -> None:
    """Write what is missing of the first `count` images of a set to the store `out`, as PNG.

    Row i is image i: `group` the recipe's number, `seed` which image of it, `source` the run. A
    larger count goes on with a set that is there. Raises ConfigError for a store of another set,
    and for one that holds more.
    """
    held = _held(out)
    if held > count:
        raise ConfigError(
            f"--images={count}: {out} holds {held:,} already: type {held} or more, or a new --out."
        )
    with (
        store.Writer(
            out, card=card, classes=recipes.class_names, shard_images=shard_images
        ) as writer,
        ThreadPoolExecutor(pictures.threads()) as pool,
    ):
        bar.initial += writer.done  # the rate is that of this run
        bar.update(writer.done)
        made = samples(sampler, recipes, writer.done, count, batch)
        encode = look_ahead(pool, 2 * batch, lambda one: (one[0], pictures.png(one[1])), made)
        for number, image in encode:
            recipe, seed = recipes.of(np.array([number]))
            writer.add(
                image,
                label=int(recipes.label[recipe[0]]),
                group=int(recipe[0]),
                seed=int(seed[0]),
                source=sampler.name,
            )
            bar.update()
    if recipes.column is not None:
        _say_asked(out, sampler, recipes, count)


def _held(out: str | os.PathLike) -> int:
    root = pathlib.Path(out).expanduser()
    return layout.load(root).images if (root / layout.NAME).is_file() else 0


def _say_asked(out: str | os.PathLike, sampler: Sampler, recipes: Recipes, count: int) -> None:
    """The column of what was asked for, where it is not there in full."""
    assert recipes.column is not None
    file = columns.sidecar_file(pathlib.Path(out).expanduser(), ASKED)
    with contextlib.suppress(ConfigError):  # a kill may come between a column and what it says
        if columns.described(file)["shape"][0] == count:
            return
    recipe, _ = recipes.of(np.arange(count))
    made_by = {**sampler.condition.made_by, "by": "asked", "recipes": recipes.digest}
    store.write_column(out, ASKED, recipes.column[recipe], made_by)
