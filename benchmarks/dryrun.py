"""Does `jaxfdsl dryrun` foretell what a run needs? Bytes a device and images a second, beside
what XLA and the clock say, for runs that fit on this machine.

    python benchmarks/dryrun.py                    # memory and speed, minutes
    python benchmarks/dryrun.py --only=speed

Memory is `compiled.memory_analysis()` of the training step: arguments, outputs that are not
aliased, and temporary. Speed is that of the compiled step on its own rows, drawing included, beside
the forecast made just before it. Targets: 15 % and 25 %. Writes dryrun.json.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxfdsl import dryrun, experiment, load_config, sharding
from jaxfdsl.costs import memory, plan
from jaxfdsl.costs.devices import Fleet, processor

TI, S = {"model.width": 192, "model.num_heads": 3}, {"model.width": 384, "model.num_heads": 6}
LARGE = {"image_size": 224, "patch_size": 16, "depth": 12}
SMALL = {"image_size": 32, "patch_size": 4, "depth": 12}
SCAN = {"model.scan_blocks": True}
# (what it is, fields of the demo, fields of its model)
MEMORY: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("Ti 224", {**TI, "batch_size": 8}, LARGE),
    ("Ti 224, scan", {**TI, **SCAN, "batch_size": 8}, LARGE),
    ("Ti 224, scan, dots", {**TI, **SCAN, "batch_size": 16, "model.remat": "dots"}, LARGE),
    ("Ti 224, scan, full", {**TI, **SCAN, "batch_size": 64, "model.remat": "full"}, LARGE),
    ("Ti 224, full", {**TI, "batch_size": 8, "model.remat": "full"}, LARGE),
    ("Ti 224, 4 parts", {**TI, "batch_size": 32, "accumulate": 4}, LARGE),
    ("Ti 224, scan, 4 parts", {**TI, **SCAN, "batch_size": 64, "accumulate": 4}, LARGE),
    ("Ti 224, fsdp 2", {**TI, "batch_size": 16, "mesh.fsdp": 2}, LARGE),
    ("Ti 224, scan, fsdp 2", {**TI, **SCAN, "batch_size": 16, "mesh.fsdp": 2}, LARGE),
    ("S 224, scan", {**S, **SCAN, "batch_size": 8}, LARGE),
    ("S 224, scan, dots", {**S, **SCAN, "batch_size": 16, "model.remat": "dots"}, LARGE),
    ("S 224, scan, full, fsdp 2", {**S, **SCAN, "batch_size": 64, "model.remat": "full",
                                   "mesh.fsdp": 2}, LARGE),
    ("Ti 32", {**TI, "batch_size": 64}, SMALL),
    ("Ti 32, scan, full", {**TI, **SCAN, "batch_size": 64, "model.remat": "full"}, SMALL),
    ("demo", {}, {}),
]  # fmt: skip
SPEED = [
    ("demo", {}, {}),
    ("Ti 224, batch 16", {**TI, "batch_size": 16}, LARGE),
    ("S 32, batch 64", {**S, "batch_size": 64}, {**SMALL, "depth": 6}),
]


def config_of(fields: dict[str, Any], model: dict[str, Any]) -> ConfigDict:
    """The demo with changes, drawn at the size that the model sees, and not evaluated."""
    model = {f"model.{key}": value for key, value in model.items()}
    size = {"data.sources.fractals.size": model.get("model.image_size", 32)}
    config = load_config("demo", **model, **size, **fields, dtype="float32")
    with config.unlocked():
        del config.evals["held_out"]
    return config


def compiled(config: ConfigDict, devices: int) -> tuple[experiment.Experiment, Any, float]:
    """The run, its compiled step, and its bytes a device."""
    parts = experiment.build(config, jax.devices()[:devices])
    rows = sharding.put_rows(parts.mesh, parts.batches.rows(0))
    state = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), parts.state, parts.laid
    )
    step = parts.train_step.lower(state, jax.random.key(0), rows, parts.tables).compile()
    found = step.memory_analysis()
    bytes_ = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return parts, step, float(bytes_ - found.alias_size_in_bytes)


def memories() -> Iterator[dict[str, Any]]:
    for name, fields, model in MEMORY:
        config = config_of(fields, model)
        count = config.mesh.fsdp
        found = compiled(config, count)[2]
        told = memory.total(plan.make(config, Fleet(processor(1e11), count, here=True)))
        yield {"run": name, "forecast": told / 1e6, "found": found / 1e6}


def speeds(seconds: float) -> Iterator[dict[str, Any]]:
    for name, fields, model in SPEED:
        config = config_of(fields, model)
        parts, step, _ = compiled(config, 1)
        key = jax.random.key(config.seed)
        rows = [sharding.put_rows(parts.mesh, parts.batches.rows(i)) for i in range(8)]
        state, _ = step(parts.start(), key, rows[0], parts.tables)
        told, reached, found = [], [], []
        for _ in range(3):  # alternating, as other work on the machine slows both
            report = dryrun.report(config, "cpu-1")
            begun, steps = time.perf_counter(), 0
            while time.perf_counter() - begun < seconds:
                state, metrics = step(state, key, rows[steps % 8], parts.tables)
                jax.block_until_ready(metrics)
                steps += 1
            took = (time.perf_counter() - begun) / steps
            learning = took - report.drawing_seconds
            reached.append(report.flops * config.batch_size / learning / report.peak)
            told.append(report.images_per_second)
            found.append(config.batch_size / took)
        yield {
            "run": name,
            "forecast": float(np.median(told)),
            "found": float(np.median(found)),
            "MFU reached": float(np.median(reached)),
            "peak GFLOP/s": report.peak / 1e9,
        }


def show(title: str, unit: str, rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = []
    print(f"\n| {title} | forecast, {unit} | found, {unit} | off |\n|---|--:|--:|--:|")
    for row in rows:
        off = row["forecast"] / row["found"] - 1
        more = "".join(f" {k} {v:.3g}" for k, v in list(row.items())[3:])
        print(
            f"| {row['run']} | {row['forecast']:.1f} | {row['found']:.1f} | {off:+.1%} |{more}",
            flush=True,
        )
        kept.append({**row, "off": off})
    return kept


def main() -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=["memory", "speed"])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each speed measurement")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("dryrun.json"))
    options = parser.parse_args()
    made = {}
    if options.only != "speed":
        made["memory"] = show("bytes a device", "MB", memories())
    if options.only != "memory":
        made["speed"] = show("speed", "images/s", speeds(options.seconds))
    options.out.write_text(json.dumps(made, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
