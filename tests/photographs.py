"""Pictures made for tests, smooth as photographs are, and their encodings."""

import io
import pathlib

import numpy as np
from PIL import Image


def photograph(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    """An RGB picture that is its seed's own."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (6, 7, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    """A picture as a file's bytes."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def image_folder(path: pathlib.Path, counts: dict[str, dict[str, int]]) -> pathlib.Path:
    """`path/split/class/<number>.jpg` with so many pictures; pictures have seeds 0, 1, 2, ..."""
    seed = 0
    for split, classes in counts.items():
        for name, count in classes.items():
            folder = path / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                folder.joinpath(f"{number:03d}.jpg").write_bytes(encoded(photograph(seed)))
                seed += 1
    return path
