"""The captions that a producer is given: a text file with one a line, or a CSV with a column."""

import csv
import dataclasses
import hashlib
import io

from etils import epath

from jaxfdsl.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Captions:
    """Captions in order, each once, and where they are from."""

    texts: tuple[str, ...]
    name: str  # the file's, without its folder
    sha256: str
    empty: int  # lines that were left out because nothing stands in them
    repeated: int  # and because their caption came before


def read(path: str, column: str = "caption") -> Captions:
    """The captions of a `.csv` file's `column`, or of another file's lines.

    White space is folded; empty lines are left out, and a caption that comes again is made once:
    ask for more images of it instead. Raises ConfigError for a file that is not there, is not
    UTF-8 (with the line's number), or has no caption.
    """
    file = epath.Path(path)
    if not file.is_file():
        raise ConfigError(f"--captions={path}: there is no such file.")
    data = file.read_bytes()
    text = _decoded(data, path)
    lines = _column(text, path, column) if path.lower().endswith(".csv") else text.splitlines()
    folded = [" ".join(line.split()) for line in lines]
    there = [line for line in folded if line]
    texts = tuple(dict.fromkeys(there))
    if not texts:
        raise ConfigError(f"--captions={path} has no caption: write one a line.")
    digest = hashlib.sha256(data).hexdigest()
    empty = len(folded) - len(there)
    return Captions(texts, file.name, digest, empty, len(there) - len(texts))


def _decoded(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"--captions={path}: line {line} is not UTF-8; type "
            f"iconv -f latin1 -t utf-8 {path}, or the encoding that it has."
        ) from None


def _column(text: str, path: str, column: str) -> list[str]:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    if column not in (rows.fieldnames or ()):
        raise ConfigError(
            f"--captions={path} has the columns {', '.join(rows.fieldnames or ())}: type "
            f"--column=NAME, one of them (not {column!r})."
        )
    try:
        return [row[column] or "" for row in rows]
    except csv.Error as error:
        raise ConfigError(f"--captions={path}: line {rows.line_num}: {error}.") from None
