"""What a config must satisfy where a denoiser is trained, one sentence a refusal."""

from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError, field
from jaxfdsl.data import condition

# What has no meaning for a denoiser: the field, and what to type instead.
_WITHOUT = {
    "augment.mixup": "0",
    "augment.cutmix": "0",
    "model.drop_path": "0",
    "optimizer.layer_decay": "1",
}
# What would change an image before it is encoded, and the value that does not.
_CHANGES = {
    "flip_ud": False, "downsample": 0.0, "crop": "none", "interpolation": "bicubic",
    "rand_augment": "", "three_augment": False, "color_jitter": 0.0, "hue": 0.0, "grayscale": 0.0,
    "solarize": 0.0, "blur": 0.0, "erasing": 0.0,
}  # fmt: skip


def check_denoise(config: ConfigDict) -> None:
    """Raises `ConfigError` for a denoiser that cannot be trained, and its fields without one."""
    if not config.objective.denoise.weight:
        for name in ("data.condition", "data.latents", "model.autoencoder"):
            if field(config, name):
                raise ConfigError(
                    f"{name}={field(config, name)!r} is for denoisers, and objective.denoise is "
                    f"off: type --config.objective.denoise.weight=1, or --config.{name}=''."
                )
        variant = config.model.variant
        if variant.startswith("dit_"):
            raise ConfigError(
                f"model.variant={variant!r} is a denoiser's, and objective.denoise is off: type "
                f"--config.model.variant={'vit_h' if variant == 'dit_xl' else f'v{variant[1:]}'}."
            )
        return
    _check_alone(config)
    _check_latents(config)
    seen = (tuple(config.augment.mean), tuple(config.augment.std))
    if config.model.autoencoder and seen != ((0.5,) * 3, (0.5,) * 3):
        raise ConfigError(
            f"augment.mean={seen[0]} and augment.std={seen[1]} do not bring pixels to -1..1, which "
            "model.autoencoder reads: type --config.augment.mean=0.5,0.5,0.5 "
            "--config.augment.std=0.5,0.5,0.5."
        )
    if not config.data.condition:
        raise ConfigError(
            "data.condition='' does not say what the denoiser is told of an image: type "
            "--config.data.condition=label, rep:NAME, rep:NAME+label, cluster:NAME, recipe or none."
        )
    condition.check(config.data.condition)
    usual = {"optimizer.layer_decay": 1.0}
    for name, instead in _WITHOUT.items():
        if field(config, name) != usual.get(name, 0.0):
            raise ConfigError(
                f"{name}={field(config, name)} has no meaning for a denoiser: type "
                f"--config.{name}={instead}."
            )


def _check_latents(config: ConfigDict) -> None:
    """Latents that were made before the run are of images that nothing but a flip has changed."""
    name = config.data.latents
    if not name:
        return
    if not config.model.autoencoder:
        raise ConfigError(
            f"data.latents={name!r} are an autoencoder's, and model.autoencoder='': type "
            "--config.model.autoencoder=PATH of that one, or --config.data.latents='' for pixels."
        )
    for own, off in _CHANGES.items():
        if config.augment[own] != off:
            typed = "''" if off == "" else off
            raise ConfigError(
                f"augment.{own}={config.augment[own]!r} changes images, and those of data.latents="
                f"{name!r} are encoded already, mirrored at most: type --config.augment.{own}="
                f"{typed}, or --config.data.latents='' to encode in every step."
            )


def _check_alone(config: ConfigDict) -> None:
    for name, entry in config.objective.items():
        if entry.weight and name != "denoise":
            raise ConfigError(
                f"objective.{name}.weight={entry.weight} wants a vision transformer and "
                "objective.denoise trains a denoiser: type "
                f"--config.objective.{name}.weight=0, or --config.objective.denoise.weight=0."
            )
    for name, entry in config.evals.items():
        if entry.kind != "denoising":
            raise ConfigError(
                f"evals.{name}.kind={entry.kind!r} looks at a vision transformer, and "
                "objective.denoise trains a denoiser: leave it out, or type "
                f"--config.evals.{name}.kind=denoising."
            )
    width = config.model.width
    if width % 4:
        raise ConfigError(
            f"model.width={width} is no multiple of 4, as a denoiser's sines and cosines of rows "
            f"and columns need: type --config.model.width={4 * max(1, round(width / 4))}."
        )
