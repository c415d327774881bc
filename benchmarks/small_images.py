"""Small images, for benchmarks of made training sets: stores of them, and, at 16 pixels, one recipe
each of an encoder that sees no label, a denoiser and a classifier.

Everything runs through the project's own verbs and configs; `repdiff_small`, `long_tail` and
`closed_world` add which sets there are and who is trained on what, `closed_set` recipes of 32
pixels too.
"""

import dataclasses
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxfdsl import config as c

PIXELS, WHOLE = 16, 32  # of the benchmarks that do not say otherwise, and of CIFAR-10
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclasses.dataclass(frozen=True)
class Budget:
    """Sizes and lengths that all arms share; two cores are enough for the defaults."""

    images: int = 500  # real ones, of each class
    encoder_width: int = 64
    encoder_depth: int = 4
    encoder_steps: int = 800
    encoder_batch: int = 256  # images: two views each of half as many
    encoder_rate: float = 2e-3
    width: int = 64  # of the denoiser
    depth: int = 4
    patch: int = 4
    steps: int = 5_000
    batch: int = 64
    rate: float = 1e-3
    ema: float = 0.999
    sample_steps: int = 25  # of Euler's method
    classifier_width: int = 64
    classifier_depth: int = 4
    classifier_patch: int = 4
    classifier_steps: int = 1_500
    classifier_batch: int = 64
    classifier_rate: float = 2e-3


def write_real(
    path: pathlib.Path,
    data_dir: str,
    split: str,
    counts: Sequence[int],
    *,
    pixels: int = PIXELS,
    after: int = 0,
) -> None:
    """A store of so many images of each class (0: all) of a split of CIFAR-10, behind the first
    `after` of it; at 16 pixels each is a mean of 2x2. What is there already stays.
    """
    from jaxfdsl.data import decode, sources

    if (path / "store.json").exists():
        return
    entry = c.tfds_source("cifar10", split=split, data_dir=data_dir, size=WHOLE)
    records = sources.build(entry, seed=0, train=False, field="cifar10").records
    rows = np.arange(len(records))
    labels = np.asarray(records.labels(rows))
    kept = [rows[labels == one][after:][: count or None] for one, count in enumerate(counts)]
    rows = np.sort(np.concatenate(kept))
    encoded, _ = records.read(rows)
    images, _ = decode.decode_all(encoded, lambda _, data: decode.canvas(data, WHOLE), WHOLE)
    if pixels != WHOLE:
        edge = WHOLE // pixels
        cut = images.reshape(len(rows), pixels, edge, pixels, edge, 3).astype(np.float32)
        images = np.round(cut.mean(axis=(2, 4))).astype(np.uint8)
    card = {"title": f"CIFAR-10 {split}, {pixels} pixels", "licence": "CIFAR-10's"}
    card |= {"generator": "photographs", "created_by": "benchmarks/small_images.py"}
    write_store(path, images, labels[rows], rows, card, CLASSES)


def write_store(
    path: pathlib.Path,
    images: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    card: dict[str, Any],
    classes: Sequence[str],
) -> None:
    """All at once: a killed call leaves nothing under that name."""
    from jaxfdsl.data import store
    from jaxfdsl.data.materialise.images import png

    part = path.with_name(f"{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    with store.Writer(part, card=card, classes=classes, shard_images=len(images)) as writer:
        for image, label, group in zip(images, labels, groups, strict=True):
            writer.add(png(image), label=int(label), group=int(group))
    part.rename(path)


def read(opened: Any, rows: np.ndarray, pixels: int = PIXELS) -> np.ndarray:
    """Images of a store, uint8[n, pixels, pixels, 3]."""
    from jaxfdsl.data import decode

    found, _ = decode.decode_all(
        list(opened.read(rows)), lambda _, data: decode.canvas(data, pixels), pixels
    )
    return found


def verb(*words: Any) -> None:
    """A verb of jaxfdsl, in this process."""
    from jaxfdsl import cli

    cli.run([str(word) for word in words])


def finished(out: str, name: str, found: Mapping[str, Any]) -> None:
    """The summary of a step that is no training run: then it is not done again."""
    folder = pathlib.Path(out, name)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "summary.part"
    part.write_text(json.dumps({"finished": True, **found}, indent=1) + "\n")
    part.rename(folder / "summary.json")


def _base(seed: int, steps: int, batch: int, rate: float):
    config = c.default_config()
    config.seed, config.steps, config.batch_size = seed, steps, batch
    config.log_every, config.checkpoint_every, config.keep_checkpoints = 100, 1_000, 1
    config.data.num_workers = 0  # all images are in memory
    config.report.update(tensorboard=False, gallery=False, drawing=False)
    config.optimizer.update(learning_rate=rate)
    config.schedule.update(warmup_steps=min(steps // 10, 200), final=0.0)
    return config


def encoder(budget: Budget, seed: int, real: str, test: str):
    """SimCLR of a small ViT: two views of an image find each other. Labels are for its probe."""
    config = _base(seed, budget.encoder_steps, budget.encoder_batch, budget.encoder_rate)
    config.model.update(
        patch_size=4, image_size=PIXELS, pool="mean", width=budget.encoder_width,
        depth=budget.encoder_depth, num_heads=4,
    )  # fmt: skip
    config.model.projector.update(hidden=256, output=64, layers=2, norm="batch")
    config.optimizer.update(weight_decay=0.05, b2=0.98)
    config.objective.classify.weight, config.objective.contrast.weight = 0.0, 1.0
    config.objective.contrast.temperature = 0.2
    config.data.update(group_size=2, group_by="image")
    config.augment.update(
        crop="random_resized", crop_scale=(0.25, 1.0), flip_lr=True, color_jitter=0.4,
        color_jitter_prob=0.8, hue=0.1, grayscale=0.2,
    )  # fmt: skip
    config.data.sources.real = c.store_source(real, size=PIXELS)
    seen, new = (c.store_source(one, size=PIXELS) for one in (real, test))
    config.evals.probe = c.linear_probe_eval(seen, new, batch_size=500)
    return config


def denoiser(budget: Budget, seed: int, real: str, condition: str, new: str = ""):
    """Flow matching in pixels; only `condition` differs between arms. `new` is a store of images to
    measure the loss of, beside those that it is trained on."""
    config = _base(seed, budget.steps, budget.batch, budget.rate)
    config.model.update(
        variant="dit_s", patch_size=budget.patch, image_size=PIXELS, width=budget.width,
        depth=budget.depth, num_heads=4,
    )  # fmt: skip
    config.objective.classify.weight, config.objective.denoise.weight = 0.0, 1.0
    config.optimizer.update(weight_decay=0.0, b2=0.99, ema=budget.ema)
    config.data.condition = condition
    config.augment.update(mean=(0.5,) * 3, std=(0.5,) * 3, flip_lr=True)
    config.data.sources.real = c.store_source(real, size=PIXELS)
    for name, path in {"real": real, "new": new}.items():
        if path:
            source = c.store_source(path, size=PIXELS)
            config.evals[name] = c.denoising_eval(source, batch_size=500)
    return config


def classifier(budget: Budget, seed: int, images: str, test: str, index: str = ""):
    """A small ViT from scratch on a store, or on an index list of it."""
    steps, batch = budget.classifier_steps, budget.classifier_batch
    config = _base(seed, steps, batch, budget.classifier_rate)
    config.model.update(
        patch_size=budget.classifier_patch, image_size=PIXELS, pool="mean",
        width=budget.classifier_width, depth=budget.classifier_depth, num_heads=4,
    )  # fmt: skip
    config.augment.update(crop="pad", crop_pad=2, flip_lr=True)
    config.data.sources.images = c.store_source(images, index=index, size=PIXELS)
    config.evals.real = c.accuracy_eval(c.store_source(test, size=PIXELS), batch_size=500)
    return config
