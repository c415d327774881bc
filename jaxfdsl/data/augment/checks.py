"""What the fields of `config.augment` must satisfy, one sentence a refusal."""

from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data.augment import rand_augment

PROBABILITIES = (
    "color_jitter_prob", "grayscale", "solarize", "blur", "erasing", "mixup_prob", "mixup_switch",
    "downsample",
)  # fmt: skip
NOT_NEGATIVE = ("color_jitter", "mixup", "cutmix")
CHOICES = {
    "crop": ("none", "pad", "random_resized"),
    "interpolation": ("bicubic", "bilinear"),
    "mixup_mode": ("batch", "pair"),
}


def check(cfg: ConfigDict) -> None:
    """Raises ConfigError for the first field of `config.augment` that cannot be meant."""
    for name, choices in CHOICES.items():
        if cfg[name] not in choices:
            raise ConfigError(f"augment.{name}={cfg[name]!r}: type one of {', '.join(choices)}.")
    for name in PROBABILITIES:
        if not 0 <= cfg[name] <= 1:
            raise ConfigError(f"augment.{name}={cfg[name]}: type a probability, from 0 to 1.")
    for name in NOT_NEGATIVE:
        if not 0 <= cfg[name] < float("inf"):
            raise ConfigError(f"augment.{name}={cfg[name]}: type 0 or more.")
    if not 0 <= cfg.hue <= 0.5:
        raise ConfigError(f"augment.hue={cfg.hue}: type a share of the colour circle, 0 to 0.5.")
    for name in ("mean", "std"):
        _check_channels(name, tuple(cfg[name]))
    if cfg.rand_augment:
        rand_augment.parse(cfg.rand_augment)
        if cfg.three_augment:
            raise ConfigError(
                f"augment.three_augment=True and augment.rand_augment={cfg.rand_augment!r} take "
                "each other's place: type --config.augment.rand_augment='' or "
                "--config.augment.three_augment=False."
            )


def _check_channels(name: str, values: tuple[float | int, ...]) -> None:
    least = "above 0" if name == "std" else "from 0 to 1"
    good = all(v > 0 if name == "std" else 0 <= v <= 1 for v in values)
    if len(values) != 3 or not good:
        raise ConfigError(f"augment.{name}={values}: type three numbers {least}.")
