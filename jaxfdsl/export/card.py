"""The model card of an exported folder: what the weights are, and the lines that load them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl.export.layouts import Weights
from jaxfdsl.run.provenance import NO_REAL_IMAGE, Ancestor, short

_PLACES = ("data_dir", "path", "table", "classes", "init_from")  # where files lay is no recipe
_LICENCES = {  # what can be said of a licence that nobody typed, by the words of the provenance
    "drawn": ("apache-2.0", "Apache-2.0, as the program that drew every image and trained on it."),
    "else": ("other", "The terms of the images and weights named above hold; see their sources."),
}


def text(
    weights: Weights,
    *,
    to: str,
    step: int,
    results: Mapping[str, float],
    chain: Sequence[Ancestor],
    licence: str,
    version: str,
) -> str:
    """README.md, with the front matter that the Hugging Face hub reads."""
    drawn = weights.provenance.startswith(NO_REAL_IMAGE)
    spdx, terms = _LICENCES["drawn" if drawn else "else"]
    spdx, terms = (licence, f"{licence}.") if licence else (spdx, terms)
    config, library = weights.config, _library(to)
    m, size = config.model, weights.size
    pooled = "the mean of its patches" if m.pool == "mean" else "its class token"
    shape = f"width {size.width}, depth {size.depth}, heads {size.num_heads}"
    outputs = f"{weights.num_classes} classes" if weights.num_classes else "no classifier"
    sources = [f"- {name}: {_describe(entry)}" for name, entry in config.data.sources.items()]
    scores = [f"| {name} | {value:.4f} |" for name, value in results.items()]
    table = ["| evaluation | value |", "|---|---|", *scores] if scores else ["None at this step."]
    recipe = json.dumps(changed(config), indent=2, sort_keys=True)
    return "\n".join(
        [
            "---",
            f"license: {spdx}",
            *([f"library_name: {library}"] if library else []),
            "tags: [image-classification, formula-driven-supervised-learning, jax]",
            "---",
            f"# Vision transformer, patches of {m.patch_size}, {m.image_size} pixels",
            "",
            f"A ViT ({shape}; {pooled} is read out; {outputs}), trained for {step} "
            f"steps of {config.batch_size} images by jaxfdsl {version}.",
            "",
            f"**Provenance:** {weights.provenance}",
            "",
            "## Data",
            *sources,
            *(_ancestor(ancestor) for ancestor in chain),
            "",
            "## Load",
            *_lines(weights, to),
            "",
            "## Results",
            *table,
            "",
            "## Recipe",
            "What differs from `jaxfdsl.config.default_config()`; paths by their last part.",
            "```json",
            recipe,
            "```",
            "",
            "## Licence",
            terms,
            "",
        ]
    )


def portable(config: ConfigDict) -> dict[str, Any]:
    """The config as JSON has it, every path by its last part."""

    def shorten(tree: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in tree.items():
            value = shorten(value) if isinstance(value, dict) else value
            made[key] = short(value) if key in _PLACES and isinstance(value, str) else value
        return made

    return shorten(json.loads(config_lib.to_json(config)))


def changed(config: ConfigDict) -> dict[str, Any]:
    """The fields in which a config differs from the default one."""
    usual = json.loads(config_lib.to_json(config_lib.default_config()))

    def differing(now: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in now.items():
            if isinstance(value, dict) and isinstance(before.get(key), dict):
                value = differing(value, before[key])
                made |= {key: value} if value else {}
            elif key not in before or value != before[key]:
                made[key] = value
        return made

    return differing(portable(config), usual)


def _describe(entry: ConfigDict) -> str:
    named = entry.get("name") or short(entry.get("path", ""))
    if entry.kind == "formula":
        classes = f", {entry.num_classes} categories" if entry.num_classes else ""
        return f"{named}{classes}, drawn from its formula"
    if entry.kind == "diffusion":
        return f"{named}, samples of that run's denoiser"
    return f"{named}, stored images ({entry.kind})"


def _ancestor(ancestor: Ancestor) -> str:
    if "sources" not in ancestor:
        return f"- before it: {ancestor['weights']}, {ancestor['kind']} weights"
    seen = ", ".join(f"{name} ({kind})" for name, kind in ancestor["sources"])
    what = "denoiser" if ancestor["kind"] == "denoiser" else "run"
    return f"- before it: the {what} {ancestor['weights']} on {seen}"


def _library(to: str) -> str:
    return {"timm": "timm", "huggingface": "transformers"}.get(to, "")


def _lines(weights: Weights, to: str) -> list[str]:
    """The code that loads the folder in which it is typed, and what is to be said of it."""
    code, told = _CODE[to](weights)
    return ["```python", *code, "```", *told]


def _timm(weights: Weights) -> tuple[list[str], list[str]]:
    # Without a classifier, transformers' class for images would make a new one.
    kind = "AutoModelForImageClassification" if weights.num_classes else "TimmWrapperModel"
    code = [
        "import timm",
        f"from transformers import {kind}",
        "",
        'model = timm.create_model("local-dir:.", pretrained=True)',
        "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
        f'same = {kind}.from_pretrained(".")',
    ]
    return code, ["In jaxfdsl: `python -m jaxfdsl.main --config.init_from=FOLDER`."]


def _huggingface(weights: Weights) -> tuple[list[str], list[str]]:
    kind = "ViTForImageClassification" if weights.num_classes else "ViTModel"
    plain = "" if weights.num_classes else ", add_pooling_layer=False"
    code = [
        f"from transformers import AutoImageProcessor, {kind}",
        "",
        'processor = AutoImageProcessor.from_pretrained(".")',
        f'model = {kind}.from_pretrained("."{plain})',
    ]
    return code, []


def _big_vision(weights: Weights) -> tuple[list[str], list[str]]:
    arguments = {"num_classes": weights.num_classes, "no_embed_class": True, **weights.model_args}
    code = [
        "import timm",
        "",
        "model = timm.create_model(",
        f'    "{weights.architecture}",',
        *(f"    {name}={value!r}," for name, value in arguments.items()),
        ")",
        'model.load_pretrained("model.npz")',
    ]
    said = "config.json has the arguments of big_vision's `vit.Model`. Its GELU is the tanh one, "
    return code, [f"{said}while these weights were trained with the exact one, which timm has."]


def _ours(weights: Weights) -> tuple[list[str], list[str]]:
    heads = {"head": weights.num_classes} if weights.num_classes else {}
    code = [
        "import pathlib",
        "from flax.traverse_util import unflatten_dict",
        "from safetensors.numpy import load_file",
        "from jaxfdsl import config",
        "from jaxfdsl.models import vit",
        "",
        'model_config = config.from_json(pathlib.Path("config.json").read_text()).model',
        'params = unflatten_dict(load_file("model.safetensors"), sep="/")',
        f'model = vit.build(model_config, {heads!r}, "float32")',
    ]
    said = "`model.apply(params, images, train=False)` takes images float32[B, S, S, 3], normalised"
    return code, [f"{said} as preprocessor_config.json says."]


_CODE: dict[str, Callable[[Weights], tuple[list[str], list[str]]]] = {
    "timm": _timm,
    "huggingface": _huggingface,
    "big_vision": _big_vision,
    "safetensors": _ours,
}
