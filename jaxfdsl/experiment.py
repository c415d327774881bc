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
from jaxfdsl.data.tokens import FIELD as TOKENIZER
from jaxfdsl.diffusion import latents
from jaxfdsl.evaluators import Evaluator
from jaxfdsl.models import attention, denoiser, text, variants, vit
from jaxfdsl.models.autoencoder import Autoencoder
from jaxfdsl.models.projector import Projection
from jaxfdsl.objectives.align import Align
from jaxfdsl.objectives.classify import Classify
from jaxfdsl.objectives.contrast import Contrast
from jaxfdsl.objectives.denoise import Denoise
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
    autoencoder: Autoencoder | None  # its parameters are among the tables
    evaluators: dict[str, Evaluator]

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the data, flat; two runs with equal identities see the same."""
        identity = config_lib.data_identity(self.config, self.batches.sources)
        if self.batches.condition is not None:
            identity["data.condition.fingerprint"] = self.batches.condition.fingerprint
        if self.batches.tokenizer is not None:
            identity[TOKENIZER] = self.batches.tokenizer.identity
        if self.autoencoder is not None:
            identity[latents.TABLE] = self.autoencoder.digest
        for name, source in self.batches.sources.items():
            if source.latents:
                identity[f"data.latents.{name}"] = source.latents.digest
        return identity

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
    cut = data.cut(sharding.batch_parts(mesh) * (2 if data.pairs else 1))
    plan.phase_counts(data.shares, data.phase_starts, config.batch_size, *cut)
    _check_groups(config, mesh)
    _check_downsample(config, data)
    total = config_lib.total_steps(config, data.num_examples)
    warmup = config_lib.warmup_steps(config, data.num_examples)
    rate = optim.schedule(
        config.schedule,
        config.optimizer.learning_rate,
        warmup_steps=warmup,
        total_steps=total,
    )
    optimizer = optim.build(config.optimizer, rate)
    objectives = objectives_of(config, data, mesh)
    for name, source in data.sources.items():
        evaluators.checks.check_targets(f"data.sources.{name}", source, objectives)
    heads = heads_of(config, objectives, data)
    model = model_of(config, heads, data)
    ema = optim.ema_decay(config.optimizer)
    state = jax.eval_shape(
        lambda key: state_lib.create(model.init(key), optimizer, ema=bool(ema)), jax.random.key(0)
    )
    laid = state_lib.shardings(state, mesh)
    tables = jax.device_put(data.tables, sharding.replicated(mesh))
    autoencoder = latents.opened(config, compute_dtype(config.dtype))
    if autoencoder is not None:
        weights = jax.device_put(autoencoder.params, sharding.replicated(mesh))
        autoencoder = dataclasses.replace(autoencoder, params=weights)
        if not config.data.latents:
            tables[latents.TABLE] = weights
    latents.check_columns(autoencoder, data.sources)
    draw_batch = step.make_draw_batch(
        data.fields,
        functools.partial(_crop, config),
        functools.partial(_finish, config, autoencoder),
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
        config,
        model=model,
        objectives=objectives,
        mesh=mesh,
        trained=data.sources,
        autoencoder=autoencoder,
    )
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
        autoencoder=autoencoder,
        evaluators=scored,
    )


def objectives_of(
    config: ConfigDict, data: batches.Batches, mesh: Mesh | None = None
) -> step.Objectives:
    """The objectives whose weight is not 0, with it, for batches that lie on `mesh`. Raises
    ConfigError for sources whose labels they cannot learn from."""
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
    if cfg.contrast.weight:
        made["contrast"] = _contrast(cfg.contrast, data, mesh)
    if cfg.align.weight:
        made["align"] = Align()
    if cfg.denoise.weight:
        made["denoise"] = Denoise(cfg.denoise.times, cfg.denoise.hidden)
    return {name: (cfg[name].weight, objective) for name, objective in made.items()}


def _contrast(cfg: ConfigDict, data: batches.Batches, mesh: Mesh | None) -> Contrast:
    several = [name for name, source in data.sources.items() if source.several_labels]
    if cfg.positives == "label" and several:
        raise ConfigError(
            f"objective.contrast.positives='label' needs one label an image, and data.sources."
            f"{several[0]} has several: type --config.objective.contrast.positives=group."
        )
    return Contrast(cfg.temperature, cfg.positives, cfg.block, mesh)


def heads_of(
    config: ConfigDict, objectives: step.Objectives, data: batches.Batches
) -> dict[str, vit.Outputs]:
    """The heads that the objectives name, and how many numbers each puts out."""
    outputs: dict[str, vit.Outputs] = {
        "head": data.num_classes,
        "patch_head": data.num_classes + 1,  # 1: the background
        "projector": Projection(**config.model.projector, views=data.group.size),
        "image_projection": config.model.text.output,
        "velocity": 3,  # channels, which a latent has more of: `denoiser_of`
    }
    return {objective.head: outputs[objective.head] for _, objective in objectives.values()}


def model_of(config: ConfigDict, heads: dict[str, vit.Outputs], data: batches.Batches) -> vit.Model:
    """The trunk with those heads, and the text tower where captions are compared with images; or a
    denoiser."""
    dtype = compute_dtype(config.dtype)
    if data.condition is not None:
        return denoiser.as_model(denoiser_of(config, data.condition.size))
    model = vit.build(config.model, heads, dtype)
    if "image_projection" not in heads:
        return model
    return text.beside(model, text.build(text_design(config, data, dtype)))


def denoiser_of(config: ConfigDict, cond_size: int) -> denoiser.Denoiser:
    """The denoiser of a run's images or latents, told of each by `cond_size` numbers."""
    at = latents.side_and_channels(config)
    return denoiser.build(denoiser_design(config, cond_size, compute_dtype(config.dtype), *at))


def denoiser_design(
    config: ConfigDict, cond_size: int, dtype: Any, side: int, channels: int
) -> denoiser.Design:
    """The design of a denoiser of images or latents with this side and so many channels."""
    cfg = config.model
    size = variants.resolve(cfg.variant, cfg.width, cfg.depth, cfg.num_heads, cfg.mlp_ratio)
    return denoiser.Design(
        size=size,
        image_size=side,
        channels=channels,
        patch_size=cfg.patch_size,
        cond_size=cond_size,
        output_channels=channels,
        attention=cfg.attention,
        scan_blocks=cfg.scan_blocks,
        remat=cfg.remat,
        dtype=jnp.dtype(dtype),
    )


def text_design(config: ConfigDict, data: batches.Batches, dtype: Any) -> text.TextDesign:
    """The design of the text tower over the data's token ids."""
    assert data.tokenizer is not None
    return text.TextDesign(
        **config.model.text,
        vocabulary=data.tokenizer.vocabulary,
        dtype=jnp.dtype(dtype),
        views=data.group.size,
    )


def _check_groups(config: ConfigDict, mesh: Mesh) -> None:
    """Refuses groups that span devices whose neighbours in the mesh are of other processes: each
    process lays its own rows on its own devices."""
    size, parts = config.data.group_size, sharding.batch_parts(mesh)
    processes = [devices[0].process_index for devices in mesh.devices.reshape(parts, -1)]
    if config.batch_size // parts % size and processes != sorted(processes):
        raise ConfigError(
            f"data.group_size={size} does not divide the {config.batch_size // parts} images of a "
            "device, and the devices of a process are not neighbours in the mesh: type "
            f"--config.batch_size=N with N a multiple of {parts * size}."
        )


def _check_downsample(config: ConfigDict, data: batches.Batches) -> None:
    """Refuses pictures that are too small for it, or cut on the host before it."""
    most = max(augment.FEW_PIXELS)
    for name, source in data.sources.items():
        if config.augment.downsample and (source.cropped or source.size <= most):
            there = "are cut as they are read" if source.cropped else f"have {source.size} already"
            raise ConfigError(
                f"augment.downsample={config.augment.downsample} brings pictures to {most} pixels "
                f"and back, and those of data.sources.{name} {there}: type "
                f"--config.data.sources.{name}.size=256, or --config.augment.downsample=0."
            )


def _finish(
    config: ConfigDict,
    autoencoder: Autoencoder | None,
    batch: step.Batch,
    key: jax.Array,
    rows: jax.Array,
    tables: Any,
) -> step.Batch:
    """The joined batch as the model sees it, `rows` being its rows in the global batch."""
    if config.data.latents:
        assert autoencoder is not None
        batch = latents.read(batch, key, rows, autoencoder, config.augment.flip_lr)
    else:
        batch = augment.finish(batch, key, config.augment, rows)
        batch = latents.drawn(batch, key, rows, tables, autoencoder)
    size = config.data.group_size
    return {**batch, "group": rows // size} if size > 1 else batch


def _crop(config: ConfigDict, part: step.Batch, key: jax.Array, rows: jax.Array) -> step.Batch:
    """The images and masks of one source at the size that the model sees."""
    views: dict[str, Callable] = {"image": augment.crop, "mask": augment.crop_masks}
    fields, size = config.augment, config.model.image_size
    made = {k: view(part[k], key, fields, size, rows) for k, view in views.items() if k in part}
    return {**part, **made}
