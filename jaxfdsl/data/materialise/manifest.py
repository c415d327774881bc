"""`manifest.json`: what a folder holds, with the sha256 of every file, and how far it is."""

import dataclasses
import hashlib
import json
import pathlib
import platform
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data.prepare.shards import save

NAME = "manifest.json"


@dataclasses.dataclass
class Manifest:
    """A data set that is being written; a file is entered just before it gets its name."""

    out: pathlib.Path
    asked: dict[str, Any]  # equal for two runs exactly if the files of one continue the other's
    files: dict[str, dict[str, Any]]  # by path: sha256, bytes, images
    complete: bool = False

    def save(self) -> None:
        """Whole or not at all."""
        text = {
            **self.asked,
            "complete": self.complete,
            "versions": versions(),
            "files": dict(sorted(self.files.items())),
        }
        save(self.out / NAME, json.dumps(text, indent=1) + "\n")

    def enter(self, file: str, where: pathlib.Path, images: int) -> None:
        """A finished file, which may still have a temporary name."""
        size = where.stat().st_size
        self.files[file] = {"sha256": sha256(where), "bytes": size, "images": images}

    def holds(self, file: str) -> bool:
        """Whether a file is there with its checksum."""
        path, known = self.out / file, self.files.get(file)
        return known is not None and path.is_file() and sha256(path) == known["sha256"]


def opened(out: pathlib.Path, asked: dict[str, Any]) -> Manifest:
    """The manifest of a folder, or a new one; nothing is written.

    Raises `ConfigError` for a folder that holds another data set, or other files.
    """
    path = out / NAME
    if not path.is_file():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise ConfigError(f"--out={out} holds other files: type an empty or a new folder.")
        return Manifest(out, asked, {})
    try:
        found = json.loads(path.read_text())
        there = {name: found.get(name) for name in asked}
        files, complete = dict(found["files"]), bool(found["complete"])
    except (ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path} is no manifest of ours: type --out with a new folder."
        ) from error
    other = [name for name in asked if name != "command" and there[name] != asked[name]]
    if other:
        field = other[0]
        raise ConfigError(
            f"--out={out} holds another data set ({field} {there[field]!r}, not "
            f"{asked[field]!r}): type a new folder."
        )
    return Manifest(out, asked, files, complete)


def sha256(path: pathlib.Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Of what had a part in the bytes."""
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
