"""Which images made some weights: those of the run, of the run that it started from, and so on.

A checkpoint's `meta` holds the chain as it was when its run began, so that it outlives the
ancestors' folders. What cannot be known for certain is called unknown: weights of other programs,
and runs whose checkpoints were written before the chain was recorded.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from jaxfdsl import checkpoint
from jaxfdsl.interop import weights as foreign

# "kind": "run", "imported", "unknown", or "denoiser", whose samples are trained on; "weights"; of
# runs and denoisers "sources".
Ancestor = dict[str, Any]
NO_REAL_IMAGE = "no real image"


def of_config(config: ConfigDict) -> list[Ancestor]:
    """All that a run's weights come from: those that it starts with, and the denoisers that make
    its images, each followed by its own ancestors."""
    chain = ancestors(config.init_from)
    for entry in config.data.sources.values():
        if entry.kind == "diffusion":
            chain += ancestors(entry.path, kind="denoiser")
    return chain


def ancestors(init_from: str, kind: str = "run") -> list[Ancestor]:
    """Whose weights `config.init_from` hands on, the nearest first; none for the empty path."""
    if not init_from:
        return []
    path, named = epath.Path(os.path.expanduser(init_from)), _run_name(init_from)
    if foreign.is_foreign(path):
        return [{"kind": "imported", "weights": named}]
    try:
        meta = checkpoint.load_meta(path)
        parent = {"kind": kind, "weights": named, "sources": sources(meta["config"])}
        return [parent, *_told_by(meta), *recorded(meta)]
    except (OSError, ValueError, KeyError):
        return [{"kind": "unknown", "weights": named}]


def _told_by(meta: Mapping[str, Any]) -> list[Ancestor]:
    """The weights that a denoiser was told of its images by: an encoder, an autoencoder."""
    condition = meta.get("condition", {})
    told = condition.get("made_by", {})
    encoder = str(told.get("encoder") or told.get("of") or "")
    autoencoder = short(meta["config"].get("model", {}).get("autoencoder", ""))
    plain = condition.get("kind") == "recipe" or encoder.partition(":")[0] in ("oracle", "pixels")
    found = [{"kind": "unknown", "weights": encoder}] if encoder and not plain else []
    return found + ([{"kind": "imported", "weights": autoencoder}] if autoencoder else [])


def recorded(meta: Mapping[str, Any]) -> list[Ancestor]:
    """The ancestors that a checkpoint's metadata tells of.

    The folder that an older checkpoint names may hold another run by now: it is not looked at.
    """
    if "ancestors" in meta:
        return list(meta["ancestors"])
    init_from = meta["config"].get("init_from", "")
    return [{"kind": "unknown", "weights": _run_name(init_from)}] if init_from else []


def sources(config: Mapping[str, Any]) -> list[list[str]]:
    """What a run drew or read, [["exfractaldb-1k", "formula"], ["photos", "folder"]]; paths by
    their last part, since a record travels with the weights."""
    entries = config["data"]["sources"].values()
    return [[entry.get("name") or short(entry.get("path", "")), entry["kind"]] for entry in entries]


def statement(own: Sequence[Sequence[str]], chain: Sequence[Ancestor]) -> str:
    """One sentence on the images behind some weights, from the run's sources and its ancestors.

    It says "no real image" only where every source of every ancestor is known to be a formula:
    stored images count as real, whatever they show, and samples as what their denoiser saw.
    """
    runs = [own, *(ancestor["sources"] for ancestor in chain if "sources" in ancestor)]
    every = [(name, kind) for run in runs for name, kind in run]
    made = [name for name, kind in every if kind == "diffusion"]
    real = [f"{name} ({kind})" for name, kind in every if kind not in ("formula", "diffusion")]
    formulas = [name for name, kind in every if kind == "formula"]
    parts = [f"stored images, taken as real: {_listed(real)}"] if real else []
    for kind, words in (("imported", "imported weights"), ("unknown", "ancestors")):
        names = [ancestor["weights"] for ancestor in chain if ancestor["kind"] == kind]
        if kind == "unknown":  # a checkpoint of before denoisers were recorded
            known = {ancestor["weights"] for ancestor in chain}
            names += [name for name in made if name not in known]
        parts += [f"{words}: unknown ({_listed(names)})"] if names else []
    if not parts:
        parts = [NO_REAL_IMAGE if all(runs) else "sources: unknown"]
    parts += [f"samples of denoisers: {_listed(made)}"] if made else []
    parts += [f"drawn from formulas: {_listed(formulas)}"] if formulas else []
    return "; ".join(parts) + "."


def short(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def _run_name(path: str) -> str:
    """The workdir's name in the path of a checkpoint; the last part of any other path."""
    inside = rf"/({re.escape(checkpoint.BEST)}|checkpoints(/\d+)?)/*$"
    return short(re.sub(inside, "", path) or path)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))
