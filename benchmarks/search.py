"""The searches, checked against what is published.

python benchmarks/search.py published --data ../shared/data/fractaldb1k   # the published thousand
again; about 6 minutes python benchmarks/search.py device                                        #
acceptance and number of maps, both families python benchmarks/search.py ship
# writes generators/tables/*.npz (an hour)
"""

import argparse
import pathlib
import time

import numpy as np

from jaxfdsl.generators import catalog, categories, published
from jaxfdsl.generators.search import search

PUBLISHED_MAPS = np.array([231, 294, 218, 146, 77, 34])  # of the thousand, with 2..7 maps
TABLES = pathlib.Path(catalog.__file__).parent / "tables"


def counter(label):
    began, shown = time.time(), [0.0]

    def progress(found, wanted):
        if time.time() - shown[0] > 10 or found == wanted:
            shown[0] = time.time()
            print(f"{label}: {found}/{wanted}, {time.time() - began:.0f} s", flush=True)

    return progress


def run_published(args):
    began = time.time()
    systems, tried = published.search_published(args.classes, progress=counter("published search"))
    theirs = categories.read_systems(pathlib.Path(args.data) / "csv_rate0.2_category1000")
    wrong = sum(
        a.shape != b.shape or np.abs(a - b).max() > 1e-12
        for a, b in zip(systems, theirs[: args.classes], strict=True)
    )
    print(f"{len(systems)} categories from {tried} candidates in {time.time() - began:.0f} s")
    print(f"mismatches above 1e-12: {wrong}")
    return systems


def run_device(args):
    from scipy import stats

    print(f"{'family':14s}{'accepted':>9s}{'candidates':>12s}{'acceptance':>12s}{'seconds':>9s}")
    for name, family in (
        ("fractaldb", catalog.FAMILIES["fractaldb"]()),
        ("exfractaldb", catalog.FAMILIES["exfractaldb"]()),
    ):
        began = time.time()
        numbers = search(family, args.classes, args.seed, progress=counter(name))
        tried = int(numbers[-1]) - args.seed * 2**24 + 1
        rate, seconds = len(numbers) / tried, time.time() - began
        print(f"{name:14s}{len(numbers):9d}{tried:12d}{rate:12.4%}{seconds:9.0f}")
        if name == "fractaldb":
            counts = np.bincount(categories.from_numbers(family, numbers).num_maps, minlength=8)[2:]
            table = np.stack([counts, PUBLISHED_MAPS])
            p = stats.chi2_contingency(table).pvalue
            print(
                f"  maps 2..7: {counts.tolist()} against the published "
                f"{PUBLISHED_MAPS.tolist()}: chi-square p = {p:.3f}"
            )


def run_ship(args):
    systems, _ = published.search_published(1000, progress=counter("published search"))
    np.savez_compressed(
        TABLES / "fractaldb-1k.npz",
        systems=np.concatenate(systems),
        maps=np.array([len(system) for system in systems], np.uint8),
    )
    for name, count in (("fractaldb", 50_000), ("exfractaldb", 50_000), ("perturbed", 1000)):
        kind = catalog.FAMILIES[name]
        numbers = search(kind(), count, 0, cache_dir=args.cache, progress=counter(name))
        steps = np.diff(numbers, prepend=np.uint32(0)).astype(np.uint16)
        np.savez_compressed(TABLES / f"{name}-{count // 1000}k.npz", numbers=steps)
    for key, entry in catalog.CANONICAL.items():
        print(
            key,
            categories.sha256(catalog.read_shipped(key)),
            (TABLES / entry.file).stat().st_size,
            "bytes",
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["published", "device", "ship"])
    parser.add_argument("--data", default="../shared/data/fractaldb1k")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cache", default=None)
    args = parser.parse_args()
    {"published": run_published, "device": run_device, "ship": run_ship}[args.what](args)


if __name__ == "__main__":
    main()
