"""The pictures of a page: galleries that runs left, and pictures made of their newest weights."""

from collections.abc import Callable, Sequence
from typing import Any

from etils import epath
from PIL import Image

from jaxfdsl.report.page.images import Shown
from jaxfdsl.report.page.runs import Run

MOST = 24  # of each kind, on a page
_LARGEST = 64 << 20  # bytes of a file that is opened at all
_CURVES = "curves.png"  # the page draws them itself
_CAPTIONS = {
    "gallery": "What the training images look like, before augmentation.",
    "samples": "What the denoiser makes; each row begins with the image that lent its condition.",
}


def galleries(runs: Sequence[Run]) -> tuple[list[Shown], list[str]]:
    """The PNG files in the runs' folders, equal ones once; and what could not be shown."""
    found: dict[bytes, tuple[Image.Image, str, list[str]]] = {}
    told: list[str] = []
    for run in runs:
        for path in _files(run):
            try:
                if path.stat().length > _LARGEST:
                    raise ValueError("too large")
                content = path.read_bytes()
                if content not in found:
                    found[content] = (_opened(path), path.name, [])
                found[content][2].append(run.name)
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
                told.append(f"{run.name}: {path.name} cannot be read as a picture.")
    made = [Shown(*_caption(name), image, tuple(owners)) for image, name, owners in found.values()]
    return _bounded(made, told, "pictures")


def _files(run: Run) -> list[epath.Path]:
    folder = epath.Path(run.workdir)
    pictures = [path for path in folder.iterdir() if path.name.lower().endswith(".png")]
    ordered = sorted(pictures, key=lambda path: (not path.name.startswith("gallery"), path.name))
    return [path for path in ordered if path.name != _CURVES]


def _opened(path: epath.Path) -> Image.Image:
    with path.open("rb") as file, Image.open(file) as image:
        image.load()
        return image.copy()


def _caption(name: str) -> tuple[str, str]:
    stem = name.rpartition(".")[0]
    return _words(stem), _CAPTIONS.get(stem, "")


def _words(name: str) -> str:
    spaced = name.replace("_", " ")
    return spaced[:1].upper() + spaced[1:]


def of_models(
    runs: Sequence[Run], make: Callable[[str], Sequence[Any]] | None = None
) -> tuple[list[Shown], list[str]]:
    """Filters, attention and the like of each run's newest checkpoint; and why there are none."""
    if make is None:
        from jaxfdsl.report import model_pictures

        make = model_pictures.pictures
    found: list[tuple[int, Shown]] = []
    told: list[str] = []
    for run in runs:
        try:
            made = make(run.workdir)
            shown = [Shown(_words(p.name), p.caption, p.image, (run.name,)) for p in made]
            found += enumerate(shown)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            told.append(f"{run.name} has no pictures of its model: {' '.join(str(error).split())}")
    # The same kind of picture of all runs side by side.
    ordered = [picture for _, picture in sorted(found, key=lambda placed: placed[0])]
    return _bounded(ordered, told, "pictures of models")


def _bounded(found: list[Shown], told: list[str], what: str) -> tuple[list[Shown], list[str]]:
    left_out = len(found) - MOST
    if left_out > 0:
        told = [*told, f"{left_out} further {what} are left out: name fewer runs to see them."]
    return found[:MOST], told
