"""What a run will need and cost, before a device is rented: `jaxfdsl dryrun`.

Everything is shapes and arithmetic; nothing is compiled, but drawing where the devices asked about
are this machine's processor. What is assumed or estimated says so.
"""

import collections
import dataclasses
import math
import re
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.costs import (
    autoencoding,
    collectives,
    devices,
    drawing,
    flops,
    images,
    memory,
    plan,
    reached,
)
from jaxfdsl.costs.devices import Fleet, Kind
from jaxfdsl.costs.plan import Plan
from jaxfdsl.costs.reached import Share
from jaxfdsl.models import denoiser


@dataclasses.dataclass(frozen=True)
class Leaf:
    """Parameters of one name, those of all blocks together."""

    name: str  # as in "blocks/attn/qkv/kernel"
    count: int
    shape: tuple[int, ...]
    spec: PartitionSpec  # axes that cut nothing on this mesh left out
    size: int  # bytes of all
    on_device: int  # bytes a device


@dataclasses.dataclass(frozen=True)
class Report:
    """What `page.lines` prints. Bytes are of one device, seconds of the whole run's devices."""

    plan: Plan
    leaves: list[Leaf]
    arguments: memory.Sizes
    temporaries: memory.Sizes
    peak_bytes: float
    remedies: list[str]
    flops: float  # of an image in training, by hand
    flops_lowered: float  # by XLA's count of the program as written
    flops_encoding: float  # of an image in a step by a frozen autoencoder, 0 without one
    collectives: dict[str, collectives.Traffic]
    mfu: Share
    peak: float  # FLOP/s of a device in the trunk's type
    drawing: drawing.Time
    checkpoint: int  # bytes on disk

    @property
    def parameters(self) -> int:
        return self.plan.parameters

    @property
    def model_seconds(self) -> float:
        """Of one step: the model's FLOP on all devices at the expected share of their peak."""
        work = self.flops * self.plan.config.batch_size
        return work / (self.plan.fleet.count * self.peak * self.mfu.value)

    @property
    def encoding_seconds(self) -> float:
        """Of one step: the autoencoder's FLOP, at the model's share of the peak."""
        return self.model_seconds * self.flops_encoding / self.flops

    @property
    def drawing_seconds(self) -> float:
        """Of one step; 0 where it is not known."""
        return (self.drawing.seconds or 0.0) * self.plan.rows

    @property
    def step_seconds(self) -> float:
        return self.model_seconds + self.encoding_seconds + self.drawing_seconds

    @property
    def images_per_second(self) -> float:
        return self.plan.config.batch_size / self.step_seconds

    @property
    def decoded_per_second(self) -> float:
        """Images that the hosts decode or draw, or latents that they read, all together."""
        made = {
            name: count
            for name, count in self.plan.batches.plan.counts_at(0).items()
            if self.plan.row_bytes(self.plan.batches.sources[name]) > images.RECIPE
        }
        return sum(made.values()) / self.step_seconds

    @property
    def hours(self) -> float:
        return self.plan.total_steps * self.step_seconds / 3600

    @property
    def fits(self) -> bool:
        return self.peak_bytes <= self.plan.fleet.room


def report(config: ConfigDict, typed: str = "local", mfu: float = 0.0) -> Report:
    """What `config` needs on `typed` devices (`costs.devices.read`); `mfu` 0 is the expected one.

    Raises ConfigError for what would be refused at the start of the run, and for devices that are
    not known.
    """
    return of_plan(plan.make(config, fleet(typed)), mfu)


def of_plan(made: Plan, mfu: float = 0.0) -> Report:
    """The report of a plan; raises ConfigError for an `mfu` that is no share."""
    if not 0 <= mfu <= 1:
        raise ConfigError(f"--mfu={mfu:g}: type a share of the peak, such as --mfu=0.4.")
    expected = reached.expected(made.design, made.fleet.kind.platform)
    fits = (peak := memory.total(made)) <= made.fleet.room
    return Report(
        plan=made,
        leaves=_leaves(made),
        arguments=memory.arguments(made),
        temporaries=memory.temporaries(made),
        peak_bytes=peak,
        remedies=[] if fits else list(memory.remedies(made, made.fleet.room)),
        flops=flops.training(made.design, made.text),
        flops_lowered=_lowered(made),
        flops_encoding=_encoding(made),
        collectives=collectives.of_step(made),
        mfu=Share(mfu, "as typed") if mfu else expected,
        peak=made.fleet.kind.peak_of(str(made.design.dtype)),
        drawing=drawing.expected(made),
        checkpoint=sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(made.state)),
    )


def _lowered(made: Plan) -> float:
    if isinstance(made.design, denoiser.Design):
        return flops.lowered_denoiser(made.design)
    return flops.lowered(made.config.model, made.heads, made.text)


def _encoding(made: Plan) -> float:
    if made.autoencoder is None or made.latent_bytes:
        return 0.0
    return autoencoding.encoding(made.autoencoder, made.config.model.image_size)


def fleet(typed: str) -> Fleet:
    """The devices that `--devices` means. Those of a processor share its memory and its speed,
    which is measured, as is that of local devices that no table has."""
    name, count = devices.read(typed)
    if name not in ("local", "cpu"):
        return Fleet(devices.KINDS[name], count)
    local = jax.devices()
    count = count or len(local)
    known = devices.find(local[0].device_kind) if name == "local" else None
    return Fleet(known or _part_of(_measured_kind(local[0]), count), count, here=True)


def _measured_kind(device: jax.Device) -> Kind:
    rate = matmul_rate(device)
    if device.platform == "cpu":
        return devices.processor(rate)
    stats = device.memory_stats() or {}
    memory_limit = float(stats.get("bytes_limit", 0.0)) or math.inf
    return Kind(device.device_kind, device.platform, rate, memory_limit, (), rate)


def _part_of(kind: Kind, count: int) -> Kind:
    """One of `count` devices that share a processor."""
    if kind.platform != "cpu":
        return kind
    return dataclasses.replace(
        kind, peak=kind.peak / count, single=kind.single / count, memory=kind.memory / count
    )


def matmul_rate(device: jax.Device, side: int = 2048, seconds: float = 1.0) -> float:
    """FLOP/s of products of `side` x `side` in float32 (bfloat16 off the CPU): the median of as
    many as take `seconds`, at least three, so that other work on the machine counts."""
    dtype = jnp.float32 if device.platform == "cpu" else jnp.bfloat16
    x = jax.device_put(jnp.ones((side, side), dtype), device)
    product = jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    took: list[float] = []
    while len(took) < 3 or sum(took) < seconds:
        begun = time.perf_counter()
        jax.block_until_ready(product(x, x))
        took.append(time.perf_counter() - begun)
    return 2 * side**3 / float(np.median(took))


def _leaves(made: Plan) -> list[Leaf]:
    """The parameters by name, blocks folded into one."""
    groups: dict[str, list[tuple[Any, Any]]] = collections.defaultdict(list)
    paths = jax.tree_util.tree_leaves_with_path(made.state["params"])
    for (path, leaf), laid in zip(paths, jax.tree.leaves(made.laid["params"]), strict=True):
        name = re.sub(r"^blocks_\d+/", "blocks/", "/".join(entry.key for entry in path))
        groups[name].append((leaf, laid))
    first = ("patch_embed", "patches", "cls_token", "pos_embed", "blocks", "norm")
    order = {name: i for i, name in enumerate(first)}
    names = sorted(groups, key=lambda name: order.get(name.partition("/")[0], len(order)))
    return [
        Leaf(
            name=name,
            count=len(found),
            shape=found[0][0].shape,
            spec=_cuts(found[0][1].spec, made.shape),
            size=sum(4 * leaf.size for leaf, _ in found),
            on_device=sum(4 * math.prod(laid.shard_shape(leaf.shape)) for leaf, laid in found),
        )
        for name in names
        if (found := groups[name])
    ]


def _cuts(spec: PartitionSpec, shape: dict[str, int]) -> PartitionSpec:
    axes = [axis if axis and shape[axis] > 1 else None for axis in spec]
    while axes and axes[-1] is None:
        axes.pop()
    return PartitionSpec(*axes)
