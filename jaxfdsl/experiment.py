"""From a config to the parts of a run: data, model, optimiser and compiled steps."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl import optim, sharding, step
from jaxfdsl import state as state_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment, batches, join, sources
from jaxfdsl.evals import accuracy, segmentation
from jaxfdsl.models import vit
from jaxfdsl.objectives.classify import Classify
from jaxfdsl.objectives.segment import Segment
from jaxfdsl.state import State

Evaluator = Callable[[Any], Iterator[tuple[str, float]]]  # of parameters, to (name, value)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A run before its first step. `state` and `laid` hold shapes and shardings, not arrays."""

    config: ConfigDict
    mesh: Mesh
    batches: batches.Batches
    model: vit.Model
    optimizer: optax.GradientTransformation
    total_steps: int
    state: State
    laid: State
    train_step: Callable[..., Any]
    tables: Any
    evaluators: dict[str, Evaluator]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the data, flat; two runs with equal identities see equal images."""
        return config_lib.data_identity(self.config, self.batches.sources)

    def start(self) -> State:
        """A new state, made where it will lie."""
        return jax.jit(self._create, out_shardings=self.laid)(jax.random.key(self.config.seed))

    def _create(self, key: jax.Array) -> State:
        params = self.model.init(key)
        return state_lib.create(params, self.optimizer, ema=self.config.optimizer.ema > 0)


def compute_dtype(name: str) -> Any:
    """The trunk's type; "auto" is bfloat16 where the hardware multiplies it natively."""
    if name != "auto":
        return jnp.dtype(name)
    device = jax.devices()[0]
    native = device.platform == "tpu" or (device.platform == "gpu" and _capability(device) >= 8.0)
    return jnp.dtype("bfloat16" if native else "float32")


def _capability(device: Any) -> float:
    """NVIDIA's compute capability; 0 for other makers' names, such as "gfx942"."""
    try:
        return float(getattr(device, "compute_capability", 0))
    except (TypeError, ValueError):
        return 0.0


def build(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Experiment:
    """Loads the data's tables and assembles the run on `devices` (default: all); compiles nothing.

    Raises ConfigError for data that is not there and for classes that do not fit.
    """
    mesh = sharding.make_mesh(config.mesh, devices)
    data = batches.from_config(
        config, shard_index=jax.process_index(), shard_count=jax.process_count()
    )
    # Every device draws its part of every source; this refuses counts that cannot be cut so.
    batches.split_batch(data.shares, config.batch_size, sharding.batch_parts(mesh))
    total = config_lib.total_steps(config, data.num_examples)
    warmup = config_lib.warmup_steps(config, data.num_examples)
    rate = optim.schedule(
        config.schedule,
        config.optimizer.learning_rate,
        warmup_steps=warmup,
        total_steps=total,
    )
    optimizer = optim.build(config.optimizer, rate)
    objectives = _objectives(config.objective)
    for name, source in data.sources.items():
        _check_targets(f"data.sources.{name}", source, objectives)
    model = vit.build(config.model, _heads(objectives, data), compute_dtype(config.dtype))
    ema = config.optimizer.ema
    state = jax.eval_shape(
        lambda key: state_lib.create(model.init(key), optimizer, ema=ema > 0), jax.random.key(0)
    )
    laid = state_lib.shardings(state, optimizer, mesh)
    train_step = step.make_train_step(
        model=model,
        objectives=objectives,
        optimizer=optimizer,
        rate=rate,
        ema=ema,
        fields=data.fields,
        augment=functools.partial(_augment_train, config),
        mesh=mesh,
        laid=laid,
    )
    evaluators = {name: _evaluator(config, name, data, model, mesh) for name in config.evals}
    tables = jax.device_put(data.tables, sharding.replicated(mesh))
    return Experiment(
        config, mesh, data, model, optimizer, total, state, laid, train_step, tables, evaluators
    )


def _objectives(cfg: ConfigDict) -> step.Objectives:
    """Those whose weight is not 0, with their weights."""
    made: dict[str, Any] = {}
    if cfg.classify.weight:
        made["classify"] = Classify(
            cfg.classify.label_smoothing, cfg.classify.get("pos_weight", True)
        )
    if cfg.get("segment", {}).get("weight"):
        made["segment"] = Segment()
    return {name: (cfg[name].weight, objective) for name, objective in made.items()}


def _heads(objectives: step.Objectives, data: batches.Batches) -> dict[str, int]:
    """The heads that the objectives name, and how many numbers each puts out."""
    outputs = {"head": data.num_classes, "patch_head": data.num_classes + 1}  # 1: the background
    return {objective.head: outputs[objective.head] for _, objective in objectives.values()}


def _check_targets(
    field: str, source: sources.Source, objectives: Mapping[str, tuple[float, Any]]
) -> None:
    """Refuses a source that does not say what an objective learns from."""
    for name, (_, objective) in objectives.items():
        if objective.field not in source.targets:
            said = {"label": "labels", "mask": "masks"}[objective.field]
            other = {"label": "segment", "mask": "classify"}[objective.field]
            raise ConfigError(
                f"{field} ({source.name}) has no {said}, which objective.{name} learns from: type "
                f"--config.objective.{name}.weight=0 --config.objective.{other}.weight=1, or the "
                f"name of a data set with {said}."
            )


def _augment_train(
    config: ConfigDict, batch: step.Batch, key: jax.Array, rows: jax.Array
) -> step.Batch:
    views = {"image": augment.train, "mask": augment.train_masks}
    fields, size = config.augment, config.model.image_size
    made = {k: view(batch[k], key, fields, size, rows) for k, view in views.items() if k in batch}
    return {**batch, **made}


def _augment_eval(config: ConfigDict, crop_fraction: float, batch: step.Batch) -> step.Batch:
    size = config.model.image_size
    made = {"image": augment.evaluate(batch["image"], config.augment, size, crop_fraction)}
    if "mask" in batch:
        made["mask"] = augment.evaluate_masks(batch["mask"], size, crop_fraction)
    return {**batch, **made}


def _eval_source(config: ConfigDict, name: str) -> sources.Source:
    """The samples of an evaluation; refuses more of them than there are, before a step is made."""
    entry, field = config.evals[name], f"evals.{name}"
    source = sources.build(entry.source, seed=config.seed, train=False, field=f"{field}.source")
    size = entry.batch_size or config.batch_size
    batches.check_eval(
        source, entry.num_examples, size, shard_count=jax.process_count(), field=field
    )
    return source


def _evaluator(
    config: ConfigDict, name: str, data: batches.Batches, model: vit.Model, mesh: Mesh
) -> Evaluator:
    entry, source = config.evals[name], _eval_source(config, name)
    scored, how = {
        "accuracy": ("classify", accuracy.evaluate),
        "segmentation": ("segment", segmentation.evaluate),
    }[entry.kind]
    objectives = {scored: _objectives(config.objective)[scored]}
    _check_targets(f"evals.{name}.source", source, objectives)
    offset = _label_offset(config, name, entry.source, source, data)

    def fields(rows: Any, table: Any) -> step.Batch:
        return join.moved_up(source.fields(rows, table), offset)

    compiled = step.make_eval_step(
        model=model,
        objective=objectives[scored][1],
        fields=fields,
        augment=functools.partial(_augment_eval, config, entry.crop_fraction),
        mesh=mesh,
    )
    table = jax.device_put(source.table, sharding.replicated(mesh))

    def evaluate(params: Any) -> Iterator[tuple[str, float]]:
        rows = batches.eval_batches(
            source,
            entry.num_examples,
            entry.batch_size or config.batch_size,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
            num_workers=config.data.num_workers,
            prefetch=config.data.prefetch,
            field=f"evals.{name}",
        )
        return how(
            lambda params, rows: compiled(params, sharding.put_rows(mesh, rows), table),
            params,
            rows,
        )

    return evaluate


def _label_offset(
    config: ConfigDict, name: str, entry: ConfigDict, source: Any, data: batches.Batches
) -> int:
    """Where this evaluation's classes begin among the model's: at the training source of the same
    kind, name and table, at 0 if there is none."""
    same = ("kind", "name", "table", "search_seed", "num_classes")
    offset = 0
    for trained, candidate in data.sources.items():
        known = config.data.sources[trained]
        if all(known.get(key) == entry.get(key) for key in same):
            break
        offset += candidate.num_classes
    else:
        offset = 0
    if offset + source.num_classes > data.num_classes:
        raise ConfigError(
            f"evals.{name}.source has {source.num_classes} classes and data.sources have "
            f"{data.num_classes}: type the name of the data set that the model is trained on."
        )
    return offset
