"""What a recipe puts into `config.data.sources` and `config.evals`: one function for each kind.

Recipes reach them through `jaxfdsl.config`: `from jaxfdsl import config as c; c.tfds_source(...)`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

Share = float | tuple[float, ...]
# Several prompts of a class, for `zero_shot_eval`; CLIP's own are handed over as a file.
PROMPTS = (
    "a photo of a {}.",
    "here is one {}.",
    "what this picture shows is a {}.",
    "a {}, near the middle of the picture.",
    "a small picture with a {} in it.",
    "a {} and what is round it.",
    "something that people call {}.",
)


def formula_source(
    name: str = "exfractaldb-1k",
    *,
    num_classes: int = 0,
    instances: int = -1,
    size: int = 0,
    table: str = "",
    search_seed: int = 1,
    options: Mapping[str, Any] | None = None,
    shuffle_labels: bool = False,
    held_out: bool = False,
    draw_on: str = "device",
    share: Share = 1.0,
) -> ConfigDict:
    """A data set that is drawn: `generators.load(name, ...)`.

    `num_classes` 0 is the name's own count, `instances` -1 the published number and 0 endless,
    `size` 0 is the published canvas in pixels. A bare family's name ("fractaldb") finds
    `num_classes` categories under `search_seed`, or takes `table`: an `.npz` or published CSV
    folder. `options` are the family's. `shuffle_labels` gives every image a label of its own by
    chance, for control experiments; `held_out` draws instances that no training set holds.
    `draw_on="host"` draws the same bytes on the host's cores, in `num_workers` processes if they
    are asked for: for contours on a TPU. `share` is the part of each batch that comes from this
    source, one number or one for each phase (`data.phase_starts`); shares sum to 1.
    """
    return ConfigDict(
        {
            "kind": "formula",
            "name": name,
            "num_classes": num_classes,
            "instances": instances,
            "size": size,
            "table": table,
            "search_seed": search_seed,
            "options": dict(options or {}),
            "shuffle_labels": shuffle_labels,
            "held_out": held_out,
            "draw_on": draw_on,
            "share": _share(share),
        }
    )


def tfds_source(
    name: str = "cifar10",
    *,
    split: str = "train",
    label: str = "label",
    data_dir: Any = "",
    size: int = 0,
    classes: str = "",
    num_examples: int = 0,
    skip_examples: int = 0,
    share: Share = 1.0,
) -> ConfigDict:
    """A prepared TFDS folder (array_record) at `data_dir`, never downloaded.

    An empty `data_dir` is TFDS's own place (see `resolve_data_dir`). `label` is the feature to
    learn; a sequence of classes makes it multi-label ("labels" of VOC). The other fields as in
    `folder_source`.
    """
    own = {"kind": "tfds", "name": name, "split": split, "label": label, "data_dir": data_dir}
    return ConfigDict({**own, **_stored(size, classes, num_examples, skip_examples, share)})


def folder_source(
    path: str = "",
    *,
    split: str = "train",
    size: int = 0,
    classes: str = "",
    num_examples: int = 0,
    skip_examples: int = 0,
    share: Share = 1.0,
) -> ConfigDict:
    """An image folder as PyTorch users have it: `path/split/class/picture.jpg`.

    Classes are the sorted folder names of all splits. `size` 0: the host cuts and resizes what the
    model sees; above 0: pictures are decoded once to a square of that many pixels and the device
    crops, which suits small ones such as CIFAR's 32. `classes` names a text file with a class name
    a line: only these are kept, numbered in that order. `num_examples` keeps the first N of a fixed
    shuffle (0: all), after `skip_examples`.
    """
    own = {"kind": "folder", "path": path, "split": split}
    return ConfigDict({**own, **_stored(size, classes, num_examples, skip_examples, share)})


def parquet_source(
    path: str = "",
    *,
    split: str = "train",
    image: str = "image",
    label: str = "label",
    size: int = 0,
    classes: str = "",
    num_examples: int = 0,
    skip_examples: int = 0,
    share: Share = 1.0,
) -> ConfigDict:
    """Parquet files with an image column, as the Hugging Face hub keeps them.

    `path` is a folder with `<split>-*.parquet` (or `data/<split>-*.parquet`, or a folder named as
    the split) or one file; `image` holds `{"bytes", "path"}` or bytes, `label` class numbers, or
    lists of them. The other fields as in `folder_source`. Needs `pip install "jaxfdsl[data]"`.
    """
    own = {"kind": "parquet", "path": path, "split": split, "image": image, "label": label}
    return ConfigDict({**own, **_stored(size, classes, num_examples, skip_examples, share)})


def store_source(
    path: str = "",
    *,
    index: str = "",
    size: int = 0,
    classes: str = "",
    num_examples: int = 0,
    skip_examples: int = 0,
    share: Share = 1.0,
) -> ConfigDict:
    """A store, as `jaxfdsl materialise --to store`, `store import` and `generate` write it.

    `index` names a list of its images (STORE/index/NAME.npy), such as those that a filter kept.
    With `data.group_size` m above 1 and `data.group_by` "recipe", m images of a caption stand side
    by side. The other fields as in `folder_source`.
    """
    own = {"kind": "store", "path": path, "index": index}
    return ConfigDict({**own, **_stored(size, classes, num_examples, skip_examples, share)})


def diffusion_source(
    path: str = "",
    *,
    recipes: str = "",
    images: int = 0,
    guidance: float = 1.0,
    steps: int = 25,
    method: str = "heun",
    weaker: str = "",
    share: Share = 1.0,
) -> ConfigDict:
    """Samples of the denoiser of the run at `path`, made inside the training step.

    `recipes`, `guidance`, `steps`, `method` and `weaker` are those of `jaxfdsl materialise`, and so
    are the images; `images` 0 is without end: new seeds each round. With `data.group_size` m above
    1 and `data.group_by` "recipe", m images of a recipe stand side by side.
    """
    own = {"kind": "diffusion", "path": path, "recipes": recipes, "images": images}
    how = {"guidance": float(guidance), "steps": steps, "method": method, "weaker": weaker}
    return ConfigDict({**own, **how, "share": _share(share)})


def _stored(
    size: int, classes: str, num_examples: int, skip_examples: int, share: Share
) -> dict[str, Any]:
    return {
        "size": size,
        "classes": classes,
        "num_examples": num_examples,
        "skip_examples": skip_examples,
        "share": _share(share),
    }


def _share(share: Share) -> Share:
    return tuple(map(float, share)) if isinstance(share, tuple | list) else float(share)


def held_out(source: ConfigDict) -> ConfigDict:
    """The same formula's held-out instances; fields are references and `options` the very same
    group, so overrides reach both.
    """
    own = {"shuffle_labels": False, "held_out": True, "share": 1.0}
    entry = {key: source.get_ref(key) for key in source if key not in {*own, "options"}}
    return ConfigDict({**entry, **own, "options": source.options})


def accuracy_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
) -> ConfigDict:
    """Top-1, top-5 and loss on a source; a formula needs `num_examples`.

    `batch_size` 0 is the training one; `crop_fraction` is the centre crop's side over the image's.
    """
    return _eval("accuracy", source, num_examples, batch_size, crop_fraction)


def segmentation_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
) -> ConfigDict:
    """Mean IoU, pixel accuracy and loss on a source with masks, at the model's image size."""
    return _eval("segmentation", source, num_examples, batch_size, crop_fraction)


def denoising_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
) -> ConfigDict:
    """The loss of `objective.denoise` on a source, with the same noise each time and times spread
    evenly from image to noise."""
    return _eval("denoising", source, num_examples, batch_size, crop_fraction)


def mean_average_precision_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
) -> ConfigDict:
    """Average precision of each class of images with several labels, and the mean over classes."""
    return _eval("mean_average_precision", source, num_examples, batch_size, crop_fraction)


def knn_eval(
    train: ConfigDict,
    source: ConfigDict,
    *,
    num_examples: int = 0,
    num_train: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
    k: tuple[int, ...] = (10, 20, 200),
    temperature: float = 0.07,
) -> ConfigDict:
    """Top-1 of `source` by its `k` nearest neighbours among the features of `train`.

    This and the next two look at frozen features and need no head, so that they can judge a run on
    real data whatever it trains on. `num_train` and `num_examples` take the first images (0: all).
    """
    made = _eval("knn", source, num_examples, batch_size, crop_fraction, train, num_train)
    return ConfigDict({**made, "k": tuple(k), "temperature": float(temperature)})


def linear_probe_eval(
    train: ConfigDict,
    source: ConfigDict,
    *,
    num_examples: int = 0,
    num_train: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    epochs: int = 50,
    held_out: float = 0.1,
    scaling: str = "sphered",
) -> ConfigDict:
    """Top-1 of `source` by softmax regression on the features of `train`.

    All `learning_rates` (of 256 images) are trained at once for `epochs`; the one that is best on
    the share `held_out` of `train` is trained again on all of it. `scaling` "standardised" is the
    published batch norm, "sphered" removes correlations too and needs fewer epochs.
    """
    made = _eval("linear_probe", source, num_examples, batch_size, crop_fraction, train, num_train)
    own: dict[str, Any] = {"learning_rates": tuple(map(float, learning_rates)), "epochs": epochs}
    own["scaling"] = scaling
    return ConfigDict({**made, **own, "held_out": float(held_out)})


def few_shot_eval(
    train: ConfigDict,
    source: ConfigDict,
    *,
    num_examples: int = 0,
    num_train: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
    shots: tuple[int, ...] = (1, 5, 10),
    seeds: int = 3,
    l2: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4),
    ways: int = 0,
) -> ConfigDict:
    """Top-1 of `source` by ridge regression on the features of a few images a class of `train`.

    `shots` are images a class, drawn `seeds` times; the strength is the best one of `l2` on other
    images of `train`. `ways` 0 tells all classes apart; above 0 each of `seeds` is an episode of so
    many classes (5-way 5-shot: ways=5, shots=(5,), seeds=600).
    """
    made = _eval("few_shot", source, num_examples, batch_size, crop_fraction, train, num_train)
    own = {"shots": tuple(shots), "seeds": seeds, "l2": tuple(map(float, l2))}
    return ConfigDict({**made, **own, "ways": ways})


def zero_shot_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
    templates: tuple[str, ...] = PROMPTS[:1],
    templates_file: str = "",
    names: str = "",
) -> ConfigDict:
    """Top-1 and top-5 of `source` by the captions of its classes, for runs with `objective.align`.

    A class is the mean of its prompts' embeddings; "{}" in a template is its name. `names` is a
    file with a class name a line (default: the source's own; of a formula, its categories'
    captions), `templates_file` one with a template a line in place of `templates`.
    """
    made = _eval("zero_shot", source, num_examples, batch_size, crop_fraction)
    own = {"templates": tuple(templates), "templates_file": templates_file, "names": names}
    return ConfigDict({**made, **own})


def retrieval_eval(
    source: ConfigDict,
    *,
    num_examples: int = 0,
    batch_size: int = 0,
    crop_fraction: float = 1.0,
    k: tuple[int, ...] = (1, 5, 10),
) -> ConfigDict:
    """Recall at `k` from images to captions and back, for runs with `objective.align`.

    `source` is a store with captions, or a formula. Captions that the tokenizer reads alike are
    one; it stands once among those to choose from.
    """
    made = _eval("retrieval", source, num_examples, batch_size, crop_fraction)
    return ConfigDict({**made, "k": tuple(k)})


def _eval(
    kind: str,
    source: ConfigDict,
    num_examples: int,
    batch_size: int,
    crop_fraction: float,
    train: ConfigDict | None = None,
    num_train: int = 0,
) -> ConfigDict:
    features = {} if train is None else {"train": train, "num_train": num_train}
    return ConfigDict(
        {
            "kind": kind,
            "source": source,
            "num_examples": num_examples,
            "batch_size": batch_size,
            "crop_fraction": float(crop_fraction),
            **features,
        }
    )


SOURCES: Mapping[str, Callable[..., ConfigDict]] = {
    "formula": formula_source,
    "tfds": tfds_source,
    "folder": folder_source,
    "parquet": parquet_source,
    "store": store_source,
    "diffusion": diffusion_source,
}
EVALS: Mapping[str, Callable[..., ConfigDict]] = {
    "accuracy": accuracy_eval,
    "segmentation": segmentation_eval,
    "mean_average_precision": mean_average_precision_eval,
    "denoising": denoising_eval,
    "knn": knn_eval,
    "linear_probe": linear_probe_eval,
    "few_shot": few_shot_eval,
    "zero_shot": zero_shot_eval,
    "retrieval": retrieval_eval,
}
