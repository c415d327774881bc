"""WebDataset tars: members of one key are one image, with `.txt`, `.cls` and `.json` beside it."""

import json
import pathlib
import tarfile
from collections.abc import Iterator

from jaxfdsl.config import ConfigError
from jaxfdsl.data.store.rows import ENDINGS, Captions, Notes, Row

_FIELDS = ("label", "group", "seed", "caption", "text", "source")


class TarRows:
    """The images of tars in the order of their names."""

    def __init__(self, files: list[pathlib.Path], merge: bool, notes: Notes):
        self._files, self._notes = files, notes
        self._captions = Captions(notes, merge)

    def rows(self, start: int) -> Iterator[Row]:
        """The rows from `start` on."""
        number = 0
        for file in self._files:
            try:
                with tarfile.open(file) as tar:
                    for key, members in _samples(tar):
                        where = f"{key} in {file.name}"
                        image = next((end for end in members if end.lower() in ENDINGS), None)
                        if image is None:
                            self._notes.note("keys without an image", where)
                            continue
                        if number >= start or self._captions.merges:
                            row = self._row(tar, members, image, number, where)
                            if number >= start:
                                yield row
                        number += 1
            except (OSError, tarfile.TarError, EOFError) as error:
                raise ConfigError(
                    f"{file} is truncated or no tar ({error}): get it again, or remove it."
                ) from error

    def _row(
        self, tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], image: str, number: int,
        where: str,
    ) -> Row:  # fmt: skip
        def read(ending: str) -> bytes:
            opened = tar.extractfile(members[ending])
            return opened.read() if opened else b""

        given = {}
        if "json" in members:
            try:
                said = json.loads(read("json"))
                given = {name: said[name] for name in _FIELDS if name in said}
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{where}: its json cannot be read ({error}).") from error
        if "cls" in members:
            given["label"] = read("cls").decode("ascii", "replace").strip()
        if "txt" in members:
            given["caption"] = read("txt")
        return self._captions.row(read(image), given, number, where)


def _samples(tar: tarfile.TarFile) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Members that follow each other and have one key: the name up to its first dot."""
    key, members = "", dict[str, tarfile.TarInfo]()
    for member in tar:
        tar.members = []  # type: ignore[attr-defined]  # it would keep every header
        if not member.isfile():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, ending = name.partition(".")
        own = f"{folder}/{stem}" if folder else stem
        if own != key and members:
            yield key, members
            members = {}
        key = own
        members[ending] = member
    if members:
        yield key, members
