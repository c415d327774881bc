"""What a config must satisfy where images come in groups, one sentence a refusal."""

from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError, field

# Objectives that compare the images of a batch with each other.
CROSS_SAMPLE = ("contrast", "align")


def check_groups(config: ConfigDict) -> None:
    """Raises `ConfigError` for what has no sense in groups, and for what has none without them."""
    size, contrast = config.data.group_size, config.objective.contrast
    if contrast.weight and contrast.positives == "group" and size == 1:
        raise ConfigError(
            "data.group_size=1 leaves an image without others of its group, which "
            "objective.contrast looks for: type --config.data.group_size=4, or "
            "--config.objective.contrast.positives=label."
        )
    if size > 1 and config.data.repeats > 1:
        raise ConfigError(
            f"data.repeats={config.data.repeats} puts views of an image far apart in a batch, and "
            f"data.group_size={size} side by side: type --config.data.repeats=1, with "
            "--config.data.group_by=image for views."
        )
    compared = [name for name in CROSS_SAMPLE if config.objective[name].weight]
    for name in ("augment.mixup", "augment.cutmix"):
        if field(config, name) and (size > 1 or compared):
            why = f"data.group_size={size}" if size > 1 else f"objective.{compared[0]}"
            raise ConfigError(
                f"{name}={field(config, name)} makes one image of two, which belongs to no group "
                f"({why}): type --config.{name}=0."
            )
    for name in compared:
        if config.accumulate > 1:
            raise ConfigError(
                f"accumulate={config.accumulate} cuts the batch in parts, and objective.{name} "
                "compares all of its images with each other: type --config.accumulate=1."
            )
