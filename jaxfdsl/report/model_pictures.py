"""What a model has learned, as pictures: filters, attention, positions, distances, neighbours."""

import dataclasses
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jaxtyping import UInt8
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from PIL import Image

from jaxfdsl import compile_cache, evaluate, terminal, whole_file
from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.data import augment
from jaxfdsl.evals.features import collect
from jaxfdsl.evaluate import Asked
from jaxfdsl.models import attention_maps, vit
from jaxfdsl.report import attention_distance, attention_sheet, filters, neighbours, positions
from jaxfdsl.report import samples as samples_lib
from jaxfdsl.report.checkpoint_model import Loaded, load
from jaxfdsl.report.samples import Samples

IMAGES, AMONG = 6, 256  # shown, and those among which neighbours are looked for
_FOR_DISTANCE = 32  # images over which attention distances are averaged
_OPTION = re.compile(r"(--config\.)?(--data|(?<=--config\.)data)\.")
_AT_ONCE = 2**28  # bytes of attention probabilities
_FEATURES_AT_ONCE = 32  # images

Images = UInt8[np.ndarray, "n S S 3"]
Read = Callable[[Any, jax.Array], Mapping[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture of a model, with a sentence on what it shows; `name` is that of its file."""

    name: str
    caption: str
    image: Image.Image


def pictures(workdir: str) -> list[Picture]:
    """All pictures of a run's newest checkpoint, on its own training images; without data that can
    be found, those that need none. Raises ConfigError, as `jaxfdsl.report.checkpoint_model.load`.
    """
    return list(make(load(workdir), {}, tell=lambda sentence: None))


def write(
    workdir: str, out: str, asked: Asked, *, images: int = IMAGES, among: int = AMONG
) -> None:
    """Writes them all as PNG files to the folder `out` (default: WORKDIR/pictures), and prints
    which; `asked` says of which step, and of which data in place of the run's own: any that
    `jaxfdsl evaluate` takes, or "formula:NAME". Raises ConfigError.
    """
    if images < 1 or among < 2:
        raise ConfigError(
            f"--images={images} --among={among}: type an image or more, among two or more."
        )
    compile_cache.enable()
    loaded = load(workdir, asked.step)
    place = epath.Path(workdir)
    folder = epath.Path(out or (place if place.is_dir() else place.parent) / "pictures")
    print(loaded.words)
    try:
        data = {"--data": _entry(asked)} if asked.data else {}
        for picture in make(loaded, data, images=images, among=among, tell=print):
            with whole_file.written(folder / f"{picture.name}.png") as file:
                picture.image.save(file, "PNG", optimize=True)
            print(f"{folder / picture.name}.png: {picture.caption}", flush=True)
    except ConfigError as error:  # about a recipe's field, which is an option here
        raise ConfigError(_OPTION.sub("--", str(error))) from error


def _entry(asked: Asked) -> ConfigDict:
    kind, _, name = asked.data.partition(":")
    if kind == "formula":
        return config_lib.formula_source(name)
    return evaluate.test_set(asked)


def make(
    loaded: Loaded,
    data: Mapping[str, ConfigDict],
    *,
    images: int = IMAGES,
    among: int = AMONG,
    tell: Callable[[str], None],
) -> Iterator[Picture]:
    """Each picture as it is made, on the images of `data`, or of the run's own sources.

    Own data that is not there leaves pictures out, and `tell` gets a sentence; that of `data`
    raises ConfigError.
    """
    yield _filters(loaded)
    yield _positions(loaded)
    own = dict(loaded.config.data.sources.items())
    if not data and not own:
        tell("Weights alone have no images: type --data=tfds:NAME to see attention and neighbours.")
        return
    try:
        shown = _samples(loaded.config, data or own, among, "" if data else "data.sources.")
    except (ConfigError, OSError) as error:
        if data:
            raise
        tell(f"No attention and no neighbours, as the run's images are not there: {error}")
        return
    chosen = shown.apart(images)
    yield from _attention(loaded, shown, chosen)
    yield _neighbours(loaded, shown, chosen)


def _samples(
    config: ConfigDict, data: Mapping[str, ConfigDict], among: int, prefix: str
) -> Samples:
    """As many of each source."""
    parts, each = [], max(2, among // len(data))
    for name, entry in data.items():
        with terminal.waiting("drawing or reading images"):
            parts.append(samples_lib.of_entry(entry, config, each, f"{prefix}{name}"))
    return functools.reduce(lambda a, b: a + b, parts)


def _filters(loaded: Loaded) -> Picture:
    image = filters.draw(np.asarray(loaded.params["patch_embed"]["kernel"], np.float32))
    caption = (
        "The first layer: principal components of its filters, as in Dosovitskiy et al. 2021, "
        "figure 7, and single filters."
    )
    return Picture("filters", caption, image)


def _positions(loaded: Loaded) -> Picture:
    prefix = int(loaded.model.design.pool == "token")
    embedded = np.asarray(loaded.params["pos_embed"], np.float32)
    caption = (
        "Position embeddings: a tile a patch of the image, in it the cosine of the patch's "
        "embedding with every other one's."
    )
    return Picture(
        "positions", caption, rendered(positions.draw(positions.similarity(embedded, prefix)))
    )


@functools.partial(jax.jit, static_argnames="design")
def _read_out(params: Any, images: jax.Array, design: vit.Design) -> dict[str, jax.Array]:
    """What is drawn of the attention of a few images: probabilities stay on the device."""
    _, weights = attention_maps.read_out(params, images, design)
    distance = attention_maps.mean_distance(weights, design.side, design.patch_size)
    return {
        "heads": attention_maps.received(weights[-1], design.pool),
        "rollout": attention_maps.received(attention_maps.rollout(weights), design.pool),
        "distance": distance.swapaxes(0, 1),
    }


def _attention(loaded: Loaded, shown: Samples, chosen: list[int]) -> Iterator[Picture]:
    design = loaded.model.design
    others = [number for number in shown.apart(_FOR_DISTANCE) if number not in chosen]
    rows = [*chosen, *others][: max(_FOR_DISTANCE, len(chosen))]
    once = max(1, _AT_ONCE // (4 * design.size.depth * design.size.num_heads * design.tokens**2))
    read = functools.partial(_read_out, design=design)
    found = _by_parts(read, loaded, shown.images[rows], min(once, 8), "attention")
    images, heads, rolled = shown.images[chosen], found["heads"], found["rollout"]
    count = len(chosen)
    yield Picture(
        "attention",
        _words(design.pool),
        attention_sheet.draw(images, heads[:count], rolled[:count], design.pool),
    )
    distances = found["distance"].mean(0)
    caption = (
        f"Mean attention distance: how far, in pixels, each head of each block looks, over "
        f"{len(rows)} images."
    )
    figure = attention_distance.draw(distances, design.image_size, _even_distance(design))
    yield Picture("distance", caption, rendered(figure))


def _words(pool: str) -> str:
    first = (
        "Attention from the class token to each patch, by each head of the last block"
        if pool == "token"
        else "The model averages its patches and has no class token: this is what each patch gets "
        "of the attention of all, by each head of the last block"
    )
    return f"{first}, and rolled out through all blocks (Abnar and Zuidema 2020)."


def _even_distance(design: vit.Design) -> float:
    """That of a head that looks at all patches alike."""
    even = jax.numpy.full((design.side**2,) * 2, 1 / design.side**2)
    return float(attention_maps.mean_distance(even, design.side, design.patch_size))


def _neighbours(loaded: Loaded, shown: Samples, chosen: list[int]) -> Picture:
    read = jax.jit(functools.partial(loaded.model.apply, train=False))
    found = _by_parts(read, loaded, shown.images, _FEATURES_AT_ONCE, "features")
    near = neighbours.find(found["features"], shown, chosen)
    hits = [other.same for row in near for other in row]
    caption = (
        f"Nearest neighbours by the cosine of features among {len(shown.images)} images of "
        f"{shown.name}: {sum(hits)} of {len(hits)} share a class with their query."
    )
    return Picture("neighbours", caption, neighbours.draw(shown, chosen, near))


def _by_parts(read: Read, loaded: Loaded, images: Images, once: int, what: str) -> Any:
    """Arrays with a row an image, of `read`, a function of parameters and normalised images that is
    given `once` at a time.
    """

    def batches() -> Iterator[dict[str, Any]]:
        with terminal.progress(len(images), desc=what, unit="images") as bar:
            for first in range(0, len(images), once):
                places = np.arange(first, first + once)
                shown = augment.normalise(images[places % len(images)], loaded.config.augment)
                yield {"image": shown, "valid": places < len(images)}
                bar.update(min(once, len(images) - first))

    def step(params: Any, rows: Any) -> dict[str, Any]:
        return {**read(params, rows["image"]), "valid": rows["valid"]}

    return collect(step, loaded.params, batches())


def rendered(figure: Figure) -> Image.Image:
    """A Matplotlib figure as a picture, with the pixels of `curves.png`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
