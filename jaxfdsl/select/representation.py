"""How good a made image is by where an encoder puts it: five scores, of which more is better.

    faithfulness     cosine of its representation (rep:NAME) and the one asked for (rep:asked),
                     both standardised by what was asked for: an encoder's vectors share a large
                     mean, beside which all cosines are near 1
    label_agreement  share of its k nearest real representations that have its label
    density          minus the mean distance to its k nearest real ones: how typical it is
    novelty          distance to the nearest real one, those trained on: against copies
    duplicates       distance to the nearest other image of the set, of its own recipe too

They pull apart, as the most typical images are the least novel, and informative images can teach
more than typical ones (Askari-Hemmat et al., arXiv 2502.15588): sweep the share that is kept, and
compare with a random subset of its size.
"""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int64

from jaxfdsl import compile_cache
from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.condition import ASKED
from jaxfdsl.data.store import columns
from jaxfdsl.data.store.reader import Store
from jaxfdsl.evals import knn
from jaxfdsl.select import space
from jaxfdsl.select.space import Vectors

NEAR_REAL = ("label_agreement", "density", "novelty")  # that compare with real images
SCORES = ("faithfulness", *NEAR_REAL, "duplicates")
WITH_K = ("label_agreement", "density")
METRICS = ("euclidean", "cosine")


@dataclasses.dataclass(frozen=True)
class Beside:
    """What a set is compared with: a store of real images or tfds:NAME, all or those listed."""

    real: str = ""
    index: str = ""
    split: str = "train"
    data_dir: str = ""
    k: int = 5
    metric: str = "euclidean"


def write(opened: Store, by: str, rep: str, beside: Beside | None = None, index: str = "") -> str:
    """Write the column of a score, and return its name, `score:REP-BY`; with an `index` that of
    its images among each other, `score:REP-BY-INDEX`, -inf for all others.

    Seconds to minutes: it is written whole at the end, and a kill before leaves nothing. What is
    there already, of the same representations, reference and `k`, stays. Raises ConfigError for
    what is missing, of another encoder, not finite or without labels.
    """
    beside = beside or Beside()
    name = f"score:{rep}-{by}" + (f"-{index}" if index else "")
    made = space.read(opened, f"rep:{rep}", index)
    other = _other(opened, by, rep, beside, index)
    made_by: dict[str, Any] = {"by": by, "of": made.identity}
    if other is not None:
        made_by["beside"] = other.identity
    if by != "faithfulness":
        made_by["metric"] = beside.metric
    if by in WITH_K:
        made_by["k"] = beside.k
    _check(by, made, other, beside.k)
    file = columns.sidecar_file(opened.path, name)
    if file.with_suffix(".json").is_file() and columns.described(file)["made_by"] == made_by:
        print(f"{name} is there already, of these representations.")
        return name
    compile_cache.enable()
    values = np.full(len(opened), -np.inf, np.float32)
    values[made.rows] = _score(by, made, other, beside)
    store.write_column(opened.path, name, values, made_by)
    return name


def _other(opened: Store, by: str, rep: str, beside: Beside, index: str) -> Vectors | None:
    """What the score compares with."""
    if by == "faithfulness":
        if ASKED not in opened.columns:
            raise ConfigError(
                f"--by=faithfulness needs the column {ASKED}, which {opened.path} has not: type a "
                "set that jaxfdsl materialise made of a run conditioned on representations."
            )
        return space.read(opened, ASKED, index)
    if by == "duplicates":
        return None
    if pathlib.Path(beside.real).expanduser().resolve() == opened.path.resolve():
        raise ConfigError(
            f"--real={beside.real} is the store that is chosen from: type that of the real images."
        )
    return space.read(
        beside.real, f"rep:{rep}", beside.index, split=beside.split, data_dir=beside.data_dir
    )


def _check(by: str, made: Vectors, other: Vectors | None, k: int) -> None:
    if other is None:
        if len(made.values) < 2:
            raise ConfigError(f"--by={by} needs two images, and {made.path} has one.")
        return
    space.check_same(made, other)
    if by in WITH_K:
        space.check_enough(other, k, f"--k={k}")
    if by == "label_agreement":
        space.check_labels(made, f"--by={by}")
        space.check_labels(other, f"--by={by}")


def _score(
    by: str, made: Vectors, other: Vectors | None, beside: Beside
) -> Float64[np.ndarray, " N"]:
    metric, count = beside.metric, beside.k if by in WITH_K else 1
    if other is None:
        return nearest_other(made.values, metric)
    if by == "faithfulness":
        return faithfulness(made.values, other.values)
    near, told = knn.neighbours(other.values, made.values, count, metric)
    if by == "label_agreement":
        return label_agreement(near, other.labels, made.labels)
    apart = told if metric == "euclidean" else 1 - told
    return -apart.mean(axis=1) if by == "density" else apart[:, 0]


def faithfulness(made: np.ndarray, asked: np.ndarray) -> Float64[np.ndarray, " N"]:
    """The cosine of each image's representation and the one that was asked for, float[N, D] both,
    in units of the deviation of what was asked for, from its mean."""
    mean, deviation = asked.mean(axis=0, dtype=np.float64), asked.std(axis=0, dtype=np.float64)
    deviation = np.where(deviation > 0, deviation, 1)
    some, others = ((one.astype(np.float64) - mean) / deviation for one in (made, asked))
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return np.einsum("nd,nd->n", some, others) / np.maximum(lengths, np.finfo(np.float64).tiny)


def label_agreement(
    near: Int[np.ndarray, "N k"],
    real_labels: Int64[np.ndarray, " M"],
    labels: Int64[np.ndarray, " N"],
) -> Float64[np.ndarray, " N"]:
    """The share of the nearest real images `near` that have an image's label."""
    return (real_labels[near] == labels[:, None]).mean(axis=1)


def nearest_other(values: np.ndarray, metric: str = "euclidean") -> Float64[np.ndarray, " N"]:
    """The distance of each of N vectors, float[N, D], to the nearest that is another row: in the
    vectors' unit, or 1 - cosine of "cosine"."""
    near, told = knn.neighbours(values, values, 2, metric)
    apart = told if metric == "euclidean" else 1 - told
    # Of equal vectors the first are nearest, so that a row may not even be among its own two.
    return np.where(near[:, 0] == np.arange(len(values)), apart[:, 1], apart[:, 0])
