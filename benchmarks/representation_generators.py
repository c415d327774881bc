"""Do generated vectors have the mean and the covariance of each class?

    python benchmarks/representation_generators.py

A world of 3 classes with known means and covariances, in 8 dimensions, 2,000 vectors a class. The
generator (3 blocks of 128, 260 epochs: two minutes of a CPU) and class Gaussians make as many; each
is compared with other real vectors by the Frechet distance, beside the real ones trained on. Also:
the share of the variance that DDIM with eta 1 loses with an exact denoiser, by the number of steps.
Prints tables and writes runs/representation_generators.json.
"""

import json
import pathlib
import time

import numpy as np

from jaxfdsl.representations import ddim, gaussians, mixing, rdm

SIZE, CLASSES, EACH = 8, 3, 2000
SETTINGS = rdm.Settings(
    width=128, blocks=3, time_size=128, class_size=64, epochs=260, batch=256, learning_rate=1e-3
)
STEPS = (50, 250, 1000)

Moments = tuple[np.ndarray, np.ndarray]


def moments(rows: np.ndarray) -> Moments:
    return rows.mean(axis=0), np.cov(rows.T)


def root(matrix: np.ndarray) -> np.ndarray:
    values, axes = np.linalg.eigh(matrix)
    return (axes * np.sqrt(np.maximum(values, 0))) @ axes.T


def frechet(one: Moments, other: Moments) -> float:
    """|m - n|^2 + tr(A + B - 2 (A B)^(1/2))."""
    half = root(one[1])
    both = root(half @ other[1] @ half)
    return float(np.sum((one[0] - other[0]) ** 2) + np.trace(one[1] + other[1] - 2 * both))


def kept_variance(variance: float, steps: int, eta: float = 1.0) -> float:
    """The variance of what DDIM makes with the exact denoiser of Gaussian data, over the true."""
    found = 1.0
    for _, here, after, sigma in ddim.table(steps, eta).astype(np.float64):
        clean = np.sqrt(here) * variance / (here * variance + 1 - here)
        onward = np.sqrt(max(1 - after - sigma**2, 0)) / np.sqrt(1 - here)
        found *= (np.sqrt(after) * clean + onward * (1 - np.sqrt(here) * clean)) ** 2
        found += sigma**2
    return found / variance


def main() -> None:
    chance = np.random.default_rng(0)
    means = 1.5 * chance.normal(size=(CLASSES, SIZE))
    turns = chance.normal(size=(CLASSES, SIZE, SIZE)) / np.sqrt(SIZE)
    labels = np.tile(np.arange(CLASSES, dtype=np.int32), EACH)

    def real() -> np.ndarray:
        noise = chance.normal(size=(len(labels), SIZE))
        return (means[labels] + np.einsum("ni,nji->nj", noise, turns[labels])).astype(np.float32)

    train, other = real(), real()
    begin = time.process_time()
    generator = rdm.fit(train, labels, 0, SETTINGS)
    trained = time.process_time() - begin
    made = {"real, trained on": train}
    made |= {f"rdm, {n} steps": generator.sample(labels, 1, n)[0] for n in STEPS}
    made["gaussian"] = gaussians.fit(train, labels, SIZE).sample(labels, 1)[0]
    made["interpolate"] = mixing.interpolated(train, labels, len(train), 1)[0]
    mixed = mixing.interpolated(train, labels, len(train), 1)[1]
    made["perturb .1"] = mixing.perturbed(train, 0.1, 1)
    rows = []
    print(f"{'set':18} class  Frechet  |mean - true|  |cov - true|/|true|  trace/true")
    for name, column in made.items():
        its = mixed if name == "interpolate" else labels
        for c in range(CLASSES):
            found, spread = moments(column[its == c]), turns[c] @ turns[c].T
            row = {
                "set": name,
                "class": c,
                "frechet": frechet(found, moments(other[labels == c])),
                "mean": float(np.linalg.norm(found[0] - means[c])),
                "covariance": float(np.linalg.norm(found[1] - spread) / np.linalg.norm(spread)),
                "trace": float(np.trace(found[1]) / np.trace(spread)),
            }
            rows.append(row)
            print(
                f"{name:18} {c:5} {row['frechet']:8.3f} {row['mean']:14.3f} "
                f"{row['covariance']:20.3f} {row['trace']:11.3f}"
            )
    lost = {
        str(variance): {str(n): kept_variance(variance, n) for n in STEPS}
        for variance in (0.01, 0.1, 1.0)
    }
    print("variance over the true one with an exact denoiser, by variance and steps")
    for variance, shares in lost.items():
        print(f"{variance:>6}  " + "  ".join(f"{n}: {share:.3f}" for n, share in shares.items()))
    print(f"training: {trained:.0f} CPU-seconds")
    path = pathlib.Path("runs/representation_generators.json")
    path.parent.mkdir(exist_ok=True)
    found = {"rows": rows, "kept_variance": lost, "training_cpu_seconds": trained}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
