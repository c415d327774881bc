"""What the data of an evaluation must be, one sentence a refusal, and where its classes begin."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import numbering
from jaxfdsl.data.sources import Source
from jaxfdsl.evals import linear_probe
from jaxfdsl.evals.features import Features
from jaxfdsl.models import vit

# A training source of the same data, another split of it perhaps, has the same of these.
SAME_CLASSES = (
    "kind", "name", "path", "label", "classes", "table", "search_seed", "num_classes",
)  # fmt: skip


def check_targets(field: str, source: Source, objectives: Mapping[str, tuple[float, Any]]) -> None:
    """Refuses a source that does not say what an objective learns from."""
    for name, (_, objective) in objectives.items():
        if objective.field not in ("image", *source.targets):
            said = {"label": "labels", "mask": "masks"}[objective.field]
            other = {"label": "segment", "mask": "classify"}[objective.field]
            instead = f"{name}.weight=0 --config.objective.{other}.weight=1"
            instead = "contrast.positives=group" if name == "contrast" else instead
            raise ConfigError(
                f"{field} ({source.name}) has no {said}, which objective.{name} learns from: type "
                f"--config.objective.{instead}, or the name of a data set with {said}."
            )


def check_options(field: str, options: Mapping[str, Any]) -> None:
    """Refuses what an evaluation of features cannot be told."""
    for name, value in options.items():
        if name == "scaling":
            if value not in linear_probe.SCALINGS:
                known = " or ".join(linear_probe.SCALINGS)
                raise ConfigError(f"{field}.scaling={value!r}: type {known}.")
            continue
        if name == "ways" and value == 0:
            continue
        values = value if isinstance(value, tuple | list) else (value,)
        most = 1 if name == "held_out" else float("inf")
        if not values or not all(0 < number < most for number in values):
            wanted = "a number between 0 and 1" if most == 1 else "a number above 0, or several"
            raise ConfigError(f"{field}.{name}={value}: type {wanted}.")


def check_pair(field: str, train: Source, test: Source) -> None:
    """Refuses sets whose images do not have one class each, or do not have the same ones."""
    for part, source in (("train", train), ("source", test)):
        check_classified(field, part, source)
    if train.num_classes != test.num_classes:
        raise ConfigError(
            f"{field}.train has {train.num_classes} classes and {field}.source has "
            f"{test.num_classes}: type two splits of one data set."
        )
    if train.class_names and test.class_names and train.class_names != test.class_names:
        number = next(i for i, name in enumerate(train.class_names) if name != test.class_names[i])
        raise ConfigError(
            f"{field}.train and {field}.source number their classes differently (class {number} is "
            f"{train.class_names[number]!r} and {test.class_names[number]!r}): type two splits of "
            "one data set, or give both one class list in `classes`."
        )


def check_classified(field: str, part: str, source: Source) -> None:
    """Refuses images that do not have one class each."""
    if "label" not in source.targets or source.several_labels:
        raise ConfigError(
            f"{field}.{part} ({source.name}) has not one class an image, which {field} needs: "
            f"type --config.{field}.kind=mean_average_precision, or the name of another set."
        )


def check_classes(field: str, train: Features, test: Features, source: Source) -> None:
    """Refuses a class that can only be wrong."""
    there = np.isin(test.labels, train.labels)
    if not there.all():
        number = int(test.labels[~there][0])
        name = f" ({source.class_names[number]})" if source.class_names else ""
        raise ConfigError(
            f"{field}.source has images of class {number}{name} and {field}.train has none: type "
            f"--config.{field}.num_train=0 for all training images, or another split."
        )


def label_offset(
    config: ConfigDict, trained: Mapping[str, Source], model: vit.Model, name: str, source: Source
) -> int:
    """Where the classes of the evaluation `name` begin among the model's: at the training source of
    the same data, at 0 if there is none."""
    entry = config.evals[name].source
    if not trained:
        classes = dict(model.design.heads).get("head", 0)
        if source.num_classes != classes:
            raise ConfigError(
                f"evals.{name}.source has {source.num_classes} classes and the model has "
                f"{classes}: type the name of the data set that the model was trained on."
            )
        return 0
    shared = config.data.label_space == "shared"
    firsts = numbering.number(trained, config.data.label_space).first
    for key, candidate in trained.items():
        known = config.data.sources[key]
        same_names = source.class_names and source.class_names == candidate.class_names
        if same_names or all(known.get(field) == entry.get(field) for field in SAME_CLASSES):
            return firsts[key]
    # Of sources that share their classes one that has names for them.
    only = max(trained.values(), key=lambda one: one.class_names is not None)
    if (len(trained) > 1 and not shared) or source.num_classes > only.num_classes:
        counts = {key: candidate.num_classes for key, candidate in trained.items()}
        raise ConfigError(
            f"evals.{name}.source has {source.num_classes} classes, which are those of none of the "
            f"sources {counts}: type the name of a data set that the model is trained on."
        )
    if source.class_names and only.class_names:
        missing = next((c for c in source.class_names if c not in only.class_names), None)
        raise ConfigError(
            f"evals.{name}.source and its training source number their classes differently"
            + (f" ({missing!r} is not trained on)" if missing else "")
            + ": give both the same class list, --config.evals.<name>.source.classes=FILE and "
            "--config.data.sources.<name>.classes=FILE."
        )
    return 0
