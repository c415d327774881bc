"""Checkpoints: asynchronous, atomic, and the only place that knows Orbax.

`checkpoints/<step>/` holds the items `params`, `ema` (when kept), `optimizer` (its state and the
step) and `meta` (the resolved config, the data's identity, versions). The data's position is the
step itself.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath

from jaxfdsl.state import State

# What reading a damaged or incomplete folder raises, from the file system up to TensorStore. Other
# errors of the file system may pass, so that they rise and nothing is set aside.
_UNREADABLE = (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError)


class Checkpoints:
    """The checkpoints of one run; `tell` gets one sentence for each that has to be skipped.

    With `read_only` nothing is created, renamed or removed: the run may still be writing there.
    """

    def __init__(
        self,
        folder: epath.PathLike,
        *,
        keep: int,
        tell: Callable[[str], None],
        read_only: bool = False,
    ):
        self._folder = epath.Path(folder).absolute()
        self._tell = tell
        self._read_only = read_only
        self._aside: set[str] = set()
        for path in [] if read_only else _unfinished(self._folder):
            tell(f"Skipping {path}: it was only half written.")
        self._manager = ocp.CheckpointManager(self._folder, options=_options(keep, read_only))

    def save(self, step: int, state: State, meta: dict[str, Any]) -> None:
        """Starts to save; returns once the state may be consumed."""
        items = {name: ocp.args.StandardSave(tree) for name, tree in _items(state).items()}
        items["meta"] = ocp.args.JsonSave(meta)
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def newest(self) -> int | None:
        """The step of the newest checkpoint, whether it can be read or not."""
        return max(self._manager.all_steps(), default=None)

    def newest_meta(self) -> tuple[int, dict[str, Any]] | None:
        """The step and metadata of the newest checkpoint whose metadata can be read."""
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                args = ocp.args.Composite(meta=ocp.args.JsonRestore())
                return step, self._manager.restore(step, args=args)["meta"]
            except _UNREADABLE as error:
                self._set_aside(step, error)
        return None

    def restore(self, like: State) -> State | None:
        """The newest state that can be read, laid out as `like` (shapes with shardings) says."""
        items = {n: ocp.args.StandardRestore(tree) for n, tree in _items(like).items()}
        for step in sorted(self._manager.all_steps(), reverse=True):
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

    def close(self) -> None:
        """Waits for the last save and lets go of the folder."""
        self._manager.wait_until_finished()
        self._manager.close()


def load_params(path: epath.PathLike) -> tuple[Any, str]:
    """The weights alone, as NumPy arrays, and where they lay; the average if one was kept.

    `path` is a workdir, its `checkpoints` folder, or one checkpoint. Raises FileNotFoundError.
    """
    folder = _one_checkpoint(epath.Path(path).absolute())
    folder /= "ema" if (folder / "ema").exists() else "params"
    reader = ocp.PyTreeCheckpointHandler()
    as_numpy = jax.tree.map(
        lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(folder).tree
    )
    params = reader.restore(folder, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return params, str(folder)


def _one_checkpoint(path: epath.Path) -> epath.Path:
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


def _options(keep: int, read_only: bool) -> ocp.CheckpointManagerOptions:
    if read_only:
        return ocp.CheckpointManagerOptions(read_only=True, save_interval_steps=0, create=False)
    return ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        cleanup_tmp_directories=True,
        enable_async_checkpointing=True,
        create=True,
    )


def _unfinished(folder: epath.Path) -> list[epath.Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if ocp.utils.is_tmp_checkpoint(p))


def like(state: State, laid: State) -> State:
    """The shapes of a state with its shardings, which `Checkpoints.restore` wants."""
    return jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, laid
    )
