"""What a config must satisfy on so many devices, one sentence a refusal."""

import functools
import math

from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data.plan import in_groups, phase_counts


def check_batches(config: ConfigDict, num_devices: int, num_processes: int) -> None:
    """Every batch is cut evenly over the devices, with whole groups of each source."""
    rows = _devices_of_a_batch(config.mesh, num_devices, num_processes)
    where = f"{num_devices} device{'s' if num_devices > 1 else ''}"
    if num_processes > 1:
        where += f" of {num_processes} processes"
    check = functools.partial(_check_batch, rows=rows, where=where)
    check("batch_size", config.batch_size)
    shares = {name: entry.share for name, entry in config.data.sources.items()}
    mixing = bool(config.augment.mixup or config.augment.cutmix)
    pairs = f"{where}, in pairs for augment.mixup and cutmix" if mixing else where
    shards = rows * (2 if mixing else 1)
    cut = in_groups(shards, config.data.group_size, len(shares), pairs)
    phase_counts(shares, config.data.phase_starts, config.batch_size, *cut)
    if config.batch_size % (rows * config.accumulate):
        raise ConfigError(
            f"accumulate={config.accumulate} does not cut batch_size={config.batch_size} over "
            f"{where} evenly: type --config.batch_size="
            f"{nearest(config.batch_size, rows * config.accumulate)}."
        )
    for name, entry in config.evals.items():
        if entry.batch_size:
            check(f"evals.{name}.batch_size", entry.batch_size)


def _check_batch(name: str, size: int, rows: int, where: str) -> None:
    if size < 0 or size % rows:
        raise ConfigError(
            f"{name}={size} does not divide over {where} (mesh.data x mesh.fsdp = {rows}): "
            f"type --config.{name}={nearest(size, rows)}."
        )


def nearest(value: int, step: int) -> str:
    """The multiples of `step` on both sides, as alternatives to type."""
    below = value // step * step
    return f"{below} or {below + step}" if below > 0 else str(step)


def _devices_of_a_batch(mesh: ConfigDict, num_devices: int, num_processes: int) -> int:
    """How many parts the batch is cut into; the mesh uses every device exactly."""
    sizes = dict(mesh.items())
    free = [axis for axis, size in sizes.items() if size == -1]
    fixed = 1
    for axis, size in sizes.items():
        if size < 1 and size != -1:
            raise ConfigError(f"mesh.{axis}={size}: type a number above 0, or -1 for what is left.")
        fixed *= size if size != -1 else 1
    if len(free) > 1:
        raise ConfigError(f"mesh.{free[1]}=-1: one axis alone takes what is left; type a number.")
    if num_devices % fixed or (not free and fixed != num_devices):
        shape = " x ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise ConfigError(
            f"mesh ({shape}) does not fit {num_devices} devices: type --config.mesh.data=-1 and "
            "mesh.fsdp, mesh.tensor whose product divides them."
        )
    tensor = sizes["tensor"] if sizes["tensor"] != -1 else num_devices // fixed
    own = num_devices // num_processes
    if own % tensor:  # each process reads the rows of its own devices
        raise ConfigError(
            f"mesh.tensor={tensor} cuts one image over devices of several processes, which have "
            f"{own} each: type --config.mesh.tensor={math.gcd(tensor, own)}."
        )
    return num_devices // tensor
