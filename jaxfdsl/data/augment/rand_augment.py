"""RandAugment as timm defines it (`timm/data/auto_augment.py`; Cubuk et al. 2019).

A layer draws one of 15 ops, does it with probability .5, at a strength drawn about the magnitude.
timm's `inc1` ops grow with the magnitude. Strengths are whole 4096ths of the greatest: every op's
argument is then made in integers. Magnitudes lie from 0 to 10 as in timm 0.4.12, which the papers
used, and in later versions without `mmax`. The sign is drawn even where an op has none. Keeping 0
bits is a black image, as it was until Pillow 13 refused it.
"""

import dataclasses
import difflib
import functools
import re

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, UInt8
from ml_collections import ConfigDict

from jaxfdsl.config import ConfigError
from jaxfdsl.data.augment import affine, chance, colour, neighbours
from jaxfdsl.data.augment.affine import LEVELS
from jaxfdsl.data.augment.chance import Stream
from jaxfdsl.data.augment.colour import ONE, Image, Scalar
from jaxfdsl.generators.drawing.stages import settler

OPS = (  # in timm's order; Posterize to Sharpness have an increasing and another form
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd",
    "Color", "Contrast", "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel",
    "TranslateYRel",
)  # fmt: skip
MATRICES = {
    "Rotate": affine.rotate,
    "ShearX": affine.shear_x,
    "ShearY": affine.shear_y,
    "TranslateXRel": affine.translate_x,
    "TranslateYRel": affine.translate_y,
}
NONE = len(OPS)  # the number of no op
MAX_MAGNITUDE = 10
PAPERS = "rand-m9-mstd0.5-inc1"


@dataclasses.dataclass(frozen=True)
class Policy:
    """What timm's notation says: `m`agnitude, `n`umber of layers, `p`robability, `mstd`, `inc`."""

    magnitude: int = MAX_MAGNITUDE
    layers: int = 2
    probability: float = 0.5
    deviation: float = 0.0  # of the magnitude, normal; above 100: evenly from 0 to the magnitude
    increasing: bool = False


def parse(notation: str) -> Policy:
    """The policy of "rand-m9-mstd0.5-inc1"; raises ConfigError for what timm has no or another
    meaning for.
    """
    head, *sections = notation.split("-")
    if head != "rand":
        raise _refusal(notation, f"{head!r} is not 'rand'")
    names = {"m": "magnitude", "n": "layers", "p": "probability", "mstd": "deviation"}
    found: dict[str, float] = {}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d+(?:\.\d+)?)", section)
        key, value = match.groups() if match else (section, "")
        if not match or key not in (*names, "inc"):
            close = difflib.get_close_matches(key, (*names, "inc"), n=1, cutoff=0.3)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise _refusal(notation, f"{section!r} is not known{hint}")
        if key in ("m", "n", "inc") and "." in value:
            raise _refusal(notation, f"{section!r} is not a whole number")
        if key in found:
            raise _refusal(notation, f"{key!r} is there twice")
        found[key] = float(value)
    if found.get("inc", 0) not in (0, 1):
        raise _refusal(notation, "'inc' is 0 or 1")
    if found.get("m", 0) > MAX_MAGNITUDE:
        raise _refusal(notation, f"'m' is at most {MAX_MAGNITUDE}")
    if found.get("p", 1) > 1 or found.get("n", 1) < 1:
        raise _refusal(notation, "'p' is at most 1 and 'n' at least 1")
    return Policy(
        magnitude=int(found.get("m", MAX_MAGNITUDE)),
        layers=int(found.get("n", 2)),
        probability=found.get("p", 0.5),
        deviation=found.get("mstd", 0.0),
        increasing=bool(found.get("inc", 0)),
    )


def _refusal(notation: str, why: str) -> ConfigError:
    return ConfigError(
        f"augment.rand_augment={notation!r}: {why}; type --config.augment.rand_augment={PAPERS}."
    )


def sample(policy: Policy, seed: chance.Seed) -> tuple[Int[Array, " L"], Int[Array, " L"]]:
    """The op of each layer, `NONE` if it is left out, and its strength: 0 to 4096, with a sign."""
    which, happens, strength, sign = chance.bits(seed, Stream.RAND, 4 * policy.layers).reshape(
        4, policy.layers
    )
    op = chance.between(which, 0, len(OPS) - 1)
    op = jnp.where(chance.uniform(happens) < policy.probability, op, NONE)
    magnitude: Array = jnp.full(policy.layers, float(policy.magnitude))
    if policy.deviation > 100:
        magnitude = chance.uniform(strength) * policy.magnitude
    elif policy.deviation:
        magnitude = magnitude + policy.deviation * chance.normal(strength)
    share = jnp.clip(magnitude / MAX_MAGNITUDE, 0, 1)
    level = jnp.floor(share * LEVELS).astype(jnp.int32)
    return op, jnp.where(sign >> 31 == 0, level, -level)


def coloured(policy: Policy | None, cfg: ConfigDict) -> bool:
    """Whether the ops make a gray image coloured: its frame is filled with the mean colour."""
    return policy is not None and len(set(fill_colour(cfg))) > 1


def fill_colour(cfg: ConfigDict) -> tuple[int, ...]:
    """The mean colour in bytes, as timm's `img_mean`."""
    return tuple(min(255, round(255 * mean)) for mean in cfg.mean)


def apply(
    image: UInt8[Array, "H W C"],
    seed: chance.Seed,
    policy: Policy,
    cfg: ConfigDict,
    platform: str,
) -> UInt8[Array, "H W C"]:
    """One image through every layer."""
    ops, levels = sample(policy, seed)
    step = functools.partial(one_op, policy=policy, cfg=cfg, platform=platform)
    # A loop, so that the ops are compiled once.
    return jax.lax.fori_loop(
        0, policy.layers, lambda i, image: step(image, ops[i], levels[i]), image
    )


def one_op(
    image: Image, op: Scalar, level: Scalar, *, policy: Policy, cfg: ConfigDict, platform: str
) -> Image:
    """The `op`-th of OPS at `level`. Of one image alone the branch of its op; where images are
    batched (`vmap`) all branches are computed, so that ops that can share one do.
    """
    fill, method, size = fill_colour(cfg)[: image.shape[2]], cfg.interpolation, image.shape[0]
    if size > affine.MAX_SIZE:
        raise ConfigError(
            f"augment.rand_augment={cfg.rand_augment!r} works up to {affine.MAX_SIZE} pixels, and "
            f"model.image_size={size}: type --config.augment.rand_augment=''."
        )
    settle = settler(op < 0 if platform == "cpu" else None)
    count = colour.multiplied if platform == "tpu" else colour.counted
    matrices = [MATRICES[name](level, size) for name in MATRICES]
    which = [OPS.index(name) for name in MATRICES]
    matrix = jnp.select([op == number for number in which], matrices, jnp.zeros(6, jnp.int32))
    arguments = levels_of(policy, level)
    branches = {
        "AutoContrast": lambda image: colour.autocontrast(image, settle),
        "Equalize": lambda image: colour.equalize(image, count(image), settle),
        "Invert": colour.invert,
        "Posterize": lambda image: colour.posterize(image, arguments["Posterize"]),
        "Solarize": lambda image: colour.solarize(image, arguments["Solarize"]),
        "SolarizeAdd": lambda image: colour.solarize_add(image, arguments["SolarizeAdd"]),
        "Color": lambda image: colour.color(image, arguments["enhance"]),
        "Contrast": lambda image: colour.contrast(image, arguments["enhance"]),
        "Brightness": lambda image: colour.brightness(image, arguments["enhance"]),
        "Sharpness": lambda image: neighbours.sharpness(image, arguments["enhance"]),
        "warp": lambda image: affine.warp(image, matrix, fill, method, settle),
        "none": lambda image: image,
    }
    names = list(branches)
    chosen = ["warp" if name in MATRICES else name for name in OPS] + ["none"]
    place = jnp.asarray([names.index(name) for name in chosen])[op]
    return jax.lax.switch(place, list(branches.values()), image)


def levels_of(policy: Policy, level: Scalar) -> dict[str, Scalar]:
    """The arguments of the ops that take one (timm's `LEVEL_TO_ARG`)."""
    strength = jnp.abs(level)
    bits, threshold = strength * 4 // LEVELS, strength * 256 // LEVELS
    if policy.increasing:
        away = (strength * 9 + 5) // 10
        enhance = jnp.maximum(ONE + jnp.sign(level) * away, round(0.1 * ONE))
        bits, threshold = 4 - bits, 256 - threshold
    else:
        enhance = round(0.1 * ONE) + (strength * 18 + 5) // 10
    return {
        "Posterize": bits,
        "Solarize": threshold,
        "SolarizeAdd": strength * 110 // LEVELS,
        "enhance": enhance,
    }
