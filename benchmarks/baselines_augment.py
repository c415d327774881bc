"""What a user would write for DeiT's augmentation without a device: Pillow and NumPy, as timm does.

Random numbers come from Python and NumPy. A loader's other costs (decoding, processes, copies to
the device) are left out.
"""

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
SCALE, SHIFT = 1 / (255 * STD), MEAN / STD
FILL = (124, 116, 104)
BICUBIC = Image.Resampling.BICUBIC


def crop(image: Image.Image, size: int) -> Image.Image:
    """timm's `RandomResizedCropAndInterpolation`, bicubic."""
    side = image.width
    for _ in range(10):
        area = random.uniform(0.08, 1) * side**2
        aspect = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if width <= side and height <= side:
            left, top = random.randint(0, side - width), random.randint(0, side - height)
            box = (left, top, left + width, top + height)
            return image.crop(box).resize((size, size), BICUBIC)
    return image.resize((size, size), BICUBIC)


def _warp(image: Image.Image, matrix: tuple[float, ...]) -> Image.Image:
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=BICUBIC, fillcolor=FILL
    )


def _add(image: Image.Image, amount: int) -> Image.Image:
    return image.point([min(255, v + amount) if v < 128 else v for v in range(256)] * 3)


OPS: dict[str, Callable[[Image.Image, float], Image.Image]] = {  # of an image and -1 to 1
    "AutoContrast": lambda image, m: ImageOps.autocontrast(image),
    "Equalize": lambda image, m: ImageOps.equalize(image),
    "Invert": lambda image, m: ImageOps.invert(image),
    "Rotate": lambda image, m: image.rotate(30 * m, BICUBIC, fillcolor=FILL),
    "Posterize": lambda image, m: ImageOps.posterize(image, max(1, 4 - int(4 * abs(m)))),
    "Solarize": lambda image, m: ImageOps.solarize(image, 256 - int(256 * abs(m))),
    "SolarizeAdd": lambda image, m: _add(image, int(110 * abs(m))),
    "Color": lambda image, m: ImageEnhance.Color(image).enhance(1 + 0.9 * m),
    "Contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(1 + 0.9 * m),
    "Brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(1 + 0.9 * m),
    "Sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(1 + 0.9 * m),
    "ShearX": lambda image, m: _warp(image, (1, 0.3 * m, 0, 0, 1, 0)),
    "ShearY": lambda image, m: _warp(image, (1, 0, 0, 0.3 * m, 1, 0)),
    "TranslateXRel": lambda image, m: _warp(image, (1, 0, 0.45 * m * image.width, 0, 1, 0)),
    "TranslateYRel": lambda image, m: _warp(image, (1, 0, 0, 0, 1, 0.45 * m * image.width)),
}


def rand_augment(image: Image.Image) -> Image.Image:
    """timm's `rand-m9-mstd0.5-inc1`."""
    for op in random.choices(list(OPS.values()), k=2):
        if random.random() < 0.5:
            magnitude = min(10, max(0, random.gauss(9, 0.5))) / 10
            image = op(image, random.choice((-1, 1)) * magnitude)
    return image


def three_augment(image: Image.Image) -> Image.Image:
    """DeiT III's choice."""
    kind = random.randrange(3)
    if kind == 0:
        return image.convert("L").convert("RGB")
    if kind == 1:
        return ImageOps.solarize(image)
    return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2)))


def jitter(image: Image.Image, strength: float = 0.4) -> Image.Image:
    """torchvision's `ColorJitter(s, s, s)`."""
    kinds = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color]
    for kind in random.sample(kinds, 3):
        image = kind(image).enhance(random.uniform(1 - strength, 1 + strength))
    return image


def normalise(image: Image.Image, out: np.ndarray) -> None:
    """Into float32[s, s, 3], with one multiplication and one subtraction a value."""
    np.multiply(np.asarray(image), SCALE, out=out)
    out -= SHIFT


def erase(image: np.ndarray, probability: float, rng: np.random.Generator) -> None:
    """timm's `RandomErasing` in its mode "pixel"."""
    if random.random() >= probability:
        return
    size = image.shape[0]
    for _ in range(10):
        area = random.uniform(0.02, 1 / 3) * size**2
        aspect = math.exp(random.uniform(math.log(0.3), math.log(1 / 0.3)))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height < size and width < size:
            top, left = random.randint(0, size - height), random.randint(0, size - width)
            noise = rng.standard_normal((height, width, 3), np.float32)
            image[top : top + height, left : left + width] = noise
            return


def mix(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """timm's `Mixup` by the batch: mixup .8 and cutmix 1, half of the time each."""
    size, flipped = images.shape[1], images[::-1]
    if random.random() < 0.5:
        share = np.float32(rng.beta(0.8, 0.8))
        return images * share + flipped * (1 - share)
    side = int(size * math.sqrt(1 - rng.beta(1.0, 1.0)))
    row, column = (random.randrange(size) for _ in range(2))
    top, left = max(0, row - side // 2), max(0, column - side // 2)
    bottom, right = min(size, row + (side + 1) // 2), min(size, column + (side + 1) // 2)
    mixed = images.copy()
    mixed[:, top:bottom, left:right] = flipped[:, top:bottom, left:right]
    return mixed


def suite(images: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """DeiT's recipe on uint8[B, S, S, 3]: to float32[B, size, size, 3]."""
    out = np.empty((len(images), size, size, 3), np.float32)
    for pixels, place in zip(images, out, strict=True):
        image = crop(Image.fromarray(pixels), size)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        normalise(rand_augment(image), place)
        erase(place, 0.25, rng)
    return mix(out, rng)
