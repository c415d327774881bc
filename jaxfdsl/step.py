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
Fields = Callable[..., Batch]  # of rows, tables and a `Batches.fields` crop
Crop = Callable[[Batch, jax.Array, jax.Array], Batch]  # of a source's part, a key and row numbers
Augment = Callable[[Batch, jax.Array, jax.Array], Batch]  # of the joined batch, likewise
Objectives = Mapping[str, tuple[float, Any]]  # {name: (weight, objective)}


def drawer(fields: Fields, crop: Crop, augment: Augment, mesh: Mesh) -> Callable[..., Batch]:
    """Returns draw(rows, tables, key) -> batch with float32 images, cut over the mesh by rows.

    `fields(rows, tables, crop)` sees one device's part. `crop` brings every source's images to one
    size, `augment` works on the joined batch; both get a key and the numbers of their rows in the
    global batch (of the source's own rows in `crop`), so that no result depends on the mesh.
    """

    def shard(rows: Rows, tables: Any, key: jax.Array) -> Batch:
        place = jax.lax.axis_index(sharding.BATCH_AXES)
        crop_key, rest = jax.random.split(key)

        def crop_source(number: int, part: Batch) -> Batch:
            own = place * len(part["image"]) + jnp.arange(len(part["image"]))
            return crop(part, jax.random.fold_in(crop_key, number), own)

        batch = dict(fields(rows, tables, crop_source))
        count = batch["image"].shape[0]
        with jax.named_scope("augment"):
            return augment(batch, rest, place * count + jnp.arange(count))

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
    crop: Crop,
    augment: Augment,
    mesh: Mesh,
    laid: State,
    accumulate: int = 1,
) -> Callable[..., tuple[State, dict[str, jax.Array]]]:
    """Returns train_step(state, key, rows, tables) -> (state, metrics); the old state is consumed.

    `laid` are the shardings of the state's leaves, `key` is the run's own for all its steps.
    With `accumulate` K the model sees the batch in K parts, one after another; the gradient is that
    of the whole. metrics: float32 scalars loss, learning_rate, grad_norm and each objective's own.
    """
    draw = drawer(fields, crop, augment, mesh)
    grad_of = jax.value_and_grad(_loss(model, objectives, mesh), has_aux=True)
    if accumulate > 1:
        grad_of = _accumulated(grad_of, accumulate, mesh)

    def train_step(state: State, key: jax.Array, rows: Rows, tables: Any):
        augment_key, model_key = jax.random.split(jax.random.fold_in(key, state["step"]))
        batch = draw(rows, tables, augment_key)
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


def _accumulated(grad_of: Callable, parts: int, mesh: Mesh) -> Callable:
    """`grad_of(params, batch, key)` of a batch in `parts` strided parts, each weighing as much as
    it has valid rows; strided, so that every device keeps its rows."""
    spec = jax.sharding.NamedSharding(mesh, P(None, *sharding.batch_spec))

    def cut(x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(x, spec)

    def whole(params: Any, batch: Batch, key: jax.Array):
        valid = batch.get("valid", jnp.ones(batch["image"].shape[:1], jnp.float32))
        total = jnp.maximum(jnp.sum(valid), 1.0)

        def step(done: Any, part: tuple[jax.Array, Batch]):
            number, batch = part
            found = grad_of(params, batch, jax.random.fold_in(key, number))
            weight = jnp.sum(batch["valid"]) / total
            return jax.tree.map(lambda a, b: a + weight * b, done, found), None

        batches = jax.tree.map(cut, {**batch, "valid": valid})
        first = jax.eval_shape(grad_of, params, jax.tree.map(lambda x: x[0], batches), key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
        return jax.lax.scan(step, zeros, (jnp.arange(parts), batches))[0]

    return whole


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


def eval_drawer(
    fields: Callable[[Rows, Any], Batch], augment: Callable[[Batch], Batch], mesh: Mesh
) -> Callable[[Rows, Any], Batch]:
    """Returns draw(rows, table) -> batch with float32 images and no chance in it."""

    def shard(rows: Rows, table: Any) -> Batch:
        with jax.named_scope("draw"):
            batch = dict(fields(rows, table))
        with jax.named_scope("augment"):
            return augment(batch)

    specs = (sharding.batch_spec, P())
    return jax.shard_map(
        shard, mesh=mesh, in_specs=specs, out_specs=sharding.batch_spec, check_vma=False
    )


def make_eval_step(
    *,
    model: Model,
    objective: Any,
    fields: Fields,
    augment: Callable[[Batch], Batch],
    mesh: Mesh,
) -> Callable[..., dict[str, jax.Array]]:
    """Returns eval_step(params, rows, table) -> the objective's sums over the batch.

    `fields(rows, table)` is one source's, without a crop.
    """
    draw = eval_drawer(fields, augment, mesh)

    def eval_step(params: Any, rows: Rows, table: Any) -> dict[str, jax.Array]:
        batch = draw(rows, table)
        outputs = model.apply(params, batch["image"], train=False)
        return objective.counts(outputs, batch)

    return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))
