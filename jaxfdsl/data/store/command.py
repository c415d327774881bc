"""What `jaxfdsl store ACTION` does with its options."""

import json
import shlex
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxfdsl import terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data.store import card as cards
from jaxfdsl.data.store import columns, exporting, importing
from jaxfdsl.data.store.columns import write_index
from jaxfdsl.data.store.groups import grouped
from jaxfdsl.data.store.reader import Store


def run(options: Any) -> None:
    """Do what was asked for; raises ConfigError for what cannot be."""
    if options.action not in ACTIONS:
        raise ConfigError(f"{options.action!r} is no action: type one of {', '.join(ACTIONS)}.")
    ACTIONS[options.action](options)


def _import(options: Any) -> None:
    asked = [kind for kind in importing.KINDS if getattr(options, kind)]
    if len(asked) != 1:
        raise ConfigError(
            "type one of --csv=FILE, --webdataset, --parquet and --stores: what FOLDER is."
        )
    total = importing.run(
        options.folder,
        _out(options),
        asked[0],
        file=options.csv,
        merge_captions=options.merge_captions,
        card={**_stated(options.card)},
        shard_images=options.shard_images,
    )
    print(f"{options.out}: {total:,} images")


def _export(options: Any) -> None:
    manifest = exporting.export(
        Store(options.folder), options.to, _out(options), shard_images=options.shard_images
    )
    images = sum(file["images"] for file in manifest.files.values())
    print(f"{manifest.out}: {images:,} images, files {len(manifest.files):,}")


def _check(options: Any) -> None:
    opened = Store(options.folder)
    shards = len(opened.layout.shards)
    with terminal.progress(shards, desc="checked", unit="files") as bar:
        for _ in opened.verify():
            bar.update()
    print(f"{opened.path}: {len(opened):,} images in {shards:,} shards are as they were written")


def _info(options: Any) -> None:
    for line in lines(Store(options.folder)):
        print(line)


def _index(options: Any) -> None:
    size, captioned = options.group_size, options.captioned
    if size < 1 and not captioned:
        raise ConfigError(
            "type --group_size=N, the images that a caption must have, or --captioned."
        )
    opened = Store(options.folder)
    kept = np.arange(len(opened))
    if captioned:
        kept = np.flatnonzero(np.asarray(opened.column("caption")) >= 0)
    if size > 0:
        kept = kept[np.asarray(opened.column("group"))[kept] >= 0]
        made = grouped(np.asarray(opened.column("group"))[kept])
        enough = np.repeat(made.counts >= size, made.counts)
        kept = np.sort(kept[made.places(np.flatnonzero(enough))])
    name = options.name or "-".join(["captioned"] * captioned + [f"groups-of-{size}"] * (size > 0))
    made_by = {"group_size": size, "captioned": captioned, "of": len(opened)}
    write_index(opened.path, name, kept, made_by)
    print(f"{columns.index_file(opened.path, name)}: {len(kept):,} of {len(opened):,} images")


ACTIONS: dict[str, Callable[[Any], None]] = {
    "import": _import,
    "export": _export,
    "check": _check,
    "info": _info,
    "index": _index,
}


def lines(store: Store) -> list[str]:
    """What `jaxfdsl store info` says."""
    layout = store.layout
    size = sum(shard.bytes for shard in layout.shards)
    labels, groups, caption = (store.column(name) for name in ("label", "group", "caption"))
    counts = np.unique(groups[groups >= 0], return_counts=True)[1]
    ends = np.asarray(store._ends)
    longest = int(np.diff(ends, prepend=0).max()) if len(ends) else 0
    said = [
        f"images          {len(store):,} in {len(layout.shards):,} shards, {size / 1e6:,.1f} MB",
        f"written         {'to the end' if layout.closed else 'not to the end, or still at it'}",
        f"labelled        {int((labels >= 0).sum()):,}, named classes {len(store.classes):,}",
        f"groups          {len(counts):,}"
        + (f" of {counts.min():,} to {counts.max():,} images" if len(counts) else ""),
        f"captions        {layout.captions:,} different ones, the longest {longest:,} bytes; "
        f"{int((caption < 0).sum()):,} images have none",
        f"sources         {', '.join(filter(None, store.sources)) or 'not named'}",
        f"columns         {', '.join(store.columns)}",
        f"indexes         {', '.join(store.indexes) or 'none'}",
    ]
    for name in store.columns:
        if ":" in name:
            about = columns.described(columns.sidecar_file(store.path, name))
            said.append(f"{name:<15} {_maker(about)}{json.dumps(about['statistics'])}")
    said += [f"{name:<15} {value}" for name, value in layout.card.items()]
    said += [f"{name:<15} not stated" for name in cards.missing(layout.card)]
    return said


def _maker(about: dict[str, Any]) -> str:
    """How many numbers an image a sidecar column has, and of which encoder or column."""
    width, made_by = about["shape"][1:], about.get("made_by", {})
    by = made_by.get("encoder") or made_by.get("of") or made_by.get("by")
    numbers = [f"{'x'.join(map(str, width))} numbers"] if width else []
    told = [*numbers, *([f"by {by}"] if isinstance(by, str) else [])]
    return ", ".join(told) + ": " if told else ""


def _out(options: Any) -> str:
    if not options.out:
        raise ConfigError(f"type --out=DIR: where {options.action} is to write.")
    return options.out


def _stated(given: list[str]) -> dict[str, Any]:
    """`--card name=value` of each."""
    made = {}
    for one in given:
        name, sign, value = one.partition("=")
        if not sign or not name:
            raise ConfigError(
                f"--card {shlex.quote(one)}: type --card name=value, such as licence=mit."
            )
        made[name] = value
    return made
