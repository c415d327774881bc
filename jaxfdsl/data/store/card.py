"""The data card: what the images of a store are, for whoever trains on them or passes them on."""

from collections.abc import Mapping
from typing import Any

from jaxfdsl.config import ConfigError
from jaxfdsl.data.store.layout import FORMAT, Layout, whole

NAME = "README.md"
# What a card should say, in the order in which it is shown; more may be added.
FIELDS = {
    "generator": "what made the images: a model with its version, or a formula",
    "guidance": "classifier-free guidance scale",
    "steps": "sampling steps",
    "sampler": "of the generator",
    "caption_source": "where the captions come from",
    "licence": "of the images, with that of the generator",
    "created_by": "command or person",
    "notes": "anything else",
}
_INHERITED = """\
Images that a model made inherit its biases and what it was trained on, the people and works in it
included, and its licence may limit their use. Captions inherit those of their source."""
_DRAWN = """\
These images are drawn from formulas: no photograph and no model had a part in them."""


def checked(card: Mapping[str, Any]) -> dict[str, Any]:
    """A card as JSON keeps it; raises `ConfigError` for what it cannot hold."""
    made = {}
    for name, value in card.items():
        if isinstance(value, tuple | list):
            value = list(value)
        plain = value if isinstance(value, list) else [value]
        if not isinstance(name, str) or not all(_plain(one) for one in plain):
            raise ConfigError(f"card {name!r}={value!r}: write text, numbers, or a list of them.")
        made[name] = value
    return made


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def missing(card: Mapping[str, Any]) -> list[str]:
    """What someone who passes the images on should still say."""
    made = ("generator", "guidance", "caption_source", "licence")
    needed = () if card.get("formula") else made
    return [name for name in needed if not card.get(name)]


def markdown(layout: Layout) -> str:
    """The card as a page."""
    card = layout.card
    names = [name for name in FIELDS if name in card] + sorted(set(card) - set(FIELDS))
    said = [f"- {name.replace('_', ' ')}: {card[name]}" for name in names]
    said += [f"- {name.replace('_', ' ')}: not stated" for name in missing(card)]
    title = card.get("title") or layout.root.name
    about = "\n".join(said)
    return f"""---
pretty_name: {title}
---

# {title}

Images {layout.images:,}, different captions {layout.captions:,}, in format {FORMAT} of jaxfdsl's
store.

{about}

{_DRAWN if card.get("formula") else _INHERITED}

With this folder as `DIR`:

jaxfdsl:

```python
from jaxfdsl.data import store
data = store.open("DIR")
image, caption = data.read([0])[0], data.captions([0])[0]
```

Grain:

```python
import grain; from jaxfdsl.data import store
data = grain.MapDataset.source(store.open("DIR")).shuffle(seed=0)
image, label = data[0]["image"], data[0]["label"]
```
"""


def write(layout: Layout) -> None:
    """README.md of a store."""
    with whole(layout.root / NAME) as file:
        file.write(markdown(layout).encode())
