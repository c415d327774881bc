"""What `jaxfdsl materialise` does with its options."""

import ast
import shlex
from typing import Any

from jaxfdsl import compile_cache, generators, terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.materialise import SHARD_IMAGES
from jaxfdsl.data.materialise.manifest import Manifest
from jaxfdsl.data.materialise.write import check_target, materialise

_OWN = {"instances": "instances", "num_classes": "classes", "size": "size"}


def run(options: Any) -> None:
    """Write the formula data set that was asked for; raises ConfigError for what cannot be."""
    check_target(options.to)
    for field in ("classes", "instances", "size"):
        value = getattr(options, field)
        if value is not None and value < 1:
            raise ConfigError(f"--{field}={value}: type 1 or more, or leave it out.")
    compile_cache.enable()
    arguments = {
        "num_classes": options.classes,
        "size": options.size,
        "instances": "published" if options.instances is None else options.instances,
        **_settings(options.option),
    }
    asked = {"shard_images": options.shard_images, "command": _command(options)}
    if options.beam:
        manifest = _with_beam(options, arguments, asked)
    else:
        with terminal.as_typed():
            dataset = generators.load(options.name, **arguments)
        manifest = materialise(dataset, options.to, options.out, **asked)
    held = manifest.asked
    print(
        f"{manifest.out}: {held['images']:,} images of {held['data_set']}, "
        f"files {len(manifest.files):,}"
    )


def _with_beam(options: Any, arguments: dict[str, Any], asked: dict[str, Any]) -> Manifest:
    if options.to != "tfds":
        raise ConfigError(f"--beam writes TFDS's layout, not {options.to}: type --to tfds.")
    if not any(one.strip().lstrip("-").startswith("runner=") for one in options.beam.split(",")):
        raise ConfigError(  # Beam would leave a misspelt option out, and draw on this machine
            f"--beam={options.beam} names no runner: type runner=DirectRunner, which is this "
            "machine, or runner=DataflowRunner,project=... and the like."
        )
    try:
        from jaxfdsl.data.materialise import beam
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("apache_beam"):
            raise
        raise ConfigError(
            '--beam needs Apache Beam: type pip install "jaxfdsl[beam]" in an environment of its '
            "own, as it pins other packages."
        ) from error
    return beam.write(options.name, options.out, beam_options=options.beam, **asked, **arguments)


def _settings(given: list[str]) -> dict[str, Any]:
    """`--option key=value` as `generators.load` takes them."""
    settings = {}
    for one in given:
        name, sign, text = one.partition("=")
        if not sign or not name:
            raise ConfigError(f"--option {one}: type --option name=value, such as weights=none.")
        if name in _OWN:
            raise ConfigError(f"--option {one}: type --{_OWN[name]}={text}.")
        if name == "name":
            raise ConfigError(f"--option {one}: type the name of the data set alone.")
        try:
            settings[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            settings[name] = text
    return settings


def _command(options: Any) -> str:
    """The command without its folder: equal for equal data sets."""
    words = ["jaxfdsl", "materialise", options.name, "--to", options.to]
    for field in ("classes", "instances", "size"):
        if getattr(options, field) is not None:
            words += [f"--{field}", str(getattr(options, field))]
    if options.shard_images != SHARD_IMAGES:
        words += ["--shard_images", str(options.shard_images)]
    for one in options.option:
        words += ["--option", one]
    return shlex.join(words)


def dataset_of(command: str) -> Any | None:
    """The `generators.Dataset` that a command of `_command` wrote, without its images; None for
    any other text."""
    try:
        words = shlex.split(command)
        pairs = list(zip(words[3::2], words[4::2], strict=True))
    except ValueError:
        return None
    if words[:2] != ["jaxfdsl", "materialise"]:
        return None
    numbers = {name[2:]: int(value) for name, value in pairs if name[2:] in _OWN.values()}
    known: dict[str, Any] = {name: numbers[flag] for name, flag in _OWN.items() if flag in numbers}
    settings = _settings([value for name, value in pairs if name == "--option"])
    try:
        return generators.load(words[2], **known, **settings)
    except (ValueError, OSError):
        return None
