"""Whether our evaluations of features say what scikit-learn says, and what they cost.

    python benchmarks/evaluators.py --workdir=runs/x --data_dir=/data/tfds --json=evaluators.json

Features of CIFAR-10 by the model of a workdir: its training images (`--num_train`, 0: all) and all
test images. kNN: labels that differ (k 10, 20, 200; temperature .07). Few shots: the largest
difference of a ridge weight, 10 shots, over all strengths. Linear probe: top-1 beside logistic
regressions: "tuned" has its strength C chosen on the same held-out share of the same sphered
features and is fitted again on all; "default" is C 1 on standardised features. Needs
`pip install "jaxfdsl[test]"`. Seconds are wall time, compilation included.
"""

import argparse
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from etils import epath
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier

from jaxfdsl import checkpoint, compile_cache, experiment
from jaxfdsl import config as c
from jaxfdsl.data import augment, sources
from jaxfdsl.evals import few_shot, knn, linear_probe
from jaxfdsl.evals.features import Features, ranks
from jaxfdsl.models import vit

K, TEMPERATURE = (10, 20, 200), 0.07
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


def features(workdir: str, data_dir: str, split: str, count: int) -> Features:
    """What the run's model sees in the first `count` images (0: all) of a split."""
    config = c.from_json((epath.Path(workdir) / "config.json").read_text())
    params, _ = checkpoint.load_params(workdir)
    model = vit.build(config.model, {}, experiment.compute_dtype(config.dtype))
    size = config.model.image_size
    entry = c.tfds_source("cifar10", split=split, data_dir=data_dir, size=32)
    source = sources.build(entry, seed=0, train=False)

    @jax.jit
    def seen(params: Any, images: jax.Array) -> jax.Array:
        images = augment.evaluate(images, config.augment, size)
        return model.apply(params, images, train=False)["features"]

    parts, labels = [], []
    total = count or source.num_examples or 0
    for first in range(0, total, 500):
        rows = source.rows(np.arange(first, min(first + 500, total)))
        parts.append(np.asarray(seen(params, rows["image"])))
        labels.append(rows["label"])
    return Features(np.concatenate(parts), np.concatenate(labels), source.num_classes)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """What a function returns, and seconds."""
    begun = time.perf_counter()
    found = function()
    return found, time.perf_counter() - begun


def compare_knn(train: Features, test: Features) -> list[dict[str, Any]]:
    """Labels that differ from scikit-learn's, for each k."""
    ours, seconds = timed(lambda: knn.predict(train, test.values, k=K, temperature=TEMPERATURE))
    rows = [{"row": "knn, ours, three k", "seconds": seconds}]
    for k in K:

        def weights(distance: np.ndarray) -> np.ndarray:
            return np.exp((1 - distance) / TEMPERATURE)

        oracle = KNeighborsClassifier(k, metric="cosine", weights=weights)
        oracle.fit(train.values.astype(np.float64), train.labels)
        theirs, seconds = timed(lambda fit=oracle: fit.predict(test.values.astype(np.float64)))
        differ = int(np.sum(ours[k] != theirs))
        top1 = float(np.mean(theirs == test.labels))
        rows.append({"row": f"knn, scikit-learn, k {k}", "top1": top1, "seconds": seconds})
        rows[-1]["labels that differ"] = differ
    return rows


def compare_few_shot(train: Features) -> list[dict[str, Any]]:
    """The largest difference of a weight or intercept, in float64 on standardised shots."""
    shots = train.at(ranks(train.labels, 0) < 10)
    x = shots.values.astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)
    y = np.where(np.arange(shots.num_classes) == shots.labels[:, None], 1.0, -1.0)
    strengths = c.few_shot_eval(c.tfds_source(), c.tfds_source()).l2
    worst = 0.0
    for strength, (weights, bias) in zip(strengths, few_shot.ridge(x, y, strengths), strict=True):
        oracle = Ridge(alpha=strength).fit(x, y)
        differences = np.abs(weights - oracle.coef_.T).max(), np.abs(bias - oracle.intercept_).max()
        worst = max(worst, *map(float, differences))
    return [{"row": "ridge, 10 shots", "largest difference": worst}]


def compare_probe(train: Features, test: Features, default: bool) -> list[dict[str, Any]]:
    """Top-1 of the probe, of a tuned and of a default logistic regression."""
    entry = c.linear_probe_eval(c.tfds_source(), c.tfds_source())
    options = {name: entry[name] for name in ("learning_rates", "epochs", "held_out")}
    ours, seconds = timed(lambda: dict(linear_probe.evaluate(train, test, **options)))
    rows = [{"row": "linear probe, ours", "seconds": seconds, **ours}]
    sphere = linear_probe.sphering(train.values)
    known, asked = sphere(train), sphere(test)
    judges = linear_probe.held_out_rows(train.labels, entry.held_out)

    def tuned() -> tuple[float, float]:
        tried = [
            regression(strength, known.at(~judges)).score(
                known.values[judges], known.labels[judges]
            )
            for strength in STRENGTHS
        ]
        best = STRENGTHS[int(np.argmax(tried))]
        return best, regression(best, known).score(asked.values, asked.labels)

    (best, top1), seconds = timed(tuned)
    rows.append({"row": f"scikit-learn, tuned: C {best:g}", "top1": top1, "seconds": seconds})
    if default:
        mean, deviation = train.values.mean(axis=0), train.values.std(axis=0)
        scaled = Features((train.values - mean) / deviation, train.labels, train.num_classes)
        fitted, seconds = timed(lambda: regression(1.0, scaled))
        top1 = fitted.score((test.values - mean) / deviation, test.labels)
        rows.append({"row": "scikit-learn, default", "top1": top1, "seconds": seconds})
    return rows


def regression(strength: float, train: Features) -> LogisticRegression:
    """Softmax regression to convergence."""
    return LogisticRegression(C=strength, max_iter=3000).fit(train.values, train.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--num_train", type=int, default=0)
    parser.add_argument("--default", action="store_true", help="C 1 as well, minutes")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    compile_cache.enable()
    train = features(args.workdir, args.data_dir, "train", args.num_train)
    test = features(args.workdir, args.data_dir, "test", 0)
    rows = compare_knn(train, test) + compare_few_shot(train)
    rows += compare_probe(train, test, args.default)
    for row in rows:
        name, rest = row["row"], {key: value for key, value in row.items() if key != "row"}
        print(f"{name:32}" + "".join(f"  {key} {value:.4g}" for key, value in rest.items()))
    if args.json:
        found = {"images": len(train.labels), "width": train.values.shape[1], "rows": rows}
        pathlib.Path(args.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
