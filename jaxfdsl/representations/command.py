"""What `jaxfdsl embed` does with its options."""

import difflib
import pathlib
import re
from typing import Any

import numpy as np

from jaxfdsl import compile_cache, config, terminal
from jaxfdsl.config import ConfigError
from jaxfdsl.data import sources
from jaxfdsl.data.condition import ASKED
from jaxfdsl.data.records import Records
from jaxfdsl.data.store import columns, write_column
from jaxfdsl.data.store.source import StoreRecords
from jaxfdsl.representations import clusters, latent_writing, oracle, writing
from jaxfdsl.representations.encoders import Encoder, open_encoder, pixels


def run(options: Any) -> None:
    """Write the column that was asked for; raises ConfigError for what cannot be."""
    _check(options)
    records = opened(options.data, options.split, options.data_dir, options.label)
    compile_cache.enable()
    kind = "cluster" if options.clusters else "latent" if options.autoencoder else "rep"
    own = options.name.removeprefix(f"{kind}:")
    if f"{kind}:{own}" == ASKED:
        raise ConfigError(
            f"--name={options.name} is kept for what jaxfdsl materialise asked images for: type "
            "another."
        )
    if options.clusters:
        _cluster(records, f"cluster:{own}", options)
    elif options.encoder == oracle.NAME:
        _oracle(records, f"rep:{own}", options.replace)
    elif options.autoencoder:
        size = options.image_size
        latent_writing.write(records, f"latent:{own}", options.autoencoder, size, _how(options))
    else:
        how, name = _how(options), f"rep:{own}"
        writing.place(records, name)  # refuses what is no name, before a model is read
        writing.write(records, name, _encoder(options.encoder), how)


def _how(options: Any) -> writing.How:
    return writing.How(
        batch=options.batch,
        flip=options.flip,
        max_corrupt=options.max_corrupt,
        replace=options.replace,
        canvas=options.size,
    )


def opened(place: str, split: str, data_dir: str, label: str = "label") -> Records:
    """The pictures of a store's folder, or of tfds:NAME. Raises ConfigError."""
    kind, sign, name = place.partition(":")
    if sign and kind in ("folder", "parquet"):
        raise ConfigError(
            f"{place}: a {kind} has no place for columns: type a store or tfds:NAME, or import "
            "the pictures into a store (jaxfdsl store import)."
        )
    if sign and not name:
        raise ConfigError(f"{place}: type the data set's name behind it, such as tfds:cifar10.")
    if sign and kind == "tfds":
        entry = config.tfds_source(name, split=split, data_dir=data_dir, label=label)
    else:
        entry = config.store_source(name if sign and kind == "store" else place)
    try:
        source = sources.build(entry, seed=0, train=False, field="embed")
    except ConfigError as error:
        sentence = re.sub(r"\bembed\.(path|name)=", "", str(error))
        sentence = re.sub(r"(--config\.)?\b(embed|data)\.", "--", sentence)
        raise ConfigError(sentence) from error
    return source.records  # type: ignore[attr-defined]


def _encoder(spec: str) -> Encoder:
    family, sign, rest = spec.partition(":")
    if sign and family == "pixels":
        return pixels.open_pixels(rest)
    without = {"pixels": "pixels:8", oracle.NAME: oracle.NAME}  # of no weights
    near = difflib.get_close_matches(family.lower(), without, 1, 0.75)
    if near and not pathlib.Path(spec).exists():
        raise ConfigError(f"--encoder={spec} is not known: type {without[near[0]]}.")
    return open_encoder(spec)


def _check(options: Any) -> None:
    if sum(map(bool, (options.encoder, options.clusters, options.autoencoder))) != 1:
        raise ConfigError(
            "type --encoder=SPEC for a column of representations, --clusters=1000 --of=rep:NAME "
            "for one of clusters, or --autoencoder=PATH --image_size=256 for one of latents."
        )
    if bool(options.image_size) != bool(options.autoencoder):
        raise ConfigError(
            f"--image_size={options.image_size} is the model.image_size of the run that reads "
            "latents: type it beside --autoencoder, and nowhere else."
        )
    if options.size and not options.autoencoder:
        raise ConfigError(
            f"--size={options.size} is the size of the source that reads latents: leave it out, or "
            "type --autoencoder=PATH."
        )
    if options.clusters and not options.of.startswith("rep:"):
        raise ConfigError(f"--of={options.of}: type the column to cluster, rep:NAME.")
    if options.clusters == 1:
        raise ConfigError("--clusters=1 tells nothing apart: type 2 or more.")
    if not 0 <= options.max_corrupt < 1:
        raise ConfigError(f"--max_corrupt={options.max_corrupt}: type a share from 0, below 1.")


def _oracle(records: Records, name: str, replace: bool) -> None:
    if not isinstance(records, StoreRecords):
        raise ConfigError(
            "--encoder=oracle reads the formulas' parameters of a store that jaxfdsl materialise "
            "wrote: type such a store."
        )
    card, file = records.store.card, writing.place(records, name)
    made_by = {
        "encoder": oracle.NAME,
        "family": "formula",
        "weights": card.get("formula", ""),
        "images": records.pictures,
    }
    if writing.is_there(file, name, made_by, replace):
        print(f"{name} is there already, of these images: {file}")
        return
    values = oracle.parameters(records.store)
    write_column(records.path, name, values, made_by)
    print(f"{name}: {len(values):,} vectors of {values.shape[1]} parameters: {file}")


def _cluster(records: Records, name: str, options: Any) -> None:
    of, file = writing.place(records, options.of), writing.place(records, name)
    values, each = records.column(options.of), columns.standardisation(of)
    if values.ndim != 2 or each is None:
        raise ConfigError(f"--of={options.of} has one number an image: type one of vectors.")
    made_by = {
        "of": options.of,
        "clusters": options.clusters,
        "seed": options.seed,
        "column": columns.digest(of),
        "images": records.pictures,
    }
    if writing.is_there(file, name, made_by, options.replace):
        print(f"{name} is there already, of this column: {file}")
        return
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if options.clusters > len(finite):
        raise ConfigError(
            f"--clusters={options.clusters} of {len(finite)} vectors: type fewer, such as "
            f"{max(2, len(finite) // 50)}."
        )
    mean, deviation = each
    standard = (np.asarray(values[finite], np.float32) - mean) / deviation
    with terminal.progress(clusters.MOST, desc=name, unit="iterations at most") as bar:
        found = clusters.fit(standard, options.clusters, seed=options.seed, done=bar.update)
    numbers = np.full(len(values), -1, np.int32)
    numbers[finite] = found.nearest
    told = {"inertia": found.inertia, "rounds": found.rounds, "settled": found.settled}
    columns.write_sidecar(file, numbers, {**made_by, **told})
    sizes = np.bincount(found.nearest, minlength=options.clusters)
    print(
        f"{name}: {options.clusters:,} clusters of {sizes.min():,} to {sizes.max():,} images, "
        f"{found.rounds} iterations{'' if found.settled else ' (not settled)'}, "
        f"{found.inertia / standard.size:.4f} of the variance left: {file}"
    )
