"""Flow matching: the velocity from an image to noise, at a random point of the straight line.

x_t = (1 - t) x + t e with noise e, whose velocity is e - x (Liu et al., arXiv 2209.03003; Lipman et
al., arXiv 2210.02747); times uniform, or logit-normal (Esser et al., arXiv 2403.03206, 3.1).
"""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxfdsl.objectives.objective import Objective

TIMES = ("uniform", "logit_normal")


@dataclasses.dataclass(frozen=True)
class Denoise(Objective):
    """Mean squared error of `outputs["velocity"]`; a share of the conditions is hidden.

    The batch has `image` float[B, S, S, C], about -1 to 1, and `cond` float[B, K].
    """

    times: str = "uniform"
    hidden: float = 0.1  # share of the conditions that the model does not see

    head: ClassVar[str] = "velocity"
    field: ClassVar[str] = "cond"

    def inputs(self, batch: Mapping[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        """What the model sees, `images`, `times`, `conds` and `known`, and the velocity there,
        `target`."""
        image, cond = batch["image"], batch["cond"]
        time_key, noise_key, hide_key = jax.random.split(key, 3)
        times = draw_times(self.times, time_key, len(image))
        noise = jax.random.normal(noise_key, image.shape, image.dtype)
        share = times.reshape(-1, *(1 for _ in image.shape[1:]))
        return {
            "images": (1 - share) * image + share * noise,
            "times": times,
            "conds": cond,
            "known": jax.random.uniform(hide_key, times.shape) >= self.hidden,
            "target": noise - image,
        }

    def evaluated(self, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Noise that is the same each time, times spread evenly over the batch, no condition
        hidden."""
        seen = dataclasses.replace(self, hidden=0.0).inputs(batch, jax.random.key(0))
        count = len(batch["image"])
        times = (jnp.arange(count, dtype=jnp.float32) + 0.5) / count
        share = times.reshape(-1, *(1 for _ in batch["image"].shape[1:]))
        return {**seen, "times": times, "images": batch["image"] + share * seen["target"]}

    def counts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> dict[str, Float[Array, ""]]:
        """Sums over the valid rows of a batch: the loss, and the rows."""
        loss, _ = self.parts(outputs, batch)
        valid = jnp.sum(batch["valid"])
        return {"loss": loss * jnp.maximum(valid, 1.0), "valid": valid}

    def parts(
        self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The scalar to minimise, a mean over valid rows; there are no sums."""
        wrong = jnp.square(outputs["velocity"] - outputs["target"])
        each = jnp.mean(wrong, axis=tuple(range(1, wrong.ndim)))
        valid = batch.get("valid", jnp.ones(each.shape, each.dtype))
        total = jnp.sum(jnp.where(valid > 0, each * valid, 0.0))
        return total / jnp.maximum(jnp.sum(valid), 1.0), {}

    def metrics(self, sums: Mapping[str, jax.Array]) -> dict[str, Float[Array, ""]]:
        """Nothing beside the loss."""
        return {}


def draw_times(kind: str, key: jax.Array, count: int) -> Float[Array, " {count}"]:
    """Times from 0, the image, to 1, the noise: uniform, or the logistic of a normal number."""
    if kind == "logit_normal":
        return jax.nn.sigmoid(jax.random.normal(key, (count,)))
    return jax.random.uniform(key, (count,))
