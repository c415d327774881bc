"""What a person at a terminal sees: progress, colour, and one line when a command is stopped."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from jaxfdsl.config import ConfigError

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130  # exit codes
SLOW = 2.0  # seconds that a person waits without being told
EVERY = 60.0  # seconds between lines where nobody watches, as in the log of a batch job
_ENDLESS = "{desc}: {n_fmt}{unit}, {elapsed} gone"
_PLAIN = "{desc}: {n_fmt} of {total_fmt}{unit}, {elapsed} gone, {remaining} to go"


class _Log:
    """A file for tqdm that takes its bars as lines."""

    def write(self, text: str) -> None:
        if line := text.strip():
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        sys.stderr.flush()


@contextlib.contextmanager
def progress(total: int | None = None, *, desc: str, unit: str, **how: Any) -> Iterator[Any]:
    """A tqdm bar that shows after two seconds and vanishes at the end; a line a minute in a log."""
    from tqdm import tqdm

    how = {"desc": desc, "unit": f" {unit}", "smoothing": 0.05, "leave": False, **how}
    if not watched():
        log: Any = _Log()
        rare = {"delay": EVERY, "mininterval": EVERY, "maxinterval": EVERY}
        how = {"bar_format": _PLAIN if total else _ENDLESS, **rare, **how}
        with tqdm(total=total, file=log, **how) as bar:
            yield bar
        return
    done = threading.Event()

    def tick(bar: Any) -> None:
        """Goes on counting seconds while a program is compiled."""
        pause = SLOW
        while not done.wait(pause):
            pause = 1.0
            bar.refresh()

    with tqdm(total=total, delay=SLOW, dynamic_ncols=True, **how) as bar:
        ticking = threading.Thread(target=tick, args=(bar,), daemon=True)
        ticking.start()
        try:
            yield bar
        finally:
            done.set()
            ticking.join()
            bar.clear()


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Shows `what` and the seconds since, for work that cannot say how far it is."""
    with progress(desc=what, unit="", bar_format="{desc}, {elapsed}", disable=not watched()):
        yield


def tell(lines: Iterable[str], what: str) -> None:
    """Prints lines as they become known, and what is waited for until then."""
    left = iter(lines)
    while True:
        with waiting(what):
            line = next(left, None)
        if line is None:
            return
        print(line, flush=True)


def watched() -> bool:
    """Whether a person sees stderr."""
    return bool(getattr(sys.stderr, "isatty", lambda: False)())


def fail(sentence: object) -> None:
    """Prints a sentence on stderr, red on a terminal (https://no-color.org)."""
    colour = watched() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    print(f"\x1b[31m{sentence}\x1b[0m" if colour else sentence, file=sys.stderr, flush=True)


@contextlib.contextmanager
def interruptible(after: str) -> Iterator[None]:
    """Ends the program at Ctrl-C with one line, which says what is left then."""
    try:
        with _heard():
            yield
    except KeyboardInterrupt:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one needs no word
        if watched():
            sys.stderr.write("\r")  # over the terminal's ^C
        fail(f"Stopped by Ctrl-C; {after}")
        raise SystemExit(INTERRUPTED) from None


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Repeats a Ctrl-C that fell into a callback, of which Python ignores what it raises: JAX has
    one at every garbage collection, and the work would go on."""
    before = sys.unraisablehook

    def again(ignored: Any) -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            return before(ignored)
        later = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        later.daemon = True
        later.start()

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def as_typed() -> Iterator[None]:
    """Where what a user typed meets code that knows no `ConfigError`, as `generators` do: what it
    refuses by a ValueError is for the user to mend, here and nowhere else."""
    try:
        yield
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(str(error)) from error


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Ends the program with one line and its exit code for what the user or the machine did.

    Other exceptions, a ValueError that is no `ConfigError` among them, are mistakes of this program
    and keep their traceback; Python's exit code for them is `FAILED`.
    """
    try:
        yield
    except ConfigError as error:
        fail(error)
        raise SystemExit(BAD_INPUT) from error
    except BrokenPipeError:  # `jaxfdsl doctor | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(FAILED) from None
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        fail(f"{error.strerror or error}{where}")
        raise SystemExit(FAILED) from error
