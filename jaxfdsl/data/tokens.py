"""Captions as token ids of one length: CLIP's vocabulary from a file, bytes where there is none.

A tokenizer is a small object that travels to worker processes. Ids end with `end`, the largest id
of all, at whose place a text tower reads its feature; zeros follow.
"""

import abc
import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from jaxfdsl.config import ConfigError

CONTEXT = 77  # tokens of a caption in CLIP, its start and end among them
FIELD = "objective.align.tokenizer"  # of a config: a path; of a run's data: the identity


@dataclasses.dataclass(frozen=True)
class Tokenizer(abc.ABC):
    """Captions to token ids."""

    context: int = dataclasses.field(default=CONTEXT, kw_only=True)

    @property
    @abc.abstractmethod
    def vocabulary(self) -> int:
        """How many ids there are."""

    @property
    @abc.abstractmethod
    def identity(self) -> str:
        """What decides the ids: the content of a file, wherever it lies."""

    @abc.abstractmethod
    def __call__(self, captions: Sequence[str]) -> Int32[np.ndarray, "n L"]:
        """The ids of each caption: start, text, end, zeros. What is too long is cut, and still
        ends with `end`."""


@dataclasses.dataclass(frozen=True)
class Bytes(Tokenizer):
    """A caption's UTF-8 bytes: 256 ids, a start (256) and an end (257). Needs no file."""

    @property
    def vocabulary(self) -> int:
        return 258

    @property
    def identity(self) -> str:
        return f"bytes-{self.context}"

    def __call__(self, captions: Sequence[str]) -> Int32[np.ndarray, "n L"]:
        ids = [list(caption.encode("utf-8", "replace")) for caption in captions]
        return _rows(ids, 256, 257, self.context)


@dataclasses.dataclass(frozen=True)
class Vocabulary(Tokenizer):
    """The vocabulary of a `tokenizer.json`, CLIP's or another that has its start and end."""

    path: str
    start: str = "<|startoftext|>"
    end: str = "<|endoftext|>"

    @property
    def vocabulary(self) -> int:
        return int(self._loaded.get_vocab_size())

    @property
    def identity(self) -> str:
        digest = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        return f"{digest}-{self.context}"

    def __call__(self, captions: Sequence[str]) -> Int32[np.ndarray, "n L"]:
        ids = self._loaded.encode_batch(list(captions), add_special_tokens=False)
        start, end = (self._loaded.token_to_id(token) for token in (self.start, self.end))
        return _rows([encoding.ids for encoding in ids], start, end, self.context)

    @property
    def _loaded(self) -> Any:
        return _load(self.path, self.start, self.end)


def build(path: str, context: int, field: str) -> Tokenizer:
    """The tokenizer of the file at `path`, that of bytes for an empty path.

    Raises ConfigError, which begins with `field`, for a file that is not there or no vocabulary.
    """
    if context < 3:
        raise ConfigError(
            f"model.text.context={context} has no room between a caption's start and its end: type "
            "--config.model.text.context=77."
        )
    if not path:
        return Bytes(context=context)
    tokenizer = Vocabulary(path, context=context)
    try:
        _load(path, tokenizer.start, tokenizer.end)
    except ImportError:
        raise ConfigError(
            f'{field}={path} is read by `tokenizers`: type pip install "jaxfdsl[text]".'
        ) from None
    except Exception as error:  # the library raises bare Exceptions
        raise ConfigError(
            f"{field}={path} cannot be read as a vocabulary ({error}): type the path of CLIP's "
            "tokenizer.json, or '' for bytes."
        ) from error
    return tokenizer


@functools.lru_cache(maxsize=4)
def _load(path: str, start: str, end: str) -> Any:
    import tokenizers

    if not Path(path).is_file():
        raise FileNotFoundError("there is no such file")
    loaded = tokenizers.Tokenizer.from_file(path)
    first, last = loaded.token_to_id(start), loaded.token_to_id(end)
    if first is None or last is None:
        raise ValueError(f"it has no {start} or no {end}")
    if last != loaded.get_vocab_size() - 1:
        raise ValueError(f"{end} is not its last id")
    return loaded


def _rows(
    captions: Sequence[Sequence[int]], start: int, end: int, context: int
) -> Int32[np.ndarray, "n {context}"]:
    rows = np.zeros((len(captions), context), np.int32)
    for row, ids in zip(rows, captions, strict=True):
        kept = [start, *ids[: context - 2], end]
        row[: len(kept)] = kept
    return rows
