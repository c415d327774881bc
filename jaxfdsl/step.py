"""The two compiled functions of a run: one training step, one evaluation step.

Each draws its images first, inside the same program. Drawing and augmentation run under
`jax.shard_map`, every device on its own rows, so that they add no collective. All chance in a step
comes from (seed, step, global row), so results do not depend on the number of devices.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxfdsl import sharding
from jaxfdsl.models.vit import Model
from jaxfdsl.state import State

Batch = dict[str, jax.Array]
Rows = Any  # {source: {field: array}}, cut along the first axis
Fields = Callable[[Rows, Any], Batch]
Augment = Callable[..., Batch]
Objectives = Mapping[str, tuple[float, Any]]  # {name: (weight, objective)}


def drawer(fields: Fields, augment: Augment, mesh: Mesh) -> Callable[..., Batch]:
    """Returns draw(rows, tables, key) -> batch with float32 images, cut over the mesh by rows.

    `fields(rows, tables)` and `augment(batch, key, rows=int32[b])` see one device's part; the
    latter's `rows` are the numbers of its samples in the global batch.
    """

    def shard(rows: Rows, tables: Any, key: jax.Array) -> Batch:
        with jax.named_scope("draw"):
            batch = dict(fields(rows, tables))
        count = batch["image"].shape[0]
        first = jax.lax.axis_index(sharding.BATCH_AXES) * count
        with jax.named_scope("augment"):
            return augment(batch, key, rows=first + jnp.arange(count))

    specs = (sharding.batch_spec, P(), P())
    return jax.shard_map(
        shard, mesh=mesh, in_specs=specs, out_specs=sharding.batch_spec, check_vma=False
    )


def make_train_step(
    *,
    model: Model,
    objectives: Objectives,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
    ema: float,
    fields: Fields,
    augment: Augment,
    mesh: Mesh,
    laid: State,
) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
    """Returns train_step(state, key, rows, tables) -> (state, metrics); the old state is consumed.

    `laid` are the shardings of the state's leaves, `key` is the run's own for all its steps.
    metrics: float32 scalars loss, learning_rate, grad_norm and each objective's own.
    """
    draw = drawer(fields, augment, mesh)
    loss_of = _loss(model, objectives, mesh)

    def train_step(state: State, key: jax.Array, rows: Rows, tables: Any):
        augment_key, model_key = jax.random.split(jax.random.fold_in(key, state["step"]))
        batch = draw(rows, tables, augment_key)
        grad_of = jax.value_and_grad(loss_of, has_aux=True)
        (loss, metrics), grads = grad_of(state["params"], batch, model_key)
        with jax.named_scope("update"):
            grads = jax.lax.with_sharding_constraint(grads, laid["params"])
            new = update(state, grads, optimizer, ema)
        metrics |= {"loss": loss, "learning_rate": rate(state["step"])}
        return new, metrics | {"grad_norm": optax.tree.norm(grads)}

    out = (laid, sharding.replicated(mesh))
    return jax.jit(train_step, donate_argnums=0, out_shardings=out)


def update(state: State, grads: Any, optimizer: optax.GradientTransformation, ema: float) -> State:
    """The next state: one optimiser step, and the average of the parameters if one is kept."""
    updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
    params = optax.apply_updates(state["params"], updates)
    new = {"step": state["step"] + 1, "params": params, "opt_state": opt_state}
    if ema:
        new["ema"] = optax.incremental_update(params, state["ema"], 1.0 - ema)
    return new


def _loss(model: Model, objectives: Objectives, mesh: Mesh) -> Callable:
    """The weighted sum of the objectives, and their metrics; those that see the same images share
    one forward pass."""
    batched = sharding.batched(mesh)

    def constrain(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, batched)

    def loss_of(params: Any, batch: Batch, key: jax.Array):
        total = jnp.zeros(())
        metrics: dict[str, jax.Array] = {}
        passes: list[tuple[jax.Array, Any]] = []
        for name, (weight, objective) in objectives.items():
            images = objective.inputs(batch, key)
            outputs = next((done for seen, done in passes if seen is images), None)
            if outputs is None:
                outputs = model.apply(params, images, train=True, key=key, constrain=constrain)
                passes.append((images, outputs))
            with jax.named_scope(name):
                loss, own = objective.loss(outputs, batch)
            total += weight * loss
            metrics |= own
        return total, metrics

    return loss_of


def make_eval_step(
    *,
    model: Model,
    objective: Any,
    fields: Fields,
    augment: Callable[[Batch], Batch],
    mesh: Mesh,
) -> Callable[..., dict[str, jax.Array]]:
    """Returns eval_step(params, rows, table) -> the objective's sums over the batch."""
    draw = drawer(fields, lambda batch, key, rows: augment(batch), mesh)

    def eval_step(params: Any, rows: Rows, table: Any) -> dict[str, jax.Array]:
        batch = draw(rows, table, jax.random.key(0))
        outputs = model.apply(params, batch["image"], train=False)
        return objective.counts(outputs, batch)

    return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))
