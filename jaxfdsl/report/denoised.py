"""`samples.png`: what a denoiser makes by now. Each row begins with an image of the training data;
beside it are samples of that image's condition.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jaxtyping import Array, Float, UInt8

from jaxfdsl import sharding, whole_file
from jaxfdsl.data import augment
from jaxfdsl.experiment import Experiment, denoiser_of
from jaxfdsl.models import sampler
from jaxfdsl.report.sheet import MARGIN, Sheet

ROWS, COLUMNS, CELL, GAP, TOP = 8, 7, 96, 6, 68  # CELL and what follows in pixels
STEPS = 25  # of Heun's method


class Samples:
    """The sheet of a run with `objective.denoise`, compiled at its first use."""

    def __init__(self, parts: Experiment):
        assert parts.batches.condition is not None
        self._config, self._mesh = parts.config, parts.mesh
        self._source = next(iter(parts.batches.sources.values())).with_pictures()
        self._model = denoiser_of(parts.config, parts.batches.condition.size)
        self._autoencoder = parts.autoencoder
        whole = sharding.replicated(parts.mesh)
        self._sample = jax.jit(self._samples_of, out_shardings=whole)
        self._original = jax.jit(self._originals_of, out_shardings=whole)

    def write(self, path: epath.PathLike, params: Any, step: int) -> None:
        """Draws with these parameters; every process calls it, the first one writes."""
        rows = self._source.rows(np.arange(ROWS, dtype=np.int64))
        table = jax.device_put(self._source.table, sharding.replicated(self._mesh))
        originals, told = self._original(rows, table)
        shown = np.asarray(originals)[:, None]
        conds = np.repeat(np.asarray(told), COLUMNS, axis=0)
        seeds = np.arange(len(conds)) % COLUMNS
        weights = self._autoencoder.params if self._autoencoder else None
        made = np.asarray(self._sample(params, weights, conds, seeds))
        grid = np.concatenate([shown, made.reshape(ROWS, COLUMNS, *made.shape[1:])], axis=1)
        if jax.process_index() == 0:
            with whole_file.written(path) as file:
                _drawn(grid, step).page.save(file, "PNG")

    def _samples_of(
        self, params: Any, weights: Any, conds: Float[Array, "B K"], seeds: Array
    ) -> UInt8[Array, "B S S 3"]:
        known, design = jnp.ones(len(conds), bool), self._model.design

        def velocity(x: jax.Array, times: jax.Array) -> jax.Array:
            return self._model.velocity(params, x, times, conds, known)

        shape = (design.image_size, design.image_size, design.channels)
        made = sampler.integrate(velocity, sampler.noise(seeds, shape), STEPS)
        return self._pixels(self._autoencoder.images(weights, made) if self._autoencoder else made)

    def _originals_of(
        self, rows: Any, table: Any
    ) -> tuple[UInt8[Array, "B S S C"], Float[Array, "B K"]]:
        """Images, and what the denoiser is told of them."""
        drawn = self._source.fields(rows, table)
        images = drawn["image"]
        if not self._source.cropped:
            size = self._config.model.image_size
            images = self._pixels(augment.evaluate(images, self._config.augment, size))
        return images, drawn["cond"]

    def _pixels(self, images: Float[Array, "B S S 3"]) -> UInt8[Array, "B S S 3"]:
        cfg = self._config.augment
        shares = images * jnp.asarray(cfg.std) + jnp.asarray(cfg.mean)
        return jnp.round(255 * jnp.clip(shares, 0, 1)).astype(jnp.uint8)


def _drawn(grid: UInt8[np.ndarray, "r c S S 3"], step: int) -> Sheet:
    each = CELL + GAP
    sheet = Sheet(2 * MARGIN + (COLUMNS + 1) * each + GAP, TOP + ROWS * each + MARGIN)
    sheet.text((MARGIN, 16), f"Samples at step {step:,}", "title")
    sheet.text((MARGIN, 46), "training data", "small")
    sheet.text((MARGIN + each + GAP, 46), f"its condition, {STEPS} steps of Heun", "small")
    for row, pictures in enumerate(grid):
        for column, pixels in enumerate(pictures):
            left = MARGIN + column * each + (GAP if column else 0)
            sheet.picture((left, TOP + row * each), pixels, CELL)
    return sheet
