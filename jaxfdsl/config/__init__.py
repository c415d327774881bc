"""What a run can be told: the default config, the entries that recipes add to it, and its JSON.

A recipe (`configs/*.py`) starts from `default_config()` and changes values. Fields cannot be added
by mistake: everything is locked but `data.sources` and `evals`, whose entries have names of the
recipe's choice (`entries` makes them), and a formula's `options`. `path` finds and loads recipes,
`types` and `validation` refuse what cannot run.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl.config.entries import (
    EVALS,
    PROMPTS,
    SOURCES,
    accuracy_eval,
    denoising_eval,
    diffusion_source,
    few_shot_eval,
    folder_source,
    formula_source,
    held_out,
    knn_eval,
    linear_probe_eval,
    mean_average_precision_eval,
    parquet_source,
    retrieval_eval,
    segmentation_eval,
    store_source,
    tfds_source,
    zero_shot_eval,
)

__all__ = [  # what recipes and callers take from here, entries included
    "EVALS",
    "PROMPTS",
    "SOURCES",
    "ConfigError",
    "accuracy_eval",
    "default_config",
    "denoising_eval",
    "diffusion_source",
    "few_shot_eval",
    "folder_source",
    "formula_source",
    "held_out",
    "knn_eval",
    "linear_probe_eval",
    "mean_average_precision_eval",
    "parquet_source",
    "retrieval_eval",
    "segmentation_eval",
    "store_source",
    "tfds_source",
    "zero_shot_eval",
]

NAMED = ("data.sources", "evals")  # groups whose entries have names of the recipe's choice
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ConfigError(ValueError):
    """What a user can put right: one sentence with the field, the value and what to type."""


def default_config() -> ConfigDict:
    """Every field with its default; a recipe sets the rest, `data.sources` and a length."""
    config = ConfigDict()
    config.seed = 0  # of the weights, the order of the data and augmentation
    config.batch_size = 256  # images of one step, over all devices and processes
    config.accumulate = 1  # microbatches of one step: less memory, the same gradient
    config.steps = 0  # exactly one of steps and epochs is above zero
    config.epochs = 0.0  # of the longest source
    config.log_every = 50  # steps, as the next two
    config.eval_every = 0  # 0: at the end only
    config.checkpoint_every = 1000
    config.keep_checkpoints = 2  # the newest ones
    config.best_metric = ""  # "held_out/top1": the checkpoint where it was best is kept as well
    config.nonfinite = "stop"  # what a loss that is not finite does; "skip": no update, go on
    config.draw = "fused"  # images are drawn inside the step; "beside": by a program before it
    config.dtype = "auto"  # "auto": bfloat16 on TPU and on GPU from sm80, else float32
    # A workdir, a checkpoint, or weights of timm, Hugging Face, big_vision, DINOv2 (a file or a
    # folder): weights alone, positions resized.
    config.init_from = ""
    config.init_head = "new"  # or "keep": the head too, for the same classes
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # -1: what is left
    config.model = _model()
    config.optimizer = ConfigDict(
        {
            "name": "adamw",  # or "sgd", "lamb", "adafactor", "muon"
            "learning_rate": 1e-3,
            "weight_decay": 0.05,
            "b1": 0.9,  # of all but sgd, as the next one
            "b2": 0.999,
            "momentum": 0.9,  # of sgd, as the next one
            "nesterov": False,
            "clip_norm": 0.0,  # 0: no clipping
            "ema": 0.0,  # 0: no average of the parameters
            "ema_warmup": False,  # True: at most (1 + t) / (10 + t) in step t, for short runs
            "layer_decay": 1.0,  # learning rate of a block over that of the next one
        }
    )
    config.schedule = ConfigDict(
        {
            "name": "cosine",  # or "constant"
            "warmup_steps": 0,  # or epochs, the next one
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
            "contrast": {  # images of a group find each other among all of the batch
                "weight": 0.0,
                "temperature": 0.1,
                "positives": "group",  # or "label": all images of a class are positives
                "block": 0,  # anchors of a device that meet all others at once: memory; 0: all
            },
            "align": {  # images and their captions find each other, as in CLIP
                "weight": 0.0,
                "tokenizer": "",  # path of CLIP's tokenizer.json; "": bytes
            },
            "denoise": {  # flow matching: the model is a denoiser, and learns nothing else
                "weight": 0.0,
                "times": "uniform",  # or "logit_normal"
                "hidden": 0.1,  # share of the conditions that the model does not see
            },
        }
    )
    config.data = ConfigDict(
        {
            "sources": {},  # {name: formula_source(...), tfds_source(...), folder_source(...)}
            "data_dir": "",  # recipes hand it to their TFDS sources: one place to type
            "phase_starts": (0,),  # steps at which the next number of each `share` begins to hold
            "label_space": "joined",  # "separate": a softmax a source; "shared": same classes
            "repeats": 1,  # views of an image in its batch: repeated augmentation
            "group_size": 1,  # images that belong together; an epoch counts each of them
            "group_by": "recipe",  # a category's instances, a caption's images; "image": its views
            # What a denoiser is told of an image: "label", "rep:NAME", "rep:NAME+label" and
            # "cluster:NAME" (columns that `jaxfdsl embed` wrote), "recipe" (a formula's
            # parameters), "none".
            "condition": "",
            "latents": "",  # latent:NAME of `jaxfdsl embed --autoencoder`; "": made in every step
            "max_corrupt": 0.01,  # share of a source's images that may be unreadable
            "num_workers": -1,  # processes that decode; 0: threads alone; -1: what the machine has
            "prefetch": 2,  # batches made ahead
        }
    )
    config.augment = _augment()
    config.evals = ConfigDict()  # {name: accuracy_eval(...), knn_eval(...), ...}
    config.report = ConfigDict(
        {
            "gallery": True,  # gallery.png, and samples.png of a denoiser
            "tensorboard": True,  # its event file, beside metrics.jsonl
            "wandb": "",  # a project's name: a copy of the metrics on Weights & Biases
            "status": True,  # the line that renews itself
            "drawing": True,  # times drawing alone once, for its share of the step
            "profile_start": 0,  # the first step of a profile, of how many steps (0: none)
            "profile_steps": 0,
        }
    )
    config.lock()
    config.data.sources.unlock()
    config.evals.unlock()
    return config


def _model() -> ConfigDict:
    return ConfigDict(
        {
            "variant": "vit_ti",  # to "vit_g"; of a denoiser "dit_s" to "dit_xl"
            "patch_size": 16,  # pixels, or numbers of a latent
            "image_size": 224,  # pixels of what the model sees
            "pool": "token",  # or "mean"
            "norm_epsilon": 1e-6,  # of layer norms; Hugging Face's ViTs have 1e-12
            "drop_path": 0.0,  # rate at the last block; it rises from 0 at the first
            "width": 0,  # 0 here and in the next three: the variant's own
            "depth": 0,
            "num_heads": 0,
            "mlp_ratio": 0.0,
            "projector": {  # the head of objective.contrast, dropped after pre-training
                "hidden": 4096,
                "output": 256,
                "layers": 3,
                "norm": "layer",  # or "batch", of each view of a group by itself
            },
            "text": {  # the tower of objective.align, CLIP's
                "width": 512,
                "depth": 12,
                "num_heads": 8,
                "context": 77,  # tokens of a caption
                "output": 512,  # numbers of an image's and of a caption's embedding
            },
            "scan_blocks": False,  # one block is compiled instead of all
            "remat": "none",  # or "dots", "full": activations are computed again, to save memory
            "attention": "auto",  # or "xla", "cudnn"
            "autoencoder": "",  # a published VAE's folder or file: what a denoiser works in
        }
    )


def _augment() -> ConfigDict:
    return ConfigDict(
        {
            "flip_lr": False,  # half of the images, as the next one
            "flip_ud": False,
            "downsample": 0.0,  # probability of going to 64 or 128 pixels and back, before all else
            "crop": "none",  # or "pad", "random_resized"
            "crop_pad": 4,  # pixels on each side, for "pad"
            "crop_scale": (0.08, 1.0),  # share of the area, for "random_resized"
            "crop_ratio": (0.75, 1.3333),  # width over height, likewise
            "interpolation": "bicubic",  # or "bilinear"
            "rand_augment": "",  # timm's notation: "rand-m9-mstd0.5-inc1"
            "three_augment": False,  # one of grayscale, solarise and blur (DeiT III)
            "color_jitter": 0.0,  # of brightness, contrast and saturation
            "color_jitter_prob": 1.0,  # of jitter at all, hue included
            "hue": 0.0,  # a turn of at most this share of the colour circle
            "grayscale": 0.0,  # probability, as are the next three
            "solarize": 0.0,
            "blur": 0.0,
            "erasing": 0.0,  # pixel noise in one box
            "mixup": 0.0,  # alpha of the beta distribution, as the next one; 0: off
            "cutmix": 0.0,
            "mixup_prob": 1.0,  # of mixing at all, by either
            "mixup_switch": 0.5,  # probability of cutmix where both are on
            "mixup_mode": "batch",  # one weight for the whole batch; "pair": one a pair
            "mean": IMAGENET_MEAN,  # of pixels from 0 to 1, as the next one
            "std": IMAGENET_STD,
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
    """A locked config from `to_json`'s text; fields that the run's version did not have yet get
    their defaults. Raises ConfigError for what is no whole JSON, and for values of another type.
    """
    from jaxfdsl.config import types as config_types

    try:
        tree = json.loads(text)
        if not isinstance(tree, dict):
            raise TypeError(f"a {type(tree).__name__}, not a group of fields")
        config = ConfigDict(_tuples(tree))
    except (RecursionError, TypeError, ValueError) as error:
        raise ConfigError(f"This is not the JSON of a config: {error}.") from error
    _fill(config, default_config(), "")
    for entry in config_types.sources(config):
        if str(entry.get("kind")) in SOURCES:
            _fill(entry, SOURCES[entry.kind](), "")
    for entry, usual in config_types.evaluations(config):
        _fill(entry, usual, "")
    config_types.check(config)
    return config.lock()


def _fill(config: ConfigDict, default: ConfigDict, prefix: str) -> None:
    for key, value in default.items():
        if key not in config:
            config[key] = value
        elif f"{prefix}{key}" in NAMED or not isinstance(config[key], ConfigDict):
            continue  # entries have fields of their own; of what is no group `types` tells
        elif isinstance(value, ConfigDict):
            _fill(config[key], value, f"{prefix}{key}.")


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
    usual = default_config().data
    for key in (
        "phase_starts",
        "repeats",
        "label_space",
        "group_size",
        "group_by",
        "condition",
    ):
        if config.data[key] != usual[key]:
            identity[f"data.{key}"] = config.data[key]
    entries = json.loads(to_json(config))["data"]["sources"]
    for name, entry in entries.items():
        fingerprint = getattr(datasets[name], "fingerprint", datasets[name])
        for key, value in {**entry, "fingerprint": fingerprint}.items():
            if key == "instances":  # -1 stands for what the name means
                value = getattr(getattr(datasets[name], "dataset", None), key, value) or 0
            if key not in ("data_dir", "path", "table", "classes", "draw_on", "recipes", "weaker"):
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
    from jaxfdsl.config.validation import check

    check(config, num_devices=num_devices, num_processes=num_processes)
