"""What a set of samples is made from: a vector, and what is known of it, for each recipe.

A recipe is a class, a representation of a real image, or a vector that was made from such. Image i
of a set is of recipe i % R with seed i // R. Loading this module touches no device.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64, UInt32
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.condition import Condition
from jaxfdsl.data.shuffle import hash64
from jaxfdsl.data.store import columns

_STORE = re.compile(
    r"(?P<path>.*?)(?::(?P<column>(?:rep|cluster):[^/:@]+))?(?:@(?P<index>[^/:@]+))?"
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Recipes:
    """R recipes: `cond` is what the denoiser is told, `column` the same vectors in the column's own
    units where they are representations, `label` -1 where it is not known.

    `group` is the number of each recipe: samples of one group were made from the same.
    """

    cond: Float32[np.ndarray, "R K"] = dataclasses.field(repr=False)
    label: Int32[np.ndarray, " R"] = dataclasses.field(repr=False)
    column: Float32[np.ndarray, "R D"] | None = dataclasses.field(default=None, repr=False)
    name: str
    made_by: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    licence: str = ""

    def __len__(self) -> int:
        return len(self.cond)

    @property
    def group(self) -> Int64[np.ndarray, " R"]:
        """0, 1, 2, ..."""
        return np.arange(len(self), dtype=np.int64)

    @functools.cached_property
    def digest(self) -> str:
        """The sha256 of the vectors and labels, in hex."""
        total = hashlib.sha256()
        for one in (self.cond, self.label):
            total.update(f"{one.shape}".encode())
            total.update(np.ascontiguousarray(one).tobytes())
        return total.hexdigest()

    def of(self, images: Int64[np.ndarray, " n"]) -> tuple[np.ndarray, np.ndarray]:
        """The recipe and the seed of images of a set."""
        seed, recipe = np.divmod(np.asarray(images, np.int64), len(self))
        return recipe, seed


def noise_seeds(
    recipe: Int[np.ndarray, " n"], seed: Int[np.ndarray, " n"]
) -> UInt32[np.ndarray, "n 2"]:
    """The seeds of the noise of images, two words: of recipes with the same seed they differ, so
    that a set with one image a recipe is not all from one noise, and 64 bits do not come twice."""
    mixed = hash64(recipe, seed)
    words = mixed >> np.uint64(32), mixed & np.uint64(0xFFFFFFFF)
    return np.stack(words, axis=-1).astype(np.uint32)


def load(
    text: str, condition: Condition, config: ConfigDict | None = None, field: str = "recipes"
) -> Recipes:
    """The recipes that `text` names, for a denoiser with that condition (of a run's `config`).

        labels      each class once: sets of it are balanced (of a run with data.condition=label)
        STORE       what the run's condition reads, of each image of a store: its class, the vector
                    in the column of the run's name, its cluster
        STORE:rep:NAME, STORE:cluster:NAME   another column of the same encoder
        ...@INDEX   the images of an index list of that store
        data        the same of the run's own training data; of formulas their categories
        FILE.npz    `column` float32[R, D] (for conditions that read one), `label` int32[R],
                    `made_by` (JSON), as `jaxfdsl represent` writes them

    An empty text is `labels` where a class is all that the denoiser is told, the one recipe of an
    unconditional run, and `data` else. Raises ConfigError, one sentence that begins with `field`,
    for what does not fit.
    """
    if not text and condition.kind == "none":
        return made(condition, None, np.full(1, -1, np.int32), field, name="none")
    if text == "labels" or (not text and condition.kind == "label"):
        return _balanced(condition, field)
    if text in ("", "data"):
        if config is None:
            raise ConfigError(f"{field}='data' needs the run's config: hand it to `load`.")
        from jaxfdsl.diffusion import training

        return training.recipes_of(condition, config, field)
    if text.endswith(".npz"):
        return _of_file(text, condition, field)
    if text.startswith("tfds:"):
        raise ConfigError(
            f"{field}={text!r}: type data, which is what the run was told of its own training "
            "images, a store, or a file that jaxfdsl represent wrote."
        )
    return _of_store(text, condition, field)


def _balanced(condition: Condition, field: str) -> Recipes:
    if condition.kind != "label":
        raise ConfigError(
            f"{field}='labels' tells a class alone, and the run was trained with data.condition="
            f"{condition.kind!r}: type {field}=data, or {_other(condition)}."
        )
    labels = np.arange(condition.classes, dtype=np.int32)
    return made(condition, None, labels, field, name="labels")


def _other(condition: Condition) -> str:
    """Where recipes may be, but for the run's own data."""
    if condition.kind == "recipe":
        return "FILE.npz with `column` and `label`"
    return "a store, or a file that jaxfdsl represent wrote"


def _of_store(text: str, condition: Condition, field: str) -> Recipes:
    found = None if pathlib.Path(text).is_dir() else _STORE.fullmatch(text)
    found = found or re.fullmatch("(?P<path>.*)(?P<column>)(?P<index>)", text)
    assert found is not None
    path, asked = found["path"], found["column"] or condition.column
    index = found["index"] or ""
    if found["column"] and not condition.column:
        raise ConfigError(
            f"{field}={text!r} names a column, and the run was trained with data.condition="
            f"{condition.kind!r}: type {field}={path}."
        )
    if condition.kind == "recipe":
        raise ConfigError(
            f"{field}={text!r}: a store does not keep a formula's parameters, which data.condition="
            f"'recipe' reads: type {field}=data for the run's own categories, or "
            f"{_other(condition)}."
        )
    try:
        opened = store.open(path)
        made_by: Mapping[str, Any] = {"store": opened.layout.fingerprint}
        column = None
        if asked:
            column = np.asarray(opened.column(asked))
            said = columns.described(columns.sidecar_file(opened.path, asked)).get("made_by", {})
            made_by = {**made_by, "column": asked, "column_made_by": said}
    except ConfigError as error:
        raise ConfigError(f"{field}={text!r}: {error}") from error
    labels = np.asarray(opened.column("label"), np.int32)
    if index:
        rows = _rows(opened, index, f"{field}={text!r}")
        labels, column = labels[rows], None if column is None else column[rows]
        made_by = {**made_by, "index": index, "images": len(rows)}
    if not len(labels):
        raise ConfigError(f"{field}={text!r} holds no image yet: write some.")
    if asked:
        _check_maker(condition, made_by["column_made_by"], f"{field}={text!r}")
    return made(
        condition,
        column,
        labels,
        f"{field}={text!r}",
        name=f"{opened.path.name}{':' if asked else ''}{asked}{'@' if index else ''}{index}",
        made_by=made_by,
        class_names=opened.classes,
        licence=str(opened.card.get("licence", "")),
    )


def _rows(opened: store.Store, index: str, field: str) -> Int64[np.ndarray, " n"]:
    try:
        return np.asarray(opened.index(index))
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from error


def _of_file(text: str, condition: Condition, field: str) -> Recipes:
    path, field = pathlib.Path(text).expanduser(), f"{field}={text!r}"
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in ("column", "label", "made_by") if name in file}
        made_by = json.loads(str(held["made_by"])) if "made_by" in held else {}
        made_by = made_by if isinstance(made_by, dict) else {"by": made_by}
    except FileNotFoundError as error:
        raise ConfigError(f"{field} is not there: type the path of a recipes file.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(
            f"{field} is no recipes file, or damaged: write it by jaxfdsl represent."
        ) from error
    needed = bool(condition.column) or condition.kind == "recipe"
    column, label = held.get("column") if needed else None, held.get("label")
    if needed and column is None:
        raise ConfigError(
            f"{field} has no array `column`, which data.condition={condition.kind!r} reads: write "
            "it by jaxfdsl represent."
        )
    if column is not None and (column.ndim < 1 or column.dtype.kind not in "fiu"):
        raise ConfigError(
            f"{field} has {column.dtype}{list(column.shape)} in `column`, which is no row of "
            "numbers an image: write it by jaxfdsl represent."
        )
    if label is None:
        count = len(column) if column is not None else 0
        label = np.full(count, -1, np.int32)
    counts = {len(one) for one in (column, label) if one is not None}
    whole = label.ndim == 1 and label.dtype.kind in "iu" and (label < 2**31).all()
    if counts == {0} or len(counts) > 1 or not whole:
        raise ConfigError(
            f"{field} does not have one whole number in `label` for each row of `column`: write it "
            "again."
        )
    if needed:
        _check_maker(condition, made_by, field)
    label = label.astype(np.int32)
    return made(condition, column, label, field, name=path.name, made_by=made_by)


def made(
    condition: Condition,
    column: np.ndarray | None,
    label: Int32[np.ndarray, " R"],
    field: str,
    **said: Any,
) -> Recipes:
    """Recipes of a column's rows, float[R, D] or cluster numbers int[R], and of labels, as the
    denoiser was trained with them.

    Raises ConfigError, which begins with `field`, for those that it was not.
    """
    without = np.flatnonzero(label < 0)
    if condition.by_label and len(without):
        raise ConfigError(
            f"{field}: recipe {without[0]} has no label, as {len(without)} of {len(label)}, and "
            f"data.condition={condition.kind!r} reads it: type recipes that have labels."
        )
    try:
        cond = condition.vectors(label, column)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from error
    kept = None if column is None or column.ndim != 2 else np.asarray(column, np.float32)
    return Recipes(cond=cond.astype(np.float32), label=label, column=kept, **said)


def _check_maker(condition: Condition, made_by: Mapping[str, Any], field: str) -> None:
    """Refuses vectors of another encoder; those that do not say whose they are pass."""
    for key, what in (("weights", "encoder's weights"), ("encoder", "encoder")):
        known, found = condition.made_by.get(key), _said(made_by, key)
        if known and found and known != found:
            raise ConfigError(
                f"{field} has vectors of another {what} ({str(found)[:40]}, and the run was "
                f"trained with {str(known)[:40]}): type a column of the same encoder."
            )
    there, here = made_by.get("column_made_by"), condition.made_by
    if condition.column.startswith("cluster:") and isinstance(there, Mapping):
        differing = [key for key in ("column", "seed") if there.get(key) != here.get(key)]
        if differing:
            raise ConfigError(
                f"{field} has clusters of another clustering than the run was trained with "
                f"({differing[0]} differs), whose numbers mean nothing there: type recipes of the "
                "store that it was trained on."
            )


def _said(made_by: Any, key: str) -> Any:
    """What the description says under `key`, or that of the column that it was made from."""
    if not isinstance(made_by, Mapping):
        return None
    if isinstance(made_by.get("column"), Mapping):  # its maker may have weights of its own
        return _said(made_by["column"], key)
    if made_by.get(key):
        return made_by[key]
    inner = (_said(value, key) for value in made_by.values())
    return next((value for value in inner if value), None)
