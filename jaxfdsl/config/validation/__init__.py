"""What a config must satisfy before anything is loaded or compiled, one sentence a refusal.

Whether the data exists, and whether a workdir fits, is known to those who open them:
`data.sources.build` and `checkpoint`.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError, field
from jaxfdsl.config import types as config_types
from jaxfdsl.config.validation.denoise import check_denoise
from jaxfdsl.config.validation.devices import check_batches, nearest
from jaxfdsl.config.validation.groups import check_groups
from jaxfdsl.diffusion.settings import check_entry
from jaxfdsl.models import variants

CHOICES: Mapping[str, tuple[str, ...]] = {
    "dtype": ("auto", "bfloat16", "float32"),
    "init_head": ("new", "keep"),
    "nonfinite": ("stop", "skip"),
    "draw": ("fused", "beside"),
    "model.pool": ("token", "mean"),
    "model.remat": ("none", "dots", "full"),
    "model.attention": ("auto", "xla", "cudnn"),
    "optimizer.name": ("adamw", "sgd", "lamb", "adafactor", "muon"),
    "schedule.name": ("cosine", "constant"),
    "augment.crop": ("none", "pad", "random_resized"),
    "augment.interpolation": ("bicubic", "bilinear"),
    "augment.mixup_mode": ("batch", "pair"),
    "data.label_space": ("joined", "separate", "shared"),
    "data.group_by": ("recipe", "image"),
    "model.projector.norm": ("layer", "batch"),
    "objective.contrast.positives": ("group", "label"),
    "objective.denoise.times": ("uniform", "logit_normal"),
}
# What each kind of evaluation scores; the others score features, which all models have.
SCORED = {
    "accuracy": "classify",
    "segmentation": "segment",
    "mean_average_precision": "classify",
    "denoising": "denoise",
    "zero_shot": "align",
    "retrieval": "align",
}
# What an evaluation measures, of those whose names do not hang on their options.
MEASURED = {
    "accuracy": ("top1", "top5", "loss"),
    "segmentation": ("miou", "pixel_accuracy", "loss"),
    "mean_average_precision": ("map",),
    "denoising": ("loss",),
    "zero_shot": ("top1", "top5"),
}
ABOVE_ZERO = (
    "batch_size", "accumulate", "log_every", "checkpoint_every", "keep_checkpoints", "data.repeats",
    "model.norm_epsilon", "data.group_size", "model.projector.hidden", "model.projector.output",
    "model.projector.layers", "objective.contrast.temperature", "model.text.width",
    "model.text.depth", "model.text.num_heads", "model.text.context", "model.text.output",
)  # fmt: skip
NOT_NEGATIVE = (
    "steps", "epochs", "eval_every", "optimizer.weight_decay", "optimizer.clip_norm",
    "schedule.warmup_steps", "schedule.warmup_epochs", "augment.crop_pad", "report.profile_start",
    "report.profile_steps", "objective.contrast.block",
)  # fmt: skip
BELOW_ONE = (
    "model.drop_path", "objective.classify.label_smoothing", "optimizer.ema", "data.max_corrupt",
    "objective.denoise.hidden",
)  # fmt: skip
RISING = ("augment.crop_scale", "augment.crop_ratio")


def check(config: ConfigDict, *, num_devices: int, num_processes: int = 1) -> None:
    """Raises `ConfigError` for the first thing that cannot run on that many devices."""
    config_types.check(config)
    _check_fields(config, config_lib.default_config())
    _check_sources(config)
    _check_values(config)
    _check_objectives(config)
    check_groups(config)
    check_denoise(config)
    _check_best_metric(config)
    _check_augment(config)
    _check_length(config)
    _check_model(config.model)
    _check_text(config)
    _check_attention(config)
    check_batches(config, num_devices, num_processes)


def _check_fields(config: ConfigDict, default: ConfigDict, prefix: str = "") -> None:
    """Every field of `config` is one of `default`'s; the named entries are looked at elsewhere."""
    for key, value in config.items():
        if key not in default:
            close = difflib.get_close_matches(key, list(default), n=1)
            known = f"did you mean {prefix}{close[0]}" if close else f"type one of {list(default)}"
            raise ConfigError(f"config.{prefix}{key} is not a field: {known}?")
        group = isinstance(value, ConfigDict) and isinstance(default[key], ConfigDict)
        if group and f"{prefix}{key}" not in config_lib.NAMED:
            _check_fields(value, default[key], f"{prefix}{key}.")
    for key in default:
        if key not in config:
            raise ConfigError(f"config.{prefix}{key} is missing: start from default_config().")


def _check_sources(config: ConfigDict) -> None:
    if not config.data.sources:
        raise ConfigError("data.sources is empty: add one with formula_source or tfds_source.")
    for name, entry in config.data.sources.items():
        _check_source(entry, f"data.sources.{name}")
    for name, entry in config.evals.items():
        kind = entry.get("kind")
        if kind not in config_lib.EVALS:
            close = _closest(kind, config_lib.EVALS)
            raise ConfigError(f"evals.{name}.kind={kind!r} is not known: type {close}.")
        parts = [key for key in ("train", "source") if key in entry]
        example = config_lib.EVALS[kind](*[ConfigDict() for _ in parts])
        for key in parts:
            _check_source(entry[key], f"evals.{name}.{key}")
            example[key] = entry[key]
        _check_fields(entry, example, f"evals.{name}.")
        if not 0 < entry.crop_fraction <= 1:
            raise ConfigError(
                f"evals.{name}.crop_fraction={entry.crop_fraction}: type a number above 0, up to 1."
            )
        if entry.source.kind == "formula" and entry.num_examples <= 0:
            raise ConfigError(
                f"evals.{name}.num_examples={entry.num_examples}, but held-out formula images "
                f"never end: type --config.evals.{name}.num_examples=2048."
            )


def _check_source(entry: ConfigDict, name: str) -> None:
    kind = entry.get("kind")
    if kind not in config_lib.SOURCES:
        close = _closest(kind, config_lib.SOURCES)
        raise ConfigError(f"{name}.kind={kind!r} is not known: type {close}.")
    example = config_lib.SOURCES[kind]()
    if kind == "diffusion":
        check_entry(entry, name)
    if kind == "formula":
        example.options = entry.get("options", {})
        for key in example.options:
            if key in example:
                raise ConfigError(
                    f"{name}.options.{key}: this is no option of the family but a field of the "
                    f"source; type --config.{name}.{key}=N."
                )
    _check_fields(entry, example, f"{name}.")


def _check_values(config: ConfigDict) -> None:
    for name, choices in CHOICES.items():
        if field(config, name) not in choices:
            close = difflib.get_close_matches(str(field(config, name)), choices, n=1)
            hint = f"--config.{name}={close[0]}" if close else f"one of {', '.join(choices)}"
            raise ConfigError(f"{name}={field(config, name)!r} is not known: type {hint}.")
    _check_range(config, ABOVE_ZERO, lambda value: value > 0, "a number above 0")
    _check_range(config, NOT_NEGATIVE, lambda value: value >= 0, "0 or more")
    _check_range(config, BELOW_ONE, lambda value: 0 <= value < 1, "a number from 0 to below 1")
    _check_range(config, RISING, _rises, "two numbers above 0, the smaller one first")
    _check_range(config, ["augment.crop_scale"], lambda x: x[1] <= 1, "shares of the area, up to 1")
    _check_range(config, ["optimizer.layer_decay"], lambda x: 0 < x <= 1, "above 0, up to 1")
    if config.optimizer.ema_warmup and not config.optimizer.ema:
        raise ConfigError(
            "optimizer.ema_warmup=True warms up an average that optimizer.ema=0.0 does not keep: "
            "type --config.optimizer.ema=0.9999."
        )
    _check_range(config, ["data.num_workers"], lambda x: x >= -1, "0 or more, or -1 for automatic")


def _closest(value: Any, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(str(value), known, n=1)
    return repr(close[0]) if close else f"one of {', '.join(known)}"


def _check_range(
    config: ConfigDict, names: Iterable[str], holds: Callable[[Any], bool], wanted: str
) -> None:
    for name in names:
        if not holds(field(config, name)):
            raise ConfigError(f"{name}={field(config, name)}: type {wanted}.")


def _rises(pair: tuple[float | int, ...]) -> bool:
    return len(pair) == 2 and 0 < pair[0] <= pair[1]


def _check_objectives(config: ConfigDict) -> None:
    for name, entry in config.objective.items():
        if not 0 <= entry.weight < float("inf"):
            raise ConfigError(f"objective.{name}.weight={entry.weight}: type 0 or more.")
    weights = {name: entry.weight for name, entry in config.objective.items()}
    if not any(weights.values()):
        raise ConfigError(
            f"objective has the weights {weights}: type --config.objective.classify.weight=1."
        )
    for name, entry in config.evals.items():
        needed = SCORED.get(entry.kind)
        if needed and not weights.get(needed):
            scored = (kind for kind, objective in SCORED.items() if weights.get(objective))
            other = next(scored, "knn")
            raise ConfigError(
                f"evals.{name}.kind={entry.kind!r} scores what objective.{needed} trains, which "
                f"is off: type --config.objective.{needed}.weight=1, or "
                f"--config.evals.{name}.kind={other}."
            )


def _check_best_metric(config: ConfigDict) -> None:
    """Its evaluation is one of the config's, and measures it as far as that is known before."""
    name, slash, metric = config.best_metric.partition("/")
    if not config.best_metric:
        return
    if name not in config.evals or not (slash and metric):
        close = difflib.get_close_matches(name, list(config.evals), n=1, cutoff=0.4)
        hint = close[0] if close else next(iter(config.evals), "")
        raise ConfigError(
            f"best_metric={config.best_metric!r} is no value of evals ({', '.join(config.evals)}): "
            f"type --config.best_metric={hint + '/' + (metric or 'top1') if hint else ''}."
        )
    known = MEASURED.get(config.evals[name].kind, (metric,))
    if metric not in known:
        close = difflib.get_close_matches(metric, known, n=1, cutoff=0.4) or [*known]
        raise ConfigError(
            f"best_metric={config.best_metric!r}: evals.{name} measures {', '.join(known)}: type "
            f"--config.best_metric={name}/{close[0]}."
        )
    if not config.eval_every:
        raise ConfigError(
            f"best_metric={config.best_metric!r} is looked at in evaluations, and eval_every=0 "
            "makes one at the end only: type --config.eval_every=N."
        )


def _check_augment(config: ConfigDict) -> None:
    from jaxfdsl.data import augment

    augment.check(config.augment)
    for name, entry in config.data.sources.items():
        if config.augment.crop == "pad" and entry.kind != "formula" and not entry.size:
            raise ConfigError(
                f"augment.crop='pad' pads pictures of one size, and data.sources.{name}.size=0 "
                "leaves them as they are: type --config.augment.crop=random_resized, or "
                f"--config.data.sources.{name}.size={config.model.image_size}."
            )
    moving = [key for key in ("rand_augment", "mixup", "cutmix") if config.augment[key]]
    if moving and config.objective.segment.weight:
        off = "''" if moving[0] == "rand_augment" else 0
        raise ConfigError(
            f"augment.{moving[0]}={config.augment[moving[0]]!r} moves pixels away from their masks,"
            f" which objective.segment learns from: type --config.augment.{moving[0]}={off}."
        )


def _check_length(config: ConfigDict) -> None:
    if config.epochs and len(config.data.phase_starts) > 1:
        raise ConfigError(
            f"epochs={config.epochs} has no length in steps when the shares change, as "
            f"data.phase_starts={config.data.phase_starts} says: type --config.epochs=0 "
            "--config.steps=N."
        )
    if (config.steps > 0) == (config.epochs > 0):
        raise ConfigError(
            f"steps={config.steps} and epochs={config.epochs}: exactly one is above 0; type "
            + ("--config.epochs=0 or --config.steps=0." if config.steps else "--config.steps=1000.")
        )
    schedule = config.schedule
    if schedule.warmup_steps and schedule.warmup_epochs:
        raise ConfigError(
            f"schedule.warmup_steps={schedule.warmup_steps} and schedule.warmup_epochs="
            f"{schedule.warmup_epochs}: type --config.schedule.warmup_epochs=0, or 0 steps."
        )
    if config.epochs and schedule.warmup_epochs >= config.epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={schedule.warmup_epochs} leaves nothing of epochs="
            f"{config.epochs}: type --config.schedule.warmup_epochs={config.epochs / 10:g}."
        )
    if config.steps and schedule.warmup_steps >= config.steps:
        raise ConfigError(
            f"schedule.warmup_steps={schedule.warmup_steps} leaves nothing of steps={config.steps}:"
            f" type --config.schedule.warmup_steps={config.steps // 10}."
        )


def _check_model(model: ConfigDict) -> None:
    try:
        variants.resolve(model.variant, model.width, model.depth, model.num_heads, model.mlp_ratio)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    image, patch = model.image_size, model.patch_size
    if patch <= 0 or image <= 0:
        raise ConfigError(f"model.image_size={image}, model.patch_size={patch}: both are above 0.")
    if image % patch:
        raise ConfigError(
            f"model.image_size={image} is not a multiple of model.patch_size={patch}: "
            f"type --config.model.image_size={nearest(image, patch)}."
        )


def _check_text(config: ConfigDict) -> None:
    text = config.model.text
    if config.objective.align.weight and text.width % text.num_heads:
        raise ConfigError(
            f"model.text.width={text.width} does not divide into model.text.num_heads="
            f"{text.num_heads}: type --config.model.text.width="
            f"{nearest(text.width, text.num_heads)}."
        )


def _check_attention(config: ConfigDict) -> None:
    """cuDNN's kernel is asked for only where "auto" would take it."""
    if config.model.attention != "cudnn":
        return
    import jax

    from jaxfdsl import experiment
    from jaxfdsl.models import attention

    model, dtype = config.model, experiment.compute_dtype(config.dtype)
    size = variants.resolve(
        model.variant, model.width, model.depth, model.num_heads, model.mlp_ratio
    )
    if attention.choose("auto", size.width // size.num_heads, dtype) != "cudnn":
        raise ConfigError(
            f"model.attention='cudnn' needs a GPU from Ampere on, a 16-bit dtype and heads of at "
            f"most 128 numbers in eights, and here are {jax.default_backend()}, {dtype} and "
            f"{size.width // size.num_heads}: type --config.model.attention=auto."
        )
