"""What the training benchmarks share: steps on a batch that is there, and calls timed in turn."""

import dataclasses
import gc
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl import experiment, sharding
from jaxfdsl.experiment import Experiment


class Case(NamedTuple):
    """A step to time; zeros are the variant's own. `canvas` 0 is the published one."""

    variant: str = "vit_ti"
    batch: int = 8
    scan: bool = False
    attention: str = "auto"
    remat: str = "none"
    dtype: str = "auto"
    image_size: int = 224
    width: int = 0
    depth: int = 0
    num_heads: int = 0
    source: str = "fractaldb-1k"
    canvas: int = 0
    mesh: tuple[int, int, int] = (1, 1, 1)

    @property
    def title(self) -> str:
        parts = [self.variant, str(self.batch), "scan" if self.scan else "loop", self.attention]
        return " ".join(parts + ([] if self.remat == "none" else [self.remat]))


def config_of(case: Case) -> ConfigDict:
    """AdamW as the recipes have it, no augmentation beyond the resize, nothing evaluated."""
    config = config_lib.default_config()
    config.batch_size, config.steps, config.dtype = case.batch, 1000, case.dtype
    same = ("variant", "image_size", "attention", "remat", "width", "depth", "num_heads")
    config.model.update({name: getattr(case, name) for name in same}, scan_blocks=case.scan)
    config.mesh.update(dict(zip(sharding.AXES, case.mesh, strict=True)))
    config.data.sources.images = config_lib.formula_source(case.source, size=case.canvas)
    if case.source.startswith("segrcdb"):
        config.objective.classify.weight, config.objective.segment.weight = 0.0, 1.0
    return config


@dataclasses.dataclass(frozen=True)
class Parts:
    """A run whose step has its drawing apart (`config.draw="beside"`)."""

    run: Experiment

    @property
    def step(self) -> Callable[..., Any]:
        """learn(state, key, batch) -> (state, metrics) on images that are there."""
        return self.run.train_step.learn

    def rows(self, number: int) -> Any:
        """The rows of a step's batch, on the device."""
        return sharding.put_rows(self.run.mesh, self.run.batches.rows(number))

    def drawer(self) -> Callable[[], dict[str, jax.Array]]:
        """A call draws the first step's batch."""
        rows, key, first = (
            self.rows(0),
            jax.random.key(self.run.config.seed),
            jnp.zeros((), jnp.int32),
        )
        return lambda: self.run.draw_batch(key, first, rows, self.run.tables)

    def noise(self) -> dict[str, jax.Array]:
        """A constant batch of random images, cut over the mesh."""
        design, rng = self.run.model.design, np.random.default_rng(0)
        count, size = self.run.config.batch_size, design.image_size
        batch = {
            "image": rng.standard_normal((count, size, size, 3), np.float32),
            "label": rng.integers(0, self.run.batches.num_classes, count).astype(np.int32),
            "valid": np.ones(count, np.float32),
        }
        return jax.device_put(batch, sharding.batched(self.run.mesh))


def build(config: ConfigDict, devices: Sequence[jax.Device] | None = None) -> Parts:
    """Assembles a run whose step and drawing are two programs; compiles nothing."""
    config = config.copy_and_resolve_references()
    config.draw = "beside"
    return Parts(experiment.build(config, devices))


class Cost(NamedTuple):
    """Seconds of one call: by the clock, and of all the process's threads."""

    wall: float
    cpu: float


def cost(call: Callable[[], Any], count: int) -> Cost:
    """A call's mean over `count`, queued one after another and waited for once."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(count):
        result = call()
    jax.block_until_ready(result)
    return Cost((time.perf_counter() - wall) / count, (time.process_time() - cpu) / count)


class Stepper:
    """A compiled step that is called again and again on one constant batch."""

    def __init__(self, parts: Parts, batch: Any = None):
        self.parts, self.batch = parts, parts.noise() if batch is None else batch
        self.key, self.state = jax.random.key(0), parts.run.start()
        began = time.perf_counter()
        lowered = parts.step.lower(self.state, self.key, self.batch)
        self.program = lowered.compile()
        self.compile_seconds = time.perf_counter() - began
        self.metrics: Any = None

    def __call__(self) -> Any:
        self.state, self.metrics = self.program(self.state, self.key, self.batch)
        return self.metrics

    def memory(self) -> dict[str, int]:
        """Bytes on each device by XLA's count: all, what the state and batch fill, temporaries."""
        found = self.program.memory_analysis()
        arguments = found.argument_size_in_bytes
        fresh = found.output_size_in_bytes - found.alias_size_in_bytes
        temporary = found.temp_size_in_bytes
        return {
            "bytes": arguments + fresh + temporary,
            "argument_bytes": arguments,
            "temporary_bytes": temporary,
        }


def alternate(
    calls: Mapping[str, Callable[[int], Cost]], rounds: int, count: int | Mapping[str, int] = 1
) -> dict[str, list[Cost]]:
    """Each call's costs over `rounds`, in which all take turns, every other time backwards."""
    found: dict[str, list[Cost]] = {name: [] for name in calls}
    gc.collect()
    for number in range(rounds):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            found[name].append(calls[name](count if isinstance(count, int) else count[name]))
    return found


def middle(costs: Iterable[Cost]) -> Cost:
    """The medians."""
    wall, cpu = zip(*costs, strict=True)
    return Cost(statistics.median(wall), statistics.median(cpu))


def product(size: int) -> Callable[[], jax.Array]:
    """A call multiplies two square float32 matrices: 2 size^3 FLOP."""
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(lambda a: a @ a)
    jax.block_until_ready(multiply(a))
    return lambda: multiply(a)


def peak_bytes(device: jax.Device) -> int | None:
    """The most bytes that were in use on an accelerator so far; None where none are counted."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


class Report:
    """Rows by section, written after each so that a run that is cut off leaves what it has."""

    def __init__(self, path: str | pathlib.Path | None):
        self.path = pathlib.Path(path) if path else None
        device = jax.devices()[0]
        self.found: dict[str, Any] = {
            "device": device.device_kind,
            "devices": jax.device_count(),
            "jax": jax.__version__,
        }
        self._headings: tuple[str, ...] = ()

    def put(self, section: str, row: Mapping[str, Any]) -> None:
        self.found.setdefault(section, []).append(dict(row))
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.path.with_suffix(".tmp")
            fresh.write_text(json.dumps(self.found, indent=1))
            fresh.replace(self.path)

    def line(self, cells: Mapping[str, Any]) -> None:
        """Prints a table's row, under its headings where they are not those of the row before."""
        if tuple(cells) != self._headings:
            self._headings = tuple(cells)
            print(f"\n| {' | '.join(cells)} |\n{'|---' * len(cells)}|")
        shown = ("" if value is None else str(value) for value in cells.values())
        print(f"| {' | '.join(shown)} |", flush=True)


def exhausted(error: Exception) -> bool:
    """Whether an error says that the device's memory was too small."""
    return any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory"))
