"""One encoded picture: RGB pixels by the fastest decoder installed, and antialiased resizing.

simplejpeg decodes JPEGs to the same bytes as Pillow in two thirds of the time; cykooz.resizer has
Pillow's filters in a fifth of the time, with another order of its two passes. Both are optional
(`pip install "jaxfdsl[data]"`).
"""

import contextlib
import functools
import io
import math
import threading
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None
try:
    import cykooz_resizer
except ImportError:
    cykooz_resizer = None

Pixels = UInt8[np.ndarray, "H W 3"]
Span = tuple[float, float, float, float]  # left, top, right, bottom in pixels
RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_FILTERS = {"bicubic": "catmull_rom", "bilinear": "bilinear"}  # Pillow's bicubic has a = -1/2
_JPEG = b"\xff\xd8"
_own = threading.local()  # a resizer has buffers that two threads must not share


class Picture:
    """An encoded picture: its size is known at once, its pixels are decoded by `load`.

    Raises what Pillow raises for files that it cannot read. Any mode becomes RGB as in PyTorch's
    loaders, by Pillow's `convert`; an orientation in EXIF is left alone, as there.
    """

    def __init__(self, data: bytes):
        self._data = data
        size = _jpeg_size(data)
        self._quick = size is not None
        self.width, self.height = size or Image.open(io.BytesIO(data)).size

    def load(self, factor: int = 1) -> Pixels:
        """RGB pixels; a JPEG's at 1/`factor` (1, 2, 4 or 8) of its size, rounded up."""
        if self._quick:
            least = {"min_width": -(-self.width // factor), "min_height": -(-self.height // factor)}
            with contextlib.suppress(ValueError):  # Pillow decides what is corrupt
                return simplejpeg.decode_jpeg(self._data, "RGB", min_factor=factor, **least)
        with Image.open(io.BytesIO(self._data)) as opened:
            if factor > 1:  # does nothing to other formats
                opened.draft(None, (self.width // factor, self.height // factor))
            # PyTorch's loaders ignore it too, but with a warning.
            opened.info.pop("transparency", None)
            return np.asarray(opened.convert("RGB"))


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a gray or YCbCr JPEG that simplejpeg may decode, else None."""
    if simplejpeg is None or data[:2] != _JPEG:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    return (width, height) if colours in ("YCbCr", "Gray") else None


def resize(pixels: Pixels, span: Span, size: int, interpolation: str) -> UInt8[np.ndarray, "S S 3"]:
    """The part of a picture inside `span`, resized to a square of `size`, antialiased.

    The filter does not look beyond the whole pixels that `span` touches, as after a crop.
    """
    left, top, right, bottom = span
    x, y = math.floor(left), math.floor(top)
    cut = pixels[y : math.ceil(bottom), x : math.ceil(right)]
    inner = (left - x, top - y, right - x, bottom - y)
    if cykooz_resizer is None:
        image = Image.fromarray(cut).resize((size, size), RESAMPLING[interpolation], box=inner)
        return np.asarray(image)
    image_data, pixel_type = cykooz_resizer.ImageData, cykooz_resizer.PixelType.U8x3
    target = image_data(size, size, pixel_type)
    options = _options(interpolation).copy()
    options.crop_box = cykooz_resizer.CropBox(
        inner[0], inner[1], inner[2] - inner[0], inner[3] - inner[1]
    )
    source = image_data(cut.shape[1], cut.shape[0], pixel_type, cut.tobytes())
    _resizer().resize(source, target, options)
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(size, size, 3)


@functools.cache
def _options(interpolation: str) -> Any:
    chosen = getattr(cykooz_resizer.FilterType, _FILTERS[interpolation])
    return cykooz_resizer.ResizeOptions(cykooz_resizer.ResizeAlg.convolution(chosen))


def _resizer() -> Any:
    if not hasattr(_own, "resizer"):
        _own.resizer = cykooz_resizer.Resizer()
    return _own.resizer
