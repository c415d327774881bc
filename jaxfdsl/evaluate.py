"""`jaxfdsl evaluate`: a run's newest checkpoint on its own evaluations, or on any real data."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl.config import EVALS, ConfigError
from jaxfdsl.config import path as config_path

ON_DATA = (
    "knn", "linear_probe", "few_shot", "accuracy", "mean_average_precision", "zero_shot",
    "retrieval",
)  # fmt: skip
_STORED = {"tfds": "name", "folder": "path", "parquet": "path", "store": "path"}
_SPLITS = {"store": "index"}  # what a part of a set is called, where it is no split
_TEST_SPLITS = ("test", "validation", "val")
_UNLABELLED_TEST = ("imagenet2012", "places365", "voc")  # TFDS's test splits have no labels


def _option(default: Any, told: str) -> Any:
    return dataclasses.field(default=default, metadata={"help": told})


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the verb is told besides the workdir, as its options."""

    step: int = _option(0, "which checkpoint; 0: the newest; best.json has the best one's")
    data: str = _option("", "tfds:cifar10, folder:, parquet: or store:PATH; default: the run's own")
    data_dir: str = _option("", "prepared TFDS data")
    evals: str = _option("knn,linear_probe,few_shot", f"on --data: any of {', '.join(ON_DATA)}")
    train_split: str = _option(
        "train", "where knn, linear_probe and few_shot learn; of a store an index"
    )
    test_split: str = _option(
        "", f"default: the first of {', '.join(_TEST_SPLITS)}; of a store: all"
    )
    label: str = _option("label", "feature or column to tell, of tfds and parquet")
    size: int = _option(0, "pixels of a decoded picture; 32 keeps CIFAR in memory; 0: as needed")
    crop_fraction: float = _option(1.0, "the centre crop's side over the picture's")
    batch_size: int = _option(256, "pictures at once")
    num_train: int = _option(0, "training pictures; 0: all")
    num_examples: int = _option(0, "test pictures; 0: all")
    max_corrupt: float = _option(0.01, "share of the pictures that may be unreadable")
    k: str = _option("10,20,200", "neighbours of knn")
    shots: str = _option("1,5,10", "pictures a class of few_shot")
    names: str = _option("", "zero_shot: a file with a class name a line; default: the data's own")
    templates: str = _option(
        "", "zero_shot: a file with a prompt a line, {} the name; default: ours"
    )


def run(workdir: str, asked: Asked) -> None:
    """Prints each value and adds it to WORKDIR/evaluation.json, by step and name.

    Raises ConfigError for what the user can put right.
    """
    import jax
    from etils import epath

    from jaxfdsl.evals.features import TooFew

    if not workdir:
        raise ConfigError("evaluate needs a run: type jaxfdsl evaluate --workdir WORKDIR.")
    config = config_path.of_workdir(workdir)
    evaluate = _on_data if asked.data else _own
    evaluated = evaluate(config, workdir, asked)
    unwritten = None
    try:
        step = next(evaluated)
        for name, value in evaluated:
            print(f"{name} {value:.4f}", flush=True)
            if jax.process_index() == 0 and unwritten is None:
                try:
                    _write(epath.Path(workdir) / "evaluation.json", step, {name: value})
                except OSError as error:  # the run of another person: go on telling values
                    unwritten = error
    except ConfigError as error:
        raise ConfigError(_as_typed_here(str(error))) from error
    except TooFew as error:
        raise ConfigError(f"{asked.data or workdir}: {error}: type --data of others.") from error
    if unwritten:
        raise unwritten


def _as_typed_here(sentence: str) -> str:
    """A sentence about a recipe's fields with this verb's options in their place."""
    sentence = re.sub(r"(--config\.)?(--data|evals\.\w+|(?<=--config\.)data)\.", "--", sentence)
    sentence = re.sub(r"--(train\.|source\.)?path\b", "--data", sentence)
    options = {"source.split": "test_split", "train.split": "train_split", "split": "test_split"}
    for field, option in options.items():
        sentence = sentence.replace(f"--{field}", f"--{option}")
        sentence = sentence.replace(f"--{field.replace('split', 'index')}", f"--{option}")
    return sentence.replace("--templates_file", "--templates")


def _write(path: Any, step: int, found: dict[str, float]) -> None:
    """Adds values to the file; what was there under other names and steps stays."""
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        known[str(step)] = {**known.get(str(step), {}), **found}
        ordered = {key: known[key] for key in sorted(known, key=int)}
    except (ValueError, TypeError, AttributeError) as error:
        raise OSError(f"{path} is not as this program writes it: move it away.") from error
    beside = path.with_name(f"{path.name}.tmp")
    beside.write_text(json.dumps(ordered, indent=2) + "\n")
    beside.replace(path)


def _own(config: ConfigDict, workdir: str, asked: Asked) -> Iterator[Any]:
    """The step, then (name, value) of each evaluation of the config."""
    import jax
    from absl import logging
    from etils import epath

    from jaxfdsl import checkpoint, compile_cache, experiment
    from jaxfdsl import state as state_lib

    config.data.latents = ""  # evaluations read images: the column may be gone
    config_lib.validate(config, num_devices=jax.device_count())
    compile_cache.enable()
    parts = experiment.build(config)
    folder = epath.Path(workdir) / "checkpoints"
    usual = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)  # Orbax warns of what is asked of it, reading only
    saved = checkpoint.Checkpoints(folder, keep=config.keep_checkpoints, tell=print, read_only=True)
    state = saved.restore(checkpoint.like(parts.state, parts.laid), asked.step)
    saved.close()
    logging.set_verbosity(usual)
    if state is None:
        which = f" of step {asked.step}" if asked.step else ""
        raise ConfigError(
            f"{folder} holds no checkpoint{which}: type the workdir of a run that saved one."
        )
    step = int(state["step"])
    if parts.batches.tokenizer is not None:
        _check_tokenizer(parts.batches.tokenizer, config, folder / str(step))
    if parts.batches.condition is not None:
        _check_told(parts.identity, folder / str(step))
    print(f"step {step} of {parts.total_steps}")
    yield step
    params = state_lib.evaluated(state)
    for name, evaluator in parts.evaluators.items():
        yield from ((f"{name}/{metric}", value) for metric, value in evaluator(params))


def _on_data(config: ConfigDict, workdir: str, asked: Asked) -> Iterator[Any]:
    """The step, then (name, value) of each evaluation asked for, on data of the user's choice.

    The training data need not be there: the model is built from the weights.
    """
    import jax
    from etils import epath

    from jaxfdsl import checkpoint, compile_cache, evaluators, sharding
    from jaxfdsl.objectives.classify import Classify

    if config.objective.denoise.weight:
        raise ConfigError(
            f"--data={asked.data} is for features, which {workdir}, a run of a denoiser, has not: "
            "leave it out for the evaluations of the run's own config."
        )
    compile_cache.enable()
    try:
        one = epath.Path(workdir) / "checkpoints" / str(asked.step)
        params, origin = checkpoint.load_params(one if asked.step else workdir)
    except FileNotFoundError as error:
        raise ConfigError(f"{error}: type the workdir of a run that saved one.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or repr(error)
        raise ConfigError(f"{workdir} cannot be read ({reason}): type another --step.") from error
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
    parts = sharding.batch_parts(mesh)
    with config.unlocked():
        config.evals = _entries(asked)
        config.batch_size = max(1, asked.batch_size // parts) * parts
        config.data.max_corrupt = asked.max_corrupt
        config.model.attention = "auto"
    _check_head(config.evals, params, workdir)
    built = evaluators.build(
        config,
        model=model_of(config, params, epath.Path(origin).parent),
        objectives={"classify": (1.0, Classify(pos_weight=config.objective.classify.pos_weight))},
        mesh=mesh,
        trained={},
    )
    params = jax.device_put(params, sharding.replicated(mesh))
    step = int(epath.Path(origin).parent.name)
    print(f"step {step}")
    yield step
    for name, evaluator in built.items():
        yield from ((f"{name}/{metric}", value) for metric, value in evaluator(params))


def model_of(config: ConfigDict, params: Mapping[str, Any], saved: Any) -> Any:
    """The model of a run that has these parameters: the trunk, and the head and the text tower
    where they are among them. The training data need not be there. Raises ConfigError where
    captions would be read otherwise than in the training of `saved`, the checkpoint's folder."""
    from jaxfdsl import experiment
    from jaxfdsl.evaluators import text as text_evaluators
    from jaxfdsl.models import text, vit

    dtype = experiment.compute_dtype(config.dtype)
    there = [name for name in ("head", "image_projection") if name in params]
    heads = {name: params[name]["kernel"].shape[-1] for name in there}
    model = vit.build(config.model, heads, dtype)
    if "text" not in params:
        return model
    tokenizer = text_evaluators.tokenizer_of(config)
    _check_tokenizer(tokenizer, config, saved)
    design = text.TextDesign(**config.model.text, vocabulary=tokenizer.vocabulary, dtype=dtype)
    return text.beside(model, text.build(design))


def _check_tokenizer(tokenizer: Any, config: ConfigDict, saved: Any) -> None:
    """By the metadata of the checkpoint in the folder `saved`."""
    from jaxfdsl import checkpoint
    from jaxfdsl.evaluators import text as text_evaluators

    try:
        data = checkpoint.load_meta(saved)["data"]
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{saved} does not say what it was trained with ({error}): type another --step."
        ) from error
    path = config.objective.align.tokenizer
    text_evaluators.check_trained(tokenizer, data, str(saved), path)


def _check_told(identity: Mapping[str, Any], saved: Any) -> None:
    """Raises ConfigError where a denoiser would be told other things than it has learned, or see
    other latents, by the metadata of the checkpoint in the folder `saved`."""
    from jaxfdsl import checkpoint
    from jaxfdsl.diffusion import latents

    learned = checkpoint.load_meta(saved)["data"]
    for name, what in (
        ("data.condition.fingerprint", "the column of data.condition"),
        (latents.TABLE, "the file of model.autoencoder"),
    ):
        if learned.get(name) != identity.get(name):
            raise ConfigError(
                f"{what} is not the one that {saved} was trained with: put that one back."
            )


def _entries(asked: Asked) -> ConfigDict:
    """The evaluations that the options ask for, as a recipe would write them."""
    kind, place = _kind_and_place(asked)
    test = {"source": test_set(asked)}
    sizes = {"num_examples": asked.num_examples, "crop_fraction": asked.crop_fraction}
    learned = _source(asked, kind, place, asked.train_split)
    train = {"train": learned, "num_train": asked.num_train}
    own: dict[str, dict[str, Any]] = {
        "knn": {**train, "k": _numbers("k", asked.k)},
        "linear_probe": train,
        "few_shot": {**train, "shots": _numbers("shots", asked.shots)},
        "zero_shot": {
            "templates": config_lib.PROMPTS,
            "templates_file": asked.templates,
            "names": asked.names,
        },
    }
    entries = ConfigDict()
    for name in asked.evals.split(","):
        if name not in ON_DATA:
            raise ConfigError(f"--evals={name} is not known: type some of {','.join(ON_DATA)}.")
        label = re.sub(r"\W", "_", place.rstrip("/").rsplit("/", 1)[-1])
        entries[f"{label}_{name}"] = EVALS[name](**test, **sizes, **own.get(name, {}))
    return entries


def test_set(asked: Asked) -> ConfigDict:
    """The entry of `asked.data`'s test split, as a recipe would write it. Raises ConfigError."""
    kind, place = _kind_and_place(asked)
    return _source(asked, kind, place, _test_split(asked, kind, place))


def _kind_and_place(asked: Asked) -> tuple[str, str]:
    kind, _, place = asked.data.partition(":")
    if kind not in _STORED or not place:
        raise ConfigError(
            f"--data={asked.data}: type tfds:NAME, folder:PATH, parquet:PATH or store:PATH, "
            "such as --data=tfds:cifar10."
        )
    return kind, place


def _source(asked: Asked, kind: str, place: str, split: str) -> ConfigDict:
    fields = {_STORED[kind]: place, _SPLITS.get(kind, "split"): split, "size": asked.size}
    if kind == "tfds":
        fields["data_dir"] = asked.data_dir
    if kind in ("tfds", "parquet"):
        fields["label"] = asked.label
    return config_lib.SOURCES[kind](**fields)


def _test_split(asked: Asked, kind: str, place: str) -> str:
    """The split asked for, or the first usual one that is there."""
    from jaxfdsl.data import sources

    if asked.test_split or kind in _SPLITS:
        return asked.test_split
    usual = _TEST_SPLITS[1:] if place.startswith(_UNLABELLED_TEST) else _TEST_SPLITS
    first = None
    for split in usual:
        try:
            sources.build(_source(asked, kind, place, split), seed=0, train=False, field="--data")
        except ConfigError as error:
            first = first or error
        else:
            return split
    assert first is not None
    raise first


def _numbers(name: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--{name}={text}: type whole numbers, such as 1,5,10.") from error


def _check_head(entries: ConfigDict, params: Mapping[str, Any], workdir: str) -> None:
    from jaxfdsl.evaluators import ON_CAPTIONS

    for entry in entries.values():
        needed = "text" if entry.kind in ON_CAPTIONS else "head"
        if "train" not in entry and needed not in params:
            what = {
                "head": "scores a classifier",
                "text": "compares images with captions by the tower that objective.align trains",
            }
            raise ConfigError(
                f"--evals={entry.kind} {what[needed]}, which {workdir} has not: type "
                "--evals=knn,linear_probe,few_shot."
            )
