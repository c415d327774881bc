"""Pictures inside the page: shrunk and compressed until they fit their share of its bytes."""

import base64
import dataclasses
import io

from PIL import Image, features

MOST_PIXELS = 1600  # of the longer side
_LEAST = 48


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture of a run with the words below it."""

    title: str
    caption: str
    image: Image.Image
    owners: tuple[str, ...] = ()  # names of the runs that it is of


def data_uri(image: Image.Image, most_bytes: int) -> str:
    """`data:image/...` of at most `most_bytes` bytes; empty where not even a stamp fits.

    Losslessly if that fits, in a palette where the picture has few colours; else as WebP (as JPEG
    where Pillow has no WebP), worse and smaller by and by.
    """
    image = _on_white(image)
    image.thumbnail((MOST_PIXELS, MOST_PIXELS), Image.Resampling.LANCZOS)
    room = (most_bytes - 32) * 3 // 4  # in base64 three bytes are four
    if image.width * image.height <= 12 * max(room, 0):  # else PNG would hardly fit
        encoded = _encoded(_few_colors(image), "PNG", optimize=True)
        if len(encoded) <= room:
            return _uri("png", encoded)
    kind = "WEBP" if features.check("webp") else "JPEG"
    while max(image.size) >= _LEAST and room > 0:
        for quality in (90, 80, 65):
            encoded = _encoded(image, kind, quality=quality)
            if len(encoded) <= room:
                return _uri(kind.lower(), encoded)
        size = (max(1, image.width * 3 // 4), max(1, image.height * 3 // 4))
        image = image.resize(size, Image.Resampling.LANCZOS)
    return ""


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode in ("RGB", "L"):
        return image.copy()
    whole = image.convert("RGBA")
    white = Image.new("RGBA", whole.size, "white")
    return Image.alpha_composite(white, whole).convert("RGB")


def _few_colors(image: Image.Image) -> Image.Image:
    few = image.getcolors(256) is not None
    return image.quantize(256, dither=Image.Dither.NONE) if few and image.mode == "RGB" else image


def _encoded(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _uri(kind: str, encoded: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(encoded).decode()}"
