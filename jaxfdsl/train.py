"""The training run, from top to bottom.

Loop order: evaluate -> save -> next batch -> step -> log the previous step. A state is saved before
its next batch is asked for, so the position in the data is the step itself; metrics are fetched one
step late, so the device never waits for the host.
"""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from jaxfdsl import checkpoint, compile_cache, distributed, experiment, sharding
from jaxfdsl import config as config_lib
from jaxfdsl import state as state_lib
from jaxfdsl.checkpoint import Checkpoints
from jaxfdsl.config import ConfigError
from jaxfdsl.distributed.launchers import Given
from jaxfdsl.experiment import Experiment
from jaxfdsl.report import profile, run_file, weights_and_biases, writers
from jaxfdsl.run import keeping, meter, resume
from jaxfdsl.run.keeping import Keeper
from jaxfdsl.run.logbook import Logbook, say
from jaxfdsl.state import State

_WORTH_TIMING = 100  # steps; a shorter run is over before the share of its drawing is of use


def run(config: ConfigDict, workdir: str, given: Given | None = None) -> dict[str, Any]:
    """Trains what `config` describes in `workdir`, or continues what was begun there.

    `given` tells a process of several where they meet. Returns the summary that it also writes:
    finished, steps, images, parameters and the last evaluation. Raises ConfigError for whatever the
    user can put right.
    """
    distributed.initialize(given)
    config_lib.validate(config, num_devices=jax.device_count(), num_processes=jax.process_count())
    distributed.agree(f"{workdir}\n{config_lib.to_json(config)}")
    if jax.process_index() == 0:
        weights_and_biases.check(config)
    compile_cache.enable()
    folder = epath.Path(workdir)
    parts = experiment.build(config)
    profile.check(config, parts.total_steps)
    with keeping.opened(config, folder, say) as saved:
        found = saved.newest_meta()
        if found:
            resume.check(found, parts, folder)
            summary = resume.finished(folder, parts)
            if summary and found[0] == parts.total_steps:
                say(f"Already finished: {_headline(summary)}. {_results(folder)}")
                return summary
        _tell_of_warmup(parts)
        state, start = _first_state(parts, saved, folder)
        distributed.agree(
            f"{start}",
            "starts from another checkpoint than process 0: see that every process can read all of "
            f"{folder / 'checkpoints'}, and type the same command again.",
        )
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            writers.write_whole(folder / "config.json", resume.config_file(parts.config))
            run_file.write(parts, folder, start)
            if start == 0:
                _gallery(parts, folder)
        due = bool(found and found[0] == start and found[1].get("evaluation_due"))
        state, step, results = _train(parts, state, start, saved, folder, due=due)
        saved.check(wait=True)  # before it is said that all is saved
        return _report(parts, folder, saved, state, step, results)


def _first_state(parts: Experiment, saved: Checkpoints, folder: epath.Path) -> tuple[State, int]:
    """The newest whole checkpoint, or a new state where there never was one; and its step."""
    state = saved.restore(checkpoint.like(parts.state, parts.laid))
    if state is not None:
        start = int(state["step"])
        say(f"Continuing {folder} at step {start} of {parts.total_steps}.")
        return state, start
    lost = saved.unreadable()
    if lost:
        raise ConfigError(
            f"{folder / 'checkpoints'} holds no checkpoint that can be read, only "
            f"{', '.join(lost)}: restore one of them under its step's number, or type another "
            "--workdir to start afresh."
        )
    state, line = resume.initial_state(parts)
    if line:
        say(line)
    return state, 0


def _tell_of_warmup(parts: Experiment) -> None:
    steps = config_lib.warmup_steps(parts.config, parts.batches.num_examples)
    if steps >= parts.total_steps:
        say(
            f"The learning rate rises for {steps} steps and the run has {parts.total_steps}: "
            "it ends within its warm-up."
        )


def _train(
    parts: Experiment,
    state: State,
    start: int,
    saved: Checkpoints,
    folder: epath.Path,
    *,
    due: bool,
) -> tuple[State, int, dict[str, float]]:
    """The loop; `due`: the first state was saved in haste and is still to be evaluated. Returns the
    last state, its step, and the last evaluation's values."""
    config, total = parts.config, parts.total_steps
    key = jax.random.key(config.seed)
    stream = parts.batches.iterator(start, total, config.data.num_workers, config.data.prefetch)
    results: dict[str, float] = {}
    with (
        distributed.preemption() as preempted,
        contextlib.closing(_logbook(parts, folder, start)) as book,
        contextlib.closing(profile.Window(config, folder, say)) as window,
    ):
        keeper = Keeper(parts, saved, book.settle)
        show = _samples(parts, folder)
        for step in range(start, total + 1):
            last, stop, new = step == total, preempted(step), step > start
            evaluation_due = (new or due) and _due(step, config.eval_every)
            evaluating = last or (evaluation_due and not stop)
            saving = new and (last or stop or _due(step, config.checkpoint_every))
            saved.check()
            if evaluating or saving:
                book.settle()
            if evaluating:
                with book.meter.paused("evaluation"), keeper.rescue(step, state):
                    results = evaluate(parts, state)
                    show(state_lib.evaluated(state), step)
                    if new or due:  # else a run that was cut off after its last save wrote it
                        book.write(step, results)
                        saving |= saved.improves(results) and new
            if saving:
                with book.meter.paused("checkpoint"):
                    owed = evaluation_due and not evaluating
                    keeper.save(step, state, results if evaluating else {}, due=owed)
            if last or stop:
                break

            with book.meter.waiting(), keeper.rescue(step, state):
                _, rows = next(stream)
            rows = sharding.put_rows(parts.mesh, rows)
            window.before(step, state)
            state, metrics = parts.train_step(state, key, rows, parts.tables)
            if window.ends(step):
                with book.meter.paused("profile"):
                    window.end(metrics)
            if step == start and config.report.drawing and total - start >= _WORTH_TIMING:
                book.meter.draw_seconds = meter.drawing_seconds(parts, key, step, rows)
            book.step_done(step + 1, metrics)
    return state, step, results


def _logbook(parts: Experiment, folder: epath.Path, start: int) -> Logbook:
    return Logbook(
        parts.config,
        folder,
        start=start,
        total=parts.total_steps,
        rows=parts.batches.rows,
        mfu_at_one=meter.mfu_at_one(parts),
    )


def _samples(parts: Experiment, folder: epath.Path) -> Callable[[Any, int], None]:
    """Draws what a denoiser of these parameters makes; nothing where there is none."""
    if not (parts.config.report.gallery and parts.batches.condition):
        return lambda params, step: None
    from jaxfdsl.report import denoised

    sheet = denoised.Samples(parts)
    return lambda params, step: sheet.write(folder / "samples.png", params, step)


def evaluate(parts: Experiment, state: State) -> dict[str, float]:
    """Every evaluation of the config on a state, as {"<evaluation>/<metric>": value}."""
    params = state_lib.evaluated(state)
    return {
        f"{name}/{metric}": float(value)
        for name, evaluator in parts.evaluators.items()
        for metric, value in evaluator(params)
    }


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _report(
    parts: Experiment,
    folder: epath.Path,
    saved: Checkpoints,
    state: State,
    step: int,
    results: dict[str, float],
) -> dict[str, Any]:
    """Writes what a finished run leaves behind, and says where it is."""
    summary = {
        "finished": step == parts.total_steps,
        "steps": step,
        "images": step * parts.config.batch_size,
        "parameters": sum(x.size for x in jax.tree.leaves(state["params"])),
        **results,
    }
    if not summary["finished"]:
        kept = ", saved" if step else ""
        say(f"Stopped at step {step} of {parts.total_steps}{kept}; the same command continues.")
        return summary
    if jax.process_index() == 0:
        from jaxfdsl.report import curves

        curves.write(folder)
        writers.write_whole(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    say(f"Finished: {_headline(summary)}. {_results(folder)}{_best(parts.config, folder, saved)}")
    return summary


def _gallery(parts: Experiment, folder: epath.Path) -> None:
    if parts.config.report.gallery:
        from jaxfdsl.report import gallery

        source = next(iter(parts.batches.sources.values()))
        gallery.write(folder / "gallery.png", source)


def _headline(summary: dict[str, Any]) -> str:
    scores = [f"{k} {v:.4f}" for k, v in summary.items() if k.endswith(("/top1", "/miou"))]
    return ", ".join([f"{summary['steps']} steps, {summary['images']} images", *scores])


def _results(folder: epath.Path) -> str:
    present = [p.name for p in sorted(folder.iterdir()) if not p.name.startswith("events.")]
    return f"Results are in {folder}: {', '.join(present)}."


def _best(config: ConfigDict, folder: epath.Path, saved: Checkpoints) -> str:
    if not saved.best:
        return ""
    step, value = saved.best
    return (
        f" The best {config.best_metric} was {value:.4f} at step {step}: "
        f"--config.init_from={folder / checkpoint.BEST} starts from there."
    )
