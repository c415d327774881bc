"""A file's arrays as the parameters of `transformer.features`: names, shapes, values."""

import math
import re
from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np

from jaxfdsl.interop import big_vision, timm
from jaxfdsl.representations.encoders.tables import LAYOUTS, Layout, Row

Arrays = dict[str, np.ndarray]

JOINED = {"blocks/qkv": ("q", "k", "v"), "blocks/fc1": ("gate", "up")}  # one map is one product


def family_of(state: Mapping[str, np.ndarray]) -> str:
    """The family that names arrays so; "" for none of them."""
    for layout in LAYOUTS:
        if any(name.startswith(layout.mark) for name in _named(state, layout)):
            return layout.family
    return ""


def params_of(
    state: Mapping[str, np.ndarray], family: str, *, projection: bool
) -> tuple[Arrays, Layout, int]:
    """Flat parameters, float32, those of blocks stacked; the layout that the names have; the number
    of heads, where the file tells (0: it does not). LayerScale is folded into the maps before it.

    Raises ValueError, one sentence, that names every array that is missing, unknown, of another
    shape, no float or not finite. Without `projection`, that of CLIP may be missing.
    """
    tried = [(layout, _named(state, layout)) for layout in LAYOUTS if layout.family == family]
    # Variants of a family differ in a few names: the one that fits best is the one to tell of.
    wrong = [(*_misfits(names, layout), layout, names) for layout, names in tried]
    missing, unknown, layout, named = min(wrong, key=lambda each: len(each[0]) + len(each[1]))
    rows = _rows(layout, named)
    found = {rows[name].ours for name in named if name in rows}
    if projection and family == "clip" and "projection/kernel" not in found:
        missing.append("visual_projection.weight")
    _refuse(missing, unknown)
    heads = _flax_heads(named) if layout.flax else 0
    arrays = {name: _canonical(value, rows[name], layout.flax) for name, value in named.items()}
    _check_values(arrays)
    _check_shapes(arrays, rows)
    depth = _depth(layout, named)
    ours = {_placed(rows[name].ours, name, layout): value for name, value in arrays.items()}
    return _assembled(ours, depth), layout, heads


def _named(state: Mapping[str, np.ndarray], layout: Layout) -> Arrays:
    """The arrays by the names of the layout's table, without those that take no part."""
    if layout.flax:
        state = {n: x for n, x in state.items() if not re.fullmatch(layout.ignored, n)}
        return big_vision.plain(state) if big_vision.is_layout(list(state)) else dict(state)
    named = {}
    for name, value in state.items():
        for prefix in layout.prefixes:
            name = name.removeprefix(prefix)
        # DINOv2's training writes blocks in chunks.
        name = re.sub(r"^blocks\.\d+\.(\d+\.)", r"blocks.\1", name)
        if not re.fullmatch(layout.ignored, name):
            named[name] = value
    return named


def _depth(layout: Layout, names: Iterable[str]) -> int:
    """Blocks of the model, from 0 to the last one that is named."""
    found = {block for name in names if (block := _generic(layout, name)[1]) >= 0}
    return max(found, default=0) + 1


def _generic(layout: Layout, name: str) -> tuple[str, int]:
    """A name with {i} for its block's number, and that number; -1 for what is in no block."""
    pattern = r"(?<=encoderblock_)\d+" if layout.flax else r"(?<=layer\.|locks\.|ayers\.)\d+(?=\.)"
    found = re.search(pattern, name)
    if not found:
        return name, -1
    return f"{name[: found.start()]}{{i}}{name[found.end() :]}", int(found[0])


def _rows(layout: Layout, names: Iterable[str]) -> dict[str, Row]:
    """The table's row of each name that it has."""
    table = {row.theirs: row for row in layout.rows}
    found = {name: table.get(_generic(layout, name)[0]) for name in names}
    return {name: row for name, row in found.items() if row}


def _misfits(named: Arrays, layout: Layout) -> tuple[list[str], list[str]]:
    """What is missing and what is unknown; an array of some blocks is missing in the others."""
    rows, depth = _rows(layout, named), _depth(layout, named)
    used = {row.theirs for row in rows.values()}
    wanted = [
        row.theirs.format(i=i)
        for row in layout.rows
        if not row.optional or row.theirs in used
        for i in range(depth if "{i}" in row.theirs else 1)
    ]
    return [n for n in wanted if n not in named], [n for n in named if n not in rows]


def _refuse(missing: list[str], unknown: list[str]) -> None:
    parts = [f"it has no {timm.listed(missing)[:600]}"] if missing else []
    parts += [f"{timm.listed(unknown)[:600]} is not known"] if unknown else []
    if parts:
        raise ValueError(" and ".join(parts))


def _flax_heads(named: Arrays) -> int:
    kernel = next((x for n, x in named.items() if n.endswith("/qkv/kernel")), np.zeros(()))
    return kernel.shape[-2] if kernel.ndim == 4 else 0


def _canonical(value: np.ndarray, row: Row, flax: bool) -> np.ndarray:
    """Inputs before outputs, heads joined, float32; what is no float stays, to be refused."""
    if value.dtype.kind == "f" or value.dtype == ml_dtypes.bfloat16:
        value = value.astype(np.float32)
    wanted = len(row.shape.split())
    if flax and "/out/kernel" in row.theirs and value.ndim == 3:
        value = value.reshape(-1, value.shape[-1])
    elif flax and "/qkv/" in row.theirs:
        value = value.reshape(value.shape[0], -1) if wanted == 2 else value.reshape(-1)
    while value.ndim > wanted and value.shape[0] == 1:
        value = value[0]
    if flax or not row.ours.endswith("/kernel"):
        return value
    return value.transpose(2, 3, 1, 0) if value.ndim == 4 else value.T


def _check_values(arrays: Arrays) -> None:
    bad = [name for name, value in arrays.items() if value.dtype != np.float32]
    if bad:
        raise ValueError(f"{timm.listed(bad)} is of {arrays[bad[0]].dtype}, and weights are floats")
    bad = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(f"not all values are finite in {timm.listed(bad)}")


def _check_shapes(arrays: Arrays, rows: Mapping[str, Row]) -> None:
    """The first array that has a size tells it; the width comes from the patches' map."""
    sizes: dict[str, int] = {}
    wrong = []
    for name in sorted(arrays, key=lambda name: rows[name].ours != "patch/kernel"):
        shape, wanted = arrays[name].shape, rows[name].shape.split()
        fits = len(shape) == len(wanted)
        for size, word in zip(shape, wanted, strict=False):
            times, letter = re.fullmatch(r"(\d*)([A-Za-z]?)", word).groups()  # type: ignore[union-attr]
            known = sizes.setdefault(letter, size // int(times or 1)) if letter else 1
            fits &= size == int(times or 1) * known
        if not fits:
            wrong.append(name)
    if wrong:
        shape = arrays[wrong[0]].shape
        raise ValueError(
            f"{timm.listed(wrong)} is of shape {shape} (inputs first), which does not fit the "
            f"width {sizes.get('D')} and the other arrays"
        )


def _placed(ours: str, theirs: str, layout: Layout) -> str:
    """ "blocks/norm1/scale" with the block's number: "blocks/3/norm1/scale"."""
    block = _generic(layout, theirs)[1]
    return ours.replace("blocks/", f"blocks/{block}/") if block >= 0 else ours


def _assembled(ours: Arrays, depth: int) -> Arrays:
    """What a file has apart, joined: q, k and v, class token and registers, all the blocks."""
    width = ours["patch/kernel"].shape[-1]
    blocks = []
    for i in range(depth):
        inside = f"blocks/{i}/"
        block = {n.removeprefix(inside): x for n, x in ours.items() if n.startswith(inside)}
        blocks.append(_block({f"blocks/{name}": value for name, value in block.items()}))
    made = {n: x for n, x in ours.items() if not n.startswith("blocks/")}
    made |= {name: np.stack([block[name] for block in blocks]) for name in blocks[0]}
    made.setdefault("patch/bias", np.zeros(width, np.float32))
    return _with_prefix(made)


def _block(block: Arrays) -> Arrays:
    """One block's arrays: maps of the same input joined, biases where there are none zero."""
    for whole, parts in JOINED.items():
        if f"blocks/{parts[0]}/kernel" not in block:
            continue
        kernels = [block.pop(f"blocks/{part}/kernel") for part in parts]
        block[f"{whole}/kernel"] = np.concatenate(kernels, axis=1)
        zeros = [np.zeros(kernel.shape[1], np.float32) for kernel in kernels]
        biases = [
            block.pop(f"blocks/{part}/bias", zero) for part, zero in zip(parts, zeros, strict=True)
        ]
        block[f"{whole}/bias"] = np.concatenate(biases)
    for name in ("qkv", "proj", "fc1", "fc2"):
        kernel = block[f"blocks/{name}/kernel"]
        block.setdefault(f"blocks/{name}/bias", np.zeros(kernel.shape[1], np.float32))
    for scale, name in (("scale1", "proj"), ("scale2", "fc2")):
        gamma = block.pop(f"blocks/{scale}", None)
        if gamma is not None:
            for leaf in ("kernel", "bias"):
                block[f"blocks/{name}/{leaf}"] = block[f"blocks/{name}/{leaf}"] * gamma
    return block


def _with_prefix(made: Arrays) -> Arrays:
    """Class token, with its position if it has one, and registers, which have none."""
    positions = made.get("positions")
    first = []
    if "cls_token" in made:
        token = made.pop("cls_token")
        if positions is not None and math.isqrt(len(positions)) ** 2 != len(positions):
            token, made["positions"] = token + positions[0], positions[1:]
        first.append(token[None])
    if "registers" in made:
        first.append(made.pop("registers"))
    if first:
        made["prefix"] = np.concatenate(first)
    count = len(made["positions"]) if positions is not None else 0
    if math.isqrt(count) ** 2 != count:
        raise ValueError(f"its {count} positions are no square of patches")
    return made
