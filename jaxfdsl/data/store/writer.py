"""Writing a store: rows go to an open shard, which counts from the moment it is closed."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxfdsl.config import ConfigError
from jaxfdsl.data.store import card as cards
from jaxfdsl.data.store import columns, shards
from jaxfdsl.data.store.captions import Captions
from jaxfdsl.data.store.layout import COLUMNS, ENDS, NAME, TEXT, Layout, Shard, load, to_disk
from jaxfdsl.data.store.reader import check_there, rows_digest

LOCK = "writer.lock"
SHARD_IMAGES = 1000
_OTHERS = {LOCK, f"{NAME}.part", "manifest.json", "manifest.json.part", cards.NAME}


class Writer:
    """Adds images to a store, a new one or one that is there already.

    `done` rows are safely on disk, from which whoever makes the images goes on. A shard is closed
    after `shard_images` of them: a kill loses those of the open shard alone. `card` is the data
    card (`jaxfdsl.data.store.card`); that of a store that is there must be the same. Raises
    `ConfigError` for a folder that holds other files, another card or other classes, while another
    writer has the store, and for a store whose files are not what `store.json` says.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        card: Mapping[str, Any] | None = None,
        classes: Sequence[str] = (),
        shard_images: int = SHARD_IMAGES,
    ):
        if shard_images < 1:
            raise ConfigError(f"shard_images={shard_images}: type 1 or more.")
        root = pathlib.Path(path).expanduser()
        _check_ours(root)
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(root)
        except OSError as error:
            raise ConfigError(f"{error}: type a folder that can be written.") from error
        try:
            self._layout = _begun(root, card, tuple(classes))
            self._captions = Captions(self._layout)
        except BaseException:
            self._lock.close()
            raise
        self._sources = {name: number for number, name in enumerate(self._layout.sources)}
        self._each, self._broken = shard_images, False
        self._open: Any = None
        self._rows: dict[str, list[int]] = {name: [] for name in COLUMNS}

    @property
    def done(self) -> int:
        """Rows that are safely on disk."""
        return self._layout.images

    def __len__(self) -> int:
        """All rows, those of the open shard included."""
        return self.done + len(self._rows["label"])

    def add(
        self,
        image: bytes,
        *,
        label: int = -1,
        group: int = -1,
        seed: int = -1,
        caption: str = "",
        source: str = "",
    ) -> None:
        """The next row: an encoded picture, kept as it is; -1 and "" mean that there is none.

        Rows of one `group` were made from one recipe, and `seed` says which of it. Raises
        `ConfigError` for an empty picture, a number that does not fit and a caption that is no
        text; the store is then as it was. Nothing but blanks is no caption.
        """
        self._check_usable()
        row = {"label": int(label), "group": int(group), "seed": int(seed)}
        for name, value in row.items():
            if not -1 <= value <= np.iinfo(COLUMNS[name]).max:
                raise ConfigError(f"row {len(self)}: {name}={value} does not fit {COLUMNS[name]}.")
        if not image:
            raise ConfigError(f"row {len(self)}: the picture has no bytes.")
        try:
            text = caption.encode("utf-8") if caption.strip() else b""
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"row {len(self)}: the caption {caption!r} is no UTF-8 text ({error.reason}): "
                "decode it with errors='replace'."
            ) from error
        try:
            if self._open is None:
                part = self._part()
                part.parent.mkdir(exist_ok=True)
                self._open = shards.writer(part)
            self._open.write(bytes(image))
            row["source"] = self._sources.setdefault(source, len(self._sources))
            row["caption"] = self._captions.number(text)
            for name, value in row.items():
                self._rows[name].append(value)
        except BaseException:
            self._broken = True  # a row may be there in part
            raise
        if len(self._rows["label"]) >= self._each:
            self.flush()

    def flush(self) -> None:
        """Closes the open shard: its rows are safe when this returns."""
        self._check_usable()
        if self._open is None:
            return
        try:
            self._close_shard()
        except BaseException:
            self._broken = True
            raise

    def _close_shard(self) -> None:
        layout, part, number = self._layout, self._part(), len(self._layout.shards)
        opened, self._open = self._open, None
        opened.close()
        images = shards.count(part)
        if images != len(self._rows["label"]):
            raise OSError(f"{part} has {images} of {len(self._rows['label'])} pictures")
        to_disk(part)
        size, digest = part.stat().st_size, columns.digest(part)
        os.replace(part, layout.shard_file(number))
        to_disk(part.parent)
        rows = {name: np.array(self._rows[name], kind) for name, kind in COLUMNS.items()}
        for name, values in rows.items():
            columns.append(layout.column_file(name), COLUMNS[name], layout.images, values)
        ends, text = self._captions.append()
        shard = Shard(images, size, digest, len(ends), rows_digest(rows, ends, text))
        self._layout = dataclasses.replace(
            layout,
            shards=(*layout.shards, shard),
            sources=tuple(self._sources),
            caption_bytes=self._captions.bytes,
        )
        self._layout.save()
        for waiting in self._rows.values():
            waiting.clear()

    def _check_usable(self) -> None:
        if self._broken or self._lock.closed:
            what = "writing it has failed" if self._broken else "it is closed"
            raise ConfigError(f"{self._layout.root}: {what}: open it again to go on.")

    def _part(self) -> pathlib.Path:
        file = self._layout.shard_file(len(self._layout.shards))
        return file.with_name(f"{file.name}.part")

    def close(self) -> None:
        """Closes the open shard, says that the store is finished, and lets others write."""
        if self._lock.closed:
            return
        try:
            self.flush()
            self._layout = dataclasses.replace(self._layout, closed=True)
            self._layout.save()
            cards.write(self._layout)
        finally:
            self._release()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()
            return
        try:  # rows are whole, whatever stopped their maker
            if not self._broken:
                self.flush()
        finally:
            self._release()

    def _release(self) -> None:
        if self._open is not None:
            with contextlib.suppress(Exception):
                self._open.close()
            self._open = None
            self._part().unlink(missing_ok=True)
        if not self._lock.closed:
            self._captions.close()
            self._lock.close()


def _check_ours(root: pathlib.Path) -> None:
    """Refuses what is no store and not empty."""
    if (root / NAME).is_file() or not root.exists():
        return
    if not root.is_dir() or {path.name for path in root.iterdir()} - _OTHERS:
        raise ConfigError(f"{root} holds other files: type an empty or a new folder.")


def _locked(root: pathlib.Path) -> Any:
    """A file that this process alone holds; the system lets it go when the process ends."""
    file = (root / LOCK).open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        file.close()
        raise ConfigError(
            f"{root} is being written by {holder}: wait for it, or type another folder."
        ) from None
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def _begun(root: pathlib.Path, card: Mapping[str, Any] | None, classes: tuple[str, ...]) -> Layout:
    """What is there already, checked, or nothing yet; `store.json` is there in any case."""
    if not (root / NAME).is_file():
        layout = Layout(root, cards.checked(card or {}), classes)
    else:
        layout = load(root)
        _check_same(layout, card, classes)
        check_there(layout)
        if layout.shards:  # the shard that was closed last is the one that a crash could have hurt
            path = layout.shard_file(len(layout.shards) - 1)
            if columns.digest(path) != layout.shards[-1].sha256:
                raise ConfigError(f"{path} is altered: type jaxfdsl store check {root}.")
        layout = dataclasses.replace(layout, closed=False)
    layout.save()
    for part in (root / "images").glob("*.part"):
        part.unlink()
    for file in (ENDS, TEXT):
        (root / file).parent.mkdir(exist_ok=True)
    return layout


def _check_same(layout: Layout, card: Mapping[str, Any] | None, classes: tuple[str, ...]) -> None:
    asked = layout.card if card is None else cards.checked(card)
    for name in sorted({*asked, *layout.card}):
        if asked.get(name) != layout.card.get(name):
            raise ConfigError(
                f"{layout.root} holds another data set ({name} {layout.card.get(name)!r}, not "
                f"{asked.get(name)!r}): type a new folder."
            )
    if classes and classes != layout.classes:
        raise ConfigError(f"{layout.root} has other classes: type a new folder.")


__all__ = ["SHARD_IMAGES", "Writer"]
