"""Small tars in the layout of ImageNet's, for the tests of `prepare`."""

import io
import pathlib
import tarfile

import numpy as np
from PIL import Image

LABELS = {"n01440764": 0, "n01443537": 1, "n15075141": 999}  # synsets, as published
COLOUR = (200, 60, 90)  # of the lower two thirds of each picture


def encoded(kind: str = "JPEG", mode: str = "RGB", seed: int = 0) -> bytes:
    """A picture of 24 x 32 pixels, its upper third noise."""
    picture = np.full((24, 32, 3), COLOUR, np.uint8)
    picture[:8] = np.random.default_rng(seed).integers(0, 256, (8, 32, 3))
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, kind)
    return file.getvalue()


def tar_of(files: dict[str, bytes], mode: str = "w") -> bytes:
    """A tar file's bytes."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return made.getvalue()


def write(folder: pathlib.Path, odd: dict[int, bytes] | None = None) -> dict[str, bytes]:
    """Three classes of four images, `odd` ones by their number of twelve, and five to validate."""
    images = {}
    for number in range(12):
        synset = list(LABELS)[number // 4]
        data = (odd or {}).get(number, encoded(seed=number))
        images[f"{synset}_{number % 4}.JPEG"] = data
    classes = {
        f"{synset}.tar": tar_of({name: images[name] for name in images if synset in name})
        for synset in LABELS
    }
    valid = {f"ILSVRC2012_val_{n + 1:08d}.JPEG": encoded(seed=100 + n) for n in range(5)}
    folder.mkdir(exist_ok=True)
    folder.joinpath("ILSVRC2012_img_train.tar").write_bytes(tar_of(classes))
    folder.joinpath("ILSVRC2012_img_val.tar").write_bytes(tar_of(valid))
    return images | valid
