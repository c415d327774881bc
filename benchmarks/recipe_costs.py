"""What every recipe costs, computed from its config: the table of configs/README.md.

    python benchmarks/recipe_costs.py --write configs/README.md

Nothing is trained. Hours are FLOP of the model (a pass forward, times 3) over a device's published
peak times the share of it that is assumed to be reached; drawing, decoding and evaluation are left
out. Without --write the table is printed.
"""

import argparse
import importlib
import inspect
import pathlib
import re
from collections.abc import Iterator

import numpy as np
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl import experiment
from jaxfdsl.config import path as config_path
from jaxfdsl.costs import flops, images, plan
from jaxfdsl.costs.devices import KINDS
from jaxfdsl.costs.images import images_of
from jaxfdsl.costs.reached import expected
from jaxfdsl.diffusion import latents
from jaxfdsl.models import denoiser, vit
from jaxfdsl.models.projector import Projection
from jaxfdsl.models.text import TextDesign

DEVICES = {"H200": "h200", "v5e": "tpu-v5e"}  # columns, and names in costs.devices
HEAD = "| recipe | images | steps | batch | H200 h | v5e h | published target | what it is |"
RULE = "|---|---|--:|--:|--:|--:|---|---|"


def recipes() -> Iterator[tuple[str, str, str]]:
    """(what one types, argument or "", docstring) of every packaged recipe and argument."""
    for recipe in config_path.packaged_names():
        module = importlib.import_module(f"jaxfdsl.configs.{pathlib.Path(recipe).stem}")
        doc = inspect.getdoc(module) or ""
        if hasattr(module, "NAMES"):
            yield from ((f"{recipe}:{name}", name, doc) for name in module.NAMES)
        else:
            takes = ":NAME" if inspect.signature(module.get_config).parameters else ""
            yield recipe + takes, "", doc


def design_of(config: ConfigDict) -> vit.Design | denoiser.Design:
    """The model with its projector and its projection for captions, or with the head of one token
    and all sources' classes; or a denoiser."""
    objective, heads = config.objective, {}
    if objective.denoise.weight:
        told = images.batches_of(config).condition
        at = latents.side_and_channels(config, plan.PUBLISHED)
        return experiment.denoiser_design(config, told.size, "bfloat16", *at)
    if objective.contrast.weight:
        heads["projector"] = Projection(**config.model.projector)
    if objective.align.weight:
        heads["image_projection"] = config.model.text.output
    if heads:
        return vit.design_of(config.model, heads, "bfloat16")
    classes = sum(images_of(entry).classes for entry in config.data.sources.values())
    return vit.design_of(config.model, classes, "bfloat16")


def text_of(config: ConfigDict) -> TextDesign | None:
    """The text tower, where captions are learned from; ids are counted for CLIP's tokenizer."""
    if not config.objective.align.weight:
        return None
    views, dtype = config.data.group_size, np.dtype("float32")
    return TextDesign(**config.model.text, vocabulary=49_408, dtype=dtype, views=views)


def flop(config: ConfigDict) -> float:
    """Forward FLOP of one image: patches, blocks and the head."""
    return flops.forward(design_of(config))


def published(doc: str, name: str) -> str:
    """What a recipe's docstring says is published: the line of its argument, or the sentence."""
    if "\nPublished" not in doc:
        return "none"
    if name:
        found = re.search(rf"^ +{re.escape(name)}  +(.*)$", doc, re.M)
    else:
        found = re.search(r"^Published \(.*?\): (.*?)(?:,? against|\.$|\.\s)", doc, re.M | re.S)
    return re.sub(r"\s+", " ", found[1]) if found else "in its docstring"


def row(typed: str, name: str, doc: str) -> str:
    config = config_path.load_config(typed.removesuffix(":NAME"))
    shown = [images_of(entry) for entry in config.data.sources.values()]
    steps = config_lib.total_steps(config, max(0, *(i.number for i in shown)) or None)
    design = design_of(config)
    image = flops.training(design, text_of(config)) / expected(design, "gpu").value
    run = image * steps * config.batch_size
    cost = [rounded(run / KINDS[name].peak / 3600) for name in DEVICES.values()]
    what = doc.partition("\n")[0].rstrip(".")
    cells = [" + ".join(map(str, shown)), f"{steps:,}", f"{config.batch_size:,}", *cost]
    cells += [published(doc, name), what]
    return f"| `{typed.removeprefix('configs/')}` | {' | '.join(cells)} |"


def rounded(hours: float) -> str:
    """Two digits, without an exponent."""
    return f"{float(f'{hours:.2g}'):,.10g}" if hours >= 0.01 else "< 0.01"


def table() -> str:
    return "\n".join([HEAD, RULE, *(row(*recipe) for recipe in recipes())])


def updated(text: str) -> str:
    """`text` with the table as it should be in place of the one that it has."""
    pattern = re.escape(HEAD) + r"\n(?:\|.*\n)*"
    new, count = re.subn(pattern, lambda _: table() + "\n", text)
    if count != 1:
        raise SystemExit(f"the file has {count} tables that begin with {HEAD!r}: write that line.")
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", type=pathlib.Path, help="the file whose table to renew")
    if file := parser.parse_args().write:
        file.write_text(updated(file.read_text("utf-8")), "utf-8")
    else:
        print(table())


if __name__ == "__main__":
    main()
