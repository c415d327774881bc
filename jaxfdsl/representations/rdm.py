"""RCG's representation generator: a diffusion model of the vectors of a column.

Li, Katabi and He, "Return of Unconditional Generation", arXiv 2312.03701, with the settings of the
released code (12 blocks of 1536, 1000 times, AdamW, a moving average of the weights). Where the
column has labels the generator has classes. Vectors are standardised per number over the column;
the authors standardise each vector over its own numbers, which cannot be undone.
"""

import dataclasses
import functools
import json
import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int, Int32

from jaxfdsl import terminal, whole_file
from jaxfdsl.config import ConfigError
from jaxfdsl.representations import ddim, rdm_network

STEPS, TIMES = 250, ddim.TIMES  # of sampling: the default and the most
AT_ONCE = 1024  # vectors that are sampled together
_FORMAT = "jaxfdsl-rdm-1"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a generator is trained with, beside its column and its seed."""

    width: int = 1536
    blocks: int = 12
    time_size: int = 256
    class_size: int = 512
    dropout: float = 0.0
    epochs: int = 200
    batch: int = 512  # at most the number of vectors
    learning_rate: float = 5.12e-4  # 1e-6 a vector of the batch; constant
    weight_decay: float = 0.01
    decay: float = 0.9999  # of the moving average, or (1 + n) / (10 + n) at update n if lower


@dataclasses.dataclass(frozen=True)
class Generator:
    """A trained generator: `sample` is its use, `save` and `load` keep it."""

    params: rdm_network.Params  # the moving average
    mean: Float32[np.ndarray, " D"]
    deviation: Float32[np.ndarray, " D"]
    settings: Settings
    seed: int
    made_by: Mapping[str, Any]  # of the column

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return len(self.mean)

    @property
    def classes(self) -> int:
        """0 of a generator without labels."""
        return len(self.params["classes"]) if "classes" in self.params else 0

    def sample(
        self, labels: Int[np.ndarray, " R"] | int, seed: int, steps: int = STEPS, eta: float = 1.0
    ) -> tuple[Float32[np.ndarray, "R D"], Int32[np.ndarray, " R"]]:
        """A vector of each label, in the column's own space, and the labels.

        Of a number, so many of each class, the classes in turn; without classes so many in all,
        whose labels are -1. Vector i hangs on (labels[i], seed, i). Raises ConfigError for labels
        that the generator has not seen, and for `steps` outside 1 to 1000.
        """
        if isinstance(labels, int):
            each = np.arange(self.classes) if self.classes else np.full(1, -1)
            labels = np.tile(each, labels)
        labels = np.asarray(labels, np.int32)
        low, high = (0, self.classes - 1) if self.classes else (-1, -1)
        if len(labels) and (labels.min() < low or labels.max() > high):
            raise ConfigError(f"this generator has the labels {low} to {high}: type no others.")
        try:
            rows = jnp.asarray(ddim.table(steps, eta))
        except ValueError as error:
            raise ConfigError(f"--{error}") from error
        found = np.empty((len(labels), self.size), np.float32)
        draw = functools.partial(_draw, self.params, rows, jnp.asarray(seed, jnp.uint32))
        with terminal.progress(len(labels), desc="representations", unit="vectors") as bar:
            for first in range(0, len(labels), AT_ONCE):
                part = labels[first : first + AT_ONCE]
                size = min(AT_ONCE, len(labels))  # one program
                number = jnp.arange(first, first + size, dtype=jnp.uint32)
                given = jnp.asarray(np.pad(part, (0, size - len(part)))) if self.classes else None
                found[first : first + len(part)] = draw(number, given)[: len(part)]
                bar.update(len(part))
        return found * self.deviation + self.mean, labels

    def save(self, path: str | pathlib.Path, option: str = "--out") -> None:
        """Writes one .npz with all of it."""
        said = {
            "format": _FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "seed": self.seed,
            "made_by": dict(self.made_by),
        }
        arrays: dict[str, Any] = {"mean": self.mean, "deviation": self.deviation}
        arrays |= flat(self.params, "params")
        with whole_file.written(path, option) as file:
            np.savez(file, said=np.array(json.dumps(said)), **arrays)


def load(path: str | pathlib.Path) -> Generator:
    """The generator in a file; raises ConfigError for a file that holds none."""
    path = pathlib.Path(path).expanduser()
    try:
        with np.load(path, allow_pickle=False) as file:
            said = json.loads(str(file["said"]))
            if said["format"] != _FORMAT:
                raise ValueError(f"its format is {said['format']}")
            found = {name: file[name] for name in file.files if name != "said"}
    except FileNotFoundError:
        raise ConfigError(f"--model={path} is not there: type the file of a generator.") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"--model={path} is no representation generator, or damaged: type a file that jaxfdsl "
            "represent --by=rdm wrote."
        ) from error
    mean, deviation, settings = found.pop("mean"), found.pop("deviation"), said["settings"]
    params = jax.tree.map(jnp.asarray, nested(found)["params"])
    return Generator(params, mean, deviation, Settings(**settings), said["seed"], said["made_by"])


def fit(
    column: Float32[np.ndarray, "n D"],
    labels: Int[np.ndarray, " n"] | None,
    seed: int,
    settings: Settings | None = None,
    *,
    classes: int = 0,
    made_by: Mapping[str, Any] | None = None,
    keep: pathlib.Path | None = None,
) -> Generator:
    """A generator of a column's vectors, of each class where there are labels (0 or more).

    It is a function of what is given. `keep` is a file in which unfinished training is kept, so
    that it goes on after a kill with the same result. Raises ConfigError for a training whose loss
    is not finite.
    """
    from jaxfdsl.representations import rdm_training

    count = 0 if labels is None else max(classes, int(labels.max()) + 1)
    mean = column.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = column.std(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.where(deviation > 0, deviation, np.float32(1))
    settings, made_by = settings or Settings(), made_by or {}
    standard = (column - mean) / deviation
    params = rdm_training.train(standard, labels, count, seed, settings, made_by, keep)
    return Generator(params, mean, deviation, settings, seed, made_by)


def flat(tree: Any, name: str) -> dict[str, np.ndarray]:
    """The arrays of nested dicts, as "name/key/key"."""
    if not isinstance(tree, dict):
        return {name: np.asarray(tree)}
    parts = (flat(value, f"{name}/{key}") for key, value in tree.items())
    return {key: value for part in parts for key, value in part.items()}


def nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What `flat` was made of."""
    tree: dict[str, Any] = {}
    for name, value in arrays.items():
        *folders, last = name.split("/")
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return tree


@jax.jit
def _draw(
    params: rdm_network.Params,
    rows: jax.Array,
    seed: jax.Array,
    numbers: jax.Array,
    labels: jax.Array | None,
) -> jax.Array:
    """Standardised vectors: that of a number hangs on (seed, number) and its label."""

    def predict(noisy: jax.Array, time: jax.Array) -> jax.Array:
        return rdm_network.apply(params, noisy, jnp.full(len(noisy), time), labels)

    fold = functools.partial(jax.random.fold_in, jax.random.PRNGKey(seed))
    return ddim.sample(predict, jax.vmap(fold)(numbers), params["input"]["kernel"].shape[0], rows)
