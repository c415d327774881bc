"""What a run does about a loss, a gradient or a state that is not finite.

Step n takes state n and the batch of step n (`Batches.rows`, `jaxfdsl replay --step n`) to state
n + 1, under which number its metrics are written.
"""

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from jaxfdsl.config import ConfigError
from jaxfdsl.state import State

IN_A_ROW = 100  # so many steps without an update end a run that skips them


class Watch:
    """Looks at the metrics of every step; `rows(n)` are this process's rows of a batch."""

    def __init__(
        self,
        config: Any,
        workdir: epath.Path,
        rows: Callable[[int], Mapping[str, Mapping[str, np.ndarray]]],
        tell: Callable[[str], None],
    ):
        self._config, self._workdir, self._rows, self._tell = config, workdir, rows, tell
        self._skipped = self._in_a_row = 0

    def see(self, state: int, values: Mapping[str, Any]) -> None:
        """Takes the metrics of the step that made the state of that number.

        Raises ConfigError where the run has to stop; nothing may be saved then.
        """
        if np.isfinite(values["loss"]) and np.isfinite(values["grad_norm"]):
            self._in_a_row = 0
            return
        step = state - 1
        what = f"loss={values['loss']} and grad_norm={values['grad_norm']} in the step from {step}"
        what = f"{what} to {state}"
        if self._config.nonfinite != "skip":
            raise self._refusal(what, step, "")
        self._skipped, self._in_a_row = self._skipped + 1, self._in_a_row + 1
        if self._in_a_row >= IN_A_ROW:
            raise self._refusal(what, step, f", after {IN_A_ROW} such steps in a row")
        if self._skipped == 1:
            path = self._write_rows(step)
            self._tell(
                f"{what}: its update is left out, as nonfinite='skip' says; its rows are in {path}."
            )

    def _refusal(self, what: str, step: int, more: str) -> ConfigError:
        rate = self._config.optimizer.learning_rate
        skip = "" if more else "type --config.nonfinite=skip to go on without such steps, or "
        return ConfigError(
            f"{what}{more}: {skip}start afresh in another --workdir with a lower "
            f"--config.optimizer.learning_rate={rate:g} or with --config.optimizer.clip_norm=1; "
            f"the rows of its batch are in {self._write_rows(step)}, and `jaxfdsl replay "
            f"{self._workdir} --step {step}` draws them."
        )

    def _write_rows(self, step: int) -> epath.Path:
        """What the batch of a step was made of, as JSON: {source: {field: one value a row}}."""
        process, several = jax.process_index(), jax.process_count() > 1
        suffix = f"-process{process}" if several else ""
        path = self._workdir / f"nonfinite-step{step}{suffix}.json"
        rows = {
            source: {key: np.asarray(v).tolist() for key, v in fields.items() if np.ndim(v) <= 2}
            for source, fields in self._rows(step).items()
        }
        path.write_text(json.dumps({"step": step, "process": process, "rows": rows}) + "\n")
        return path


def refuse(state: State, step: int) -> None:
    """Raises ConfigError for a state that holds a value which is not finite.

    A finite loss and gradient can still make one: an update may overflow.
    """
    if not bool(_finite()(state)):
        raise ConfigError(
            f"The state of step {step} holds values that are not finite and was not saved: start "
            "afresh in another --workdir with a lower --config.optimizer.learning_rate or with "
            "--config.optimizer.clip_norm=1."
        )


def _all_finite(state: State) -> jax.Array:
    leaves = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))


@functools.cache
def _finite() -> Callable[[State], jax.Array]:
    # On a CPU, optimising this program would take longer than running it.
    once = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
    return jax.jit(_all_finite, compiler_options=once)
