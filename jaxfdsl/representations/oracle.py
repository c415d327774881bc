"""The representation that cannot be bettered: of images drawn from formulas, the parameters."""

import numpy as np
from jaxtyping import Float32

from jaxfdsl.config import ConfigError
from jaxfdsl.data import captions
from jaxfdsl.data.materialise import command
from jaxfdsl.data.store.reader import Store

NAME = "oracle"


def parameters(store: Store) -> Float32[np.ndarray, "N D"]:
    """The parameters of each image's category, of a store that `jaxfdsl materialise` wrote.

    The store's card names the command that drew it; the data set is made again, and its
    fingerprint compared. Raises ConfigError for any other store.
    """
    typed, wanted = store.card.get("created_by", ""), store.card.get("formula")
    if not wanted:
        raise ConfigError(
            f"--encoder=oracle: {store.path} was not drawn from formulas, as its card names none: "
            "type another encoder."
        )
    dataset = command.dataset_of(typed)
    if dataset is None or dataset.fingerprint() != wanted:
        raise ConfigError(
            f"--encoder=oracle: the card of {store.path} says that {typed!r} made it, which does "
            "not draw these images: type another encoder, or jaxfdsl materialise them again."
        )
    category = np.asarray(store.column("group"))
    if category.min() < 0 or category.max() >= dataset.num_recipes:
        raise ConfigError(
            f"--encoder=oracle: the column group of {store.path} is not the categories of "
            f"{dataset.name}: jaxfdsl materialise them again."
        )
    return captions.parameters(dataset)[category]
