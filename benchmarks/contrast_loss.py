"""What the multi-positive loss costs on one device: anchors in blocks against the whole matrix.

    python benchmarks/contrast_loss.py

Each form in a process of its own: value and gradient at --batch x --width in groups of --group, the
median of --repeats; XLA's count of temporary memory, and how far the process's peak rose over what
it held before (on a CPU; of a GPU, its own count). "matrix" is the loss from the whole matrix for
JAX to differentiate, as a few lines of JAX have it; the others are `objectives.contrast`, with so
many anchors at once. Values and gradients are compared with those of the matrix.
"""

import argparse
import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

FORMS = ("matrix", "8192", "2048", "512", "128")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--forms", default=",".join(FORMS), help="matrix, or anchors at once")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/contrast_loss.json"))
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    parser.add_argument("--gradient", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


def child(args: argparse.Namespace) -> dict:
    """Measures one form; leaves its gradient in a file for the comparison."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxfdsl.objectives.contrast import multi_positive

    x = np.random.default_rng(0).normal(size=(args.batch, args.width)).astype(np.float32)
    groups = np.arange(args.batch) // args.group

    def matrix(x: jax.Array, groups: jax.Array) -> jax.Array:
        x = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        own = jnp.eye(len(x), dtype=bool)
        logits = jnp.where(own, -1e9, jnp.dot(x, x.T, precision="highest") / 0.1)
        positive = (groups[:, None] == groups[None]) & ~own
        picked = jnp.where(positive, jax.nn.log_softmax(logits, axis=1), 0.0)
        return -jnp.mean(jnp.sum(picked, axis=1) / (args.group - 1))

    def blockwise(x: jax.Array, groups: jax.Array) -> jax.Array:
        sums = multi_positive(x, groups, block=int(args.child))
        return sums["loss"] / sums["anchors"]

    form = matrix if args.child == "matrix" else blockwise
    x, groups = jax.device_put(x), jax.device_put(groups)
    compiled = jax.jit(jax.value_and_grad(form)).lower(x, groups).compile()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = []
    for _ in range(args.repeats + 1):
        begun = time.perf_counter()
        loss, slope = jax.block_until_ready(compiled(x, groups))
        took.append(time.perf_counter() - begun)
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    device = jax.devices()[0]
    if device.platform != "cpu":
        peak = (device.memory_stats() or {}).get("peak_bytes_in_use", 0) / 2**20
    np.save(args.gradient, np.asarray(slope))
    return {
        "form": args.child,
        "seconds": sorted(took[1:])[args.repeats // 2],
        "fastest": min(took[1:]),
        "temporaries_mib": compiled.memory_analysis().temp_size_in_bytes / 2**20,
        "peak_mib": peak,
        "loss": float(loss),
        "device": device.device_kind,
        "jax": jax.__version__,
    }


def main() -> None:
    args = parsed()
    if args.child:
        print(json.dumps(child(args)))
        return
    import numpy as np

    own = [sys.executable, __file__, *sys.argv[1:]]
    print("| anchors at once | seconds | temporaries MiB | peak MiB | loss | gradient off by |")
    print("|--:|--:|--:|--:|--:|--:|")
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for form in args.forms.split(","):
            file = f"{folder}/{form}.npy"
            ran = subprocess.run(
                [*own, "--child", form, "--gradient", file], capture_output=True, text=True
            )
            if ran.returncode:
                sys.exit(ran.stderr)
            made = json.loads(ran.stdout.splitlines()[-1])
            slope = np.load(file)
            first = np.load(f"{folder}/{args.forms.split(',')[0]}.npy")
            made["gradient_off"] = float(np.abs(slope - first).max() / np.abs(first).max())
            found.append(made)
            print(
                f"| {form} | {made['seconds']:.3g} | {made['temporaries_mib']:.0f} | "
                f"{made['peak_mib']:.0f} | {made['loss']:.6f} | {made['gradient_off']:.1e} |",
                flush=True,
            )
    shape = {"batch": args.batch, "width": args.width, "group": args.group}
    print(f"\n{found[0]['device']}, jax {found[0]['jax']}, {shape}; off relative to the largest.")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({**shape, "forms": found}, indent=2))


if __name__ == "__main__":
    main()
