"""Does the Beam pipeline write what the direct writer writes, and what does it cost?

    python -m venv beam && beam/bin/pip install "jaxfdsl[beam]"     # Beam pins other packages
    beam/bin/python benchmarks/beam.py

Writes --images images of --name to TFDS's layout: by `jaxfdsl materialise` itself, by its Beam
pipeline on Beam's local runner with one process and with several, and by a pipeline that is killed
at a random moment of its work and started again. Every file must be the direct writer's, byte for
byte. `seconds` is the whole command, with imports and compilation. Then --order keys are put in
TFDS's order, which is all that one machine has to do for a set of any size.
"""

import argparse
import hashlib
import json
import os
import pathlib
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

LOCAL = "runner=DirectRunner"
SEVERAL = f"{LOCAL},direct_running_mode=multi_processing,direct_num_workers={os.cpu_count()}"


def command(args: argparse.Namespace, out: pathlib.Path, beam: str = "") -> list[str]:
    """What a person types."""
    words = [sys.executable, "-m", "jaxfdsl.cli", "materialise", args.name, "--to", "tfds"]
    words += ["--classes", "100", "--instances", str(args.images // 100), "--size", str(args.size)]
    words += ["--shard_images", str(args.shard_images), "--out", str(out)]
    return [*words, "--beam", beam] if beam else words


def sums(folder: pathlib.Path) -> dict[str, str]:
    """sha256 of every file."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def timed(words: list[str]) -> float:
    """Seconds of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-3000:]}")
    return time.perf_counter() - start


def killed(words: list[str], out: pathlib.Path, after: int) -> int:
    """Kills the command's processes as soon as `after` files are done; returns how many are."""
    running = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while running.poll() is None and len(list(out.glob("incomplete.beam.*/*.json"))) < after:
        time.sleep(0.05)
    time.sleep(random.random())
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    return len(list(out.glob("incomplete.beam.*/*.json")))


def ordered(count: int) -> dict[str, Any]:
    """TFDS's order of that many keys; seconds of a processor."""
    from jaxfdsl.data.prepare import shards

    start = time.process_time()
    order = shards.hash_order("train", (f"{i % 21000:05d}_{i // 21000:05d}" for i in range(count)))
    taken = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"keys": len(order), "seconds": round(taken, 1), "peak GB": round(peak, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="exfractaldb-1k")
    parser.add_argument("--images", type=int, default=10_000, help="a multiple of 100")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--shard_images", type=int, default=500)
    parser.add_argument("--order", type=int, default=21_000_000, help="keys")
    parser.add_argument("--out", default="runs/beam.json")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        # Programs are compiled before, into the cache.
        timed(command(args, root / "first"))
        expected = sums(root / "first")
        kinds = {"direct": "", "Beam, a process": LOCAL, "Beam, a process a core": SEVERAL}
        for place, (name, beam) in enumerate(kinds.items()):
            out = root / str(place)
            taken = timed(command(args, out, beam))
            rows.append(
                {"writer": name, "seconds": round(taken, 1), "equal": sums(out) == expected}
            )
        out, words = root / "killed", command(args, root / "killed", SEVERAL)
        files = len(expected) - 5
        there = killed(words, out, random.randint(1, files - 2))
        taken = timed(words)
        name = f"Beam, killed with {there} of {files} files, again"
        rows.append({"writer": name, "seconds": round(taken, 1), "equal": sums(out) == expected})
    print("| writer | seconds | equal, byte for byte |\n|---|---|---|")
    for row in rows:
        print(f"| {row['writer']} | {row['seconds']} | {row['equal']} |")
    order = ordered(args.order)
    print(f"\n{order['keys']:,} keys in order: {order['seconds']} s, {order['peak GB']} GB.")
    machine = f"{os.cpu_count()} processors, {platform.machine()}"
    print(f"{args.images:,} images of {args.name}, {args.size} pixels; {machine}.")
    path = pathlib.Path(args.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {"table": rows, "order": order, "asked": vars(args), "machine": machine}
    path.write_text(json.dumps(result, indent=1) + "\n")
    raise SystemExit(int(not all(row["equal"] for row in rows)))


if __name__ == "__main__":
    main()
