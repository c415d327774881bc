"""A run as its config and a number of devices decide it, with no device and no array."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, AxisType
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl import evaluators, experiment, optim, sharding
from jaxfdsl import state as state_lib
from jaxfdsl.costs import images
from jaxfdsl.costs.devices import Fleet
from jaxfdsl.data.batches import Batches
from jaxfdsl.data.sources import Source
from jaxfdsl.diffusion import latents
from jaxfdsl.models import attention, autoencoder, denoiser, text, vit
from jaxfdsl.models.text import TextDesign

PUBLISHED = autoencoder.Design()  # of Stable Diffusion, where model.autoencoder is not there


@dataclasses.dataclass(frozen=True)
class Plan:
    """What `experiment.build` would build on `fleet`; `state` and `laid` as there."""

    config: ConfigDict
    fleet: Fleet
    mesh: Any  # an AbstractMesh
    batches: Batches
    heads: dict[str, vit.Outputs]
    design: vit.Design | denoiser.Design  # with the attention and the dtype of the fleet's devices
    model: vit.Model  # which can be traced here: its attention is always "xla"
    text: TextDesign | None  # of the tower beside the trunk
    autoencoder: autoencoder.Design | None  # whose latents a denoiser works in
    state: state_lib.State
    laid: state_lib.State
    total_steps: int

    @property
    def shape(self) -> dict[str, int]:
        """Sizes of the mesh's axes."""
        return dict(self.mesh.shape)

    @property
    def rows(self) -> int:
        """Images of one step on one device."""
        parts = math.prod(self.shape[axis] for axis in sharding.BATCH_AXES)
        return self.config.batch_size // parts

    @property
    def latent_bytes(self) -> int:
        """Bytes of an image in the column of `data.latents`; 0 where there is none."""
        cfg = self.config
        if self.autoencoder is None or not cfg.data.latents:
            return 0
        views = 2 if cfg.augment.flip_lr else 1
        side = cfg.model.image_size // self.autoencoder.factor
        return 2 * views * 2 * self.autoencoder.channels * side**2

    def row_bytes(self, source: Source) -> float:
        """Bytes of one image that travel to the device."""
        return self.latent_bytes + 8.0 if self.latent_bytes else images.row_bytes(source)

    @property
    def parameters(self) -> int:
        return sum(x.size for x in jax.tree.leaves(self.state["params"]))


def mesh_shape(cfg: ConfigDict, count: int) -> dict[str, int]:
    """Sizes of ("data", "fsdp", "tensor") on `count` devices; -1 takes what is left."""
    sizes = {axis: cfg[axis] for axis in sharding.AXES}
    fixed = math.prod(size for size in sizes.values() if size != -1)
    return {axis: count // fixed if size == -1 else size for axis, size in sizes.items()}


def make(config: ConfigDict, fleet: Fleet, batches: Batches | None = None) -> Plan:
    """Raises ConfigError for what cannot run on so many devices; `batches`, where they are there
    already, must be the config's."""
    _validate(config, fleet)
    shape = mesh_shape(config.mesh, fleet.count)
    sizes = tuple(shape.values())
    mesh = AbstractMesh(sizes, sharding.AXES, axis_types=(AxisType.Auto,) * len(sizes))
    data = batches or images.batches_of(config)
    objectives = experiment.objectives_of(config, data)
    for name, source in data.sources.items():
        evaluators.checks.check_targets(f"data.sources.{name}", source, objectives)
    heads = experiment.heads_of(config, objectives, data)
    dtype = jnp.dtype(fleet.kind.dtype if config.dtype == "auto" else config.dtype)
    design, model = _model(config, heads, data, dtype)
    head_width = design.size.width // design.size.num_heads
    backend = fleet.kind.platform if fleet.kind.bfloat16 else "older gpu"
    kind = attention.choose(design.attention, head_width, dtype, backend)
    tower = experiment.text_design(config, data, dtype) if data.tokenizer else None
    model = text.beside(model, text.build(tower)) if tower else model
    optimizer = optim.build(config.optimizer, optax.constant_schedule(0.0))
    state = jax.eval_shape(
        lambda key: state_lib.create(model.init(key), optimizer, ema=config.optimizer.ema > 0),
        jax.random.key(0),
    )
    return Plan(
        config=config,
        fleet=fleet,
        mesh=mesh,
        batches=data,
        heads=heads,
        design=dataclasses.replace(design, attention=kind),
        model=model,
        text=tower,
        autoencoder=latents.design(config, PUBLISHED),
        state=state,
        laid=state_lib.shardings(state, mesh),
        total_steps=config_lib.total_steps(config, data.num_examples),
    )


def _model(
    config: ConfigDict, heads: dict[str, vit.Outputs], data: Batches, dtype: Any
) -> tuple[vit.Design | denoiser.Design, vit.Model]:
    """The design of a run's model, and the model with an attention that can be traced here, as
    cuDNN's kernel cannot on another machine."""
    if data.condition is not None:
        at = latents.side_and_channels(config, PUBLISHED)
        made = experiment.denoiser_design(config, data.condition.size, dtype, *at)
        plain = dataclasses.replace(made, attention="xla")
        return made, denoiser.as_model(denoiser.build(plain))
    here = config.model.copy_and_resolve_references()
    here.attention = "xla"
    return vit.design_of(config.model, heads, dtype), vit.build(here, heads, dtype)


def _validate(config: ConfigDict, fleet: Fleet) -> None:
    """As a run would, but for the attention kernel, which is asked of this machine's devices."""
    asked = config.copy_and_resolve_references()
    if fleet.kind.platform == "gpu":
        asked.model.attention = "auto"
    config_lib.validate(asked, num_devices=fleet.count, num_processes=fleet.processes)
