"""What a run saves, when it must not, and what it says when the disk is full."""

import contextlib
from collections.abc import Callable, Iterator, Mapping

import jax
from etils import epath
from ml_collections import ConfigDict

from jaxfdsl.checkpoint import FULL, Checkpoints
from jaxfdsl.config import ConfigError
from jaxfdsl.experiment import Experiment
from jaxfdsl.run import nonfinite, provenance, resume
from jaxfdsl.state import State


class Keeper:
    """Saves the states of a run, each once and none that is not finite.

    `settle` waits for the metrics of the last step, and raises where they are not finite.
    """

    def __init__(self, parts: Experiment, saved: Checkpoints, settle: Callable[[], None]):
        self._saved, self._settle = saved, settle
        found = saved.newest_meta()  # of a run that goes on: its ancestors may be gone by now
        chain = provenance.recorded(found[1]) if found else provenance.of_config(parts.config)
        self._meta = {**resume.meta(parts), "ancestors": chain}

    def save(
        self, step: int, state: State, results: Mapping[str, float] = {}, *, due: bool = False
    ) -> None:
        """Starts to save; `results` is the evaluation of this state, if there was one, and `due`
        says that one is still to be made."""
        self._settle()
        nonfinite.refuse(state, step)
        self._saved.save(step, state, {**self._meta, "evaluation_due": due}, results)

    @contextlib.contextmanager
    def rescue(self, step: int, state: State) -> Iterator[None]:
        """Saves the state when what runs inside refuses data that was not looked at before."""
        try:
            yield
        except ConfigError:
            # Of several processes, the others may not have seen it, and would not save.
            if step > 0 and jax.process_count() == 1 and self._saved.newest() != step:
                self.save(step, state)
            raise


@contextlib.contextmanager
def opened(
    config: ConfigDict, workdir: epath.Path, tell: Callable[[str], None]
) -> Iterator[Checkpoints]:
    """The checkpoints of a run, until the last one is written.

    Raises ConfigError where the disk is full, whatever was being written. What ended the run is
    raised rather than that its last save failed as well, which is told.
    """
    saved = Checkpoints(
        workdir / "checkpoints",
        keep=config.keep_checkpoints,
        tell=tell,
        best_metric=config.best_metric,
    )
    try:
        with _room(workdir):
            yield saved
    except BaseException:
        try:
            saved.close()
        except ConfigError as error:
            tell(str(error))
        raise
    saved.close()


@contextlib.contextmanager
def _room(workdir: epath.Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise ConfigError(
            f"{error.filename or workdir} could not be written ({error.strerror}): free some "
            "space there, and type the same command to continue from the last whole checkpoint."
        ) from error
