"""Recipes of a run's own training data: each real image's class and vector, each formula's own."""

import numpy as np
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import batches, captions
from jaxfdsl.data.condition import Condition, same
from jaxfdsl.data.formula import FormulaSource
from jaxfdsl.data.sources import Source
from jaxfdsl.data.stored import StoredSource
from jaxfdsl.diffusion.recipes import Recipes, made


def recipes_of(condition: Condition, config: ConfigDict, field: str) -> Recipes:
    """What the denoiser was told of each training image, once: of stored images one recipe an
    image, of formulas one a category. Raises ConfigError for data that is not there any more, or
    that says something else now."""
    config = config.copy_and_resolve_references()
    config.data.latents = ""  # which say nothing of a condition
    try:
        data = batches.from_config(config)
    except ConfigError as error:
        raise ConfigError(f"{field}='data': the run's own data cannot be used: {error}") from error
    assert data.condition is not None
    if not same(condition, data.condition) or condition.fingerprint != data.condition.fingerprint:
        raise ConfigError(
            f"{field}='data': the run's own data says something else now than when the denoiser was"
            " trained: type recipes of a store, or put the column back."
        )
    parts = [_told(source, condition, field) for source in data.sources.values()]
    label = np.concatenate([labels for labels, _ in parts])
    found = [column for _, column in parts if column is not None]
    column = np.concatenate(found) if found else None
    made_by = {"data": sorted(data.sources), "condition": condition.fingerprint}
    names = [source.class_names for source in data.sources.values() if source.class_names]
    one = len(data.sources) == 1 or config.data.label_space == "shared"  # numbering of classes
    return made(
        condition,
        column,
        label,
        f"{field}='data'",
        name=f"data {', '.join(source.name for source in data.sources.values())}",
        made_by=made_by,
        class_names=names[0] if names and one else (),
    )


def _told(source: Source, condition: Condition, field: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Labels among those of all sources, and vectors where the condition reads them."""
    if isinstance(source, FormulaSource) and not source.scenes:
        column = captions.parameters(source.dataset) if condition.kind == "recipe" else None
        return np.arange(source.num_classes, dtype=np.int32) + source.first_class, column
    if not isinstance(source, StoredSource) or source.several_labels:
        raise ConfigError(
            f"{field}='data': {source.name} does not say one class of each image: type recipes of "
            "a store or a file."
        )
    rows, labels = source.labelled()
    name = condition.column
    column = np.asarray(source.records.column(name)[rows]) if name else None
    if column is not None:  # a picture that cannot be read has none, and was not learned from
        there = np.isfinite(column).all(axis=1) if column.ndim == 2 else column >= 0
        labels, column = labels[there], column[there]
    return np.where(labels < 0, -1, labels + source.first_class).astype(np.int32), column
