"""More than one process: joining them, agreeing, being stopped, and leaving when one fails."""

import collections
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import urllib.request
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxfdsl.config import ConfigError
from jaxfdsl.distributed import launchers
from jaxfdsl.distributed.launchers import Given, Launch

_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/"


def initialize(
    given: Given | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    timeout: int = 300,  # seconds, JAX's default
) -> None:
    """Joins the other processes of the launch; on a single machine it does nothing.

    Raises ConfigError for a launch that cannot be joined. Where the others do not come, JAX ends
    the process itself, so that a sentence is printed and it leaves with status 2 just before.
    """
    if not jax.distributed.is_initialized():
        # JAX names the platform by itself where there are chips.
        on_tpu = "tpu" in (jax.config.values["jax_platforms"] or "")
        launch = launchers.find(environment, given, on_tpu=on_tpu, ask=_ask_metadata)
        if launch.remark:
            print(launch.remark, file=sys.stderr)
        if launch.count != 1:
            _join(launch, timeout)
    _check_devices()


def _join(launch: Launch, timeout: int) -> None:
    arrived = threading.Event()
    threading.Thread(target=_watch, args=(launch, timeout, arrived), daemon=True).start()
    try:
        jax.distributed.initialize(initialization_timeout=timeout + 60, **launch.arguments)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"The processes of this launch ({launch.name}) cannot be joined: {reason}; "
            f"type {launchers.FLAGS}, or --num_processes=1 to train with this process alone."
        ) from error
    finally:
        arrived.set()
    if launch.all_gpus and not os.environ.get("JAX_LOCAL_DEVICE_IDS"):
        for maker in ("cuda", "rocm"):  # undoes JAX's choice, which it has not acted on yet
            jax.config.update(f"jax_{maker}_visible_devices", "all")
    if launch.count not in (None, jax.process_count()):
        raise ConfigError(
            f"{launch.name} started {launch.count} processes and JAX sees {jax.process_count()}: "
            f"type {launchers.FLAGS}."
        )


def _watch(launch: Launch, timeout: int, arrived: threading.Event) -> None:
    if arrived.wait(min(15, timeout / 2)):
        return
    print(f"Waiting for the other processes at {_address()} ({launch.name}).", file=sys.stderr)
    if arrived.wait(timeout - min(15, timeout / 2)):
        return
    print(
        f"Not all processes came to {_address()} ({launch.name}) within {timeout} seconds: start "
        "all of them with the same command, see that they reach that address, or type "
        "--num_processes=1 to train with one process.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)  # the main thread waits inside JAX, whose own time-out aborts without a word


def _address() -> str:
    from jax._src import distributed  # no public function says which address JAX found

    return getattr(distributed.global_state, "coordinator_address", None) or "an unknown address"


def _ask_metadata(key: str) -> str | None:
    """An attribute of a Google Cloud machine; None elsewhere, or where it has no such attribute."""
    request = urllib.request.Request(_METADATA + key, headers={"Metadata-Flavor": "Google"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read().decode()
    except OSError:
        return None


def _check_devices() -> None:
    """Raises ConfigError unless all processes know each other and have equally many devices."""
    try:
        devices = collections.Counter(device.process_index for device in jax.devices())
    except RuntimeError as error:
        where = f" in process {_index()}" if jax.distributed.is_initialized() else ""
        raise ConfigError(f"JAX finds no device{where}: {error}") from error
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise ConfigError(
            f"This machine is one of {jax.process_count()}, and where they meet is not known: "
            f"type {launchers.FLAGS} on each."
        )
    counts = [devices[index] for index in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise ConfigError(
            f"The processes have {counts} devices and need equally many each: start one process "
            "a machine, or one a device, or choose devices with CUDA_VISIBLE_DEVICES."
        )


def _index() -> int:
    from jax._src import distributed  # as jax.process_index() would start the devices

    return getattr(distributed.global_state, "process_id", 0)


def agree(
    text: str,
    refusal: str = "was started with another config or --workdir than process 0: type the same "
    "command for every process, with a --workdir that all of them see.",
) -> None:
    """Raises ConfigError in every process unless all of them bring the same text.

    The first call is the first exchange over all devices: a network that does not carry it is found
    before minutes of compiling, and connections are made while all processes wait for each other.
    """
    if jax.process_count() == 1:
        return
    devices = jax.devices()
    mesh = Mesh(np.asarray(devices), ("all",))
    own = np.full(jax.local_device_count(), zlib.crc32(text.encode()), np.uint32)
    cut = jax.make_array_from_process_local_data(NamedSharding(mesh, P("all")), own)
    try:
        whole = jax.jit(lambda x: x, out_shardings=NamedSharding(mesh, P()))(cut)
        marks = np.asarray(whole)
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            f"The processes have met at {_address()}, but their devices cannot exchange data: "
            f"{' '.join(str(error).split())}"
        ) from error
    mark = {device.process_index: mark for device, mark in zip(devices, marks, strict=True)}
    others = [index for index in sorted(mark) if mark[index] != mark[0]]
    if others:
        raise ConfigError(f"Process {others[0]} {refusal}")


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


def leave(status: int, words: str, patience: float = 10.0) -> NoReturn:
    """Says `words` on stderr and ends this process, whether the others fail alike or go on.

    Where all fail alike they part in order. Where this one fails alone, the others wait for it in
    a collective: without its heartbeat, which a normal exit would keep up for five minutes, JAX's
    coordination service ends them, at once if this is process 0, else after 100 seconds.
    """
    if not jax.distributed.is_initialized():
        print(words, file=sys.stderr)
        raise SystemExit(status)
    print(f"Process {_index()}: {words}", file=sys.stderr, flush=True)
    parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
    parting.start()
    parting.join(patience)
    for worker in multiprocessing.active_children():  # as no exit handler will
        worker.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
