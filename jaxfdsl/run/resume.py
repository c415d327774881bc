"""Whether a workdir may be continued, where a run starts, and what its checkpoints say of it."""

import importlib.metadata
import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from jaxfdsl import checkpoint
from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.experiment import Experiment
from jaxfdsl.interop import weights
from jaxfdsl.models import transfer
from jaxfdsl.state import State

# What may change between two starts of the same run: its length, what it reports, where it runs
# and where its files lie. Everything else makes another experiment.
FREE = (
    "steps",
    "epochs",
    "log_every",
    "eval_every",
    "checkpoint_every",
    "keep_checkpoints",
    "best_metric",
    "accumulate",
    "nonfinite",
    "draw",
    "mesh",
    "report",
    "evals",
    "data.num_workers",
    "data.prefetch",
    "data.max_corrupt",
    "data.data_dir",
    "data.sources.*.data_dir",
    "data.sources.*.path",
    "data.sources.*.table",
    "data.sources.*.classes",
    "data.sources.*.recipes",  # places; what they hold is in the sources' fingerprints
    "data.sources.*.weaker",
    "model.remat",
    "model.attention",
    "objective.contrast.block",
    "objective.align.tokenizer",  # what the file says is in `Experiment.identity`
    "model.autoencoder",  # likewise
)
PACKAGES = ("jaxfdsl", "jax", "flax", "optax", "orbax-checkpoint", "numpy")


def meta(run: Experiment) -> dict[str, Any]:
    """What a checkpoint says of the run that wrote it; `Keeper` adds `evaluation_due`."""
    condition = run.batches.condition
    return {
        "config": json.loads(config_lib.to_json(run.config)),
        "data": run.identity,
        "total_steps": run.total_steps,
        "versions": versions(),
        **({"condition": condition.describe()} if condition else {}),
    }


def check(found: tuple[int, Mapping[str, Any]], run: Experiment, workdir: epath.Path) -> None:
    """Raises ConfigError when `workdir` holds another experiment, or one that is past the end."""
    step, saved = found
    now = meta(run)
    try:
        # By way of a config, which gives fields that did not exist yet their defaults.
        filled = config_lib.to_json(config_lib.from_json(json.dumps(saved["config"])))
        saved = {**saved, "data": dict(saved["data"]), "total_steps": int(saved["total_steps"])}
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{workdir / 'checkpoints' / str(step)} does not say whose it is ({error}): move it "
            "away to continue from the checkpoint before it."
        ) from error
    there, here = (_fixed(side) for side in (json.loads(filled), now["config"]))
    name = config_lib.changed_field(there, here)
    if name is not None:
        sides = [repr(side[name]) if name in side else "absent" for side in (here, there)]
        back = f", or --config.{name}={there[name]} to continue that one" if name in there else ""
        raise ConfigError(
            f"{workdir} holds another experiment: {name} is {sides[0]} here and {sides[1]} there; "
            f"type another --workdir{back}."
        )
    name = config_lib.changed_field(saved["data"], now["data"])
    if name is not None:
        raise ConfigError(
            f"{workdir} was trained on other data: {name} differs ({now['data'].get(name)} here, "
            f"{saved['data'].get(name)} there); type another --workdir to train on this data."
        )
    if step >= run.total_steps and (step, step) != (run.total_steps, saved["total_steps"]):
        length = f"steps={run.config.steps}" if run.config.steps else f"epochs={run.config.epochs}"
        raise ConfigError(
            f"{length} ends at step {run.total_steps}, and {workdir} is at step {step} already: "
            f"type --config.epochs=0 --config.steps=N with N above {step}, or another --workdir."
        )


def finished(workdir: epath.Path, run: Experiment) -> dict[str, Any] | None:
    """The summary of a run that has nothing left to do."""
    path = workdir / "summary.json"
    if not path.exists():
        return None
    summary = json.loads(path.read_text())
    return summary if summary.get("steps") == run.total_steps else None


def initial_state(run: Experiment) -> tuple[State, str]:
    """A new state, with the weights of `init_from` if the config names one, and a line about it.

    Weights that cannot be used are refused before anything is compiled.
    """
    path = os.path.expanduser(run.config.init_from)
    if not path:
        return run.start(), ""
    try:
        loaded, origin = _load(path, run)
        keep = run.config.init_head == "keep"
        params, changes = transfer.adapt(loaded, run.state["params"], keep_heads=keep)
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(
            f"init_from={path!r} cannot be used: {error}; type the workdir of a run of this model, "
            "or ViT weights of timm, Hugging Face, big_vision or DINOv2 (a file, or a folder)."
        ) from error
    state = run.start()
    for name in ("params", "ema"):
        if name in state:
            state[name] = jax.tree.map(_moved, params, state[name], run.laid[name])
    return state, f"Weights from {origin}: {'; '.join(changes) or 'as they are'}."


def _load(path: str, run: Experiment) -> tuple[Any, str]:
    """The weights of one of our runs, or of another program."""
    if weights.is_foreign(path):
        if run.batches.condition is not None:
            raise ValueError("a denoiser starts from weights of its own kind alone")
        design = run.model.design
        return weights.load(path, design.size.num_heads, design.norm_epsilon)
    return checkpoint.load_params(path)


def _moved(value: Any, fresh: jax.Array, sharding: jax.sharding.Sharding) -> jax.Array:
    """`value` where it will lie; what `adapt` took from the fresh state's shapes is `fresh`."""
    if isinstance(value, jax.ShapeDtypeStruct):
        return fresh
    # By way of the host: params and ema must not share a buffer, as the step consumes both.
    return jax.device_put(np.asarray(value), sharding)


def _fixed(config: Mapping[str, Any]) -> dict[str, Any]:
    """The flat config without its free fields."""
    flat = _flatten(config)
    return {name: value for name, value in flat.items() if not any(_covers(f, name) for f in FREE)}


def _covers(pattern: str, name: str) -> bool:
    parts, names = pattern.split("."), name.split(".")
    return len(parts) <= len(names) and all(
        p in ("*", n) for p, n in zip(parts, names, strict=False)
    )


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inside = isinstance(value, Mapping)
        flat |= _flatten(value, f"{prefix}{name}.") if inside else {f"{prefix}{name}": value}
    return flat


def versions() -> dict[str, str]:
    """Versions of the packages that decide what a run computes."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def config_file(config: ConfigDict) -> str:
    """The text of a run folder's config.json."""
    return config_lib.to_json(config) + "\n"
