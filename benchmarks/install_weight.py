"""What does installing jaxfdsl bring along: packages and megabytes, of the core and of each extra?

    python benchmarks/install_weight.py                      # the core and the extras; 3 minutes
    python benchmarks/install_weight.py --before COMMIT      # the core of an older commit beside it

The core is installed into a new virtual environment. Each extra is then added to a copy of it, and
what came on top is counted: files below site-packages, Python's compiled caches and pip left out.
The extras that bring gigabytes (LARGE) are resolved by pip and not installed: their megabytes are
those of the wheels, compressed, as the registry tells them, and what they would replace counts too.
Needs git (for --before) and the registry. Prints a table and writes --out.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
LARGE = ("cuda12", "cuda13", "tpu", "t2i", "interop")
TOOLS = ("pip", "setuptools")
OWN = "jaxfdsl"  # built anew with each extra, in the core already
MB = 1e6


def run(*command: Any) -> str:
    """A command's output; its own message where it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr[-2000:]}")
    return done.stdout


def environment(folder: pathlib.Path) -> pathlib.Path:
    """The interpreter of a new virtual environment."""
    run(sys.executable, "-m", "venv", folder)
    return folder / "bin" / "python"


def install(python: pathlib.Path, what: str) -> None:
    """With pip's cache, as this is about weight; nothing is compiled."""
    run(python, "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check", what)


def packages(folder: pathlib.Path) -> dict[str, float]:
    """MB on the disk of each package of an environment, by its own list of files."""
    (site,) = folder.glob("lib/python*/site-packages")
    found: dict[str, float] = {}
    for one in importlib.metadata.distributions(path=[str(site)]):
        files = {file.locate() for file in one.files or () if file.suffix != ".pyc"}
        sizes = (os.path.getsize(file) for file in files if os.path.isfile(file))
        found[one.metadata["Name"].lower().replace("_", "-")] = sum(sizes) / MB
    return {name: size for name, size in found.items() if name not in TOOLS}


def added(core: pathlib.Path, source: pathlib.Path, extra: str) -> dict[str, float]:
    """What an extra puts on top of the core, installed into a copy that shares its files."""
    copy = core.parent / extra
    shutil.copytree(core, copy, symlinks=True, copy_function=os.link)
    before = packages(core)
    install(copy / "bin" / "python", f"{source}[{extra}]")
    after = packages(copy)
    shutil.rmtree(copy)
    return {name: x for name, x in after.items() if before.get(name) != x and name != OWN}


def resolved(core: pathlib.Path, source: pathlib.Path, extra: str) -> dict[str, float]:
    """The wheels that pip would fetch beside the core's, in MB as the registry tells them."""
    command = [core / "bin" / "python", "-m", "pip", "install", "--dry-run", "-q", "--report", "-"]
    text = run(*command, f"{source}[{extra}]")
    found = {}
    for item in json.loads(text[text.index("{") :])["install"]:
        url = item["download_info"]["url"]
        if url.startswith("http"):
            request = urllib.request.Request(url, method="HEAD")
            with urllib.request.urlopen(request) as answer:
                found[item["metadata"]["name"].lower()] = int(answer.headers["Content-Length"]) / MB
    return found


def archived(commit: str, folder: pathlib.Path) -> pathlib.Path:
    """The files of a commit, and nothing of this checkout's state."""
    folder.mkdir()
    packed = folder.with_suffix(".tar")
    run("git", "-C", ROOT, "archive", "-o", packed, commit)
    shutil.unpack_archive(packed, folder, filter="data")
    return folder


def core_of(source: pathlib.Path, folder: pathlib.Path) -> dict[str, float]:
    install(environment(folder), str(source))
    return packages(folder)


def row(name: str, found: dict[str, float], note: str = "") -> dict[str, Any]:
    heaviest = sorted(found, key=lambda package: -found[package])[:4]
    told = ", ".join(f"{package} {found[package]:.0f}" for package in heaviest)
    print(f"{name:24}{len(found):>9}{sum(found.values()):>9.0f}  {told}{note}", flush=True)
    return {"name": name, "packages": found, "mb": sum(found.values()), "note": note.strip()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", default="", help="a commit to compare the core with")
    parser.add_argument("--only", default="", help="extras, joined by commas; 'none': the core")
    parser.add_argument(
        "--out", type=pathlib.Path, default=pathlib.Path("runs/install_weight.json")
    )
    options = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = options.only.split(",") if options.only else list(project["optional-dependencies"])
    extras = [extra for extra in extras if extra != "none"]
    print(f"{'':24}{'packages':>9}{'MB':>9}  heaviest")
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        rows = []
        if options.before:
            old = archived(options.before, place / "before")
            rows.append(row(f"core of {options.before}", core_of(old, place / "core_before")))
        rows.append(row("core", core_of(ROOT, place / "core")))
        for extra in extras:
            large = extra in LARGE
            weigh = resolved if large else added
            found = weigh(place / "core", ROOT, extra)
            rows.append(row(f"+ {extra}", found, " (wheels, compressed)" if large else ""))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    python = ".".join(map(str, sys.version_info[:3]))
    options.out.write_text(json.dumps({"python": python, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
