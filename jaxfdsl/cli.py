"""`jaxfdsl <verb>`: the small jobs round a run. Training itself is `python -m jaxfdsl.main`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from etils import epath

from jaxfdsl import config as config_lib
from jaxfdsl.config import ConfigError
from jaxfdsl.data import materialise as materialise_data
from jaxfdsl.data.prepare import command as prepare_command
from jaxfdsl.evaluate import Asked
from jaxfdsl.evaluate import run as evaluate_run


def gallery(options: argparse.Namespace) -> None:
    """Draw a data set: rows are categories, columns instances."""
    from jaxfdsl.data import sources
    from jaxfdsl.report import gallery as report

    entry = config_lib.formula_source(
        options.name, num_classes=options.classes, size=options.size, table=options.table
    )
    source = sources.build(entry, seed=0, train=False, field=options.name)
    report.write(options.out, source, rows=options.rows, columns=options.columns)
    print(f"{source.name}, {source.num_classes} categories, {source.size} pixels: {options.out}")


def replay(options: argparse.Namespace) -> None:
    """Draw the images that a run saw at one step, before augmentation, and print their recipes."""
    import jax
    from PIL import Image

    from jaxfdsl.data import batches

    config = _config_of(options.workdir)
    data = batches.from_config(config)
    folder = epath.Path(options.out or epath.Path(options.workdir) / "replay")
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in data.rows(options.step).items():
        first = {key: value[: options.images] for key, value in rows.items()}
        source = data.sources[name]
        fields = jax.jit(source.fields)(first, source.table)
        path = folder / f"step{options.step}_{name}.png"
        with path.open("wb") as file:
            Image.fromarray(_sheet(np.asarray(fields["image"]))).save(file, "PNG")
        labels = np.asarray(fields["label"]).tolist()
        for place in range(len(labels)):
            small = {k: v[place].tolist() for k, v in first.items() if np.ndim(v) <= 2}
            print(json.dumps({"source": name, "label": labels[place], **small}))
        print(f"{len(labels)} images of {name} at step {options.step}: {path}")


def evaluate(options: argparse.Namespace) -> None:
    """Run a workdir's evaluations, or others on any real data, on its newest checkpoint."""
    names = (field.name for field in dataclasses.fields(Asked))
    asked = {name: getattr(options, name) for name in names}
    evaluate_run(options.named_workdir or options.workdir, Asked(**asked))


def search(options: argparse.Namespace) -> None:
    """Find new categories by the published search, and save them as a table."""
    from tqdm import tqdm

    from jaxfdsl.generators import catalog, categories

    searched = [name for name, kind in catalog.FAMILIES.items() if hasattr(kind, "score")]
    if options.family not in searched:
        raise ConfigError(
            f"{options.family}: type one of {', '.join(searched)}; of other families every "
            "candidate is a category, load(..., search_seed=N) gives new ones."
        )
    if options.classes < 1:
        raise ConfigError(f"--classes={options.classes}: type 1 or more.")
    family = catalog.FAMILIES[options.family]()
    with tqdm(total=options.classes, unit="categories") as bar:
        numbers = catalog.search(
            family,
            options.classes,
            options.seed,
            progress=lambda found, _: bar.update(found - bar.n),
        )
    categories.save(options.out, categories.from_numbers(family, numbers))
    print(f"{options.classes} categories of {options.family}, seed {options.seed}: {options.out}")


def prepare(options: argparse.Namespace) -> None:
    """Write ImageNet, CIFAR or an image folder as TFDS reads it, without TensorFlow."""
    prepare_command.run(options)


def materialise(options: argparse.Namespace) -> None:
    """Write a formula data set as WebDataset, Parquet, TFDS, array_record or an image folder."""
    from jaxfdsl.data.materialise import command

    command.run(options)


def doctor(options: argparse.Namespace) -> None:
    """One page about this machine: versions, devices, drawing and decoding speed, a verdict."""
    from jaxfdsl import doctor as page

    for line in page.lines(options.name, options.images, options.data_dir):
        print(line, flush=True)


def dryrun(options: argparse.Namespace) -> None:
    """What a run needs and costs on devices that are not here: bytes, FLOP, images/s, hours."""
    import jax
    from absl import flags

    from jaxfdsl import dryrun as forecast
    from jaxfdsl import main
    from jaxfdsl.costs import page

    argv = ["jaxfdsl dryrun", *options.rest]
    config = main.parse(argv, flags.FlagValues()).config
    if options.devices != "local":  # shapes need no accelerator, which others may be using
        jax.config.update("jax_platforms", "cpu")
    for line in page.lines(forecast.report(config, options.devices, options.mfu)):
        print(line)


def export(options: argparse.Namespace) -> None:
    """Write a run's weights as timm, transformers or big_vision load them, with a model card."""
    from jaxfdsl.export import command

    made = command.run(
        options.workdir,
        to=options.to,
        out=options.out,
        step=options.step,
        licence=options.licence,
    )
    print("\n".join(made.told))


def _config_of(workdir: str) -> Any:
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise ConfigError(f"{path} is not there: type the workdir of a run.")
    return config_lib.from_json(path.read_text())


def _sheet(images: np.ndarray) -> np.ndarray:
    """uint8[N,S,S,C] as one picture, nearly square, RGB."""
    columns = int(np.ceil(np.sqrt(len(images))))
    missing = -len(images) % columns
    filled = np.concatenate([images, np.zeros((missing, *images.shape[1:]), images.dtype)])
    rows, (side, _, channels) = len(filled) // columns, images.shape[1:]
    sheet = filled.reshape(rows, columns, side, side, channels).swapaxes(1, 2)
    sheet = sheet.reshape(rows * side, columns * side, channels)
    return np.broadcast_to(sheet, (*sheet.shape[:2], 3)) if channels == 1 else sheet


def parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    top = argparse.ArgumentParser("jaxfdsl", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="verb")

    def verb(function: Any) -> argparse.ArgumentParser:
        made = verbs.add_parser(
            function.__name__, help=function.__doc__, description=function.__doc__
        )
        made.set_defaults(function=function)
        return made

    made = verb(gallery)
    made.add_argument("name", help="a data set, such as exfractaldb-1k")
    made.add_argument("--classes", type=int, default=0, help="0: the name's own count")
    made.add_argument("--rows", type=int, default=10, help="categories to show")
    made.add_argument("--columns", type=int, default=10, help="instances to show")
    made.add_argument("--size", type=int, default=0, help="pixels; 0: the published canvas")
    made.add_argument("--table", default="", help="an .npz or a published CSV folder")
    made.add_argument("--out", default="gallery.png")
    made = verb(search)
    made.add_argument("family", help="fractaldb, exfractaldb or perturbed")
    made.add_argument("--classes", type=int, default=1000, help="categories to find")
    made.add_argument("--seed", type=int, default=1, help="which candidates to look at")
    made.add_argument("--out", default="table.npz")
    made = verb(replay)
    made.add_argument("workdir")
    made.add_argument("--step", type=int, required=True)
    made.add_argument("--images", type=int, default=64, help="of each source")
    made.add_argument("--out", default="", help="folder; default WORKDIR/replay")
    made = verb(evaluate)
    made.add_argument("workdir", nargs="?", default="")
    made.add_argument("--workdir", dest="named_workdir", metavar="WORKDIR", default="")
    for field in dataclasses.fields(Asked):
        told, kind = field.metadata["help"], type(field.default)
        made.add_argument(f"--{field.name}", type=kind, default=field.default, help=told)
    made = verb(export)
    made.add_argument("workdir")
    made.add_argument("--to", default="timm", help="timm, huggingface, big_vision or safetensors")
    made.add_argument("--out", default="", help="a new folder; default WORKDIR/export/TO")
    made.add_argument("--step", type=int, default=0, help="0: the newest checkpoint")
    made.add_argument("--licence", default="", help="for the card, such as cc-by-4.0")
    made = verb(prepare)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.description = prepare_command.HELP
    made.add_argument("name", help="imagenet2012, cifar10, cifar100 or folder")
    made.add_argument("more", nargs="*", help="of `folder`: NAME and DIR")
    made.add_argument("--tars", default=".", help="where the downloaded files are")
    made.add_argument(
        "--data_dir", default="", help="default $TFDS_DATA_DIR, ~/tensorflow_datasets"
    )
    made.add_argument("--allow_partial", action="store_true", help="take an incomplete download")
    made.add_argument(
        "--max_corrupt", type=float, default=0.0, help="share of images that may be broken"
    )
    made.add_argument("--threads", type=int, default=0, help="0: one a processor")
    made = verb(materialise)
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.description = materialise_data.HELP
    made.add_argument("name", help="a data set, such as exfractaldb-1k")
    made.add_argument("--to", required=True, help=", ".join(materialise_data.TARGETS))
    made.add_argument("--out", required=True, help="a new folder, or one that was not finished")
    made.add_argument("--classes", type=int, help="only the first so many categories")
    made.add_argument("--instances", type=int, help="images a category; of scenes all images")
    made.add_argument("--size", type=int, help="pixels; default: the published canvas")
    made.add_argument(
        "--shard_images", type=int, default=materialise_data.SHARD_IMAGES, help="in a file"
    )
    made.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="of the family"
    )
    made = verb(dryrun)
    made.allow_abbrev = False
    made.epilog = "--config=FILE[:argument] and --config.field=value as of `python -m jaxfdsl.main`"
    made.add_argument(
        "--devices", default="local", help="tpu-v5e-256, h200-8, h100-64, t4-1, cpu-2, or local"
    )
    made.add_argument(
        "--mfu", type=float, default=0.0, help="share of the peak; 0: what is expected"
    )
    made = verb(doctor)
    made.add_argument("--name", default="exfractaldb-1k", help="what to draw")
    made.add_argument("--images", type=int, default=64, help="a batch")
    made.add_argument("--data_dir", default="", help="prepared TFDS data")
    return top


def run(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    verbs = parser()
    options, rest = verbs.parse_known_args(argv)
    options.rest = rest
    if rest and options.function is not dryrun:
        verbs.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        options.function(options)
    except (ConfigError, ValueError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error


if __name__ == "__main__":
    run()
