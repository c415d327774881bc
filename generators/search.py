"""Finding categories: candidates are numbered, numbers become systems by hash, and those that score
become categories.

So a table is a list of accepted numbers, four bytes a category, and whoever searches again finds
the same ones.
"""

import concurrent.futures
import functools
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jaxtyping import UInt32

CHUNK = 512  # candidates a call; each is drawn after the other, so memory stays at a few pictures
SAVE_SECONDS = 20  # what a search that is killed loses at most
SEED_STRIDE = 2**24  # candidates that belong to one seed


def search(
    family: Any,
    num_classes: int,
    seed: int = 0,
    *,
    cache_dir: str | os.PathLike | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> UInt32[np.ndarray, " num_classes"]:
    """The first `num_classes` accepted candidate numbers of `seed`, in ascending order.

    The result does not depend on chunks, threads or devices. What was found is kept in `cache_dir`
    (default ~/.cache/jaxfdsl/categories) under the family's search settings and the seed; a longer
    search, or one begun again after a kill, goes on where it ended. `progress(found, wanted)` is
    called after every chunk.
    """
    if not 0 <= seed < 2**32 // SEED_STRIDE:
        raise ValueError(
            f"search seed {seed} is not in 0..{2**32 // SEED_STRIDE - 1}: "
            "each seed owns 2**24 candidates"
        )
    folder = default_cache() if cache_dir is None else pathlib.Path(cache_dir)
    cache = folder / f"{family.name}-v{family.version}-{family.search_settings}-seed{seed}.npz"
    found, tried = _read_cache(cache)
    if len(found) >= num_classes:
        return found[:num_classes]
    score, saved = scorer(family), time.monotonic()
    threads = os.cpu_count() or 1 if jax.default_backend() == "cpu" else 1
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        while len(found) < num_classes:
            if tried + threads * CHUNK > SEED_STRIDE:
                raise ValueError(
                    f"seed {seed} has {len(found)} categories of {family.name} among its "
                    f"2**24 candidates, fewer than the {num_classes} asked for"
                )
            first = seed * SEED_STRIDE + tried
            starts = [first + i * CHUNK for i in range(threads)]
            chunks = [np.arange(s, s + CHUNK, dtype=np.uint32) for s in starts]
            for numbers, scores in zip(chunks, pool.map(score, chunks), strict=True):
                found = np.concatenate([found, numbers[scores >= family.threshold]])
            tried += threads * CHUNK
            if progress is not None:
                progress(min(len(found), num_classes), num_classes)
            if len(found) >= num_classes or time.monotonic() - saved > SAVE_SECONDS:
                _write_cache(cache, found, tried)
                saved = time.monotonic()
    return found[:num_classes]


@functools.cache
def scorer(family: Any) -> Callable[[np.ndarray], np.ndarray]:
    """uint32[CHUNK] candidate numbers -> float32[CHUNK] scores, on the device."""
    on_cpu = jax.default_backend() == "cpu"

    @jax.jit
    def run(numbers):
        params = family.propose(numbers)
        one = functools.partial(family.score, branch=on_cpu)
        return jax.lax.map(one, params, batch_size=None if on_cpu else 64)

    return lambda numbers: np.asarray(run(numbers))


def default_cache() -> pathlib.Path:
    """$XDG_CACHE_HOME/jaxfdsl/categories."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "jaxfdsl" / "categories"


def _write_cache(cache: pathlib.Path, found: np.ndarray, tried: int) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    part = cache.with_suffix(f".{os.getpid()}.part.npz")
    np.savez(part, found=found, tried=tried)
    part.replace(cache)


def _read_cache(cache: pathlib.Path):
    if not cache.exists():
        return np.zeros(0, np.uint32), 0
    with np.load(cache) as file:
        return file["found"], int(file["tried"])
