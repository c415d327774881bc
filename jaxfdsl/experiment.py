"""From a config to the parts of a run: data, model, optimiser and compiled steps."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl import evaluators, optim, sharding, step
from jaxfdsl import state as state_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment, batches, plan
from jaxfdsl.evaluators import Evaluator
from jaxfdsl.models import attention, vit
from jaxfdsl.objectives.classify import Classify
from jaxfdsl.objectives.segment import Segment
from jaxfdsl.state import State


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
    draw_batch: Callable[..., Any]  # (key, step, rows, tables) -> batch: a step's drawing alone
    tables: Any
    evaluators: dict[str, Evaluator]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the data, flat; two runs with equal identities see equal images."""
        return config_lib.data_identity(self.config, self.batches.sources)

    def start(self) -> State:
        """A new state, made where it will lie."""
        # Run once: on a CPU, optimising this program would take longer than running it.
        once = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        create = jax.jit(self._create, out_shardings=self.laid, compiler_options=once)
        return create(jax.random.key(self.config.seed))

    def _create(self, key: jax.Array) -> State:
        params = self.model.init(key)
        return state_lib.create(params, self.optimizer, ema=self.config.optimizer.ema > 0)


def compute_dtype(name: str) -> Any:
    """The trunk's type; "auto" is bfloat16 where the hardware multiplies it natively."""
    if name != "auto":
        return jnp.dtype(name)
    device = jax.devices()[0]
    ampere = device.platform == "gpu" and attention.compute_capability(device) >= 8.0
    native = device.platform == "tpu" or ampere
    return jnp.dtype("bfloat16" if native else "float32")


def build(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Experiment:
    """Loads the data's tables and assembles the run on `devices` (default: all); compiles nothing.

    Raises ConfigError for data that is not there and for classes that do not fit.
    """
    mesh = sharding.make_mesh(config.mesh, devices)
    data = batches.from_config(
        config, shard_index=jax.process_index(), shard_count=jax.process_count()
    )
    # Every device draws its part of every source; this refuses counts that cannot be cut so.
    parts = sharding.batch_parts(mesh) * (2 if data.pairs else 1)
    plan.phase_counts(data.shares, data.phase_starts, config.batch_size, parts)
    total = config_lib.total_steps(config, data.num_examples)
    warmup = config_lib.warmup_steps(config, data.num_examples)
    rate = optim.schedule(
        config.schedule,
        config.optimizer.learning_rate,
        warmup_steps=warmup,
        total_steps=total,
    )
    optimizer = optim.build(config.optimizer, rate)
    objectives = objectives_of(config, data)
    for name, source in data.sources.items():
        evaluators.check_targets(f"data.sources.{name}", source, objectives)
    model = vit.build(config.model, heads_of(objectives, data), compute_dtype(config.dtype))
    ema = config.optimizer.ema
    state = jax.eval_shape(
        lambda key: state_lib.create(model.init(key), optimizer, ema=ema > 0), jax.random.key(0)
    )
    laid = state_lib.shardings(state, mesh)
    draw_batch = step.make_draw_batch(
        data.fields,
        functools.partial(_crop, config),
        lambda batch, key, rows: augment.finish(batch, key, config.augment, rows),
        mesh,
    )
    train_step = step.make_train_step(
        model=model,
        objectives=objectives,
        optimizer=optimizer,
        rate=rate,
        ema=ema,
        draw_batch=draw_batch,
        mesh=mesh,
        laid=laid,
        accumulate=config.accumulate,
        skip=config.nonfinite == "skip",
        beside=config.draw == "beside",
    )
    scored = evaluators.build(
        config, model=model, objectives=objectives, mesh=mesh, trained=data.sources
    )
    tables = jax.device_put(data.tables, sharding.replicated(mesh))
    return Experiment(
        config=config,
        mesh=mesh,
        batches=data,
        model=model,
        optimizer=optimizer,
        total_steps=total,
        state=state,
        laid=laid,
        train_step=train_step,
        draw_batch=draw_batch,
        tables=tables,
        evaluators=scored,
    )


def objectives_of(config: ConfigDict, data: batches.Batches) -> step.Objectives:
    """Those whose weight is not 0, with their weights."""
    cfg = config.objective
    made: dict[str, Any] = {}
    if cfg.classify.weight:
        starts = data.offsets if config.data.label_space == "separate" else {}
        several = [name for name, source in data.sources.items() if source.several_labels]
        if starts and several:
            raise ConfigError(
                f"data.label_space='separate' needs one label an image, and data.sources."
                f"{several[0]} has several: type --config.data.label_space=joined."
            )
        blocks = [(first, first + data.sources[name].num_classes) for name, first in starts.items()]
        made["classify"] = Classify(
            cfg.classify.label_smoothing, cfg.classify.pos_weight, tuple(blocks)
        )
    if cfg.segment.weight:
        made["segment"] = Segment()
    return {name: (cfg[name].weight, objective) for name, objective in made.items()}


def heads_of(objectives: step.Objectives, data: batches.Batches) -> dict[str, int]:
    """The heads that the objectives name, and how many numbers each puts out."""
    outputs = {"head": data.num_classes, "patch_head": data.num_classes + 1}  # 1: the background
    return {objective.head: outputs[objective.head] for _, objective in objectives.values()}


def _crop(config: ConfigDict, part: step.Batch, key: jax.Array, rows: jax.Array) -> step.Batch:
    """The images and masks of one source at the size that the model sees."""
    views: dict[str, Callable] = {"image": augment.crop, "mask": augment.crop_masks}
    fields, size = config.augment, config.model.image_size
    made = {k: view(part[k], key, fields, size, rows) for k, view in views.items() if k in part}
    return {**part, **made}
