"""What a run can be told: the default config, the entries that recipes add to it, and its JSON.

A recipe (`configs/*.py`) starts from `default_config()` and changes values. Fields cannot be added
by mistake: everything is locked but `data.sources` and `evals`, whose entries have names of the
recipe's choice, and a formula's `options`.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ConfigError(ValueError):
    """What a user can put right: one sentence with the field, the value and what to type."""


def default_config() -> ConfigDict:
    """Every field with its default; a recipe sets the rest, `data.sources` and a length."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 256  # images of one step, over all devices and processes
    config.steps = 0  # exactly one of steps and epochs is above zero
    config.epochs = 0.0
    config.log_every = 50
    config.eval_every = 0  # 0: at the end only
    config.checkpoint_every = 1000
    config.keep_checkpoints = 2
    config.dtype = "auto"  # "auto": bfloat16 on TPU and on GPU from sm80, else float32
    config.init_from = ""  # a workdir or a checkpoint: weights alone, new head, resized positions
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # -1: what is left
    config.model = _model()
    config.optimizer = ConfigDict(
        {
            "name": "adamw",  # or "sgd"
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "b1": 0.9,
            "b2": 0.999,
            "momentum": 0.9,
            "nesterov": False,
            "clip_norm": 0.0,  # 0: no clipping
            "ema": 0.0,  # 0: no average of the parameters
        }
    )
    config.schedule = ConfigDict(
        {
            "name": "cosine",
            "warmup_steps": 0,
            "warmup_epochs": 0.0,
            "warmup_from": 0.0,  # learning rate of the first step
            "final": 0.0,  # learning rate of the last step
        }
    )
    config.objective = ConfigDict(  # weight 0: off
        {
            "classify": {
                "weight": 1.0,
                "label_smoothing": 0.1,
                "pos_weight": True,  # several labels an image: what is there counts K / count times
            },
            "segment": {"weight": 0.0},
        }
    )
    config.data = ConfigDict(
        {
            "sources": {},  # {name: formula_source(...) or tfds_source(...)}
            "data_dir": "",  # recipes hand it to their TFDS sources: one place to type
            "num_workers": 0,
            "prefetch": 2,
        }
    )
    config.augment = _augment()
    config.evals = ConfigDict()  # {name: accuracy_eval(...) or segmentation_eval(...)}
    config.report = ConfigDict({"gallery": True, "tensorboard": True, "status": True})
    config.lock()
    config.data.sources.unlock()
    config.evals.unlock()
    return config


def _model() -> ConfigDict:
    return ConfigDict(
        {
            "variant": "vit_ti",
            "patch_size": 16,
            "image_size": 224,
            "pool": "token",  # or "mean"
            "drop_path": 0.0,
            "width": 0,  # 0 here and in the next three: the variant's own
            "depth": 0,
            "num_heads": 0,
            "mlp_ratio": 0.0,
            "scan_blocks": False,
            "remat": "none",
            "attention": "auto",  # or "xla", "cudnn"
        }
    )


def _augment() -> ConfigDict:
    return ConfigDict(
        {
            "flip_lr": False,
            "flip_ud": False,
            "crop": "none",  # or "pad", "random_resized"
            "crop_pad": 4,
            "crop_scale": (0.08, 1.0),
            "crop_ratio": (0.75, 1.3333),
            "mean": IMAGENET_MEAN,
            "std": IMAGENET_STD,
        }
    )


def formula_source(
    name: str = "exfractaldb-1k",
    *,
    num_classes: int = 0,
    instances: int = -1,
    size: int = 0,
    table: str = "",
    search_seed: int = 1,
    options: Mapping[str, Any] | None = None,
    shuffle_labels: bool = False,
    held_out: bool = False,
    draw_on: str = "device",
    share: float = 1.0,
) -> ConfigDict:
    """A data set that is drawn: `generators.load(name, ...)`.

    `num_classes` 0 is the name's own count, `instances` -1 the published number and 0 endless,
    `size` 0 is the published canvas in pixels. A bare family's name ("fractaldb") finds
    `num_classes` categories under `search_seed`, or takes `table`: an `.npz` or published CSV
    folder. `options` are the family's. `shuffle_labels` gives every image a label of its own by
    chance, for control experiments; `held_out` draws instances that no training set holds.
    `draw_on="host"` draws the same bytes on the host's cores, in `num_workers` processes if they
    are asked for: for contours on a TPU.
    """
    return ConfigDict(
        {
            "kind": "formula",
            "name": name,
            "num_classes": num_classes,
            "instances": instances,
            "size": size,
            "table": table,
            "search_seed": search_seed,
            "options": dict(options or {}),
            "shuffle_labels": shuffle_labels,
            "held_out": held_out,
            "draw_on": draw_on,
            "share": float(share),
        }
    )


def tfds_source(
    name: str = "cifar10",
    *,
    split: str = "train",
    data_dir: Any = "",
    size: int = 32,
    num_examples: int = 0,
    skip_examples: int = 0,
    share: float = 1.0,
) -> ConfigDict:
    """Stored images: a prepared TFDS folder (array_record) at `data_dir`, never downloaded.

    `num_examples` keeps the first N of a fixed shuffle (0: all), after `skip_examples`. An empty
    `data_dir` is TFDS's own place (see `resolve_data_dir`).
    """
    return ConfigDict(
        {
            "kind": "tfds",
            "name": name,
            "split": split,
            "data_dir": data_dir,
            "size": size,
            "num_examples": num_examples,
            "skip_examples": skip_examples,
            "share": float(share),
        }
    )


def held_out(source: ConfigDict) -> ConfigDict:
    """The same formula's held-out instances; fields are references and `options` the very same
    group, so overrides reach both.
    """
    own = {"shuffle_labels": False, "held_out": True, "share": 1.0}
    entry = {key: source.get_ref(key) for key in source if key not in {*own, "options"}}
    return ConfigDict({**entry, **own, "options": source.options})


def accuracy_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
) -> ConfigDict:
    """Top-1, top-5 and loss on a source; a formula needs `num_examples`.

    `batch_size` 0 is the training one; `crop_fraction` is the centre crop's side over the image's.
    """
    return _eval("accuracy", source, num_examples, batch_size, crop_fraction)


def segmentation_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
) -> ConfigDict:
    """Mean IoU, pixel accuracy and loss on a source with masks, at the model's image size."""
    return _eval("segmentation", source, num_examples, batch_size, crop_fraction)


def _eval(
    kind: str, source: ConfigDict, num_examples: int, batch_size: int, crop_fraction: float
) -> ConfigDict:
    return ConfigDict(
        {
            "kind": kind,
            "source": source,
            "num_examples": num_examples,
            "batch_size": batch_size,
            "crop_fraction": float(crop_fraction),
        }
    )


def resolve_data_dir(data_dir: str) -> str:
    """Where prepared TFDS data is: the field, or $TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return os.path.expanduser(
        data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    )


def total_steps(config: ConfigDict, num_examples: int | None) -> int:
    """Steps of the run; `num_examples` (None: endless) is what one epoch is counted in."""
    return config.steps or _epoch_steps(config, "epochs", config.epochs, num_examples)


def warmup_steps(config: ConfigDict, num_examples: int | None) -> int:
    """Steps over which the learning rate rises, from `warmup_steps` or `warmup_epochs`."""
    if config.schedule.warmup_epochs <= 0:
        return config.schedule.warmup_steps
    epochs = config.schedule.warmup_epochs
    return _epoch_steps(config, "schedule.warmup_epochs", epochs, num_examples)


def _epoch_steps(config: ConfigDict, field: str, epochs: float, num_examples: int | None) -> int:
    if num_examples is None:
        instead = "steps" if field == "epochs" else "schedule.warmup_steps"
        raise ConfigError(
            f"{field}={epochs} has no length because a source is endless (instances=0): "
            f"type --config.{field}=0 --config.{instead}=N instead."
        )
    return max(1, round(epochs * num_examples / config.batch_size))


def field(config: ConfigDict, name: str) -> Any:
    """The value at a dotted name; the config itself for the empty one."""
    for key in filter(None, name.split(".")):
        config = config[key]
    return config


def to_json(config: ConfigDict) -> str:
    """The resolved config as JSON text, keys in order; `from_json` gives an equal config back."""
    return json.dumps(config.copy_and_resolve_references().to_dict(), indent=2, sort_keys=True)


def from_json(text: str) -> ConfigDict:
    """A locked config from `to_json`'s text."""
    config = ConfigDict(_tuples(json.loads(text)))
    scored = [entry.source for entry in config.get("evals", {}).values() if "source" in entry]
    for entry in [*config.get("data", {}).get("sources", {}).values(), *scored]:
        if entry.get("kind") == "formula":  # fields that older runs did not have
            entry.update({k: v for k, v in formula_source().items() if k not in entry})
    return config.lock()


def _tuples(value: Any) -> Any:
    """JSON has lists alone, the config tuples alone."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def data_identity(config: ConfigDict, datasets: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the training images and their order, flat, with names as typed in a config.

    `datasets` maps each source's name to its fingerprint or to a thing with `.fingerprint`. Where
    files lie is left out: the same data elsewhere is the same data.
    """
    identity: dict[str, Any] = {"seed": config.seed, "batch_size": config.batch_size}
    entries = json.loads(to_json(config))["data"]["sources"]
    for name, entry in entries.items():
        fingerprint = getattr(datasets[name], "fingerprint", datasets[name])
        for key, value in {**entry, "fingerprint": fingerprint}.items():
            if key == "instances":  # -1 stands for what the name means
                value = getattr(getattr(datasets[name], "dataset", None), key, value) or 0
            if key not in ("data_dir", "table", "draw_on"):
                identity[f"data.sources.{name}.{key}"] = value
    return identity


def data_fingerprint(config: ConfigDict, datasets: Mapping[str, Any]) -> str:
    """sha256 of `data_identity`, in hex."""
    text = json.dumps(data_identity(config, datasets), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def changed_field(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The first field in which two data identities differ, None when they agree."""
    saved, now = (json.loads(json.dumps(dict(side))) for side in (saved, now))
    return next((key for key in sorted({*saved, *now}) if saved.get(key) != now.get(key)), None)


def validate(config: ConfigDict, *, num_devices: int, num_processes: int = 1) -> None:
    """Refuse, before anything is compiled, what cannot run; raises `ConfigError`."""
    from jaxfdsl.validation import check

    check(config, num_devices=num_devices, num_processes=num_processes)
