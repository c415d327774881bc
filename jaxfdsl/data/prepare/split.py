"""What is written: the images of a split, each read, checked and described by itself."""

import abc
import dataclasses
import hashlib
import io
from collections.abc import Sequence
from typing import Any

from jaxtyping import Int64
from numpy import ndarray
from PIL import Image

JPEG_QUALITY = 100  # of images that are re-encoded, with 4:4:4 colour; TFDS takes 100 too


class BrokenImage(Exception):
    """An image that cannot be decoded; the message says what the decoder said."""


class Split(abc.ABC):
    """The images of one split in the order of their source.

    `keys[i]` is what TFDS shuffles by (unique; it is named if image i is broken), `sizes[i]` its
    bytes, near enough to choose the number of files. `stamp` changes when the source does.
    """

    name: str
    keys: Sequence[int | str]
    sizes: Int64[ndarray, " n"]
    stamp: str
    num_shards: int = 0  # 0: as many as TFDS takes for the sum of `sizes`

    @abc.abstractmethod
    def example(self, place: int) -> tuple[dict[str, Any], bool]:
        """The features of image `place`, encoded, and whether its bytes had to be changed.

        Called from several threads. Raises `BrokenImage`.
        """

    @property
    def fingerprint(self) -> str:
        """Equal for two runs exactly if the files of one continue those of the other."""
        digest = hashlib.sha256(f"{self.name} {self.stamp} {self.num_shards}".encode())
        digest.update("\n".join(map(str, self.keys)).encode())
        digest.update(self.sizes.tobytes())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class DataSet:
    """A data set by its TFDS name and version, with its features and the splits to write."""

    name: str
    version: str
    features: dict[str, Any]  # of tfds.features; `image` and `label` among them
    description: str
    homepage: str
    splits: Sequence[Split]


def check(data: bytes) -> None:
    """Decode an image as a reader would; raises `BrokenImage`."""
    with _opened(data) as image:
        _load(image)


def as_jpeg(data: bytes) -> tuple[bytes, bool]:
    """A decodable RGB or grey JPEG, and whether it was re-encoded; raises `BrokenImage`.

    ImageNet has a PNG and 22 CMYK files among its JPEGs. TFDS knows them by name; here the
    header tells. All others stay byte for byte.
    """
    with _opened(data) as image:
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            # One eighth of the size and no colour: every bit is still read, which is where
            # broken files show, and 40 % of the time is saved.
            image.draft("L", (1, 1))
            _load(image)
            return data, False
        _load(image)
        file = io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue(), True


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:
        raise BrokenImage(
            "no image that Pillow knows" if isinstance(error, OSError) else str(error)
        ) from error


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except Exception as error:  # Pillow's plugins raise a dozen kinds for broken files
        raise BrokenImage(str(error)) from error
