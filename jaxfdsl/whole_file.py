"""A file that is there whole or not at all, whatever stops its writing."""

import contextlib
from collections.abc import Iterator
from typing import IO, Any

from etils import epath

from jaxfdsl.config import ConfigError


@contextlib.contextmanager
def written(path: epath.PathLike, option: str = "--out") -> Iterator[IO[Any]]:
    """A binary file beside `path` that takes its name at the end, and is removed if stopped.

    Missing folders are made. Raises ConfigError, naming `option`, where no file can be written:
    enter it before the work, so that this is known before the work is done.
    """
    path = epath.Path(path).expanduser()
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        beside = path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        file = beside.open("wb")
    except OSError as error:
        raise ConfigError(
            f"{option}={path} cannot be written ({error.strerror or error}): type another {option}."
        ) from error
    try:
        with file:
            yield file
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
