"""A small run on meshes of eight virtual devices and on one, each compiled once a test process."""

import collections
import functools
import re
from typing import Any

import jax
import numpy as np

from jaxfdsl import checkpoint, experiment, optim, sharding, step
from jaxfdsl import config as c
from jaxfdsl import state as state_lib
from jaxfdsl.config import ConfigDict
from jaxfdsl.models import vit

COLLECTIVES = r"\b(all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
ONE = (1, 1, 1)
BOTH = (2, 2, 2)
MESHES = {"data": (8, 1, 1), "fsdp": (1, 8, 1), "tensor": (4, 1, 2), "fsdp+tensor": BOTH}


def tiny(shape: tuple[int, int, int], **model: Any) -> ConfigDict:
    """Two formulas, drop path, crops, mixup, an average and clipping."""
    config = c.default_config()
    config.update(batch_size=32, steps=100)
    config.mesh.update(dict(zip(sharding.AXES, shape, strict=True)))
    config.model.update(image_size=16, patch_size=8, width=32, depth=2, num_heads=2, drop_path=0.2)
    config.model.update(model)
    config.optimizer.update(ema=0.9, clip_norm=1.0)
    config.augment.update(crop="pad", flip_lr=True, mixup=0.8)
    points = {"pattern": "point", "num_points": 300}
    for name, classes in (("a", 6), ("b", 4)):
        config.data.sources[name] = c.formula_source(
            "fractaldb-1k", num_classes=classes, size=16, options=points, share=0.5
        )
    return config


def devices(shape: tuple[int, int, int]) -> list[jax.Device]:
    """As many as the mesh has."""
    return jax.devices()[: int(np.prod(shape))]


@functools.cache
def built(shape: tuple[int, int, int]) -> experiment.Experiment:
    """The run on a mesh."""
    return experiment.build(tiny(shape), devices(shape))


def rows_of(parts: experiment.Experiment, number: int) -> Any:
    """The rows of a batch on the mesh."""
    return sharding.put_rows(parts.mesh, parts.batches.rows(number))


@functools.cache
def compiled(shape: tuple[int, int, int]) -> Any:
    """The run's training step."""
    parts = built(shape)
    state = checkpoint.like(parts.state, parts.laid)
    lowered = parts.train_step.lower(state, jax.random.key(0), rows_of(parts, 0), parts.tables)
    return lowered.compile()


@functools.cache
def first() -> Any:
    """The state before the first step, on the host."""
    return jax.device_get(built(ONE).start())


@functools.cache
def trained(shape: tuple[int, int, int], steps: int) -> tuple[list[float], Any]:
    """Losses of some steps, and the state after them."""
    parts, train_step = built(shape), compiled(shape)
    # That a state is made where it lies is seen on the mesh that cuts it every way.
    state = parts.start() if shape == BOTH else jax.device_put(first(), parts.laid)
    losses = []
    for number in range(steps):
        rows = rows_of(parts, number)
        state, metrics = train_step(state, jax.random.key(0), rows, parts.tables)
        losses.append(float(metrics["loss"]))
    return losses, state


def given(
    config: ConfigDict,
    objectives: Any,
    heads: dict[str, int],
    *,
    start: bool = True,
    **options: Any,
) -> Any:
    """A mesh, a new state (or its shapes alone) and a training step of batches that are given, not
    drawn.
    """
    shape = tuple(config.mesh[axis] for axis in sharding.AXES)
    mesh = sharding.make_mesh(config.mesh, devices(shape))
    model = vit.build(config.model, heads, "float32")
    rate = lambda step: config.optimizer.learning_rate  # noqa: E731
    optimizer = optim.build(config.optimizer, rate)

    def create(key: jax.Array) -> Any:
        return state_lib.create(model.init(key), optimizer, ema=config.optimizer.ema > 0)

    state = jax.eval_shape(create, jax.random.key(0))
    laid = state_lib.shardings(state, mesh)
    if start:
        state = jax.jit(create, out_shardings=laid)(jax.random.key(0))
    else:
        state = checkpoint.like(state, laid)
    return (
        mesh,
        state,
        step.make_train_step(
            model=model,
            objectives=objectives,
            optimizer=optimizer,
            rate=rate,
            ema=optim.ema_decay(config.optimizer),
            draw_batch=lambda key, step, rows, tables: rows,
            mesh=mesh,
            laid=laid,
            accumulate=config.accumulate,
            **options,
        ),
    )


def batch_of(rows: int = 32) -> dict[str, np.ndarray]:
    """Float images with labels, masks and some rows without weight."""
    random = np.random.default_rng(0)
    return {
        "image": random.normal(0, 1, (rows, 16, 16, 3)).astype(np.float32),
        "label": random.integers(0, 10, rows).astype(np.int32),
        "mask": random.integers(0, 11, (rows, 16, 16)).astype(np.int32),
        "valid": (np.arange(rows) % 8 != 3).astype(np.float32),
    }


def collectives(program: Any) -> dict[str, int]:
    """How many of each kind a compiled program has; the body of a loop counts once."""
    return dict(sorted(collections.Counter(re.findall(COLLECTIVES, program.as_text())).items()))
