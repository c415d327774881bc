"""The two compiled functions of a run: one training step, one evaluation step.

Each draws its images first, inside the same program (a training step also in one of its own before
it, where `config.draw` says so). Drawing and augmentation run under
`jax.shard_map`, every device on its own rows, so that they add no collective. All chance in a step
comes from (seed, step, global row), so results do not depend on the number of devices.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxfdsl import optim, sharding
from jaxfdsl.config import ConfigError
from jaxfdsl.models import text
from jaxfdsl.models.vit import Model
from jaxfdsl.state import State

Batch = dict[str, jax.Array]
Rows = Any  # {source: {field: array}}, cut along the first axis
Fields = Callable[..., Batch]  # of rows, tables and a `Batches.fields` crop
Crop = Callable[[Batch, jax.Array, jax.Array], Batch]  # of a source's part, a key and row numbers
Augment = Callable[[Batch, jax.Array, jax.Array, Any], Batch]  # of all, likewise, and the tables
Metrics = dict[str, jax.Array]
Objectives = Mapping[str, tuple[float, Any]]  # {name: (weight, objective)}


def drawer(fields: Fields, crop: Crop, augment: Augment, mesh: Mesh) -> Callable[..., Batch]:
    """Returns draw(rows, tables, key) -> batch with float32 images, cut over the mesh by rows.

    `fields(rows, tables, crop)` sees one device's part. `crop` brings every source's images to one
    size, `augment` works on the joined batch and sees the tables; both get a key and the numbers of
    their rows in the global batch (of the source's own rows in `crop`), so that no result depends
    on the mesh.
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
            return augment(batch, rest, place * count + jnp.arange(count), tables)

    specs = (sharding.batch_spec, P(), P())
    return jax.shard_map(
        shard, mesh=mesh, in_specs=specs, out_specs=sharding.batch_spec, check_vma=False
    )


@dataclasses.dataclass(frozen=True)
class Beside:
    """A training step of two programs: one draws the batch, the other learns from it."""

    draw_batch: Any  # jitted, as `make_draw_batch` returns it
    learn: Any  # jitted, (state, key, batch) -> (state, metrics)

    def __call__(self, state: State, key: jax.Array, rows: Rows, tables: Any):
        return self.learn(state, key, self.draw_batch(key, state["step"], rows, tables))

    def lower(self, state: State, key: jax.Array, rows: Rows, tables: Any) -> Any:
        """The lowered second program, for what asks a training step what it costs."""
        batch = jax.eval_shape(self.draw_batch, key, state["step"], rows, tables)
        return self.learn.lower(state, key, batch)


def make_draw_batch(
    fields: Fields, crop: Crop, augment: Augment, mesh: Mesh
) -> Callable[..., Batch]:
    """Returns draw_batch(key, step, rows, tables) -> batch, cut over the mesh by rows: what a
    training step of the same key and step (int32 scalar) draws. Jitted."""
    draw = drawer(fields, crop, augment, mesh)

    def draw_batch(key: jax.Array, step: jax.Array, rows: Rows, tables: Any) -> Batch:
        return draw(rows, tables, _keys(key, step)[0])

    return jax.jit(draw_batch)


def _keys(key: jax.Array, step: jax.Array) -> jax.Array:
    """The keys of a step's images and of its model."""
    return jax.random.split(jax.random.fold_in(key, step))


def make_train_step(
    *,
    model: Model,
    objectives: Objectives,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
    ema: Callable[[jax.Array], Any] | None,
    draw_batch: Callable[..., Batch],
    mesh: Mesh,
    laid: State,
    accumulate: int = 1,
    skip: bool = False,
    beside: bool = False,
) -> Callable[..., tuple[State, Metrics]]:
    """Returns train_step(state, key, rows, tables) -> (state, metrics); the old state is consumed.

    `laid` are the shardings of the state's leaves, `key` is the run's own for all its steps, `ema`
    what the average of the parameters keeps of itself in a step (`optim.ema_decay`).
    With `accumulate` K the model sees the batch in K parts, one after another; the gradient is that
    of the whole. With `skip` a loss or gradient that is not finite changes nothing but the step.
    With `beside` the batch is drawn by a program of its own; the bits are the same.
    metrics: float32 scalars loss, learning_rate, grad_norm, each objective's own, with `skip`
    skipped. Raises ConfigError for parts of a batch whose loss is of the whole.
    """
    grad_of = jax.value_and_grad(_loss(model, objectives, mesh), has_aux=True)
    if accumulate > 1:
        _check_accumulation(objectives, accumulate)
        grad_of = _accumulated(grad_of, accumulate, mesh)

    def learn(state: State, key: jax.Array, batch: Batch) -> tuple[State, Metrics]:
        (loss, sums), grads = grad_of(state["params"], batch, _keys(key, state["step"])[1])
        metrics = {"loss": loss, "learning_rate": rate(optim.updates_made(state["opt_state"]))}
        for name, (_, objective) in objectives.items():
            metrics |= objective.metrics(sums[name])
        with jax.named_scope("update"):
            grads = jax.lax.with_sharding_constraint(grads, laid["params"])
            metrics["grad_norm"] = optax.tree.norm(grads)
            new = update(state, grads, optimizer, ema)
            if skip:
                finite = jnp.isfinite(loss) & jnp.isfinite(metrics["grad_norm"])
                new = _kept_unless(finite, new, state)
                metrics["skipped"] = 1.0 - finite.astype(jnp.float32)
        return new, metrics

    def train_step(state: State, key: jax.Array, rows: Rows, tables: Any):
        batch = draw_batch(key, state["step"], rows, tables)
        # Fused with the model, the last rounding of the images would hang on what XLA fuses.
        return learn(state, key, jax.lax.optimization_barrier(batch))

    out = (laid, sharding.replicated(mesh))
    if beside:
        # The batch is not donated: no output has its shape, so JAX would warn and alias nothing. It
        # is freed as soon as the second program has run, for nothing else holds it.
        given = (laid, None, sharding.batched(mesh))
        learn_jit = jax.jit(learn, donate_argnums=0, in_shardings=given, out_shardings=out)
        return Beside(draw_batch, learn_jit)
    return jax.jit(train_step, donate_argnums=0, out_shardings=out)


def update(
    state: State,
    grads: Any,
    optimizer: optax.GradientTransformation,
    ema: Callable[[jax.Array], Any] | None,
) -> State:
    """The next state: one optimiser step, and the average of the parameters if one is kept."""
    updates, opt_state = optimizer.update(grads, state["opt_state"], state["params"])
    params = text.clamped(optax.apply_updates(state["params"], updates))
    new = {"step": state["step"] + 1, "params": params, "opt_state": opt_state}
    if ema:
        new["ema"] = optax.incremental_update(params, state["ema"], 1.0 - ema(state["step"]))
    return new


def _kept_unless(finite: jax.Array, new: State, old: State) -> State:
    # A selection by leaf is fused into the update; a conditional would copy what is donated.
    kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    return kept | {"step": new["step"]}


def _check_accumulation(objectives: Objectives, parts: int) -> None:
    for name, (_, objective) in objectives.items():
        if objective.cross_sample:
            raise ConfigError(
                f"accumulate={parts} cuts the batch in parts, and objective.{name} compares all of "
                f"its images with each other: type --config.accumulate=1."
            )


def _accumulated(grad_of: Callable, parts: int, mesh: Mesh) -> Callable:
    """`grad_of(params, batch, key)` of a batch in `parts` strided parts: losses and gradients weigh
    as much as the part has valid rows, sums add up; strided, so that every device keeps its rows.
    """
    spec = jax.sharding.NamedSharding(mesh, P(None, *sharding.batch_spec))

    def cut(x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(x, spec)

    def whole(params: Any, batch: Batch, key: jax.Array):
        valid = batch.get("valid", jnp.ones(batch["image"].shape[:1], jnp.float32))
        total = jnp.maximum(jnp.sum(valid), 1.0)

        def step(done: Any, part: tuple[jax.Array, Batch]):
            number, batch = part
            (loss, sums), grads = grad_of(params, batch, jax.random.fold_in(key, number))
            weight = jnp.sum(batch["valid"]) / total
            mean = jax.tree.map(lambda x: weight * x, (loss, grads))
            return jax.tree.map(jnp.add, done, (mean, sums)), None

        batches = jax.tree.map(cut, {**batch, "valid": valid})
        first = jax.eval_shape(grad_of, params, jax.tree.map(lambda x: x[0], batches), key)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)
        (loss, sums), grads = zeros
        done, _ = jax.lax.scan(step, ((loss, grads), sums), (jnp.arange(parts), batches))
        (loss, grads), sums = done
        return (loss, sums), grads

    return whole


def _loss(model: Model, objectives: Objectives, mesh: Mesh) -> Callable:
    """The weighted sum of the objectives, and the sums that each one's metrics are made of; those
    that see the same images share one forward pass."""

    def constrain(x: jax.Array, heads: int = 0) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, sharding.activations(mesh, x.shape, heads))

    def loss_of(params: Any, batch: Batch, key: jax.Array):
        total = jnp.zeros(())
        sums: dict[str, Any] = {}
        passes: list[tuple[jax.Array, Any]] = []
        for name, (weight, objective) in objectives.items():
            images = objective.inputs(batch, key)
            outputs = next((done for seen, done in passes if seen is images), None)
            if outputs is None:
                texts = {"tokens": batch["tokens"]} if model.text else {}
                outputs = model.apply(
                    params, images, train=True, key=key, constrain=constrain, **texts
                )
                passes.append((images, outputs))
            with jax.named_scope(name):
                loss, sums[name] = objective.parts(outputs, batch)
            total += weight * loss
        return total, sums

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
        outputs = model.apply(params, objective.evaluated(batch), train=False)
        return objective.counts(outputs, batch)

    return jax.jit(eval_step, out_shardings=sharding.replicated(mesh))
