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
from typing import NamedTuple

from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl import config_path
from jaxfdsl.generators import catalog
from jaxfdsl.models import variants

PEAK = {"H200": 989e12, "v5e": 197e12}  # bfloat16 FLOP/s of one device, as its maker says
REACHED = {"vit_ti": 0.2, "vit_s": 0.3, "vit_b": 0.4}  # assumed: small models wait for memory
TINY = 0.045  # at 32 pixels
HEAD = "| recipe | images | steps | batch | H200 h | v5e h | published target | what it is |"
RULE = "|---|---|--:|--:|--:|--:|---|---|"
REAL = {  # images of the training split and classes, as TFDS or the set's authors count them
    "cifar10": (50_000, 10),
    "cifar100": (50_000, 100),
    "cars196": (8_144, 196),
    "oxford_flowers102": (2_040, 102),
    "voc/2012": (5_717, 20),
    "imagenet2012": (1_281_167, 1000),
    "places365_small": (1_803_460, 365),
}


class Images(NamedTuple):
    name: str
    number: int  # 0: without end
    classes: int

    def __str__(self) -> str:
        return f"{self.name}, {self.number:,}" if self.number else f"{self.name}, endless"


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


def images_of(entry: ConfigDict) -> Images:
    """Of one source; nothing is loaded."""
    if entry.kind != "formula":
        number, classes = REAL[entry.name]
        if not entry.classes:
            return Images(entry.name, number, classes)
        kept = int(re.sub(r"[^0-9]", "", entry.classes))  # imagenet100.txt: which is up to the user
        return Images(
            f"{kept} of {entry.name}'s classes", number * kept // classes // 1000 * 1000, kept
        )
    base, _, size = entry.name.rpartition("-")
    known = catalog.DATASETS.get(entry.name) or catalog.DATASETS.get(base)
    if known is None:  # a bare family, as the demo has it
        return Images(entry.name, max(entry.instances, 0) * entry.num_classes, entry.num_classes)
    instances = known.instances if entry.instances < 0 else entry.instances
    classes = entry.num_classes or catalog.SIZES.get(size, known.num_classes)
    scenes = hasattr(catalog.FAMILIES[known.family], "compose")  # an image has several classes
    return Images(entry.name, instances if scenes else classes * instances, classes)


def flop(config: ConfigDict) -> float:
    """Forward FLOP of one image: patches, blocks and the head of one token."""
    model = config.model
    own = (model[key] for key in ("width", "depth", "num_heads", "mlp_ratio"))
    size = variants.resolve(model.variant, *own)
    width, patches = size.width, (model.image_size // model.patch_size) ** 2
    tokens = patches + (model.pool == "token")
    embed = 2 * patches * model.patch_size**2 * 3 * width
    block = 8 * tokens * width**2 + 4 * tokens**2 * width
    block += 4 * tokens * width * int(size.mlp_ratio * width)
    classes = sum(images_of(entry).classes for entry in config.data.sources.values())
    return embed + size.depth * block + 2 * width * classes


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
    images = [images_of(entry) for entry in config.data.sources.values()]
    steps = config_lib.total_steps(config, max(i.number for i in images) or None)
    reached = REACHED[config.model.variant] if config.model.image_size > 32 else TINY
    run = 3 * flop(config) * steps * config.batch_size / reached
    cost = [rounded(run / peak / 3600) for peak in PEAK.values()]
    what = doc.partition("\n")[0].rstrip(".")
    cells = [" + ".join(map(str, images)), f"{steps:,}", f"{config.batch_size:,}", *cost]
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
