"""Values made ahead of the loop that uses them, by threads or by worker processes of Grain.

Worker processes load this module: nothing in it touches a device.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import grain

from jaxfdsl.distributed import launchers


@dataclasses.dataclass(frozen=True)
class _Element:
    """A step with its value; a class of this module, so that it can be pickled for workers."""

    function: Callable[[int], Any]
    start: int

    def __call__(self, offset: int) -> tuple[int, Any]:
        step = self.start + int(offset)
        return step, self.function(step)


def ahead(
    function: Callable[[int], Any],
    start: int,
    stop: int,
    num_workers: int = 0,
    prefetch: int = 2,
) -> Iterator[tuple[int, Any]]:
    """`(i, function(i))` for each i in [start, stop), in order, `prefetch` of them made ahead.

    By threads, or by `num_workers` processes (see `resolve`), to which `function` travels pickled.
    """
    if stop <= start:
        return
    num_workers = resolve(num_workers)
    steps = grain.MapDataset.range(stop - start).map(_Element(function, start))
    options = grain.ReadOptions(num_threads=max(1, prefetch), prefetch_buffer_size=max(1, prefetch))
    # Workers import the main program, which a notebook is not.
    if num_workers == 0 or not hasattr(sys.modules["__main__"], "__file__"):
        yield from steps.to_iter_dataset(options)
        return
    _mark_flags_parsed()
    one = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
    workers = grain.MultiprocessingOptions(num_workers, per_worker_buffer_size=max(1, prefetch))
    yield from steps.to_iter_dataset(one).mp_prefetch(workers, worker_init_fn=_as_worker)


def resolve(num_workers: int) -> int:
    """The number of worker processes; -1 stands for what suits this machine: none up to 8 cores,
    where threads keep up, else all cores but two. Training processes beside this one share them.
    """
    if num_workers >= 0:
        return num_workers
    known, there = hasattr(os, "sched_getaffinity"), os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if known else there
    if cores == there:  # else the launcher gave this process cores of its own
        cores //= launchers.processes_here(os.environ)
    return min(cores - 2, 32) if cores > 8 else 0


def _as_worker(worker_index: int, worker_count: int) -> None:
    import jax  # has been imported by now, so that the environment would come too late

    from jaxfdsl.data import decode

    # Schedulers send SIGTERM to every process, and batches are needed until all agree on a step.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    jax.config.update("jax_platforms", "cpu")  # a chip belongs to the parent process alone
    decode.use_one_thread()  # there is a worker for each core


def _mark_flags_parsed() -> None:
    """Grain reads absl flags when it starts workers, which notebooks and tests never parse."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
