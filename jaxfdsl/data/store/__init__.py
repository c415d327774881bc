"""The store: a folder of images with labels, groups, seeds and captions, read in any order.

`layout` says what lies where. Importing this package loads no JAX.
"""

from typing import Any

from jaxfdsl.data.store.columns import write_column, write_index
from jaxfdsl.data.store.layout import FORMAT
from jaxfdsl.data.store.reader import Store
from jaxfdsl.data.store.reader import open_store as open
from jaxfdsl.data.store.writer import Writer

__all__ = ["FORMAT", "Store", "Writer", "load", "open", "write_column", "write_index"]


def load(entry: Any, **how: Any) -> Any:
    """The source of a `kind: "store"` entry."""
    from jaxfdsl.data.store.source import load as load_source

    return load_source(entry, **how)
