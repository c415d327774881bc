"""Checkpoints: asynchronous, atomic, and the only place that knows Orbax.

`checkpoints/<step>/` holds the items `params`, `ema` (when kept), `optimizer` (its state and the
step), `meta` (the resolved config, the data's identity, versions) and, when the best one is kept,
`metrics` (the evaluation of that state). The data's position is the step itself.
"""

import contextlib
import errno
import functools
import json
import logging
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as managers

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.report import writers
from jaxfdsl.state import State

BEST = "best.json"  # beside `checkpoints`: {"step", "metric", "value"} of the best checkpoint

# What reading a damaged or incomplete folder raises, from the file system up to TensorStore. Other
# errors of the file system may pass, so that they rise and nothing is set aside.
_UNREADABLE = (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of a disk, a quota, or a limit on files
_SYSTEM_ERROR = re.compile(r"os_error_code='(\d+)'")  # how TensorStore tells of a full disk


class _AlreadyRaised(logging.Filter):
    """Orbax logs a page of traceback, several times, for each error that it then raises."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and "orbax" in record.pathname)


class _Unraisable:
    """Where a disk is full, every write that TensorStore had begun fails, and each tells a thread
    of Orbax that has ended: a traceback for each array, beside the error that is raised."""

    def __init__(self, before: Callable[[Any], Any]):
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            self._before(unraisable)


@functools.cache
def _prepare_orbax() -> None:
    """Once, and not on import: what changes Orbax, logging and Python for the whole process."""
    logging.getLogger("absl").addFilter(_AlreadyRaised())
    sys.unraisablehook = _Unraisable(sys.unraisablehook)
    # Orbax cuts each array among the devices that hold it, by programs that it compiles one a shape
    # and slice: seconds at the first save, for kilobytes. Large arrays are worth it.
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns that its own handler is replaced
    handler = ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=2**20)
    ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
    log.setLevel(level)


class Checkpoints:
    """The checkpoints of one run; `tell` gets one sentence for each that has to be skipped.

    Besides the newest `keep`, the one is kept whose evaluation value `best_metric` is the best:
    the lowest if its name ends in "loss", else the highest. `best.json` beside the folder says
    which. With `read_only` nothing is created, renamed or removed: the run may still be writing.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        keep: int,
        tell: Callable[[str], None],
        best_metric: str = "",
        read_only: bool = False,
    ):
        _prepare_orbax()
        self._folder = epath.Path(folder).absolute()
        self._tell = tell
        self._metric = best_metric
        self._read_only = read_only
        self._aside: set[str] = set()
        self._failed = False
        self._writing: int | None = None  # the step of a save whose end was not looked at yet
        for path in [] if read_only else _unfinished(self._folder):
            tell(f"Skipping {path}: it was only half written.")
        options = _options(keep, self._goodness if best_metric else None, read_only)
        self._manager = ocp.CheckpointManager(self._folder, options=options)
        self._best = self._find_best()
        if not read_only:
            self._write_best()

    def save(
        self, step: int, state: State, meta: dict[str, Any], results: Mapping[str, float] = {}
    ) -> None:
        """Starts to save; returns once the state may be consumed.

        `results` is the evaluation of this very state, if there was one. Raises ConfigError when
        this save or the one before it cannot be written.
        """
        self.check(wait=True)
        items = {name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()}
        items["meta"] = ocp.args.JsonSave(meta)
        finite = {name: float(value) for name, value in results.items() if math.isfinite(value)}
        args, metrics = ocp.args.Composite(**items), finite if self._metric else None
        with self._sentence(step):
            self._manager.save(step, metrics=metrics, args=args, force=True)
        self._writing = step
        if self._metric in finite and self._goodness(finite) >= self._goodness(self._best_metrics):
            self._best = step, finite[self._metric]

    def check(self, *, wait: bool = False) -> None:
        """Raises ConfigError once the save that was begun last has failed; without `wait` at once,
        whether it has ended or not."""
        step = self._writing
        if step is None or (not wait and self._manager.is_saving_in_progress()):
            return
        self._writing = None
        with self._sentence(step):
            self._manager.wait_until_finished()
        self._write_best()

    @contextlib.contextmanager
    def _sentence(self, step: int) -> Iterator[None]:
        """Says in one sentence what the file system refused; other errors pass."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            code = _error_code(error)
            if code is None and not isinstance(error, OSError):
                raise
            self._failed = True
            reason = os.strerror(code) if code else str(error) or repr(error)
            raise self._refusal(step, reason, code in FULL) from error

    def _refusal(self, step: int, reason: str, full: bool) -> ConfigError:
        self._manager.reload()  # the manager has forgotten what it was about to remove
        whole = [other for other in self._manager.all_steps() if other != step]
        rest = f"the last whole one is step {max(whole)}" if whole else "there is none before it"
        return ConfigError(
            f"The checkpoint of step {step} could not be written to {self._folder} ({reason}) and "
            f"{rest}: {'free some space there' if full else 'mend that'}, and type the same "
            "command to continue."
        )

    def newest(self) -> int | None:
        """The step of the newest checkpoint, whether it can be read or not."""
        return max(self._manager.all_steps(), default=None)

    @property
    def best(self) -> tuple[int, float] | None:
        """The step and value of the best checkpoint, one that is still being written included."""
        return self._best

    def improves(self, results: Mapping[str, float]) -> bool:
        """Whether these evaluation values beat those of every checkpoint so far.

        Raises ConfigError when the metric to watch is not among them.
        """
        if not self._metric:
            return False
        if self._metric not in results:
            raise ConfigError(
                f"best_metric={self._metric!r} is no value of the evaluations: type "
                f"--config.best_metric= and one of {', '.join(results)}."
            )
        return self._goodness(results) > self._goodness(self._best_metrics)

    @property
    def _best_metrics(self) -> dict[str, float]:
        return {self._metric: self._best[1]} if self._best else {}

    def _goodness(self, metrics: Mapping[str, float]) -> float:
        """Higher is better; -inf for a checkpoint made while another metric was watched."""
        value = metrics.get(self._metric, math.nan)
        value = -value if self._metric.endswith("loss") else value
        return value if math.isfinite(value) else -math.inf

    def _find_best(self) -> tuple[int, float] | None:
        """Among equals the latest, as Orbax keeps that one."""
        steps = self._manager.all_steps() if self._metric else []
        found = {step: self._manager.metrics(step) or {} for step in steps}
        known = [step for step, metrics in found.items() if self._metric in metrics]
        step = max(known, key=lambda s: (self._goodness(found[s]), s), default=None)
        return None if step is None else (step, found[step][self._metric])

    def _write_best(self) -> None:
        if self._best and jax.process_index() == 0:
            step, value = self._best
            text = json.dumps({"step": step, "metric": self._metric, "value": value}) + "\n"
            writers.write_whole(self._folder.parent / BEST, text)

    def newest_meta(self) -> tuple[int, dict[str, Any]] | None:
        """The step and metadata of the newest checkpoint whose metadata can be read."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                args = ocp.args.Composite(meta=ocp.args.JsonRestore())
                return step, self._manager.restore(step, args=args)["meta"]
            except _UNREADABLE as error:
                self._set_aside(step, error)
        return None

    def restore(self, like: State, wanted: int = 0) -> State | None:
        """The newest state that can be read, or that of the step `wanted`, laid out as `like`
        (shapes with shardings) says."""
        items = {n: ocp.args.StandardRestore(tree) for n, tree in _items(like).items()}
        steps = self._manager.all_steps()
        for step in sorted([s for s in steps if wanted in (0, s)], reverse=True):
            try:
                found = self._manager.restore(step, args=ocp.args.Composite(**items))
            except _UNREADABLE as error:
                self._set_aside(step, error)
                continue
            state = {"params": found["params"], **found["optimizer"]}
            return state | {"ema": found["ema"]} if "ema" in like else state
        return None

    def unreadable(self) -> list[str]:
        """Names of the checkpoints that were set aside, now or on an earlier start."""
        return sorted(self._aside | {path.name for path in self._folder.glob("unreadable-*")})

    def _set_aside(self, step: int, error: Exception) -> None:
        """Renames a checkpoint that cannot be read: out of the way, but not lost."""
        path, aside = self._folder / str(step), self._folder / f"unreadable-{step}"
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        if self._read_only:
            self._tell(f"Skipping {path}, which is not whole ({reason}).")
            return
        self._tell(f"Skipping {path}, which is not whole ({reason}); it is {aside} now.")
        self._aside.add(aside.name)
        if jax.process_index() == 0:
            path.rename(aside)
        self._manager.reload()
        self._best = self._find_best()

    def close(self) -> None:
        """Waits for the last save and lets go of the folder; raises as `check` does."""
        try:
            self.check(wait=True)
        finally:
            try:
                self._manager.close()
            except Exception:  # what has been raised already may come from another thread as well
                if not self._failed:
                    raise


def load_params(path: epath.PathLike) -> tuple[Any, str]:
    """The weights alone, as NumPy arrays, and where they lay; the average if one was kept.

    `path` is a workdir or its `checkpoints` folder (the newest is taken), one checkpoint, or a
    workdir's `best.json`. Raises FileNotFoundError.
    """
    folder = _one_checkpoint(epath.Path(path).absolute())
    folder /= "ema" if (folder / "ema").exists() else "params"
    reader = ocp.PyTreeCheckpointHandler()
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(folder).tree
    )
    params = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return params, str(folder)


def load_meta(path: epath.PathLike) -> dict[str, Any]:
    """The metadata of the checkpoint that `load_params` would read.

    Raises FileNotFoundError, and ValueError for metadata that is damaged or not that of a run.
    """
    folder = _one_checkpoint(epath.Path(path).absolute()) / "meta"
    try:
        meta = ocp.JsonCheckpointHandler().restore(folder, args=ocp.args.JsonRestore())
        config_lib.from_json(json.dumps(meta["config"]))
        entries = meta["config"]["data"]["sources"].values()
        if not all(entry["kind"] for entry in entries):
            raise ValueError("a source of no kind")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} is not whole ({error})") from error
    return meta


@contextlib.contextmanager
def reading(
    place: epath.PathLike, field: str = "", *, missing: str, damaged: str
) -> Iterator[None]:
    """Turns what `load_params` and `load_meta` raise for `place` into one sentence, a ConfigError
    that names it and says what to type where there is no checkpoint, and where it is damaged."""
    try:
        yield
    except ConfigError:
        raise
    except FileNotFoundError as error:
        raise ConfigError(f"{field}{place} holds no checkpoint: type {missing}.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or repr(error)
        raise ConfigError(f"{field}{place} cannot be read ({reason}): type {damaged}.") from error


def _one_checkpoint(path: epath.Path) -> epath.Path:
    if path.name == BEST and path.is_file():
        path = path.parent / "checkpoints" / str(json.loads(path.read_text())["step"])
    if (path / "params").is_dir():
        return path
    folder = path / "checkpoints" if (path / "checkpoints").is_dir() else path
    steps = [p for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []
    whole = [p for p in steps if (p / "params").is_dir()]
    if not whole:
        raise FileNotFoundError(f"no checkpoint in {path}")
    return max(whole, key=lambda p: int(p.name))


def _items(state: State) -> dict[str, Any]:
    items = {"params": state["params"]}
    items["optimizer"] = {"step": state["step"], "opt_state": state["opt_state"]}
    return items | {"ema": state["ema"]} if "ema" in state else items


def _options(
    keep: int, goodness: Callable[[Any], float] | None, read_only: bool
) -> ocp.CheckpointManagerOptions:
    if read_only:
        return ocp.CheckpointManagerOptions(read_only=True, save_interval_steps=0, create=False)
    policies: list[Any] = [managers.LatestN(keep)]
    if goodness:
        best = managers.BestN(get_metric_fn=goodness, n=1, keep_checkpoints_without_metrics=False)
        policies.append(best)
    return ocp.CheckpointManagerOptions(
        preservation_policy=managers.AnyPreservationPolicy(policies),
        best_fn=goodness,  # without one, Orbax would not write the metrics
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
        create=True,
    )


def _error_code(error: BaseException | None) -> int | None:
    """The system's number of this error or of one that led to it, that of a full disk first."""
    codes: list[int] = []
    while error is not None:
        found = _SYSTEM_ERROR.search(str(error))
        code = int(found[1]) if found else getattr(error, "errno", None)
        codes += [] if code is None else [code]
        error = error.__cause__ or error.__context__
    return next((code for code in codes if code in FULL), codes[0] if codes else None)


def _unfinished(folder: epath.Path) -> list[epath.Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if ocp.utils.is_tmp_checkpoint(p))


def like(state: State, laid: State) -> State:
    """The shapes of a state with its shardings, which `Checkpoints.restore` wants."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, laid
    )
