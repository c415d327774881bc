"""The verb `select`: from a store and a score to an index list and a picture of it."""

import difflib
import pathlib
from typing import Any

import numpy as np

from jaxfdsl.config import ConfigError
from jaxfdsl.data import store
from jaxfdsl.data.store import columns
from jaxfdsl.data.store.reader import Store
from jaxfdsl.select import representation
from jaxfdsl.select import rows as choice

# Columns whose equal values are a group.
PER = {"class": "label", "caption": "caption", "recipe": "group", "all": ""}


def run(options: Any) -> None:
    """Writes STORE/index/OUT.npy, .json and .png; raises ConfigError for what cannot be chosen."""
    options.rep = options.rep.removeprefix("rep:")
    _check(options)
    opened = store.open(options.store)
    among = opened.index(options.index) if options.index else np.arange(len(opened))
    groups = _groups(opened, options.per, among)
    name = _scored(opened, options)
    found = opened.column(name)
    if found.ndim != 1:
        raise ConfigError(
            f"--by={name} has {found.shape[1:]} numbers an image: type a column of one."
        )
    scores = np.full(len(opened), -np.inf)  # of images that are not to be used
    scores[among] = found[among]
    try:
        kept = _kept(scores, groups, options)
    except choice.NotScored as error:
        raise ConfigError(f"--by={name}: {error}: write that column again.") from error
    scored = columns.described(columns.sidecar_file(opened.path, name)).get("made_by", {})
    made_by: dict[str, Any] = {"verb": "select", "by": name, "keep": options.keep}
    made_by |= {"per": options.per, "which": _which(options), "scored": scored}
    made_by |= {"among": options.index} if options.index else {}
    store.write_index(opened.path, options.out, kept, made_by)
    picture = columns.index_file(opened.path, options.out).with_suffix(".png")
    _draw(picture, opened, scores, kept, name)
    told = "" if _which(options) == "best" else f" ({_which(options)})"
    print(f"{len(kept)} of {len(among)} images{told}: index {options.out!r} of {opened.path}")
    print(f"mean {name}: {_mean(scores[kept]):.4f} of those, {_mean(scores):.4f} of all")
    print(f"the best and the worst: {picture}")


def _scored(opened: Store, options: Any) -> str:
    """The name of the column, which is written first where it is made here."""
    if options.by in representation.SCORES:
        beside = representation.Beside(
            real=options.real,
            index=options.real_index,
            split=options.split,
            data_dir=options.data_dir,
            k=options.k,
            metric=options.metric,
        )
        return representation.write(opened, options.by, options.rep, beside, options.index)
    if options.by != "agreement":
        return str(options.by)
    from jaxfdsl.select import agreement

    agreement.write(opened, options.model)
    return agreement.NAME


def _which(options: Any) -> str:
    if options.random is not None:
        return f"random {options.random}"
    return "worst" if options.worst else "best"


def _kept(scores: np.ndarray, groups: np.ndarray, options: Any) -> np.ndarray:
    if options.random is not None:
        return choice.chance(scores, groups, options.keep, options.random)
    return (choice.worst if options.worst else choice.best)(scores, groups, options.keep)


def _check(options: Any) -> None:
    kind, _, rest = options.by.partition(":")
    made = options.by in representation.SCORES
    if options.by != "agreement" and not made and not (kind == "score" and rest):
        close = difflib.get_close_matches(options.by, ("agreement", *representation.SCORES), 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(
            f"--by={options.by} is no score: type score:NAME, agreement or one of "
            f"{', '.join(representation.SCORES)}{hint}."
        )
    if made != bool(options.rep):
        raise ConfigError(
            f"--by={options.by} needs --rep: type the NAME of the column rep:NAME that jaxfdsl "
            "embed wrote."
            if made
            else f"--rep={options.rep} is for the scores {', '.join(representation.SCORES)}: leave "
            "it out."
        )
    near_real = options.by in representation.NEAR_REAL
    if near_real and not options.real:
        raise ConfigError(f"--by={options.by} needs --real: type the store of the real images.")
    if not near_real and (options.real or options.real_index):
        raise ConfigError(
            f"--real and --real_index are for --by={', '.join(representation.NEAR_REAL)}: leave "
            "them out."
        )
    if options.metric not in representation.METRICS:
        raise ConfigError(
            f"--metric={options.metric}: type one of {', '.join(representation.METRICS)}."
        )
    if options.worst and options.random is not None:
        raise ConfigError("--worst and --random exclude each other: type one of them.")
    if (options.by == "agreement") != bool(options.model):
        raise ConfigError(
            "--by=agreement needs --model: type the workdir of a run with objective.align."
            if options.by == "agreement"
            else f"--model={options.model} is for --by=agreement, and --by={options.by} is there "
            "already: leave it out."
        )
    if not 0 < options.keep <= 1:
        raise ConfigError(f"--keep={options.keep}: type a share above 0, up to 1, such as 0.5.")
    if options.per not in PER:
        raise ConfigError(f"--per={options.per}: type one of {', '.join(PER)}.")
    columns.index_file(pathlib.Path(), options.out)  # refuses what is no name, before the work


def _groups(opened: Store, per: str, among: np.ndarray) -> np.ndarray:
    """A number a row, equal for those that are chosen among each other."""
    if not PER[per]:
        return np.zeros(len(opened), np.int64)
    groups = np.asarray(opened.column(PER[per]), np.int64)
    without = among[groups[among] < 0]
    if len(without):
        raise ConfigError(
            f"--per={per}: image {without[0]} of {opened.path} has no {per}, as {len(without)} of "
            f"{len(among)}: type --per=all."
        )
    return groups


def _mean(scores: np.ndarray) -> float:
    finite = scores[np.isfinite(scores)]
    return float(finite.mean()) if len(finite) else float("nan")


def _draw(
    path: pathlib.Path, opened: Store, scores: np.ndarray, kept: np.ndarray, name: str
) -> None:
    from jaxfdsl.select import contact_sheet

    title = f"{opened.path.name} by {name}: {len(kept)} kept"
    contact_sheet.write(path, opened, scores, kept, title)
