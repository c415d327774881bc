"""What an evaluation of a denoiser needs beside its images: conditions, and latents."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data import condition as conditions
from jaxfdsl.data.sources import Source
from jaxfdsl.diffusion import latents
from jaxfdsl.models.autoencoder import Autoencoder

Batch = dict[str, Any]


def conditioned(
    trained: Mapping[str, Source], source: Source, field: str, offset: Callable[[Source], int]
) -> Source:
    """The source with what the denoiser is told of images, in the training column's units; where it
    is told classes, those of this source begin at `offset` among the training data's."""
    learned = next(iter(trained.values())).condition
    assert learned is not None
    own = source.own_condition(learned.kind, learned.classes, f"{field}.source")
    if not conditions.same(own, learned):
        raise ConfigError(
            f"{field}.source ({source.name}) has other conditions than the training data "
            f"(data.condition={learned.kind!r}: {own.size} numbers, not {learned.size}, or another "
            "encoder): type a part of the same data."
        )
    return dataclasses.replace(
        source,
        condition=learned,
        first_class=offset(source) if learned.by_label else 0,
        targets=tuple(dict.fromkeys((*source.targets, "cond"))),
    )


def in_latents(
    fields: Callable[[Any, Any], Batch],
    view: Callable[[Batch], Batch],
    table: Any,
    autoencoder: Autoencoder | None,
) -> tuple[Callable[[Any, Any], Batch], Callable[[Batch], Batch], Any]:
    """`fields`, `view` and `table` of an evaluation step, for a denoiser that sees latents: the
    means of what images are encoded as. The weights are a part of the table."""
    if autoencoder is None:
        return fields, view, table

    def encoded(rows: Any, tables: Any) -> Batch:
        batch = view(fields(rows, tables[0]))
        return latents.expected(batch, tables[1], autoencoder)

    return encoded, lambda batch: batch, (table, autoencoder.params)
