"""`jaxfdsl <verb>`: the small jobs round a run. Training itself is `python -m jaxfdsl.main`.

A verb is a function of its parsed options, registered by `_verb` with a command that works and its
options; its docstring is its help, the first line that of `jaxfdsl --help`. It imports what it
needs itself, so that help and mistakes are answered at once. Those that write data sets are in
`data`.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from jaxfdsl import __version__, terminal
from jaxfdsl.cli import data as cli_data
from jaxfdsl.cli import verbs
from jaxfdsl.cli.verbs import at_least, option
from jaxfdsl.config import ConfigError
from jaxfdsl.evaluate import Asked

_VERBS: dict[str, verbs.Verb] = {}  # in the order of `jaxfdsl --help`
_verb = verbs.registering(_VERBS)


@_verb(
    "jaxfdsl gallery exfractaldb-1k --rows 3 --columns 5 --out fractals.png",
    option("name", help="a data set, such as exfractaldb-1k"),
    option("--classes", type=at_least(0), default=0, help="0: the name's own count"),
    option("--rows", type=at_least(1), default=10, help="categories to show"),
    option("--columns", type=at_least(1), default=10, help="instances to show"),
    option("--size", type=at_least(0), default=0, help="pixels; 0: the published canvas"),
    option("--table", default="", help="an .npz or a published CSV folder"),
    option("--out", default="gallery.png", help="the picture, a PNG"),
)
def gallery(options: argparse.Namespace) -> None:
    """Draw a data set: rows are categories, columns instances."""
    from jaxfdsl import config
    from jaxfdsl.data import sources
    from jaxfdsl.report import gallery as report

    entry = config.formula_source(
        options.name, num_classes=options.classes, size=options.size, table=options.table
    )
    source = sources.build(entry, seed=0, train=False, field=options.name)
    report.write(options.out, source, rows=options.rows, columns=options.columns)
    print(f"{source.name}, {source.num_classes} categories, {source.size} pixels: {options.out}")


@_verb(
    "jaxfdsl search exfractaldb --classes 10 --seed 7 --out mine.npz",
    option("family", help="fractaldb, exfractaldb or perturbed"),
    option("--classes", type=at_least(1), default=1000, help="categories to find"),
    option("--seed", type=int, default=1, help="which candidates to look at"),
    option("--out", default="table.npz", help="the table, for --table"),
)
def search(options: argparse.Namespace) -> None:
    """Find new categories by the published search, as a table."""
    from jaxfdsl import whole_file
    from jaxfdsl.generators import catalog, categories

    searched = [name for name, kind in catalog.FAMILIES.items() if hasattr(kind, "score")]
    if options.family not in searched:
        raise ConfigError(
            f"{options.family}: type one of {', '.join(searched)}; of other families every "
            "candidate is a category, load(..., search_seed=N) gives new ones."
        )
    family = catalog.FAMILIES[options.family]()
    with (
        whole_file.written(options.out) as file,
        terminal.progress(options.classes, desc="found", unit="categories") as bar,
    ):
        with terminal.as_typed():
            numbers = catalog.search(
                family,
                options.classes,
                options.seed,
                progress=lambda found, _: bar.update(found - bar.n),
            )
        categories.save(file, categories.from_numbers(family, numbers))
    print(f"{options.classes} categories of {options.family}, seed {options.seed}: {options.out}")


@_verb(
    "jaxfdsl replay runs/demo --step 1 --images 16",
    option("workdir"),
    option("--step", type=at_least(0), required=True, help="its number, from 0"),
    option("--images", type=at_least(1), default=64, help="of each source"),
    option("--out", default="", help="folder; default WORKDIR/replay"),
)
def replay(options: argparse.Namespace) -> None:
    """Draw the images that a run saw at one step.

    They are shown before augmentation, and their recipes are printed, one JSON a line.
    """
    from jaxfdsl.report import replay as report

    report.run(options.workdir, options.step, images=options.images, out=options.out)


@_verb(
    "jaxfdsl evaluate runs/demo",
    option("workdir", nargs="?", default=""),
    option("--workdir", dest="named_workdir", metavar="WORKDIR", default=""),
    *(
        option(
            f"--{field.name}",
            type=at_least(0) if isinstance(field.default, int) else type(field.default),
            default=field.default,
            help=field.metadata["help"],
        )
        for field in dataclasses.fields(Asked)
    ),
)
def evaluate(options: argparse.Namespace) -> None:
    """Run a workdir's evaluations, or others on any real data.

    The newest checkpoint is evaluated. Values are printed and added to WORKDIR/evaluation.json.
    """
    from jaxfdsl import evaluate as evaluate_lib

    names = (field.name for field in dataclasses.fields(Asked))
    asked = {name: getattr(options, name) for name in names}
    evaluate_lib.run(options.named_workdir or options.workdir, Asked(**asked))


@_verb(
    "jaxfdsl pictures runs/demo --data tfds:cifar10",
    option("workdir", help="a run, or weights that config.init_from takes"),
    option("--out", default="", help="a folder; default WORKDIR/pictures"),
    option("--data", default="", help="tfds:cifar10, folder:PATH, parquet:PATH or formula:NAME"),
    option("--data_dir", default="", help="prepared TFDS data"),
    option("--split", default="", help="of --data; default: as of evaluate"),
    option("--label", default="label", help="feature or column to tell; not of folders"),
    option("--step", type=int, default=0, help="which checkpoint; 0: the newest"),
    option("--images", type=int, default=6, help="to show"),
    option("--among", type=int, default=256, help="images to look for neighbours in"),
)
def pictures(options: argparse.Namespace) -> None:
    """Show filters, attention, positions and neighbours of a model.

    The images are those that the run is trained on, or those of --data.
    """
    from jaxfdsl.report import model_pictures

    same = {name: getattr(options, name) for name in ("step", "data", "data_dir", "label")}
    asked = Asked(test_split=options.split, **same)
    how = {"images": options.images, "among": options.among}
    model_pictures.write(options.workdir, options.out, asked, **how)


@_verb("jaxfdsl augment --out augment.png", option("--out", default="augment.png"))
def augment(options: argparse.Namespace) -> None:
    """Show what each augmentation does to two images."""
    from jaxfdsl.report import augment_sheet

    with terminal.waiting("augmenting"):
        augment_sheet.write(options.out)
    print(f"Each augmentation, of a fractal and of a smooth image: {options.out}")


@_verb(
    "jaxfdsl report runs/demo --out report.html",
    option("workdirs", nargs="+", metavar="WORKDIR"),
    option("--out", default="report.html", help="the page, one HTML file"),
    option("--no_model", action="store_true", help="leave the pictures of the model out"),
)
def report(options: argparse.Namespace) -> None:
    """Make one HTML page of one or several runs.

    Curves, results, cost, pictures, and in what the configs differ. The page needs no other file
    and no network.
    """
    from jaxfdsl.report.page import document

    with terminal.waiting("reading runs"):
        size = document.write(options.workdirs, options.out, models=not options.no_model)
    count = len(options.workdirs)
    print(f"{count} run{'s' if count > 1 else ''}, {size / 1e6:.1f} MB: {options.out}")


@_verb(
    "jaxfdsl export runs/demo --to timm --out weights",
    option("workdir"),
    option("--to", default="timm", help="timm, huggingface, big_vision or safetensors"),
    option("--out", default="", help="a new folder; default WORKDIR/export/TO"),
    option("--step", type=at_least(0), default=0, help="0: the newest checkpoint"),
    option("--licence", default="", help="for the card, such as cc-by-4.0"),
)
def export(options: argparse.Namespace) -> None:
    """Write weights as timm, transformers or big_vision load them.

    The folder is complete, with a model card that says what the weights have seen.
    """
    from jaxfdsl.export import command

    made = command.run(
        options.workdir,
        to=options.to,
        out=options.out,
        step=options.step,
        licence=options.licence,
    )
    print("\n".join(made.told))


@_verb(
    "jaxfdsl dryrun --config=configs/vitb_exfractal.py --devices=tpu-v5e-256",
    option(
        "--devices", default="local", help="tpu-v5e-256, h200-8, h100-64, t4-1, cpu-2, or local"
    ),
    option("--mfu", type=float, default=0.0, help="share of the peak; 0: what is expected"),
    passes_on=True,
)
def dryrun(options: argparse.Namespace) -> None:
    """What a run needs and costs on devices that are not here.

    Bytes a device, FLOP, collectives, images/s and hours. --config=FILE[:argument] and
    --config.field=value are those of `python -m jaxfdsl.main`.
    """
    import jax
    from absl import flags

    from jaxfdsl import dryrun as forecast
    from jaxfdsl import main
    from jaxfdsl.costs import page

    argv = ["jaxfdsl dryrun", *options.rest]
    config = main.parse(argv, flags.FlagValues()).config
    if options.devices != "local":  # shapes need no accelerator, which others may be using
        jax.config.update("jax_platforms", "cpu")
    with terminal.waiting("tracing the step"):
        report = forecast.report(config, options.devices, options.mfu)
    terminal.tell(page.lines(report), "adding up")


@_verb(
    "jaxfdsl doctor --name fractaldb-1k --images 8",
    option("--name", default="exfractaldb-1k", help="what to draw"),
    option("--images", type=at_least(1), default=64, help="a batch"),
    option("--data_dir", default="", help="prepared TFDS data"),
)
def doctor(options: argparse.Namespace) -> None:
    """This machine: versions, devices, speeds, and a verdict."""
    from jaxfdsl import doctor as page

    terminal.tell(page.lines(options.name, options.images, options.data_dir), "measuring")


_VERBS |= cli_data.VERBS


def parser() -> argparse.ArgumentParser:
    """Every verb with its options."""
    return verbs.parser(_VERBS, __version__)


def run(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    with terminal.guarded():
        verb, options = verbs.parse(_VERBS, sys.argv[1:] if argv is None else argv, __version__)
        with terminal.interruptible(verb.stopped):
            verb.run(options)
