"""Many jaxfdsl runs, several at a time with a core each, or one after the other in this process;
what benchmarks of paired seeds share.

A run is finished when its folder has a summary; killed, the same command goes on where it was.
"""

import contextlib
import gc
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

import numpy as np

INTERRUPTED = 130  # what a verb leaves with after Ctrl-C
T_975 = (math.nan, 12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def result(out: str, name: str) -> dict[str, float] | None:
    """A finished run's summary, None for others."""
    path = pathlib.Path(out) / name / "summary.json"
    return json.loads(path.read_text()) if path.exists() else None


def percent(out: str, name: str, metric: str) -> float:
    """A finished run's value in percent; nan for a run that is not finished."""
    return 100 * (result(out, name) or {metric: math.nan})[metric]


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, standard deviation and half the 95 % t-interval of what is known of some values."""
    known = np.array([value for value in values if not math.isnan(value)])
    sd = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    mean = float(known.mean()) if len(known) else math.nan
    return mean, sd, T_975[max(len(known) - 1, 0)] * sd / max(len(known), 1) ** 0.5


def run_all(
    out: str, waits_for: Mapping[str, Sequence[str]], command: Callable[[str], list[str]], jobs: int
) -> list[str]:
    """Starts `command(name)` for every run that is not finished, `jobs` at a time, those first that
    come first; returns the names of those that failed. `waits_for` has all runs, and those that
    each one needs.
    """
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    environment = dict(os.environ) if jobs == 1 else os.environ | {"XLA_FLAGS": flags}
    cores = sorted(getattr(os, "sched_getaffinity", lambda _: ())(0))  # not on macOS
    waiting = [name for name in waits_for if result(out, name) is None]
    running: dict[int, tuple[str, subprocess.Popen]] = {}
    failed: list[str] = []
    try:
        while waiting or running:
            ready = [name for name in waiting if all(result(out, n) for n in waits_for[name])]
            free = [slot for slot in range(jobs) if slot not in running]
            if not running and not ready:
                break  # the rest waits for what failed
            for slot, name in zip(free, ready, strict=False):
                waiting.remove(name)
                with (pathlib.Path(out) / f"{name}.log").open("a") as log:
                    process = subprocess.Popen(
                        [sys.executable, *command(name)], stdout=log, stderr=log, env=environment
                    )
                if jobs > 1 and cores:
                    os.sched_setaffinity(process.pid, {cores[slot % len(cores)]})
                running[slot] = name, process
            for slot, (name, process) in list(running.items()):
                try:
                    code = process.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    continue
                del running[slot]
                failed += [name] * bool(code)
                print(f"{name}: {'FAILED, see its .log' if code else 'done'}", flush=True)
    finally:
        for _, process in running.values():
            process.terminate()
    return failed


class Stopped(BaseException):
    """SIGTERM came, or the minutes are over; a training run saves first."""


def stop_after(minutes: float) -> None:
    """Makes SIGTERM a `Stopped`, and sends it to this process when so many minutes are over (0:
    never)."""

    def stop(*_) -> None:
        raise Stopped

    signal.signal(signal.SIGTERM, stop)
    if minutes:
        timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()


def run_here(
    out: str, waits_for: Mapping[str, Sequence[str]], run: Callable[[str], None]
) -> list[str]:
    """As `run_all`, one after the other in this process: a GPU has room for one, and programs that
    were compiled before are found again. Returns the names of those that failed, and raises
    `Stopped` after a run that was stopped and saved what it had.
    """
    import jax

    waiting = [name for name in waits_for if result(out, name) is None]
    failed: list[str] = []
    while ready := [name for name in waiting if all(result(out, n) for n in waits_for[name])]:
        name, begun = ready[0], time.monotonic()
        waiting.remove(name)
        with (pathlib.Path(out) / f"{name}.log").open("a", buffering=1) as log:
            try:
                with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
                    run(name)
                if result(out, name) is None:
                    raise Stopped
            except (Exception, SystemExit) as error:  # a verb leaves so, with a sentence in the log
                if getattr(error, "code", 1) == INTERRUPTED:
                    raise
                traceback.print_exc(file=log)
                failed.append(name)
        took = f"{time.monotonic() - begun:.0f} s"
        print(f"{name}: {'FAILED, see its .log' if name in failed else 'done'}, {took}", flush=True)
        jax.clear_caches()  # of one run's programs no other has use
        gc.collect()
    return failed
