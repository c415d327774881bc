"""`manifest.json`: what a folder holds, with the sha256 of every file, and how far it is."""

import dataclasses
import hashlib
import json
import os
import pathlib
import platform
from collections.abc import Callable, Sequence
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data.prepare.shards import save

NAME = "manifest.json"


@dataclasses.dataclass
class Manifest:
    """A data set that is being written; a file is entered just before it gets its name."""

    out: Any  # a pathlib.Path, or what Beam writes to, as text
    asked: dict[str, Any]  # equal for two runs exactly if the files of one continue the other's
    files: dict[str, dict[str, Any]]  # by path: sha256, bytes, images
    complete: bool = False

    def save(self) -> None:
        """Whole or not at all."""
        save(self.out / NAME, self.text())

    def text(self) -> str:
        """The file's content."""
        content = {
            **self.asked,
            "complete": self.complete,
            "versions": versions(),
            "files": dict(sorted(self.files.items())),
        }
        return json.dumps(content, indent=1) + "\n"

    def enter(self, file: str, where: pathlib.Path, images: int) -> None:
        """A finished file, which may still have a temporary name."""
        size = where.stat().st_size
        self.files[file] = {"sha256": sha256(where), "bytes": size, "images": images}

    def holds(self, file: str) -> bool:
        """Whether a file is there with its checksum."""
        path, known = self.out / file, self.files.get(file)
        return known is not None and path.is_file() and sha256(path) == known["sha256"]


def fill(
    manifest: Manifest,
    files: Sequence[tuple[str, int]],
    write: Callable[[int, pathlib.Path], None],
    whole: Callable[[pathlib.Path], bool],
    bar: Any,
) -> None:
    """Write the files, given with their images, that are not there as the manifest has them.

    `write(number, part)` writes one to a temporary name and moves the `bar`; `whole` says of one
    with the right checksum whether what it names is there too.
    """
    for number, (file, images) in enumerate(files):
        path = manifest.out / file
        if manifest.holds(file) and whole(path):
            bar.initial += images  # the rate is that of this run
            bar.update(images)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        write(number, part)
        _to_disk(part)
        manifest.enter(file, part, images)
        manifest.save()
        os.replace(part, path)


def opened(out: pathlib.Path, asked: dict[str, Any]) -> Manifest:
    """The manifest of a folder, or a new one; nothing is written.

    Raises `ConfigError` for a folder that holds another data set, or other files.
    """
    path = out / NAME
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"--out={out} holds other files: type an empty or a new folder.")
        return Manifest(out, asked, {})
    return read(out, path.read_bytes(), asked)


def read(out: Any, text: bytes, asked: dict[str, Any]) -> Manifest:
    """The manifest of `out` by its text; raises `ConfigError` for that of another data set."""
    try:
        found = json.loads(text)
        there = {name: found.get(name) for name in asked}
        files, complete = dict(found["files"]), bool(found["complete"])
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{out}/{NAME} is no manifest of ours: type --out with a new folder."
        ) from error
    other = [name for name in asked if name != "command" and there[name] != asked[name]]
    if other:
        field = other[0]
        raise ConfigError(
            f"--out={out} holds another data set ({field} {there[field]!r}, not "
            f"{asked[field]!r}): type a new folder."
        )
    return Manifest(out, asked, files, complete)


def _to_disk(path: pathlib.Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sha256(path: pathlib.Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of what had a part in the bytes."""
    import jax
    import numpy
    import PIL

    import jaxfdsl

    return {
        "jaxfdsl": jaxfdsl.__version__,
        "jax": jax.__version__,
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
        "python": platform.python_version(),
    }
