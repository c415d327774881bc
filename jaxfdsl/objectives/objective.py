"""What an objective is: what the model sees of a batch, a loss of what it puts out, and metrics."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float

Arrays = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """One term of a run's loss; objectives that see the same inputs share a forward pass."""

    head: ClassVar[str]  # of the model, see `models.heads`
    cross_sample: ClassVar[bool] = False  # whether a sample's loss hangs on the batch's others

    @property
    @abc.abstractmethod
    def field(self) -> str:
        """What a source has to say of its images: "label", "mask", "tokens", ..."""

    def inputs(self, batch: Arrays, key: jax.Array) -> Any:
        """What the model sees: the images."""
        return batch["image"]

    def evaluated(self, batch: Arrays) -> Any:
        """What the model sees in an evaluation, where there is no chance: the images."""
        return batch["image"]

    def loss(
        self, outputs: Arrays, batch: Arrays
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The scalar to minimise, and the metrics of this batch."""
        loss, sums = self.parts(outputs, batch)
        return loss, self.metrics(sums)

    @abc.abstractmethod
    def parts(
        self, outputs: Arrays, batch: Arrays
    ) -> tuple[Float[Array, ""], dict[str, jax.Array]]:
        """The scalar to minimise, a mean over what is valid, and what `metrics` makes its values
        of: sums, so that those of a batch's parts add up to the batch's."""

    @abc.abstractmethod
    def metrics(self, sums: Arrays) -> dict[str, Float[Array, ""]]:
        """Values by name, of the sums of `parts`."""
