"""How long is a newcomer's first minute, from `pip install` to a picture on the disk?

    python benchmarks/newcomer.py                 # 200 MB of downloads, 2 minutes
    python benchmarks/newcomer.py --wheels DIR    # downloaded there before

A new virtual environment and an empty compile cache. What is downloaded is downloaded first and
timed by itself; then the README's own install line runs without the network; then `jaxfdsl gallery`
draws 100 pictures at the published size, twice. Target: below 60 seconds plus the download.
Both wall time and CPU time are told, as wall time says little on shared cores. Prints a table and
writes --out.
"""

import argparse
import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = 60.0  # seconds


def timed(*command: Any, **environment: str) -> dict[str, float]:
    """Wall and CPU seconds of a command; its own message where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    words = [str(part) for part in command]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "PYTHON"))}
    done = subprocess.run(words, capture_output=True, text=True, env=clean | environment, cwd=ROOT)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu}


def install_line() -> list[str]:
    """What the README's first command gives to pip."""
    (words,) = re.findall(r"^python3 -m venv \.venv .*?/pip install (.*?-e \.) ", README, re.M)
    return words.split()


README = (ROOT / "README.md").read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=pathlib.Path, help="keep what is downloaded, or take it")
    parser.add_argument("--name", default="exfractaldb-1k", help="what to draw")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/newcomer.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        wheels = (options.wheels or place / "wheels").absolute()
        rows = {"virtual environment": timed(sys.executable, "-m", "venv", place / "venv")}
        pip = [place / "venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
        if not wheels.is_dir():
            fetch = [*pip, "wheel", "--no-cache-dir", "-q", "-w", wheels, "-c", "constraints.txt"]
            build = ["hatchling", "editables"]  # what `pip install -e` fetches for itself
            rows["download"] = timed(*fetch, ".", *build)
            next(wheels.glob("jaxfdsl-*.whl")).unlink()
        size = sum(file.stat().st_size for file in wheels.glob("*.whl")) / 1e6
        offline = ["--no-index", "--find-links", wheels]
        rows["install"] = timed(*pip, "install", *offline, *install_line())
        draw = [place / "venv/bin/jaxfdsl", "gallery", options.name, "--out", place / "gallery.png"]
        for turn in ("first gallery", "second gallery"):
            rows[turn] = timed(*draw, HOME=str(place), XDG_CACHE_HOME=str(place / "cache"))
        assert (place / "gallery.png").read_bytes().startswith(b"\x89PNG")
    counted = [rows[name] for name in ("virtual environment", "install", "first gallery")]
    rows["all but the download"] = {k: sum(row[k] for row in counted) for k in ("wall", "cpu")}
    print(f"{'':24}{'seconds':>9}{'CPU s':>9}")
    for name, row in rows.items():
        told = f"  {size:.0f} MB of wheels" if name == "download" else ""
        print(f"{name:24}{row['wall']:>9.1f}{row['cpu']:>9.1f}{told}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"target: {TARGET:.0f} s; load averages at the end: {load}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    told = {"name": options.name, "mb": size, "load": os.getloadavg(), "rows": rows}
    options.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
