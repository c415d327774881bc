"""The whole page: one HTML file that needs no other, below a size whatever the runs hold."""

import datetime
import importlib.metadata
import pathlib
from collections.abc import Sequence

from etils import epath

from jaxfdsl import whole_file
from jaxfdsl.config import ConfigError
from jaxfdsl.report.page import charts, cost, images, numbers, panels, pictures, runs, sections
from jaxfdsl.report.page.images import Shown
from jaxfdsl.report.page.markup import Inside, Markup, tag
from jaxfdsl.report.page.runs import Run

LIMIT = 4_800_000  # bytes of a page
_PICTURE = 600_000  # bytes of one picture, at most
_HERE = pathlib.Path(__file__).parent
# The page may load nothing: a browser would refuse what a mistake let in.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
Pictures = tuple[list[Shown], list[str]]  # and sentences on those that are not there


def write(workdirs: Sequence[str], out: epath.PathLike, *, models: bool = True) -> int:
    """Writes the report of some runs and returns its bytes; `models=False` opens no checkpoint for
    pictures. Raises ConfigError for what is no run, and for too many of them.
    """
    found = runs.read_all(workdirs)
    with whole_file.written(out) as file:
        of_models = pictures.of_models(found) if models else None
        page = compose(found, pictures.galleries(found), of_models).encode()
        file.write(page)
    return len(page)


def compose(found: Sequence[Run], galleries: Pictures, models: Pictures | None = None) -> str:
    """The page of some runs, with their galleries and pictures of their models."""
    parts = _parts(found)
    kinds = [galleries, *([models] if models else [])]
    titles = ("Images", "Inside the model" if len(found) == 1 else "Inside the models")
    anchors = ("images", "model")

    def page(uris: Sequence[str]) -> str:
        waiting = iter(uris)
        made = list(parts)
        for anchor, title, (shown, told) in zip(anchors, titles, kinds, strict=False):
            inside = _pictures(shown, [next(waiting) for _ in shown], told, found)
            made.insert(len(made) - 3, sections.section(anchor, title, inside))
        return _document(found, made)

    shown = [picture for kind, _ in kinds for picture in kind]
    room = LIMIT - len(page(["-"] * len(shown)).encode())  # "" would be a picture left out
    if room < 0:
        raise ConfigError(
            f"A page of these {len(found)} runs would be above {LIMIT / 1e6:.1f} MB: name fewer."
        )
    uris: list[str] = []
    for place, picture in enumerate(shown):  # what one leaves of its share is for the next ones
        uris.append(images.data_uri(picture.image, min(_PICTURE, room // (len(shown) - place))))
        room -= len(uris[-1])
    return page(uris)


def _parts(found: Sequence[Run]) -> list[Markup]:
    """The sections without pictures: pictures come before the last three."""
    spent = [cost.of(run) for run in found]
    cards = [
        _card(run, place, spent[place], several=len(found) > 1) for place, run in enumerate(found)
    ]
    return [
        tag("div", cards, class_="cards" if len(found) > 1 else "cards alone"),
        sections.section("results", "Results", sections.results(found)),
        sections.section("curves", "Curves", _curves(found)),
        sections.section("cost", "Cost", sections.costs(found, spent)),
        sections.section("config", "Config", sections.settings_of(found)),
        sections.section("origin", "Provenance", sections.origins(found)),
    ]


def _card(run: Run, place: int, spent: cost.Cost, *, several: bool) -> Markup:
    name = sections.main_result(run)
    figure = None
    if name:
        step, value = runs.best(name, run.results[name])
        told = tag("small", f"best {name}, at step {step:,}")
        figure = tag("p", numbers.metric(name, value), told, class_="figure")
    notes = tag("ul", [tag("li", note) for note in run.notes], class_="notes")
    return tag(
        "article",
        tag("div", tag("h3", sections.named(run, place, True)) if several else None,
            tag("p", sections.subject(run), class_="subject"),
            sections.phrases(sections.summary(run, spent)),
            notes if run.notes else None),
        figure,
        class_="card",
    )  # fmt: skip


def _curves(found: Sequence[Run]) -> Inside:
    groups = panels.charts(found)
    if not groups:
        return tag("p", "No metrics were logged yet.", class_="quiet")
    legend = None
    if len(found) > 1:
        items = [tag("li", tag("i", "", class_=f"dot c{place % charts.COLORS}"), run.name)
                 for place, run in enumerate(found)]  # fmt: skip
        legend = tag("ul", items, class_="legend shared")
    made = [
        (tag("h3", group), tag("div", [charts.figure(chart) for chart in found], class_="charts"))
        for group, found in groups.items()
    ]
    return [legend, made]


def _pictures(
    shown: Sequence[Shown], uris: Sequence[str], told: Sequence[str], found: Sequence[Run]
) -> Inside:
    places = {run.name: place for place, run in enumerate(found)}
    figures = []
    for picture, uri in zip(shown, uris, strict=True):
        owners = [
            tag("span", sections.named(found[places[name]], places[name], True), class_="owner")
            for name in (picture.owners if len(found) > 1 else ())
        ]
        width, height = picture.image.size
        words = f"{picture.title}. {picture.caption}"
        image = tag("img", src=uri, alt=words, width=width, height=height)
        missing = None if uri else tag("p", "Left out: the page has no room for it.")
        caption = tag("figcaption", tag("b", picture.title), " ", picture.caption, owners)
        figures.append(tag("figure", image if uri else missing, caption))
    kind = (
        "pictures" if len(found) > 1 else "pictures flowing" if len(shown) > 1 else "pictures alone"
    )
    grid = tag("div", figures, class_=kind) if figures else None
    none = tag("p", "The folder holds no pictures.", class_="quiet")
    said = [tag("p", sentence, class_="quiet") for sentence in told]
    return [grid, said if said or figures else none]


def _document(found: Sequence[Run], parts: Sequence[Markup]) -> str:
    title = found[0].name if len(found) == 1 else f"{len(found)} runs"
    names = " ".join(run.name for run in found[:4])
    now = datetime.datetime.now(datetime.UTC)
    made = f"jaxfdsl {importlib.metadata.version('jaxfdsl')}, {now:%-d %B %Y, %H:%M} UTC"
    anchors = [
        (tag("a", words, href=f"#{name}"), " ")
        for name, words in (
            ("results", "Results"), ("curves", "Curves"), ("images", "Images"), ("model", "Model"),
            ("cost", "Cost"), ("config", "Config"), ("origin", "Provenance"),
        )
        if any(f'<section id="{name}"' in part for part in parts)
    ]  # fmt: skip
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("title", f"{title if len(found) == 1 else f'{title}: {names}'} · jaxfdsl"),
        tag("style", _file("style.css")),
    )
    body = tag(
        "body",
        tag("header", tag("p", "Run report", class_="eyebrow"), tag("h1", title)),
        tag("nav", anchors, aria_label="sections"),
        tag("main", parts),
        tag("footer", made),
        tag("script", _file("values.js")),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _file(name: str) -> Markup:
    """A file beside this one; it must hold neither < nor &, as the page is XML as well."""
    return Markup((_HERE / name).read_text())
