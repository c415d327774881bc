"""What the evaluations of images beside captions need: the tower on captions, prompts of classes.

For models that `objective.align` trains. Captions go through the tower in batches, cut over the
devices as images are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32, Int32
from ml_collections import ConfigDict

from jaxfdsl import sharding
from jaxfdsl.config import ConfigError
from jaxfdsl.data import captions, tokens
from jaxfdsl.data.sources import Source
from jaxfdsl.data.tokens import Tokenizer
from jaxfdsl.evals import retrieval, zero_shot
from jaxfdsl.models.text import TextTower

AT_ONCE = 256  # captions of a batch, and a few more where devices do not divide it
Tower = Callable[[Any, Int32[np.ndarray, "n L"]], Float32[np.ndarray, "n K"]]
Scores = Iterator[tuple[str, float]]


def tokenizer_of(config: ConfigDict) -> Tokenizer:
    """The tokenizer of `objective.align`; raises ConfigError for a file that cannot be read."""
    path, context = config.objective.align.tokenizer, config.model.text.context
    return tokens.build(path, context, tokens.FIELD)


def check_trained(tokenizer: Tokenizer, data: Mapping[str, Any], saved: str, path: str) -> None:
    """Refuses, by ConfigError, another tokenizer than that of the training of a checkpoint, whose
    metadata say `data`: ids would mean other words. What they do not say is not compared."""
    there = data.get(tokens.FIELD, tokenizer.identity)
    if there != tokenizer.identity:
        raise ConfigError(
            f"{tokens.FIELD}={path!r} is not what {saved} was trained with (that was {there[:8]}, "
            f"this is {tokenizer.identity[:8]}): put that file back."
        )


def tower_of(tower: TextTower, mesh: Mesh) -> Tower:
    """A function of parameters and token ids that gives their embeddings on the host of every
    process, not normalised."""
    parts = sharding.batch_parts(mesh)
    rows = -(-AT_ONCE // parts) * parts
    apply = jax.jit(tower.apply, out_shardings=sharding.replicated(mesh))

    def embed(params: Any, ids: Int32[np.ndarray, "n L"]) -> Float32[np.ndarray, "n K"]:
        found = []
        for first in range(0, len(ids), rows):
            part = ids[first : first + rows]
            padded = np.pad(part, ((0, rows - len(part)), (0, 0)))
            layout = sharding.batched(mesh)
            laid = jax.make_array_from_callback(padded.shape, layout, padded.__getitem__)
            found.append(np.asarray(apply(params["text"], laid))[: len(part)])
        return np.concatenate(found)

    return embed


def prompts(entry: ConfigDict, source: Source, field: str) -> tuple[list[str], list[str]]:
    """The names of a source's classes and the templates for them, of a `zero_shot` entry.

    Raises ConfigError for files that cannot be read, a template without "{}", and names that are
    not there or not one a class.
    """
    templates = list(entry.templates)
    if entry.templates_file:
        templates = _lines(entry.templates_file, f"{field}.templates_file")
    without = next((one for one in templates if "{}" not in one), None)
    if without is not None or not templates:
        which = "templates_file" if entry.templates_file else "templates"
        raise ConfigError(
            f"{field}.{which} has {'none' if without is None else repr(without)}: type templates "
            "that hold {}, in whose place the name of a class is put."
        )
    if entry.names:
        names = _lines(entry.names, f"{field}.names")
    else:
        names = list(source.class_names or _captions_of(source))
    if len(names) != source.num_classes or not names:
        told = f"{len(names)} names" if names else "no names"
        raise ConfigError(
            f"{field}.source ({source.name}) has {source.num_classes} classes and {told} of them: "
            f"type --config.{field}.names=FILE, a text file with a class name a line."
        )
    return names, templates


def zero_shot_scores(
    found: Mapping[str, np.ndarray],
    tower: Callable[[Int32[np.ndarray, "n L"]], Float32[np.ndarray, "n K"]],
    tokenizer: Tokenizer,
    names: Sequence[str],
    templates: Sequence[str],
) -> Scores:
    """`zero_shot.evaluate` of images' `embedding` float32[n, K] and `label` int32[n]."""
    classes = zero_shot.class_embeddings(lambda said: tower(tokenizer(said)), names, templates)
    yield from zero_shot.evaluate(found["embedding"], found["label"], classes)


def retrieval_scores(
    found: Mapping[str, np.ndarray],
    tower: Callable[[Int32[np.ndarray, "n L"]], Float32[np.ndarray, "n K"]],
    k: Sequence[int],
) -> Scores:
    """`retrieval.evaluate` of images' `embedding` float32[n, K] and the `tokens` int32[n, L] of
    their captions; equal captions are one."""
    different, owners = np.unique(found["tokens"], axis=0, return_inverse=True)
    owners = owners.reshape(-1)  # NumPy 2.0 gives it an axis more
    yield from retrieval.evaluate(found["embedding"], tower(different), owners, k)


def _captions_of(source: Source) -> list[str]:
    dataset = getattr(source, "dataset", None)
    return [] if dataset is None or source.scenes else captions.of_categories(dataset)


def _lines(path: str, field: str) -> list[str]:
    try:
        text = Path(path).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{field}={path!r} cannot be read ({error}): type the path of a text file."
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]
