"""`augment.png`: what each op of augmentation does to a drawn and to a smooth picture."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import UInt8
from ml_collections import ConfigDict
from PIL import Image, ImageDraw, ImageFont

from jaxfdsl import config as config_lib
from jaxfdsl import generators, whole_file
from jaxfdsl.data import augment
from jaxfdsl.data.augment import colour, jitter, neighbours, rand_augment

SIZE, GAP, TITLE, COLUMNS = 112, 4, 18, 8  # pixels, and ops side by side
_INK, _PAPER = (70, 70, 70), (255, 255, 255)
Images = UInt8[np.ndarray, "n S S 3"]


def write(path: epath.PathLike) -> UInt8[np.ndarray, "H W 3"]:
    """Writes a PNG of every op on two pictures, with its name above; returns it."""
    with whole_file.written(path) as file:
        sheet = _sheet()
        small = sheet.quantize(palette=sheet.quantize(256), dither=Image.Dither.FLOYDSTEINBERG)
        small.save(file, "PNG", optimize=True)
    return np.asarray(sheet)


def _sheet() -> Image.Image:
    cells = {"as drawn": pictures()} | {
        name: np.asarray(op(jnp.asarray(pictures()))) for name, op in _ops().items()
    }
    step, height = SIZE + GAP, TITLE + 2 * (SIZE + GAP) + 2 * GAP
    lines = -(-len(cells) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * step + GAP, lines * height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, (name, images) in enumerate(cells.items()):
        left, top = GAP + place % COLUMNS * step, place // COLUMNS * height
        draw.text((left + SIZE // 2, top + TITLE - 5), name, _INK, font, "ms")
        for line, image in enumerate(images):
            sheet.paste(Image.fromarray(image), (left, top + TITLE + line * step))
    return sheet


def pictures(side: int = SIZE) -> Images:
    """A coloured fractal, and hills of colour with an edge."""
    fractal = np.asarray(generators.load("svd_fractal-1k").draw([3], size=side)["image"])[0]
    across, down = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side))
    hills = [np.sin(3 + 5 * across), np.cos(4 * down + 2 * across), np.sin(6 * across * down)]
    smooth = np.stack([40 + 80 * (1 + hill) for hill in hills], -1)
    smooth[(across - 0.6) ** 2 + (down - 0.4) ** 2 < 0.05] = 235, 205, 60
    return np.stack([np.broadcast_to(fractal, (side, side, 3)), smooth.astype(np.uint8)])


def _ops() -> dict[str, Callable[[Any], Any]]:
    """By name, functions of a batch of two."""
    found: dict[str, Callable[[Any], Any]] = {}
    policy, cfg = rand_augment.parse(rand_augment.PAPERS), config_lib.default_config().augment
    for number, name in enumerate(rand_augment.OPS):
        given = {"op": jnp.int32(number), "level": jnp.int32(-3686 if name == "Color" else 3686)}
        one = functools.partial(
            rand_augment.one_op, **given, policy=policy, cfg=cfg, platform=jax.default_backend()
        )
        found[name.removesuffix("Rel")] = jax.jit(functools.partial(jax.lax.map, one))
    factor = jnp.int32(round(1.4 * colour.ONE))
    singles: dict[str, Callable] = {
        "brightness 1.4": functools.partial(colour.brightness, factor=factor),
        "contrast 1.4": functools.partial(colour.contrast, factor=factor),
        "saturation 1.4": functools.partial(colour.color, factor=factor),
        "hue +.1": functools.partial(jitter.turn_hue, turn=jnp.int32(25)),
        "grayscale": colour.gray,
        "solarise": functools.partial(colour.solarize, threshold=jnp.int32(128)),
        "blur 2": functools.partial(neighbours.blur, radius=jnp.int32(neighbours.RADII - 1)),
    }
    for name, op in singles.items():
        found[name] = jax.jit(functools.partial(jax.lax.map, op))
    finished: dict[str, dict[str, Any]] = {
        "flip": {"flip_lr": True},
        "erasing": {"erasing": 1.0},
        "mixup": {"mixup": 8.0},
        "cutmix": {"cutmix": 1.0},
        "padded crop": {"crop": "pad", "crop_pad": 16},
        "resized crop": {"crop": "random_resized"},
    }
    for seed, (name, values) in enumerate(finished.items()):
        found[name] = functools.partial(_finished, values=values, seed=seed)
    suite = {
        "crop": "random_resized", "rand_augment": rand_augment.PAPERS, "erasing": 0.25,
        "mixup": 0.8, "cutmix": 1.0, "flip_lr": True,
    }  # fmt: skip
    for seed in (10, 12, 13):
        title = f"DeiT, step {seed}"
        found[title] = functools.partial(_finished, values=suite, seed=seed)
    return found


def _finished(images: Any, values: dict[str, Any], seed: int) -> Images:
    """Cropped and finished as in a training step, back in bytes."""
    cfg: ConfigDict = config_lib.default_config().augment
    cfg.update(values)
    key, rows = jax.random.key(seed), jnp.arange(len(images))
    crops = augment.crop(images, key, cfg, SIZE, rows)
    floats = augment.finish({"image": crops, "label": rows}, key, cfg, rows)["image"]
    mean, std = (np.asarray(cfg[name]) for name in ("mean", "std"))
    return np.clip(np.round(255 * (np.asarray(floats) * std + mean)), 0, 255).astype(np.uint8)
