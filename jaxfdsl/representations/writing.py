"""The column `rep:NAME` of a set of pictures: what an encoder puts out of each, once."""

import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int64

from jaxfdsl import sharding
from jaxfdsl.config import ConfigError
from jaxfdsl.data.decode import View, canvas, centre_crop, decode_all
from jaxfdsl.data.records import Records
from jaxfdsl.data.store import columns, parts, write_index
from jaxfdsl.data.store.source import StoreRecords
from jaxfdsl.representations.encoders import Encoder

PART = 2048  # images of a part, which a kill loses at most
UNREADABLE = "unreadable"  # in `made_by`: rows of NaN, whose pictures cannot be decoded
PREPARATION = "the central square, bicubic"
# What decides no value.
_TOLD = (UNREADABLE, "inertia", "rounds", "settled", "from", "licence", "versions")
_READ = ("images", "column")  # what a column is of: where that changed, it is written again

Rows = Int64[np.ndarray, " n"]


@dataclasses.dataclass(frozen=True)
class How:
    """How a column is written, besides by what."""

    batch: int = 256  # images on the devices at once
    flip: bool = False  # the mean of a picture's and its mirror image's vectors
    max_corrupt: float = 0.0  # share of the pictures that may be broken
    replace: bool = False  # a column that is there
    canvas: int = 0  # pixels to which pictures are brought before; 0: they are cut at once


def write(
    records: Records,
    name: str,
    encoder: Encoder,
    how: How = How(),
    tell: Callable[[str], None] = print,
) -> None:
    """Write the column `name` ("rep:..."), float32, a vector of D numbers an image.

    Parts lie beside it until all are there; the same call goes on with them. What is there of the
    same images and encoder stays. Images are centre-cropped as `data.decode.View` says. A picture
    that cannot be decoded gets NaN, which every reader refuses: at most `max_corrupt` of them may
    be so, `made_by` lists their rows, and of a store the index `<column>-readable` the others.

    Raises ConfigError, which names the image, past that share and for a vector of another picture
    that is not finite; for a column of another encoder, unless it shall be replaced; and where no
    column can be written.
    """
    file = place(records, name)
    made_by = {
        **encoder.made_by,
        "encoder": encoder.name,
        "image_size": encoder.image_size,
        "preparation": PREPARATION,
        "flip": how.flip,
        "images": records.pictures,
    }
    if is_there(file, name, made_by, how.replace):
        tell(f"{name} is there already, of these images and this encoder: {file}")
        return
    broken = Unreadable(records, how.max_corrupt, tell)
    with parts.gathered(
        file,
        made_by,
        len(records),
        Vectors(records, encoder, how),
        each=PART,
        desc=name,
        check=broken.see,
    ) as values:
        columns.write_sidecar(file, values, {**made_by, **broken.told})
    tell(f"{name}: {len(records):,} vectors of {encoder.width} numbers by {encoder.name}: {file}")
    broken.list_others(name)


def place(records: Records, name: str) -> pathlib.Path:
    """The file of a sidecar column; raises ConfigError where there can be none."""
    file = records.sidecar(name)
    if file is None:
        raise ConfigError(
            f"{records.where(0)} is of a kind that has no columns: type a store or a local TFDS "
            "folder, or import the pictures into a store (jaxfdsl store import)."
        )
    return file


def is_there(file: pathlib.Path, name: str, made_by: Mapping[str, Any], replace: bool) -> bool:
    """Whether a column needs no writing; raises ConfigError for one of another make that would be
    lost."""
    parts.clear(file)
    there = parts.made_by_of(file)
    if there is None or replace:
        return False
    asked = json.loads(json.dumps(made_by))
    keys = dict.fromkeys(key for key in (*asked, *there) if key not in _TOLD)
    differing = [key for key in keys if there.get(key) != asked.get(key)]
    if not differing:
        return True
    if set(differing) <= set(_READ):
        return False
    was = there.get("encoder") or there.get("of") or json.dumps(there)
    say = [
        f"{key} {_short(there.get(key))}, not {_short(asked.get(key))}"
        for key in differing
        if key not in _READ
    ]
    raise ConfigError(
        f"{name} is there by {was} ({'; '.join(say[:3])}): type another --name, or --replace to "
        f"lose {file}."
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:8]}..."


class Unreadable:
    """Rows of NaN, which stand for pictures that cannot be decoded."""

    def __init__(self, records: Records, limit: float, tell: Callable[[str], None]):
        self._records, self._limit, self._tell = records, limit, tell
        self.rows: list[int] = []

    @property
    def told(self) -> dict[str, Any]:
        """For a column's card."""
        return {UNREADABLE: self.rows} if self.rows else {}

    def list_others(self, name: str) -> None:
        """Of a store the index `<column>-readable`, where there are unreadable ones."""
        if not self.rows or not isinstance(self._records, StoreRecords):
            return
        index = f"{name.partition(':')[2]}-readable"
        rows = np.setdiff1d(np.arange(len(self._records)), self.rows)
        write_index(self._records.path, index, rows, {"by": "embed", "of": name})
        self._tell(f"the index {index!r} has the {len(rows):,} images that can be decoded")

    def see(self, rows: Rows, values: Float32[np.ndarray, "n D"]) -> None:
        """Names those of a part; raises ConfigError past the share of all images."""
        for row in rows[np.isnan(values[:, 0])].tolist():
            self.rows.append(row)
            where, count, of = self._records.where(row), len(self.rows), len(self._records)
            if count > self._limit * of:
                share = min(0.99, 2 * count / of)
                raise ConfigError(
                    f"{where} cannot be decoded, as {count} so far of {of}, more than "
                    f"--max_corrupt={self._limit:g}: mend it, or type --max_corrupt="
                    f"{share:.2g} for a column without a vector of such images."
                )
            self._tell(f"{where} cannot be decoded: it gets no vector ({count} so far)")


class Vectors:
    """The vectors of rows: pictures are decoded by threads while the devices, all of this machine,
    work on those before."""

    def __init__(self, records: Records, encoder: Encoder, how: How):
        self._records, self._encoder = records, encoder
        self._mesh = sharding.make_mesh({"data": -1, "fsdp": 1, "tensor": 1}, jax.local_devices())
        cut = sharding.batch_parts(self._mesh)
        self._size = -(-min(how.batch, PART, len(records)) // cut) * cut
        self._view, self._canvas = View(encoder.image_size), how.canvas
        self._params = jax.device_put(encoder.params, sharding.replicated(self._mesh))

        @functools.partial(jax.jit, out_shardings=sharding.replicated(self._mesh))
        def encode(params: Any, images: jax.Array) -> jax.Array:
            images = jnp.asarray(images, jnp.float32)
            found = encoder.apply(params, images)
            if how.flip:
                found = (found + encoder.apply(params, images[:, :, ::-1])) / 2
            return jnp.asarray(found, jnp.float32)

        self._encode = encode

    def __call__(self, rows: Rows, done: Callable[[int], Any]) -> Float32[np.ndarray, "n D"]:
        """NaN where a picture cannot be decoded; raises ConfigError for another that is not
        finite."""
        batches = [rows[first : first + self._size] for first in range(0, len(rows), self._size)]
        found: list[np.ndarray] = []
        before: tuple[Rows, np.ndarray, Any] | None = None
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._load, batches[0])
            for own, following in itertools.zip_longest(batches, batches[1:]):
                images, valid = ahead.result()
                if following is not None:
                    ahead = reader.submit(self._load, following)
                made = self._encode(self._params, sharding.put_rows(self._mesh, images))
                if before:  # fetched one batch late, so that the devices never wait
                    found.append(self._checked(*before))
                    done(len(before[0]))
                before = own, valid, made
        assert before
        done(len(before[0]))
        return np.concatenate([*found, self._checked(*before)])

    def _load(self, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
        encoded, _ = self._records.read(rows)
        view, short = self._view, self._size - len(rows)
        side = self._canvas
        if side:
            images, valid = decode_all(encoded, lambda _, data: canvas(data, side), side)
        else:
            images, valid = decode_all(encoded, lambda _, data: centre_crop(data, view), view.size)
        return np.pad(images, ((0, short), (0, 0), (0, 0), (0, 0))), valid

    def _checked(self, rows: Rows, valid: np.ndarray, made: Any) -> np.ndarray:
        values = np.asarray(made)[: len(rows)]
        odd = rows[(valid > 0) & ~np.isfinite(values).all(axis=1)]
        if len(odd):
            raise ConfigError(
                f"the encoder {self._encoder.name} gives {self._records.where(int(odd[0]))} a "
                "vector that is not finite: type other weights, or leave the image out of the set."
            )
        return np.where(valid[:, None] > 0, values, np.float32(np.nan))
