"""Seconds that drawing and augmenting an image takes on a device.

A processor is asked. Of accelerators nothing was measured: the figures are estimates from
arithmetic, as `Time.origin` says.
"""

import dataclasses
import time

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxfdsl import config as config_lib
from jaxfdsl.costs import autoencoding, flops, reached
from jaxfdsl.costs.devices import KINDS, Kind
from jaxfdsl.costs.images import from_host
from jaxfdsl.costs.plan import PUBLISHED, Plan
from jaxfdsl.data.sources import Source
from jaxfdsl.diffusion import latents

# Microseconds an image on an H200 by family and canvas, from the bytes that XLA's program moves.
# Other GPUs are taken to be slower as their peak is lower, which their memory follows.
H200 = {
    "fractaldb": 14.0,
    "exfractaldb": 1.0,
    "rcdb": 5.0,
    "visualatom": 12.0,
    "svd_fractal": 7.0,
    "perturbed": 7.0,
    "multix": 10.0,
    "segrcdb": 12.0,
}
AUGMENT = 10.0  # likewise: RandAugment moves 48 MB an image
MATMUL = 0.6  # of a TPU's peak, for the one-hot products that draw points there


@dataclasses.dataclass(frozen=True)
class Time:
    """Seconds an image on one device, None where there is nothing to go by."""

    seconds: float | None
    origin: str


def expected(plan: Plan) -> Time:
    """The mean over a batch's sources of what one image costs the device that draws it."""
    if plan.latent_bytes:
        return Time(0.0, "latents are read")
    if plan.fleet.kind.platform == "cpu":
        return _measured(plan)
    counts = plan.batches.plan.counts_at(0)
    total, unknown = 0.0, []
    for name, count in counts.items():
        source = plan.batches.sources[name]
        seconds = _of_source(source, plan.fleet.kind)
        if seconds is None:
            unknown.append(name)
        else:
            total += seconds * count / sum(counts.values())
    if unknown:
        return Time(None, _without_estimate(unknown[0], plan.fleet.kind))
    if plan.config.augment.rand_augment:
        total += AUGMENT * 1e-6 * KINDS["h200"].peak / plan.fleet.kind.peak
    return Time(total, "estimated, not measured")


def _without_estimate(name: str, kind: Kind) -> str:
    said = f"nothing is known of data.sources.{name} there"
    if kind.platform != "tpu":
        return said
    # One-hot products several times the model's, see RESULTS.md.
    return f"{said}; contours want --config.data.sources.{name}.draw_on=host on a TPU"


def _of_source(source: Source, kind: Kind) -> float | None:
    if from_host(source):
        return 0.0  # made by the host
    if sample := sampling(source):
        design = source.sampler.denoiser.design  # type: ignore[attr-defined]
        share = reached.expected(design, kind.platform).value
        return sample / (share * kind.peak_of(str(design.dtype)))
    dataset = source.dataset  # type: ignore[attr-defined]
    if kind.platform == "gpu":
        one = H200.get(dataset.family.name)
        return one and one * 1e-6 * KINDS["h200"].peak / kind.peak
    points = getattr(dataset.family, "num_points", None)
    if not points:
        return None
    return 2 * source.size**2 * points / (MATMUL * kind.peak)


def sampling(source: Source) -> float:
    """FLOP of an image that a denoiser makes as it is drawn, its decoder's with it; 0 of others."""
    made = getattr(source, "sampler", None)
    if made is None:
        return 0.0
    how, weaker = made.settings, made.weaker
    weak = weaker.design if weaker else None
    total = flops.sampling(made.denoiser.design, how.steps, how.method, how.guidance, weak)
    design = latents.design(made.config, PUBLISHED)
    return total + (autoencoding.decoding(design, made.image_size) if design else 0.0)


def _measured(plan: Plan, images: int = 64) -> Time:
    """Draws and augments a batch on one device of this machine."""
    from jaxfdsl import experiment

    if any(source.decodes for source in plan.batches.sources.values()):
        return Time(None, "decoding is not measured here: jaxfdsl doctor does")
    config = _smaller(plan.config, images)
    parts = experiment.build(config, jax.devices()[:1])
    key, step = jax.random.key(0), np.int32(0)
    took: list[float] = []
    while len(took) < 3 or (sum(took[1:]) < 1.0 and len(took) < 20):  # the first compiles
        rows = parts.batches.rows(len(took))
        begun = time.perf_counter()
        jax.block_until_ready(parts.draw_batch(key, step, rows, parts.tables))
        took.append(time.perf_counter() - begun)
    return Time(float(np.median(took[1:])) / config.batch_size, "measured here")


def _smaller(config: ConfigDict, images: int) -> ConfigDict:
    """The same data in batches of about `images`, on one device, and nothing evaluated."""
    smaller = config_lib.from_json(config_lib.to_json(config)).unlock()
    even = 2 * config.data.group_size
    while smaller.batch_size > images and not smaller.batch_size % even:
        smaller.batch_size //= 2
    smaller.update(accumulate=1, steps=1000, epochs=0.0, draw="fused")
    smaller.schedule.update(warmup_epochs=0.0, warmup_steps=0)
    smaller.mesh.update(data=1, fsdp=1, tensor=1)
    smaller.model.autoencoder = ""  # whose cost is counted apart
    for name in list(smaller.evals):
        del smaller.evals[name]
    return smaller
