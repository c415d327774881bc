"""How fast an accelerator draws, what that is beside a step of ViT-B/16, and whether the bytes are
those of the CPU.

    python benchmarks/draw_gpu.py
    JAX_PLATFORMS=cpu python benchmarks/draw_gpu.py --smoke    # tiny sizes, to see that it runs

Wall time of jitted `Dataset.fields` and of one forward and backward pass of ViT-B/16 in bfloat16,
`--rounds` calls queued and waited for once. Share: of an image's drawing in an image's drawing and
step, one after the other. Bytes: SHA-256 of `--check` images drawn here and, by the way that CPUs
draw, on this machine's CPU. Where there is no accelerator, the way that GPUs draw is compared.
"""

import argparse
import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Callable

import draw_sets as sets
import jax
import jax.numpy as jnp
import numpy as np

from jaxfdsl import config
from jaxfdsl.generators import dataset
from jaxfdsl.generators.dataset import Dataset, draw_recipes
from jaxfdsl.models import vit

PUBLISHED_CUDA = 18  # us an image, 1,000 vertices x 200 orbits at 512, on an unnamed GPU


def seconds(call: Callable, rounds: int) -> float:
    """Wall time of a call, after one that compiles."""
    jax.block_until_ready(call())
    began = time.perf_counter()
    jax.block_until_ready([call() for _ in range(rounds)][-1])
    return (time.perf_counter() - began) / rounds


def drawing(db: Dataset, batch: int, first: int, rounds: int) -> tuple[float, float]:
    """Microseconds an image, and MB of temporaries, at this batch."""
    wanted, table = jax.device_put((sets.recipes(db, batch, first), db.table))
    fields = jax.jit(db.fields).lower(wanted, table).compile()
    spent = seconds(lambda: fields(wanted, table), rounds)
    return spent / batch * 1e6, fields.memory_analysis().temp_size_in_bytes / 1e6


def step(variant: str, size: int, batch: int, rounds: int) -> float:
    """Microseconds an image of one forward and backward pass."""
    cfg = config.default_config().model
    cfg.update(variant=variant, patch_size=16, image_size=size, pool="token", drop_path=0.0)
    model = vit.build(cfg, 1000, jnp.bfloat16)
    params = jax.jit(model.init)(jax.random.key(0))
    images = jnp.zeros((batch, size, size, 3), jnp.bfloat16)

    @jax.jit
    def gradient(params):
        def loss(params):
            return model.apply(params, images, train=True)["logits"].mean()

        return jax.grad(loss)(params)

    return seconds(lambda: gradient(params), rounds) / batch * 1e6


def digest(db: Dataset, count: int, first: int, device: jax.Device, platform: str) -> str:
    """SHA-256 of `count` images, drawn on `device` as `platform` draws."""
    wanted, table = jax.device_put((sets.recipes(db, count, first), db.table), device)
    draw = functools.partial(draw_recipes, db.family, db.size, platform=platform)
    found = jax.device_get(jax.jit(draw)(wanted, table))
    whole = hashlib.sha256()
    for name in sorted(found):  # image, label, and a mask where there is one
        whole.update(np.ascontiguousarray(found[name]).tobytes())
    return whole.hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--at_once", type=int, default=dataset.CHUNK, help="images of a batch")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--check", type=int, default=64, help="images whose bytes are compared")
    parser.add_argument("--variant", default="vit_b")
    parser.add_argument("--families", default="all", help="comma-separated, as rcdb,visualatom")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    if args.smoke:
        args.sizes, args.batches, args.rounds, args.check = [32], [2], 1, 2
        args.variant = "vit_ti"
    dataset.CHUNK = args.at_once
    here, host = jax.devices()[0], jax.devices("cpu")[0]
    ways = [(here, "gpu" if here.platform == "cpu" else here.platform), (host, "cpu")]
    model_size = 32 if args.smoke else sets.NATIVE
    model = step(args.variant, model_size, max(args.batches), args.rounds)
    print(f"{here.device_kind}, jax {jax.__version__}; {args.variant} at {model_size}, bfloat16, ")
    print(f"batch {max(args.batches)}: {model:.1f} us an image forward and backward\n")
    cells = [f"us an image, batch {batch}" for batch in args.batches]
    print(f"| | {' | '.join(cells)} | images/s | share of a step | MB | bytes of the CPU |")
    print("|---" * (len(cells) + 5) + "|", flush=True)
    found: dict[str, dict] = {"step": {"us": model}}
    cases = [(t, d, size) for t, d in sets.chosen(args.families).items() for size in args.sizes]
    for title, large in (("1,000 x 200", sets.LARGE_CASE), ("1,000 x 200, CUDA", sets.CUDA_CASE)):
        if args.families == "all":
            cases.append((title, large, max(args.sizes)))
    for title, drawn, size in cases:
        db = drawn.load(size)
        spent, memory = zip(
            *(drawing(db, batch, drawn.first, args.rounds) for batch in args.batches), strict=True
        )
        hashes = [digest(db, args.check, drawn.first, *way) for way in ways]
        same = "equal" if hashes[0] == hashes[1] else "DIFFER"
        best, share = min(spent), min(spent) / (min(spent) + model)
        shown = " | ".join(f"{us:.1f}" for us in spent)
        print(
            f"| {title}, {size} | {shown} | {1e6 / best:,.0f} | {share:.1%} | {max(memory):.0f} | "
            f"{same} {hashes[0][:8]} |",
            flush=True,
        )
        found[f"{title}, {size}"] = {
            "us": dict(zip(args.batches, spent, strict=True)),
            "share": share,
            "temporary_mb": max(memory),
            "sha256": hashes[0],
            "sha256_cpu": hashes[1],
        }
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps(found, indent=2))
    print(f"\nThe best published CUDA figure for 1,000 x 200 at 512: {PUBLISHED_CUDA} us an image.")


if __name__ == "__main__":
    main()
