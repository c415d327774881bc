"""From the entries of `config.evals` to functions of parameters that yield (name, value).

Some score what an objective trains, others what a frozen model's features are worth on a data set
of their own. Rows that fill up a batch and corrupt images weigh nothing.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl import sharding, step, terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.config.validation import SCORED
from jaxfdsl.data import augment, batches, join, sources
from jaxfdsl.data.decode import View
from jaxfdsl.data.sources import Rows, Source
from jaxfdsl.evals import accuracy, few_shot, knn, linear_probe, segmentation, sums
from jaxfdsl.evals import mean_average_precision as mean_ap
from jaxfdsl.evals.features import Features, Shared, TooFew, collect
from jaxfdsl.evaluators import checks
from jaxfdsl.evaluators import denoise as denoise_evaluators
from jaxfdsl.evaluators import text as text_evaluators
from jaxfdsl.models import vit
from jaxfdsl.models.autoencoder import Autoencoder

Evaluator = Callable[[Any], Iterator[tuple[str, float]]]  # of parameters, to (name, value)
Scores = Iterator[tuple[str, float]]

SCORES: Mapping[str, Callable[..., Scores]] = {  # of an evaluation step, parameters and batches
    "accuracy": accuracy.evaluate,
    "segmentation": segmentation.evaluate,
    "mean_average_precision": mean_ap.evaluate,
    "denoising": sums.mean_loss,
}
# Of training and test features; and the entry's fields that they need.
ON_FEATURES: Mapping[str, tuple[Callable[..., Scores], tuple[str, ...]]] = {
    "knn": (knn.evaluate, ("k", "temperature")),
    "linear_probe": (linear_probe.evaluate, ("learning_rates", "epochs", "held_out", "scaling")),
    "few_shot": (few_shot.evaluate, ("shots", "seeds", "l2", "ways")),
}
ON_CAPTIONS = ("zero_shot", "retrieval")  # of images beside captions


@dataclasses.dataclass(frozen=True)
class _Run:
    """What the evaluations of a run have in common."""

    config: ConfigDict
    model: vit.Model
    objectives: step.Objectives
    mesh: Mesh
    trained: Mapping[str, Source]
    forward: Callable[[Any, jax.Array], jax.Array]  # of parameters and images, to features
    embed: Callable[[Any, jax.Array], jax.Array]  # to what is compared with captions
    shared: Shared
    autoencoder: Autoencoder | None = None  # whose latents a denoiser sees

    def batches_of(self, source: Source, count: int, name: str) -> Iterator[Rows]:
        """This process's rows of the first `count` images, as global arrays."""
        size = self.config.evals[name].batch_size or self.config.batch_size
        rows = batches.eval_batches(
            source,
            count,
            size,
            shard_index=jax.process_index(),
            shard_count=jax.process_count(),
            num_workers=self.config.data.num_workers,
            prefetch=self.config.data.prefetch,
            field=f"evals.{name}",
            max_corrupt=self.config.data.max_corrupt,
        )
        return self._put(rows, -(-(count or source.num_examples or 0) // size), name)

    def _put(self, rows: Iterator[Rows], total: int, name: str) -> Iterator[Rows]:
        hidden = jax.process_index() > 0
        with terminal.progress(total or None, desc=name, unit="batches", disable=hidden) as bar:
            for part in rows:
                yield sharding.put_rows(self.mesh, part)
                bar.update()


def build(
    config: ConfigDict,
    *,
    model: vit.Model,
    objectives: step.Objectives,
    mesh: Mesh,
    trained: Mapping[str, Source],
    autoencoder: Autoencoder | None = None,
) -> dict[str, Evaluator]:
    """The evaluations of a model that learns `objectives` from the sources `trained`, by name.

    A model from elsewhere has no sources: its classes are those of the data, then. Raises
    ConfigError for data that is not there or does not fit; compiles nothing.
    """

    def output(key: str) -> Callable[[Any, jax.Array], jax.Array]:
        return jax.jit(
            lambda params, images: model.apply(params, images, train=False)[key],
            out_shardings=sharding.replicated(mesh),
        )

    forward, embed = output("features"), output("image_embedding")
    run = _Run(config, model, objectives, mesh, trained, forward, embed, Shared(), autoencoder)
    makers = dict.fromkeys(ON_FEATURES, _on_features) | dict.fromkeys(ON_CAPTIONS, _on_captions)
    return {
        name: makers.get(entry.kind, _scored)(run, name) for name, entry in config.evals.items()
    }


def _scored(run: _Run, name: str) -> Evaluator:
    """An evaluation of what an objective trains."""
    entry, trains = run.config.evals[name], SCORED[run.config.evals[name].kind]
    source = _source(run.config, name, "source", entry.num_examples)
    offset_of = functools.partial(checks.label_offset, run.config, run.trained, run.model, name)
    if trains == "denoise":
        field = f"evals.{name}"
        source = denoise_evaluators.conditioned(run.trained, source, field, offset_of)
    checks.check_targets(f"evals.{name}.source", source, {trains: run.objectives[trains]})
    offset = 0 if trains == "denoise" else offset_of(source)
    multiple = entry.kind == "mean_average_precision"
    fields, view, table = denoise_evaluators.in_latents(
        lambda rows, table: join.moved_up(source.fields(rows, table), offset),
        _view(run.config, entry.crop_fraction, source),
        source.table,
        run.autoencoder,
    )
    compiled = step.make_eval_step(
        model=run.model,
        objective=mean_ap.Logits() if multiple else run.objectives[trains][1],
        fields=fields,
        augment=view,
        mesh=run.mesh,
    )
    table = jax.device_put(table, sharding.replicated(run.mesh))

    def evaluate(params: Any) -> Scores:
        rows = run.batches_of(source, entry.num_examples, name)
        return SCORES[entry.kind](lambda params, rows: compiled(params, rows, table), params, rows)

    return evaluate


def _on_features(run: _Run, name: str) -> Evaluator:
    """An evaluation of the features of a training and of a test set, which need no head."""
    entry, field = run.config.evals[name], f"evals.{name}"
    how, options = ON_FEATURES[entry.kind]
    checks.check_options(field, {option: entry[option] for option in options})
    train = _source(run.config, name, "train", entry.num_train)
    test = _source(run.config, name, "source", entry.num_examples)
    checks.check_pair(field, train, test)
    most = entry.num_train or train.num_examples or 0
    if entry.kind == "knn" and max(entry.k) > most:
        raise ConfigError(
            f"{field}.k={tuple(entry.k)} goes beyond the {most} training images: type k up to that."
        )
    train_features = _features(run, name, "train", train, entry.num_train)
    test_features = _features(run, name, "source", test, entry.num_examples)

    def evaluate(params: Any) -> Scores:
        known, asked = train_features(params), test_features(params)
        checks.check_classes(field, known, asked, test)
        try:
            with terminal.waiting(name):
                found = list(how(known, asked, **{option: entry[option] for option in options}))
        except TooFew as error:
            raise ConfigError(f"{field}.{error}") from error
        yield from found

    return evaluate


def _features(
    run: _Run, name: str, part: str, source: Source, count: int
) -> Callable[[Any], Features]:
    """A function of parameters that gives the features of a set's first `count` images (0: all).

    Drawing and the model are compiled apart, so that all sets of a run share the model.
    """
    entry = run.config.evals[name]
    seen = _seen(run, name, source, count, "label", run.forward)
    total = count or source.num_examples or 0
    key = (config_lib.to_json(entry[part]), total, entry.crop_fraction)
    run.shared.join(key)

    def make(params: Any) -> Features:
        found = seen(params)
        return Features(found["embedding"], found["label"], source.num_classes)

    return lambda params: run.shared.get(key, params, lambda: make(params))


def _seen(
    run: _Run, name: str, source: Source, count: int, said: str, forward: Callable[..., jax.Array]
) -> Callable[[Any], dict[str, np.ndarray]]:
    """A function of parameters that gives, of a set's first `count` valid images (0: all), the
    `embedding` that `forward` makes, and what the source says of them under the name `said`."""
    entry, mesh = run.config.evals[name], run.mesh
    draw = step.eval_drawer(source.fields, _view(run.config, entry.crop_fraction, source), mesh)

    def drawn(rows: Any, table: Any) -> tuple[jax.Array, step.Batch]:
        batch = draw(rows, table)
        return batch["image"], {key: batch[key] for key in (said, "valid")}

    layout = (sharding.batched(mesh), sharding.replicated(mesh))
    compiled = jax.jit(drawn, out_shardings=layout)
    table = jax.device_put(source.table, sharding.replicated(mesh))

    def read(params: Any, rows: Any) -> dict[str, jax.Array]:
        images, told = compiled(rows, table)
        return {**told, "embedding": forward(params, images)}

    return lambda params: collect(read, params, run.batches_of(source, count, name))


def _on_captions(run: _Run, name: str) -> Evaluator:
    """An evaluation of images beside captions, by the embeddings of `objective.align`."""
    entry, field, how = run.config.evals[name], f"evals.{name}", text_evaluators
    tokenizer = how.tokenizer_of(run.config)
    tower = how.tower_of(run.model.text, run.mesh)
    source = _source(run.config, name, "source", entry.num_examples)
    if entry.kind == "zero_shot":
        checks.check_classified(field, "source", source)
        said, asked = "label", how.prompts(entry, source, field)
    else:
        checks.check_options(field, {"k": entry.k})
        said, source = "tokens", source.with_tokenizer(tokenizer, f"{field}.source")
    seen = _seen(run, name, source, entry.num_examples, said, run.embed)

    def evaluate(params: Any) -> Scores:
        found = seen(params)
        embed = functools.partial(tower, params)
        with terminal.waiting(name):
            if entry.kind == "zero_shot":
                scores = list(how.zero_shot_scores(found, embed, tokenizer, *asked))
            else:
                scores = list(how.retrieval_scores(found, embed, entry.k))
        yield from scores

    return evaluate


def _source(config: ConfigDict, name: str, part: str, count: int) -> Source:
    """The samples of an evaluation; refuses more of them than there are, before a step is made."""
    entry, field = config.evals[name], f"evals.{name}"
    view = View(
        size=config.model.image_size,
        fraction=entry.crop_fraction,
        interpolation=config.augment.interpolation,
    )
    source = sources.build(
        entry[part], seed=config.seed, train=False, field=f"{field}.{part}", view=view
    )
    size = entry.batch_size or config.batch_size
    try:
        batches.check_eval(source, count, size, shard_count=jax.process_count(), field=field)
    except ConfigError as error:
        own = {"source": "num_examples", "train": "num_train"}[part]
        raise ConfigError(str(error).replace("num_examples", own)) from None
    return source


def _view(
    config: ConfigDict, fraction: float, source: Source
) -> Callable[[step.Batch], step.Batch]:
    """What a batch of a source looks like to the model."""
    size, fields = config.model.image_size, config.augment

    def view(batch: step.Batch) -> step.Batch:
        if source.cropped:
            return {**batch, "image": augment.normalise(batch["image"], fields)}
        made = {"image": augment.evaluate(batch["image"], fields, size, fraction)}
        if "mask" in batch:
            made["mask"] = augment.evaluate_masks(batch["mask"], size, fraction)
        return {**batch, **made}

    return view
