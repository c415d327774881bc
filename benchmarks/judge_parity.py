"""Do our measures of a made set equal those of the published codes, and how long do they take?

    pip install prdc scipy && python benchmarks/judge_parity.py
    python benchmarks/judge_parity.py --images 50000 --width 384 --theirs ""

Precision, recall, density and coverage beside the authors' `prdc`; the Frechet distance beside
`scipy.linalg.sqrtm` of the product, as in pytorch-fid; the kernel distance beside scikit-learn's
polynomial kernel; nearest neighbours beside scikit-learn's. On mixtures of Gaussians, so that no
share is 0 or 1. Prints a table and writes runs/judge_parity.json.
"""

import argparse
import json
import pathlib
import time

import jax
import numpy as np

from jaxfdsl.evals import knn
from jaxfdsl.judge import frechet, kernel, manifold


def mixture(count: int, width: int, seed: int, spread: float) -> np.ndarray:
    """Vectors about 20 centres, of few free directions, as features have."""
    chance = np.random.default_rng(0)
    centres = chance.normal(size=(20, width))
    across = chance.normal(size=(min(width, 24), width)) / 5
    own = np.random.default_rng(seed)
    told = (
        centres[own.integers(0, 20, count)]
        + spread * own.normal(size=(count, len(across))) @ across
    )
    return (told + 0.05 * own.normal(size=(count, width))).astype(np.float32)


def ours(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """Our measures."""
    three = manifold.measures(real, made, 3, 5)
    _, near = knn.neighbours(real, made, 5, "euclidean")
    return {
        **three,
        "frechet": frechet.distance(real, made),
        "kernel": kernel.distance(real, made),
        "mean distance to 5": float(near.mean()),
    }


def theirs(real: np.ndarray, made: np.ndarray) -> dict[str, float]:
    """The same of others' codes, in float64."""
    import scipy.linalg
    from prdc import compute_prdc
    from sklearn.metrics.pairwise import polynomial_kernel
    from sklearn.neighbors import NearestNeighbors

    real, made = real.astype(np.float64), made.astype(np.float64)
    three, five = (compute_prdc(real, made, nearest_k=k) for k in (3, 5))
    told = {name: three[name] for name in ("precision", "recall")}
    told |= {name: five[name] for name in ("density", "coverage")}
    one, other = np.cov(real, rowvar=False), np.cov(made, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other).real
    apart = np.square(real.mean(axis=0) - made.mean(axis=0)).sum()
    told["frechet"] = apart + np.trace(one) + np.trace(other) - 2 * np.trace(root)
    within = []
    for some in (real, made):
        kernels = polynomial_kernel(some, degree=3, coef0=1)
        within.append((kernels.sum() - np.trace(kernels)) / (len(some) * (len(some) - 1)))
    told["kernel"] = sum(within) - 2 * polynomial_kernel(real, made, degree=3, coef0=1).mean()
    near, _ = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(real).kneighbors(made)
    told["mean distance to 5"] = near.mean()
    return {name: float(value) for name, value in told.items()}


def main() -> None:
    reader = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    reader.add_argument("--images", type=int, default=3000, help="of each set")
    reader.add_argument("--width", type=int, default=64)
    reader.add_argument("--theirs", default="yes", help="'': only how long ours take")
    reader.add_argument("--out", default="runs")
    options = reader.parse_args()
    real = mixture(options.images, options.width, 1, 1.0)
    made = mixture(options.images * 9 // 10, options.width, 2, 0.85) + np.float32(0.1)
    found, seconds = {}, {}
    for name, run in (("ours", ours), ("theirs", theirs))[: 2 if options.theirs else 1]:
        began = time.perf_counter()
        found[name] = run(real, made)
        seconds[name] = time.perf_counter() - began
    began = time.perf_counter()
    knn.neighbours(real, made, 5, "euclidean")
    seconds["neighbours"] = time.perf_counter() - began
    print(f"{len(real)} real, {len(made)} made, {options.width} numbers; {jax.default_backend()}")
    for name, value in found["ours"].items():
        other = found.get("theirs", {}).get(name)
        told = "" if other is None else f"{other:14.9g}  {abs(value - other):.1e} apart"
        print(f"{name:20}{value:14.9g}{told}")
    print("seconds:", {name: round(value, 2) for name, value in seconds.items()})
    out = pathlib.Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    made_by = {"images": options.images, "width": options.width, "device": jax.default_backend()}
    text = json.dumps({**made_by, **found, "seconds": seconds}, indent=1)
    (out / "judge_parity.json").write_text(text)
    for name, other in found.get("theirs", {}).items():
        assert abs(found["ours"][name] - other) <= 1e-6 * max(1, abs(other)), name


if __name__ == "__main__":
    main()
