"""Files of encoded pictures: array_record, a record a picture, uncompressed, in the store's order.

Pictures are compressed already, and single records can be had at once: `grain` reads these files
too, with `grain.sources.ArrayRecordDataSource(store.files)`.
"""

import collections
import pathlib
import resource
import threading
from collections.abc import Sequence
from typing import Any

WRITING = "group_size:1,uncompressed"
_READING = "readahead_buffer_size:0,max_parallelism:0"  # for access to single records
_BUFFER = 32768  # bytes, as Grain has it
_OPEN = 1024  # shards that a process keeps open; opening one costs as much as reading 20 pictures


def writer(path: pathlib.Path) -> Any:
    """Takes records by `write(bytes)`; the file is whole after `close()`."""
    from array_record.python.array_record_module import ArrayRecordWriter

    return ArrayRecordWriter(str(path), WRITING)


def count(path: pathlib.Path) -> int:
    """Records of a file that was closed."""
    reader = _reader(str(path))
    try:
        return int(reader.num_records())
    finally:
        reader.close()


def _reader(path: str) -> Any:
    # Not every platform has array_record, and columns can be read without it.
    from array_record.python.array_record_module import ArrayRecordReader

    return ArrayRecordReader(path, _READING, file_reader_buffer_size=_BUFFER)


class _Readers:
    """The shards used last, by this process."""

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[str, tuple[Any, threading.Lock]]
        self._kept = collections.OrderedDict()
        self._lock = threading.Lock()

    def read(self, path: str, places: Sequence[int]) -> list[bytes]:
        """Records of a shard by their places in it."""
        with self._lock:
            if path not in self._kept:
                self._kept[path] = _reader(path), threading.Lock()
            self._kept.move_to_end(path)
            reader, own = self._kept[path]
            while len(self._kept) > _most():
                self._kept.popitem(last=False)
        with own:  # a reader serves one thread at a time
            return reader.read(list(places))

    def forget(self, path: str) -> None:
        """For a file that was replaced."""
        with self._lock:
            self._kept.pop(path, None)


def _most() -> int:
    """Never more than half of the files that this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN if soft == resource.RLIM_INFINITY else max(1, min(_OPEN, soft // 2))


readers = _Readers()
