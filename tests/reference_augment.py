"""timm's augmentation in Pillow and NumPy, op by op, as the papers ran it."""

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

FILL = (124, 116, 104)  # ImageNet's mean colour
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resized(image, box, size, method):
    """The box of an image at `size` pixels, across first: Pillow 13 may go down first."""
    top, left, height, width = (int(number) for number in box)
    cut = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    cut = cut.crop((left, top, left + width, top + height))
    across = cut.resize((size, height), FILTERS[method])
    return np.asarray(across.resize((size, size), FILTERS[method])).reshape(size, size, -1)


def transformed(image, matrix, method="bicubic"):
    """`Image.transform` of a square image by (a, b, c, d, e, f)."""
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, resample=FILTERS[method], fillcolor=FILL
    )


def posterized(image, bits):
    """`ImageOps.posterize`, which keeps 0 bits too until Pillow 13."""
    return ImageOps.posterize(image, bits) if bits else Image.new(image.mode, image.size)


def solarize_added(image, amount):
    """timm's `solarize_add`."""
    table = [min(255, value + amount) if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


def rand_augment(name, image, level, method="bicubic"):
    """timm's op `name` of "inc1" at a magnitude of 10 `level`, from -1 to 1: its sign is the one
    that timm draws.
    """
    size, strength = image.size[0], abs(level)
    factor = max(0.1, 1 + 0.9 * level)
    ops = {
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Invert": lambda: ImageOps.invert(image),
        "Rotate": lambda: image.rotate(30 * level, FILTERS[method], fillcolor=FILL),
        "Posterize": lambda: posterized(image, 4 - int(strength * 4)),
        "Solarize": lambda: ImageOps.solarize(image, 256 - int(strength * 256)),
        "SolarizeAdd": lambda: solarize_added(image, int(strength * 110)),
        "Color": lambda: ImageEnhance.Color(image).enhance(factor),
        "Contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "Brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "Sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "ShearX": lambda: transformed(image, (1, 0.3 * level, 0, 0, 1, 0), method),
        "ShearY": lambda: transformed(image, (1, 0, 0, 0.3 * level, 1, 0), method),
        "TranslateXRel": lambda: transformed(image, (1, 0, 0.45 * level * size, 0, 1, 0), method),
        "TranslateYRel": lambda: transformed(image, (1, 0, 0, 0, 1, 0.45 * level * size), method),
    }
    return ops[name]()


def blurred(image, radius):
    """`ImageFilter.GaussianBlur`."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def adjusted_hue(image, turn):
    """torchvision's `adjust_hue` with `turn` 255ths of the circle."""
    hue, saturation, value = image.convert("HSV").split()
    turned = (np.asarray(hue).astype(np.int32) + turn).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned, "L"), saturation, value)).convert("RGB")


def boxes_of_crops(count, side, scale, ratio):
    """timm's `RandomResizedCropAndInterpolation.get_params`: (top, left, height, width)."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        for _ in range(10):
            area = side * side * rng.uniform(*scale)
            aspect = np.exp(rng.uniform(*np.log(ratio)))
            width, height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if width <= side and height <= side:
                corner = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
                yield (*corner, height, width)
                break


def boxes_of_erasing(count, size):
    """timm's `RandomErasing._erase`: (top, left, height, width)."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        for _ in range(10):
            area = rng.uniform(0.02, 1 / 3) * size**2
            aspect = np.exp(rng.uniform(np.log(0.3), np.log(1 / 0.3)))
            height, width = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
            if width < size and height < size:
                yield (
                    rng.integers(0, size - height + 1),
                    rng.integers(0, size - width + 1),
                    height,
                    width,
                )
                break


def boxes_of_cutmix(count, size, alpha):
    """timm's `rand_bbox` and its corrected lambda: (top, left, height, width), lambda."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        side = int(size * np.sqrt(1 - rng.beta(alpha, alpha)))
        centre = rng.integers(0, size, 2)
        start = np.clip(centre - side // 2, 0, size)
        end = np.clip(centre + (side + 1) // 2, 0, size)
        extent = end - start
        yield (*start, *extent), 1 - np.prod(extent) / size**2
