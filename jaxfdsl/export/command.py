"""`jaxfdsl export`: a checkpoint as a folder that other libraries load, whole or not there."""

import contextlib
import json
from typing import Any, NamedTuple

from etils import epath

import jaxfdsl
from jaxfdsl import checkpoint
from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.export import card
from jaxfdsl.export.layouts import LAYOUTS, Weights
from jaxfdsl.models.blocks import unstack_blocks
from jaxfdsl.models.heads import OURS_ALONE
from jaxfdsl.report import writers
from jaxfdsl.run import provenance


class Exported(NamedTuple):
    """What was written: a folder, its files, and the sentences to tell."""

    folder: epath.Path
    files: tuple[str, ...]
    told: tuple[str, ...]


def run(
    workdir: str, *, to: str = "timm", out: str = "", step: int = 0, licence: str = ""
) -> Exported:
    """Exports the newest checkpoint of a run, or that of `step`; its average where one is kept.

    Raises ConfigError for a target, checkpoint or folder that cannot be used.
    """
    if to not in LAYOUTS:
        raise ConfigError(f"--to={to} is unknown: type one of {', '.join(LAYOUTS)}.")
    folder = epath.Path(out or epath.Path(workdir) / "export" / to).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--out={folder} is there already: type another --out, or remove it.")
    step, meta, params = _read(epath.Path(workdir), step)
    chain = provenance.recorded(meta)
    line = provenance.statement(provenance.sources(meta["config"]), chain)
    config = config_lib.from_json(json.dumps(meta["config"]))
    if config.objective.denoise.weight:
        raise ConfigError(
            f"{workdir} is a run of a denoiser, which none of {', '.join(LAYOUTS)} holds: type the "
            f"workdir of a vision transformer's, or jaxfdsl materialise {workdir} for its images."
        )
    params = unstack_blocks(params)
    trunk = {name: value for name, value in params.items() if name not in OURS_ALONE}
    weights = Weights(config_lib.from_json(json.dumps(card.portable(config))), trunk, line)
    files = LAYOUTS[to](weights)
    files["README.md"] = card.text(
        weights,
        to=to,
        step=step,
        results=_results(epath.Path(workdir), step),
        chain=chain,
        licence=licence,
        version=jaxfdsl.__version__,
    ).encode()
    _write(folder, files)
    told = [f"Step {step} of {workdir} for {to}: {folder} ({', '.join(files)})."]
    if "patch_head" in params:
        told += ["The head of each patch, which these libraries lack, is left out."]
    if "projector" in params:
        told += ["The projector, whose work is done, is left out."]
    if "text" in params:
        told += ["The text tower and the projection to its space are left out."]
    return Exported(folder, tuple(files), (*told, f"Provenance: {line}"))


def _read(workdir: epath.Path, step: int) -> tuple[int, dict[str, Any], Any]:
    """The step, metadata and parameters of a checkpoint."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    steps = sorted(int(name) for name in names if name.isdigit())
    if not steps:
        raise ConfigError(f"{workdir} holds no checkpoint: type the workdir of a run.")
    if step and step not in steps:
        raise ConfigError(
            f"--step={step} is not in {folder}: type one of {', '.join(map(str, steps))}."
        )
    step = step or steps[-1]
    try:
        meta = checkpoint.load_meta(folder / str(step))
        return step, meta, checkpoint.load_params(folder / str(step))[0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else repr(error)
        others = ", ".join(str(other) for other in steps if other != step)
        raise ConfigError(
            f"{folder / str(step)} cannot be read ({reason}): "
            f"{f'type --step= and one of {others}' if others else 'type another workdir'}."
        ) from error


def _results(workdir: epath.Path, step: int) -> dict[str, float]:
    """The evaluation of that very step, as the run wrote it."""
    found: dict[str, Any] = {}
    for line in writers.read(workdir):
        if line.get("step") == step:
            found |= line
    summary = workdir / "summary.json"
    if summary.exists():
        with contextlib.suppress(ValueError, AttributeError):  # a file that somebody edited
            told = json.loads(summary.read_text())
            found |= told if told.get("steps") == step else {}
    return {
        name: value
        for name, value in found.items()
        if "/" in name and not name.startswith("train/") and value is not None
    }


def _write(folder: epath.Path, files: dict[str, bytes]) -> None:
    """Writes beside the place and moves it there, so that what is cut off looks like nothing."""
    partial = folder.parent / f".{folder.name}.partial"
    try:
        _move_in(folder, partial, files)
    except OSError as error:
        raise ConfigError(
            f"--out={folder} cannot be written ({error.strerror or error}): type another --out."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            if partial.exists():
                partial.rmtree()


def _move_in(folder: epath.Path, partial: epath.Path, files: dict[str, bytes]) -> None:
    if partial.exists():
        partial.rmtree()
    partial.mkdir(parents=True)
    for name, content in files.items():
        (partial / name).write_bytes(content)
    if not folder.exists():
        partial.rename(folder)
        return
    try:
        for name in files:  # an empty folder may be a mount point, which cannot be replaced
            (partial / name).rename(folder / name)
    except BaseException:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        raise
