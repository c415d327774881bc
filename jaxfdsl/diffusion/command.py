"""What `jaxfdsl materialise WORKDIR` does: a denoiser's run, recipes, a store."""

import json
import pathlib
from typing import Any

from jaxfdsl import compile_cache, terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.materialise.write import check_target
from jaxfdsl.data.store.exporting import TARGETS
from jaxfdsl.diffusion import recipes as recipes_lib
from jaxfdsl.diffusion import sampling, writing
from jaxfdsl.diffusion.recipes import Recipes
from jaxfdsl.diffusion.sampling import Sampler
from jaxfdsl.diffusion.settings import OF_FORMULAS, Settings, flag


def run(options: Any) -> None:
    """Makes what is missing of the images that the options ask for, and says where they are."""
    count = _check(options)
    compile_cache.enable()
    usual = Settings()
    sampler = sampling.load(
        options.name,
        guidance=usual.guidance if options.guidance is None else options.guidance,
        steps=usual.steps if options.sample_steps is None else options.sample_steps,
        method=options.method or usual.method,
        weaker=options.weaker or "",
        step=options.step or 0,
        field=lambda name: "WORKDIR" if name == "path" else flag(name),
    )
    recipes = recipes_lib.load(
        options.recipes or "", sampler.condition, sampler.config, field="--recipes"
    )
    count, batch = count or len(recipes), options.batch or writing.usual_batch()
    print(
        f"{sampler.name} at step {sampler.step}, guidance {sampler.settings.guidance:g}: "
        f"{count:,} images of {len(recipes):,} recipes ({recipes.name})",
        flush=True,
    )
    with terminal.progress(count, desc=sampler.name, unit="images") as bar:
        writing.write(
            sampler,
            recipes,
            options.out,
            count,
            card=card_of(sampler, recipes, batch, options.licence or ""),
            batch=batch,
            shard_images=options.shard_images,
            bar=bar,
        )
    print(f"{options.out}: {count:,} images of {sampler.name}")


def _check(options: Any) -> int:
    """The number of images, 0 where it is not said."""
    for field in OF_FORMULAS:
        if getattr(options, field):
            raise ConfigError(
                f"--{field} is for formula data sets, and {options.name} is a folder: leave it out."
            )
    check_target(options.to)
    if options.to != "store":
        then = options.to if options.to in TARGETS else "folder"
        raise ConfigError(
            f"--to={options.to}: samples of a run go to a store: type --to store, and then jaxfdsl "
            f"store export {options.out} --to={then}."
        )
    for field in ("images", "batch", "step", "shard_images"):
        value = getattr(options, field)
        if value is not None and value < 1:
            raise ConfigError(f"--{field}={value}: type 1 or more, or leave it out.")
        most = 2**16 if field == "batch" else 2**31 - 1
        if value is not None and value > most:
            raise ConfigError(f"--{field}={value}: type {most} or less.")
    if "://" in options.out:
        raise ConfigError(f"--out={options.out}: type a local folder, and copy it afterwards.")
    return options.images or 0


def card_of(sampler: Sampler, recipes: Recipes, batch: int, licence: str = "") -> dict[str, Any]:
    """The data card: which model made the images, of what, and whose licence and bias they have.

    Equal for equal sets, whatever their number.
    """
    how, condition = sampler.settings, sampler.condition
    card: dict[str, Any] = {
        "title": f"samples of {sampler.name}",
        "generator": f"the run {sampler.name} of jaxfdsl at step {sampler.step}, a flow-matching "
        f"transformer of {sampler.image_size} pixels",
        "weights": sampler.digest,
        "guidance": how.guidance,
        "steps": how.steps,
        "sampler": how.method,
        "caption_source": "no captions",
        "condition": condition.kind,
        "recipes": recipes.name,
        "recipes_sha256": recipes.digest,
        "batch": batch,
        "trained_on": trained_on(sampler),
        "licence": licence or _licence(sampler, recipes),
        "created_by": "jaxfdsl materialise",
        "notes": "Row i is of recipe i % R (its group) with seed i // R.",
    }
    if recipes.made_by:
        card["recipes_made_by"] = json.dumps(recipes.made_by, sort_keys=True)
    if how.weaker:
        card |= {"weaker": sampler.identity["weaker"]}
    if "autoencoder" in sampler.identity:
        card["autoencoder"] = sampler.identity["autoencoder"]
    if condition.column:
        said = condition.made_by
        card["encoder"] = f"{said.get('encoder', 'not stated')}, {said.get('weights', '')}".strip(
            ", "
        )
    return card


def trained_on(sampler: Sampler) -> list[str]:
    """The names of the denoiser's training data."""
    entries = sampler.config.data.sources.values()
    return [
        f"{entry.kind} {pathlib.Path(str(entry.get('name') or entry.get('path', ''))).name}"
        for entry in entries
    ]


def _licence(sampler: Sampler, recipes: Recipes) -> str:
    """What is known of it: a model's images inherit its data's licence and bias."""
    stores = [entry.path for entry in sampler.config.data.sources.values() if entry.kind == "store"]
    found = {recipes.licence} - {""}
    for path in stores:
        try:
            found.add(str(store.open(path).card.get("licence", "")))
        except ConfigError:  # it need not be here any more
            continue
    data, encoder = ", ".join(trained_on(sampler)), ""
    if sampler.condition.column:
        encoder = ", and those of the data that the encoder was trained on"
    drawn = all(entry.kind == "formula" for entry in sampler.config.data.sources.values())
    stated = "; ".join(sorted(found - {""})) or ("drawn by jaxfdsl" if drawn else "not stated")
    return f"that of the training data ({data}: {stated}), whose biases they have{encoder}"
