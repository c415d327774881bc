"""Parquet files with an image column, as the Hugging Face hub keeps them, with captions."""

import pathlib
from collections.abc import Iterator
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data.store.rows import CAPTION_NAMES, NUMBERS, Captions, Notes, Row

_AT_ONCE = 100  # rows in memory


class ParquetRows:
    """The images of Parquet files in the order of their names."""

    def __init__(self, files: list[pathlib.Path], merge: bool, notes: Notes):
        self._files, self._notes, self._merge = files, notes, merge
        self._captions = Captions(notes, merge)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels' classes, where the first file has them."""
        from jaxfdsl.data.parquet import class_names

        return tuple(class_names(_open(self._files[0]).schema_arrow.metadata, "label") or ())

    def rows(self, start: int) -> Iterator[Row]:
        """The rows from `start` on; row groups before it are not read."""
        number = 0
        for file in self._files:
            opened = _open(file)
            names = _names(opened.schema_arrow, file)
            for group in range(opened.metadata.num_row_groups):
                count = opened.metadata.row_group(group).num_rows
                if number + count <= start and not self._merge:
                    number += count
                    continue
                batches = _batches(opened, file, row_groups=[group], columns=names)
                for given in (one for batch in batches for one in _lines(batch)):
                    where = f"row {number} of {file.name} and those before it"
                    image = given.pop("image")
                    if not image:
                        raise ConfigError(f"{where} has no picture's bytes: leave the row out.")
                    row = self._captions.row(image, given, number, where)
                    if number >= start:
                        yield row
                    number += 1


def _open(file: pathlib.Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError('--parquet needs pyarrow: pip install "jaxfdsl[data]".') from error
    try:
        return pyarrow.parquet.ParquetFile(file, memory_map=True)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{file} is truncated or no Parquet file ({error}).") from error


def _batches(opened: Any, file: pathlib.Path, **part: Any) -> Iterator[Any]:
    """Of a part's rows; raises ConfigError for damaged pages, which are read only here."""
    import pyarrow

    try:
        yield from opened.iter_batches(_AT_ONCE, **part)
    except (OSError, pyarrow.ArrowException) as error:
        raise ConfigError(f"{file} is damaged ({error}): copy it again.") from error


def _names(schema: Any, file: pathlib.Path) -> list[str]:
    """The columns that a store can keep."""
    if "image" not in schema.names:
        raise ConfigError(f"{file} has no column `image`, but {schema.names}: rename its own.")
    caption = [name for name in CAPTION_NAMES if name in schema.names][:1]
    return ["image", *caption, *(name for name in (*NUMBERS, "source") if name in schema.names)]


def _lines(batch: Any) -> Iterator[dict[str, Any]]:
    """The rows of a batch; text as bytes, as Arrow does not check that it is UTF-8."""
    import pyarrow as pa

    columns = {}
    for name in batch.schema.names:
        values = batch.column(name)
        if pa.types.is_struct(values.type):
            values = values.field("bytes")
        if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
            values = values.cast(
                pa.large_binary() if values.type == pa.large_string() else pa.binary()
            )
        columns[name] = values.to_pylist()
    for place in range(batch.num_rows):
        given = {name: values[place] for name, values in columns.items()}
        if isinstance(given.get("source"), bytes):
            given["source"] = given["source"].decode("utf-8", "replace")
        yield given
