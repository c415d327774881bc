"""More than one process, and the notice that this one is about to be stopped."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping

import jax

# What launchers set to the number of tasks; jax.distributed finds addresses from the same places.
_TASK_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "JAX_NUM_PROCESSES")
_HOST_LISTS = ("TPU_WORKER_HOSTNAMES",)


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says that this is one process of several."""
    if environment.get("JAX_COORDINATOR_ADDRESS") or environment.get("MEGASCALE_NUM_SLICES"):
        return True
    counts = (environment.get(name, "") for name in _TASK_COUNTS)
    lists = (environment.get(name, "") for name in _HOST_LISTS)
    return any(c.isdigit() and int(c) > 1 for c in counts) or any("," in names for names in lists)


def initialize() -> None:
    """Joins the other processes of a multi-host launch; on a single machine it does nothing."""
    if launched() and not jax.distributed.is_initialized():
        jax.distributed.initialize()


@contextlib.contextmanager
def preemption() -> Iterator[Callable[[int], bool]]:
    """Yields stop(step) -> whether to save and leave now; call it before every step.

    A single process answers for its own SIGTERM. Several agree on one step, through JAX's own
    preemption service.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        yield multihost_utils.reached_preemption_sync_point
        return
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield lambda step: False  # handlers can be set from the main thread alone
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        yield lambda step: asked.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)
