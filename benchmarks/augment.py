"""What augmentation costs: on one core against Pillow and NumPy, on a GPU against a ViT-B/16 step.

    taskset -c 0 python benchmarks/augment.py                 # ms an image, ours and Pillow's
    python benchmarks/augment.py --device                     # the suite beside a training step
    python benchmarks/augment.py --figure docs/augment.png    # every op on two pictures

On a core: CPU time of the process, batches of 64 at 224 pixels, rounds alternate between all rows,
medians are printed; compilation and one round are left out. Ours take the step's own way (jitted,
random numbers included), Pillow's are what timm calls (baselines_augment.py). The suite is DeiT's:
random resized crop from the canvas, flip, RandAugment, normalisation, erasing .25, mixup .8 and
cutmix 1.0. --device: wall time of `--rounds` calls queued at once; the share is of an image's
augmentation in its augmentation and step. `JAX_PLATFORMS=cpu ... --device --smoke` shows that the
way of GPUs runs.
"""

import argparse
import json
import os
import pathlib
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

if "--device" not in sys.argv:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import baselines_augment as pillow
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxfdsl import config
from jaxfdsl.data import augment
from jaxfdsl.data.augment import rand_augment
from jaxfdsl.report import augment_sheet

DEIT = {
    "crop": "random_resized", "flip_lr": True, "rand_augment": rand_augment.PAPERS,
    "erasing": 0.25, "mixup": 0.8, "cutmix": 1.0,
}  # fmt: skip
GROUPS = {
    "shear, translate": ("ShearX", "ShearY", "TranslateXRel", "TranslateYRel"),
    "rotate": ("Rotate",),
    "equalise, autocontrast": ("Equalize", "AutoContrast"),
    "invert, solarise, posterise": ("Invert", "Solarize", "SolarizeAdd", "Posterize"),
    "colour, contrast, brightness": ("Color", "Contrast", "Brightness"),
    "sharpness": ("Sharpness",),
}
Row = tuple[Callable[[], Any], Callable[[], Any]]  # ours and Pillow's


def pictures(count: int, side: int) -> np.ndarray:
    """Smooth random pictures, uint8[count, side, side, 3]."""
    rng = np.random.default_rng(0)
    coarse = [Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)) for _ in range(count)]
    return np.stack([np.asarray(each.resize((side, side), pillow.BICUBIC)) for each in coarse])


def settings(**values):
    fields = config.default_config().augment
    fields.update(values)
    return fields


def suite(canvas: int, batch: int, size: int, **values) -> Callable[..., Any]:
    """The step's augmentation: crop and finish, of images and a step's number."""
    cfg, rows = settings(**values), jnp.arange(batch)
    here = jax.default_backend()
    platform = "gpu" if here == "cpu" and "--device" in sys.argv else here

    @jax.jit
    def made(images, step):
        key = jax.random.fold_in(jax.random.key(0), step)
        if canvas != size:
            images = augment.crop(images, key, cfg, size, rows, platform)
        return augment.finish({"image": images, "label": rows}, key, cfg, rows, platform)

    return made


def ours(canvas: int, batch: int, size: int, **values) -> Callable[[], Any]:
    images, made = jnp.asarray(pictures(batch, canvas)), suite(canvas, batch, size, **values)
    steps = iter(range(10**9))
    return lambda: jax.block_until_ready(made(images, next(steps)))


def only(ops: tuple[str, ...], batch: int, size: int) -> Callable[[], Any]:
    """These ops of RandAugment by turns, at magnitude 9, half of them negative."""
    policy, cfg = rand_augment.parse(rand_augment.PAPERS), settings()
    numbers = np.resize([rand_augment.OPS.index(name) for name in ops], batch)
    levels = np.resize([3686] * len(ops) + [-3686] * len(ops), batch)

    def one(given):
        return rand_augment.one_op(*given, policy=policy, cfg=cfg, platform="cpu")

    made = jax.jit(lambda *arrays: jax.lax.map(one, arrays))
    given = tuple(map(jnp.asarray, (pictures(batch, size), numbers, levels)))
    return lambda: jax.block_until_ready(made(*given))


def rows(batch: int, size: int) -> dict[str, Row]:
    """What is timed, by the name of its row."""
    rng = np.random.default_rng(0)
    canvases = {side: pictures(batch, side) for side in (size, 256, 362)}
    views = [Image.fromarray(image) for image in canvases[size]]
    floats = np.empty((batch, size, size, 3), np.float32)

    def each(function: Callable) -> Callable[[], Any]:
        return lambda: [function(view) for view in views]

    def floated() -> None:
        for view, place in zip(views, floats, strict=True):
            pillow.normalise(view, place)

    def erased() -> None:
        floated()
        for place in floats:
            pillow.erase(place, 0.25, rng)

    def mixed() -> np.ndarray:
        floated()
        return pillow.mix(floats, rng)

    def cropped(side: int) -> Callable[[], Any]:
        return lambda: [pillow.crop(Image.fromarray(i), size) for i in canvases[side]]

    cut = jax.jit(
        lambda images, step: augment.crop(
            images, jax.random.key(step), settings(crop="random_resized"), size
        )
    )
    steps = iter(range(10**9))
    found: dict[str, Row] = {}
    for side in (362, 256):
        whole = jnp.asarray(canvases[side])
        found[f"random resized crop from {side}"] = (
            lambda whole=whole: cut(whole, next(steps)).block_until_ready(),
            cropped(side),
        )
    for title, ops in GROUPS.items():
        baselines = [pillow.OPS[name] for name in ops]
        found[title] = (
            only(ops, batch, size),
            lambda baselines=baselines: [
                baselines[i % len(baselines)](view, 0.9 - 1.8 * (i // len(baselines) % 2))
                for i, view in enumerate(views)
            ],
        )
    parts = {
        "RandAugment": ({"rand_augment": rand_augment.PAPERS}, each(pillow.rand_augment)),
        "three-augment": ({"three_augment": True}, each(pillow.three_augment)),
        "colour jitter .4": ({"color_jitter": 0.4}, each(pillow.jitter)),
        "normalisation alone": ({}, floated),
        "erasing .25": ({"erasing": 0.25}, erased),
        "mixup, cutmix": ({"mixup": 0.8, "cutmix": 1.0}, mixed),
    }
    for title, (values, baseline) in parts.items():
        found[title] = ours(size, batch, size, **values), baseline
    for side in (362, 256):
        images = canvases[side]
        found[f"DeiT's suite from {side}"] = (
            ours(side, batch, size, **DEIT),
            lambda images=images: pillow.suite(images, size, rng),
        )
    return found


def on_a_core(batch: int, size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Prints ms an image of each row."""
    random.seed(0)
    timed = rows(batch, size)
    times: dict[str, list[list[float]]] = {name: [[], []] for name in timed}
    for _ in range(rounds + 1):
        for name, pair in timed.items():
            for seen, call in zip(times[name], pair, strict=True):
                began = time.process_time()
                call()
                seen.append((time.process_time() - began) / batch * 1e3)
    print("| | ours, ms an image | Pillow and NumPy | times |\n|---|---|---|---|")
    found = {}
    for name, seen in times.items():
        own, other = (statistics.median(values[1:]) for values in seen)  # the first one compiled
        print(f"| {name} | {own:.3f} | {other:.3f} | {other / own:.2f} |")
        found[name] = {"ours": own, "pillow": other}
    print("\nRandAugment's ops and the first two rows end in bytes, the others in floats.")
    return found


def on_a_device(batch: int, size: int, rounds: int, smoke: bool) -> dict[str, float]:
    """Prints the suite's cost beside that of a training step."""
    import draw_gpu

    canvas, variant = (2 * size, "vit_ti") if smoke else (362, "vit_b")
    step = draw_gpu.step(variant, size, batch, rounds)
    made = suite(canvas, batch, size, **DEIT)
    images = jnp.asarray(pictures(batch, canvas))
    compiled = made.lower(images, 0).compile()
    spent = draw_gpu.seconds(lambda: compiled(images, 0), rounds) / batch * 1e6
    cost = compiled.cost_analysis() or {}
    found = {
        "augment_us": spent,
        "step_us": step,
        "share": spent / (spent + step),
        "temporary_mb": compiled.memory_analysis().temp_size_in_bytes / 1e6,
        "flops": cost.get("flops", 0.0) / batch,
        "bytes": cost.get("bytes accessed", 0.0) / batch,
    }
    print(
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, batch {batch}, {canvas} to {size}"
    )
    print("| DeiT's suite, us an image | a step, us | share | MB of temporaries |")
    print("|---|---|---|---|")
    print(
        f"| {spent:.1f} | {step:.1f} ({variant}, bfloat16) | {found['share']:.1%} | "
        f"{found['temporary_mb']:.0f} |"
    )
    print(
        f"\nXLA counts {found['flops'] / 1e6:.0f} MFLOP and {found['bytes'] / 1e6:.0f} MB an image."
    )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=0, help="64 on a core, 256 on a device")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", action="store_true", help="beside a step of ViT-B/16")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument("--figure", default="", help="draw every op into this PNG instead")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    if args.figure:
        return augment_sheet.write(args.figure)
    if args.smoke:
        args.batch, args.size, args.rounds = 4, 32, 1
    if args.device:
        found: Any = on_a_device(args.batch or 256, args.size, args.rounds, args.smoke)
    else:
        found = on_a_core(args.batch or 64, args.size, args.rounds)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
