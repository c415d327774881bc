"""Bytes of one device: the state exactly, what a step needs beside it as a model.

A step's peak is in the backward pass: what every block kept for it (the residuals, whose shapes
`jax.vjp` tells without running), the gradients, and what one block is working on. The last is
counted in activations (rows x tokens x width): XLA's own programs for a CPU needed WORK of them
(`python benchmarks/dryrun.py`).
"""

import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxfdsl.costs import autoencoding, flops
from jaxfdsl.costs import plan as plan_lib
from jaxfdsl.costs.plan import Plan
from jaxfdsl.models import autoencoder, denoiser, text, vit
from jaxfdsl.models.text import TextDesign

Sizes = dict[str, int | float]  # bytes by what they are for

# What is alive of one block at the peak, beside the residuals that all blocks keep, by what is kept
# of the others. Fitted to XLA's programs for ViT-Ti and S at 224 and 32 pixels.
WORK = {"none": 20, "dots": 31, "full": 47}
UNROLLED = (3, 2)  # without a scan: so many, and so many a block
LOGITS = 3  # such matrices at once in the contrast: benchmarks/contrast_loss.py
UNROLLED_REMAT = 1.18  # XLA computes nothing again on a CPU without a scan, and keeps more
DRAWING = {"cpu": 4e6, "gpu": 300e6, "tpu": 300e6}  # RESULTS.md, Memory: at most


def bytes_on_device(tree: Any, shardings: Any) -> int:
    """Bytes that one device holds of arrays (or shapes) that lie as `shardings` say."""
    parts = jax.tree.map(
        lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, tree, shardings
    )
    return sum(jax.tree.leaves(parts))


def state(plan: Plan) -> dict[str, int]:
    """Bytes a device of the state's parts, exactly."""
    names = {"params": "parameters", "opt_state": "optimizer state", "ema": "average", "step": ""}
    found = {names[k]: bytes_on_device(plan.state[k], plan.laid[k]) for k in plan.state}
    found["optimizer state"] += found.pop("")  # the step's four bytes
    return found


def arguments(plan: Plan) -> Sizes:
    """What lies on a device between steps: the state, the tables, and a step's rows."""
    rows = sum(
        count * plan.row_bytes(plan.batches.sources[name])
        for name, count in plan.batches.plan.counts_at(0).items()
    )
    tables = sum(x.nbytes for x in jax.tree.leaves(plan.batches.tables))
    if plan.batches.condition is not None:
        rows += 4 * plan.batches.condition.size * plan.config.batch_size
    shards = plan.config.batch_size // plan.rows
    return {**state(plan), **_frozen(plan), "tables": float(tables), "rows": rows / shards}


def _frozen(plan: Plan) -> Sizes:
    if plan.autoencoder is None:
        return {}
    numbers = autoencoder.parameters(plan.autoencoder)
    return {"autoencoder": numbers * plan.design.dtype.itemsize}


def temporaries(plan: Plan) -> Sizes:
    """What a step needs beside its arguments, at its peak."""
    parts, rows = plan.config.accumulate, plan.rows
    micro = rows // parts
    image = 4.0 * plan.design.image_size**2 * getattr(plan.design, "channels", 3)
    gradients = bytes_on_device(plan.state["params"], plan.laid["params"])
    kept, fixed, work = residuals(plan, micro)
    return {
        "gradients": float(gradients * (2 if parts > 1 else 1)),
        "activations kept": kept + fixed,
        "activations of a block": work + _gathered(plan),
        **_logits(plan),
        **_captions(plan, micro),
        "images": image * (rows + (micro if parts > 1 else 0)),
        "drawing, at most": DRAWING[plan.fleet.kind.platform] + _encoding(plan),
    }


def _encoding(plan: Plan) -> float:
    """What a device draws latents from: pixels, and what the encoder works on."""
    if plan.autoencoder is None or plan.latent_bytes:
        return 0.0
    side = plan.config.model.image_size
    share = plan.design.dtype.itemsize / 4
    work = autoencoding.work_bytes(plan.autoencoder, side, plan.rows)
    return 12.0 * side**2 * plan.rows + share * work


def _logits(plan: Plan) -> Sizes:
    """Of the contrast: those of a device's images that are anchors at once with the whole batch."""
    cfg = plan.config.objective.contrast
    anchors = min(cfg.block or plan.rows, plan.rows)
    made = 4.0 * LOGITS * anchors * plan.config.batch_size
    return {"logits of anchors": made} if cfg.weight else {}


def _captions(plan: Plan, micro: int) -> Sizes:
    """What the backward pass keeps of the captions of `micro` images."""
    if plan.text is None:
        return {}
    pairs = zip(*(_caption_residuals(plan.text, count) for count in (1, 2)), strict=True)
    each = sum((large.size - small.size) * large.dtype.itemsize for small, large in pairs)
    return {"captions": float(micro / plan.text.views * each)}


@functools.lru_cache(maxsize=16)
def _caption_residuals(design: TextDesign, count: int) -> list[Any]:
    """Shapes of what a text tower keeps of so many captions."""
    tower = text.build(design)
    params = jax.eval_shape(tower.init, jax.random.key(0))

    def backward(params: Any, tokens: jax.Array) -> Any:
        return jax.vjp(lambda params: tower.apply(params, tokens), params)[1]

    tokens = jax.ShapeDtypeStruct((count, design.context), jnp.int32)
    return jax.tree.leaves(jax.eval_shape(backward, params, tokens))


def total(plan: Plan) -> float:
    """Bytes a device at the peak of a step."""
    made = temporaries(plan)
    drawing = made.pop("drawing, at most")  # over before the model starts
    return sum(arguments(plan).values()) + max(sum(made.values()), made["images"] + drawing)


def residuals(plan: Plan, micro: int) -> tuple[float, float, float]:
    """Of `micro` images: bytes kept for the backward pass, bytes kept whatever their number
    (parameters in another type), and bytes that one block works on."""
    design, remat = plan.design, plan.design.remat
    if remat != "none" and plan.fleet.kind.platform == "cpu" and not design.scan_blocks:
        kept, fixed = _kept(plan, micro, "none")
        return kept * UNROLLED_REMAT, fixed, 0.0
    kept, fixed = _kept(plan, micro, remat)
    one = micro * design.tokens * design.size.width * design.dtype.itemsize
    number = WORK[remat]
    if remat == "none" and not design.scan_blocks:
        number = UNROLLED[0] + UNROLLED[1] * design.size.depth
    return kept, fixed, float(number * one)


def _kept(plan: Plan, micro: int, remat: str) -> tuple[float, float]:
    """Bytes of the residuals of `micro` images, and of those that are as many whatever `micro`."""
    if isinstance(plan.design, denoiser.Design):
        plain = dataclasses.replace(plan.design, remat=remat, attention="xla")
        pairs = _denoiser_residuals(plain)
    else:
        config = plan.config.model.copy_and_resolve_references()
        config.update(remat=remat, attention="xla")
        heads = tuple(plan.heads.items())
        pairs = _residuals(config.to_json(), heads, str(plan.design.dtype))
    kept = fixed = 0.0
    for small, large in pairs:
        if grows := large.size - small.size:
            kept += micro * grows * large.dtype.itemsize * _share(plan, small.shape)
        elif small.dtype != jnp.float32:  # float32 ones are the parameters themselves
            fixed += small.size * small.dtype.itemsize
    return kept, fixed


@functools.lru_cache(maxsize=32)
def _residuals(model: str, heads: tuple[tuple[str, int], ...], dtype: str) -> list[Any]:
    """What the backward pass of a model keeps, as pairs of shapes: of one image and of two."""
    built = vit.build(ConfigDict(json.loads(model)), dict(heads), dtype)
    params = jax.eval_shape(built.init, jax.random.key(0))
    side = built.design.image_size

    def backward(params: Any, image: jax.Array) -> Any:
        def outputs(params: Any) -> Any:
            made = built.apply(params, image, train=True, key=jax.random.key(0))
            return {name: value for name, value in made.items() if name != "features"}

        return jax.vjp(outputs, params)[1]

    def leaves(count: int) -> list[Any]:
        image = jax.ShapeDtypeStruct((count, side, side, 3), jnp.float32)
        return jax.tree.leaves(jax.eval_shape(backward, params, image))

    return list(zip(leaves(1), leaves(2), strict=True))


@functools.lru_cache(maxsize=32)
def _denoiser_residuals(design: denoiser.Design) -> list[Any]:
    """As `_residuals`."""
    made = denoiser.build(design)
    params = jax.eval_shape(made.init, jax.random.key(0))

    def backward(params: Any, seen: Any) -> Any:
        return jax.vjp(lambda params: made.velocity(params, *seen), params)[1]

    def leaves(count: int) -> list[Any]:
        seen = flops.denoiser_inputs(design, count)
        return jax.tree.leaves(jax.eval_shape(backward, params, seen))

    return list(zip(leaves(1), leaves(2), strict=True))


def _share(plan: Plan, shape: tuple[int, ...]) -> float:
    """The part of a residual of one image that a device has and keeps."""
    design, tensor = plan.design, plan.shape["tensor"]
    heads, hidden = design.size.num_heads, int(design.size.width * design.size.mlp_ratio)
    if design.attention == "cudnn" and shape[-2:] == (design.tokens, design.tokens):
        return 0.0  # the fused kernel keeps a number a row instead
    cut = (heads in shape[1:] and not heads % tensor) or (hidden in shape and not hidden % tensor)
    return 1 / tensor if cut else 1.0


def _gathered(plan: Plan) -> float:
    """Parameters of two blocks, the one in use and the next, where FSDP brings them together."""
    if plan.shape["fsdp"] == 1:
        return 0.0
    blocks = {k: v for k, v in plan.state["params"].items() if k.startswith("blocks")}
    whole = sum(4 * x.size for x in jax.tree.leaves(blocks)) / plan.shape["tensor"]
    return 2 * whole / plan.design.size.depth


def remedies(plan: Plan, room: float) -> Iterator[str]:
    """What to type for a run that does not fit into `room` bytes, each enough by itself."""

    def fits(*changes: tuple[str, Any]) -> bool:
        config = plan.config.copy_and_resolve_references()
        for name, value in changes:
            holder, _, leaf = name.rpartition(".")
            (config[holder] if holder else config)[leaf] = value
        try:
            return total(plan_lib.make(config, plan.fleet, plan.batches)) <= room
        except ValueError:  # what does not divide
            return False

    scan = () if plan.design.scan_blocks else (("model.scan_blocks", True),)
    tries = [
        [(("accumulate", 2**power),) for power in range(1, 8)],
        [(("model.remat", "dots"), *scan), (("model.remat", "full"), *scan)],
        [(("mesh.fsdp", 2**p),) for p in range(1, 9) if 2**p > plan.shape["fsdp"]],
    ]
    for kind in tries:
        found = next((changes for changes in kind if fits(*changes)), None)
        if found:
            yield " ".join(f"--config.{name}={value}" for name, value in found)
