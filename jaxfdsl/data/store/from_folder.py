"""Folders of images with a CSV: StableRep's layout, or a line an image.

StableRep: `FOLDER/SEED/path` for each seed, the same path in each, and a CSV of path and caption
(https://github.com/google-research/syn-rep-learn, StableRep). A CSV with a column `file_name` has
a line an image instead, with its path in FOLDER and any of label, group, seed, caption, source.
"""

import csv
import os
import pathlib
from collections.abc import Iterator
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data.store.rows import CAPTION_NAMES, ENDINGS, Captions, Notes, Row

_PATHS = ("path", "image_path", "img_path", "image", "file", "filename", "key")
_LONGEST = 2**24  # bytes of a field: the csv module's own limit is 128 KiB


class FolderRows:
    """The images of a folder in the order of a CSV; a caption's images side by side."""

    def __init__(self, folder: pathlib.Path, file: pathlib.Path, merge: bool, notes: Notes):
        self._folder, self._file, self._notes = folder, file, notes
        self._captions = Captions(notes, merge)
        self._seeds = _seeds(folder)

    def rows(self, start: int) -> Iterator[Row]:
        """The rows from `start` on; pictures before it are not read."""
        number = 0
        for group, (where, given) in enumerate(self._lines()):
            for seed, path in self._pictures(where, given):
                # The images of a line were made from one recipe, even where its caption is empty.
                said = given if "file_name" in given else {**given, "group": group, "seed": seed}
                if number >= start:
                    yield self._captions.row(path.read_bytes(), said, group, where)
                elif self._captions.merges:
                    self._captions.row(b"", said, group, where)
                number += 1

    def _pictures(
        self, where: str, given: dict[str, Any]
    ) -> Iterator[tuple[int | None, pathlib.Path]]:
        if "file_name" in given:
            places: dict[int | None, pathlib.Path] = {None: self._folder}
            name = given["file_name"]
        else:
            places, name = dict(self._seeds), given["path"]
            if not places:
                places = {None: self._folder}
        found = False
        for seed, place in places.items():
            path = _found(place, name)
            if path is None:
                self._notes.note("images that are not there", f"{place / name} ({where})")
            else:
                found = True
                yield seed, path
        if not found:
            self._notes.note("lines of the CSV without any image", f"{name} ({where})")

    def _lines(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Where each line stands, and its fields by name, `path` or `file_name` among them."""
        csv.field_size_limit(_LONGEST)
        separator = "\t" if self._file.suffix == ".tsv" else ","
        try:
            # File names may be no UTF-8 either: surrogates keep their bytes.
            with self._file.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                lines = csv.reader(file, delimiter=separator)
                names = None
                for line in lines:
                    if names is None:
                        names = _header(line)
                        if names is not None:
                            continue
                        names = ["path", "caption"]
                    if not line:
                        continue
                    where = f"line {lines.line_num} of {self._file.name}"
                    if len(line) < len(names):
                        raise ConfigError(
                            f"{where} has {len(line)} fields and not {len(names)}: mend the file."
                        )
                    yield where, dict(zip(names, line, strict=False))
        except (OSError, csv.Error) as error:
            raise ConfigError(f"--csv={self._file}: {error}: type the path of a CSV.") from error


def _header(line: list[str]) -> list[str] | None:
    """The names of the columns, or None where the first line is an image's."""
    names = [name.strip().removeprefix("\ufeff").lower() for name in line]
    if "file_name" in names:
        return names
    paths = [name for name in _PATHS if name in names]
    if paths and any(name in names for name in CAPTION_NAMES):
        names[names.index(paths[0])] = "path"
        return names
    if len(line) < 2:
        raise ConfigError(f"the CSV begins with {line}: write a line of path,caption an image.")
    return None


def _seeds(folder: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
    """The folders whose names are numbers; without any all folders, by their names."""
    try:
        places = sorted(one for one in folder.iterdir() if one.is_dir())
    except OSError as error:
        raise ConfigError(f"{folder}: {error}: type a folder of images.") from error
    numbered = sorted((int(one.name), one) for one in places if one.name.isdecimal())
    return numbered or list(enumerate(places))


def _found(place: pathlib.Path, name: str) -> pathlib.Path | None:
    """The picture of that name, under another ending if need be: captions are often of JPEGs of
    which PNGs were generated.
    """
    path = place / name.lstrip("/")
    if os.path.isfile(path):
        return path
    others = (path.with_suffix(f".{ending}") for ending in ENDINGS)
    return next((one for one in others if os.path.isfile(one)), None)
