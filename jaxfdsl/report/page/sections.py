"""The parts of a page that are words and tables."""

import datetime
import re
from collections.abc import Callable, Iterable, Sequence

from jaxfdsl import checkpoint
from jaxfdsl.report.page import cost, numbers, settings
from jaxfdsl.report.page.charts import COLORS
from jaxfdsl.report.page.markup import Inside, Markup, tag
from jaxfdsl.report.page.runs import Point, Run, best
from jaxfdsl.run import provenance

_MOST_RESULTS = 200  # rows of the table
_DASH = "–"
_COST = (
    "Rates are medians over the lines of metrics; the time is that of steps and of the "
    "evaluations and checkpoints between them, without compilation. FLOP are the model's matrix "
    "products, counted analytically."
)


def section(name: str, title: str, *inside: Inside) -> Markup:
    """A part of the page that its navigation leads to."""
    return tag("section", tag("h2", title), *inside, id=name)


def table(head: Sequence[Inside], rows: Iterable[Sequence[Inside]], kind: str = "") -> Markup:
    """A table whose first column names its rows; it scrolls inside itself where it is too wide."""
    top = tag("tr", [tag("th", cell, scope="col") for cell in head])
    body = [
        tag("tr", tag("th", row[0], scope="row"), [tag("td", cell) for cell in row[1:]])
        for row in rows
    ]
    made = tag("table", tag("thead", top), tag("tbody", body), class_=kind or None)
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label="table")


def dotted(name: str) -> Markup:
    """A field's or metric's name, which may break after a dot or slash."""
    parts = re.split(r"(?<=[./])", name)
    return tag("code", [[tag("wbr") if place else None, part] for place, part in enumerate(parts)])


def named(run: Run, place: int, several: bool) -> list[Inside]:
    """A run's name, behind its colour where there are several."""
    return [tag("i", "", class_=f"dot c{place % COLORS}") if several else None, run.name]


def status(run: Run) -> str:
    """How far it got."""
    ended = run.summary.get("finished") and run.summary.get("steps") == run.steps
    if ended and run.steps >= run.total_steps:
        return f"finished after {run.steps:,} steps"
    if run.total_steps:
        return f"at step {run.steps:,} of {run.total_steps:,}"
    return f"at step {run.steps:,}"


def subject(run: Run) -> str:
    """What was trained on what: "ViT-Ti/16, 224 pixels, on exfractaldb-1k (formula)"."""
    try:
        model = run.config["model"]
        changed = [f"{part} {model[part]}" for part in ("width", "depth") if model.get(part)]
        size = str(model["variant"]).removeprefix("vit_")
        size = {"ti": "Ti", "g": "g"}.get(size, size.upper())
        name = f"ViT{'' if changed else f'-{size}'}/{model['patch_size']}"
        parts = [name, *changed, f"{model['image_size']} pixels"]
        made = [f"{name} ({kind})" for name, kind in provenance.sources(run.config)]
    except (KeyError, TypeError, AttributeError):
        return ""
    return f"{', '.join(parts)}, on {', '.join(made)}"


def main_result(run: Run) -> str:
    """The name of the evaluation value to judge a run by: the config's, or the usual one."""
    results, wanted = run.results, run.config.get("best_metric")
    if wanted in results:
        return str(wanted)
    for metric in ("top1", "miou", "map"):
        found = [name for name in results if name.endswith(f"/{metric}")]
        if found:
            return found[0]
    return next((name for name in results if "loss" not in name), next(iter(results), ""))


def summary(run: Run, spent: cost.Cost) -> list[Inside]:
    """The facts of a run in one line, beside its best value."""
    facts: list[Inside] = []
    name = main_result(run)
    if name:
        step, last = run.results[name][-1]
        if step != best(name, run.results[name])[0]:
            facts.append(["last ", tag("b", numbers.metric(name, last))])
    facts.append(status(run))
    if spent.seconds:
        facts.append(numbers.time(spent.seconds))
    if spent.images_per_second:
        facts.append(f"{numbers.plain(spent.images_per_second)} images/s")
    facts += [run.devices] if run.devices else []
    return facts


def phrases(facts: Iterable[Inside]) -> Markup:
    """Facts that stay whole where a line breaks."""
    return tag("p", [[tag("span", fact), " "] for fact in facts], class_="facts")


def results(runs: Sequence[Run]) -> Inside:
    """The last and the best value of every evaluation."""
    found = [run.results for run in runs]
    names = list(dict.fromkeys(name for result in found for name in result))
    if not names:
        return tag("p", "No evaluation has been made yet.", class_="quiet")
    more = len(names) - _MOST_RESULTS
    told = (
        tag("p", f"{more} further evaluations are left out.", class_="quiet") if more > 0 else None
    )
    names = names[:_MOST_RESULTS]
    if len(runs) == 1:
        rows = [_result_row(name, found[0][name]) for name in names]
        return [table(("Evaluation", "Last", "Best", "at step"), rows), told]
    head = ["Evaluation", *[named(run, place, True) for place, run in enumerate(runs)]]
    return [table(head, [_compared(name, found) for name in names], "compared"), told]


def _result_row(name: str, points: Sequence[Point]) -> list[Inside]:
    step, value = best(name, points)
    last = numbers.metric(name, points[-1][1])
    return [dotted(name), last, tag("b", numbers.metric(name, value)), f"{step:,}"]


def _compared(name: str, found: Sequence[dict[str, list[Point]]]) -> list[Inside]:
    """A row of the best values, with the last one below, and the best of all set off."""
    bests = [best(name, result[name]) if name in result else None for result in found]
    known = [(0, point[1]) for point in bests if point]
    top = best(name, known)[1]
    row: list[Inside] = [dotted(name)]
    for result, point in zip(found, bests, strict=True):
        if point is None:
            row.append(tag("span", _DASH, class_="quiet"))
            continue
        shown = numbers.metric(name, point[1])
        last_step, last = result[name][-1]
        below: list[Inside] = [f"step {point[0]:,}"]
        if last_step != point[0]:
            below = [f"step {point[0]:,}, last ", numbers.metric(name, last)]
        row.append([tag("b", shown, class_="top") if point[1] == top and len(known) > 1 else shown,
                    tag("small", below)])  # fmt: skip
    return row


def costs(runs: Sequence[Run], spent: Sequence[cost.Cost]) -> Inside:
    """What the runs took: tiles for one, a table for several; without what no run knows."""
    columns = [_cost_cells(run, taken) for run, taken in zip(runs, spent, strict=True)]
    titles = [title for title in columns[0] if any(column[title] for column in columns)]
    if not titles:
        return tag("p", "Nothing was logged of it yet.", class_="quiet")
    told = tag("p", _COST, class_="quiet")
    if len(runs) == 1:
        tiles = [tag("div", tag("dt", title), tag("dd", columns[0][title])) for title in titles]
        return [tag("dl", tiles, class_="tiles"), told]
    unknown = tag("span", _DASH, class_="quiet")
    rows = [[title, *[column[title] or unknown for column in columns]] for title in titles]
    return [table(["", *[named(run, place, True) for place, run in enumerate(runs)]], rows), told]


def _cost_cells(run: Run, spent: cost.Cost) -> dict[str, Inside]:
    """Every row's cell by its title; None for what is not known."""

    def cell(value: float | None, how: Callable[[float], str]) -> Inside:
        return None if value is None else numbers.exact(value, how(value))

    def count(value: float) -> str:
        return f"{value:,.0f}"

    def flop(value: float) -> str:
        return numbers.scaled(value, "FLOP")

    shares = {
        "Waiting for input": "input_wait",
        "Drawing": "drawing",
        "Evaluation": "evaluation",
        "Checkpoints": "checkpoint",
    }
    return {
        "Devices": run.devices or None,
        "Parameters": cell(spent.parameters, count),
        "Images": cell(spent.images, count),
        "Images a second": cell(spent.images_per_second, numbers.plain),
        "Steps a second": cell(spent.steps_per_second, numbers.plain),
        "Time": cell(spent.seconds, numbers.time),
        "Model FLOP utilisation": cell(spent.mfu, numbers.percent),
        "Training FLOP": cell(spent.flop, flop),
        **{k: cell(spent.shares.get(share), numbers.percent) for k, share in shares.items()},
    }


def settings_of(runs: Sequence[Run]) -> Inside:
    """What was chosen; of several runs only the differences. All fields are folded away."""
    known = [run for run in runs if run.config]
    folded = [
        tag(
            "details",
            tag("summary", f"All fields of {run.name}" if len(runs) > 1 else "All fields"),
            table(("Field", "Value"), [(dotted(name), tag("code", settings.shown(value)))
                                       for name, value in settings.flat(run.config).items()],
                  "fields"),
        )
        for run in known
    ]  # fmt: skip
    if not known:
        return tag("p", "No config was found.", class_="quiet")
    if len(runs) == 1:
        return [_chosen(known[0]), folded]
    return [_differing(runs), folded]


def _chosen(run: Run) -> Inside:
    rows = [
        (dotted(name), tag("code", settings.shown(value)),
         tag("code", settings.shown(usual) if usual is not None else _DASH, class_="quiet"))
        for name, (value, usual) in settings.chosen(run.config).items()
    ]  # fmt: skip
    return table(("Field", "Chosen", "Default"), rows, "fields")


def _differing(runs: Sequence[Run]) -> Inside:
    rows = settings.differing([run.config for run in runs])
    if not rows:
        return tag("p", "The configs do not differ.", class_="quiet")
    head = ["Field", *[named(run, place, True) for place, run in enumerate(runs)]]
    cells = [
        [dotted(name), *[tag("code", settings.shown(value)) for value in values]]
        for name, values in rows.items()
    ]
    return [tag("p", "Only what differs:", class_="quiet"), table(head, cells, "fields")]


def origins(runs: Sequence[Run]) -> Inside:
    """Whose images made the weights, and what made the run."""
    return tag(
        "dl",
        [
            (tag("dt", named(run, place, True)) if len(runs) > 1 else None,
             tag("dd", origin(run), _made_with(run)))
            for place, run in enumerate(runs)
        ],
    )  # fmt: skip


def origin(run: Run) -> str:
    """The sentence of `provenance`, by the newest checkpoint's record of its ancestors."""
    if not run.config:
        return "Its config is missing: what it was trained on is unknown."
    try:
        try:
            meta = checkpoint.load_meta(run.workdir)
        except (OSError, ValueError, KeyError):  # none was saved, or it is broken
            meta = {"config": run.config}
        chain = provenance.recorded(meta)
        said = provenance.statement(provenance.sources(run.config), chain)
    except (KeyError, TypeError, AttributeError):
        return "Its config has no sources that can be read: what it was trained on is unknown."
    return said[:1].upper() + said[1:]


def _made_with(run: Run) -> Markup | None:
    starts = run.facts.get("starts")
    if not isinstance(starts, list) or not starts or not isinstance(starts[-1], dict):
        return None
    last, times = starts[-1], len(starts)
    versions = last.get("versions")
    packages = [f"{k} {v}" for k, v in versions.items()] if isinstance(versions, dict) else []
    begun = f"begun {_date(starts[0].get('time'))}" if isinstance(starts[0], dict) else ""
    again = f"started {times} times" if times > 1 else ""
    return tag("small", ", ".join(filter(None, [begun, again, *packages])))


def _date(written: object) -> str:
    try:
        return f"{datetime.datetime.fromisoformat(str(written)):%-d %B %Y, %H:%M UTC}"
    except ValueError:
        return str(written)
