"""Weights of other programs as our parameters: which container, which part of it, which names.

Containers: safetensors, PyTorch's files, NumPy's `.npz`; a file is known by its first bytes and not
by its name. Names: timm's (DeiT, DINOv2 and the published FDSL checkpoints have them too), Hugging
Face's, big_vision's. Reading needs none of these libraries and runs nothing that a file brings.
"""

import json
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from etils import epath

from jaxfdsl.generators import npz
from jaxfdsl.interop import big_vision, huggingface, timm, torch_file
from jaxfdsl.models.heads import NORM_EPSILON, OURS_ALONE

FILES = (timm.FILE, "pytorch_model.bin")  # what a folder of weights holds one of

OURS = {"blocks", *OURS_ALONE, *(row.ours.partition("/")[0] for row in timm.TABLE)}

# Where checkpoints keep the weights, the average of them first, as timm and our own runs have it.
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher")
PATCHES = ("patch_embed.proj.weight", huggingface.MARK)  # a ViT's names begin where this one does
_SHRUNK = 20  # how much shorter than its arrays an .npz may be: weights hardly shrink
PROJECTION = r"head\.\d+\."  # MoCo v3's, where others have a classifier

DTYPES = {f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)}
DTYPES |= {f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)}
DTYPES["BF16"] = np.dtype(ml_dtypes.bfloat16)

_CONVERT = (
    'where PyTorch is, and if you trust whoever made the file, convert it: python -c "import '
    "torch, safetensors.torch as s; c = torch.load({path!r}, 'cpu', weights_only=False); c = "
    "c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict', c.get('model', c)); "
    "s.save_file({{k: v.clone() for k, v in c.items()}}, 'weights.safetensors')\""
)


def is_foreign(path: epath.PathLike) -> bool:
    """Whether these are weights of another program, and not a run of ours."""
    path = epath.Path(path)
    folder = any((path / name).exists() for name in FILES)
    return folder or (path.is_file() and path.name != "best.json")


def load(
    path: epath.PathLike, num_heads: int, norm_epsilon: float = NORM_EPSILON
) -> tuple[dict[str, Any], str]:
    """A file's or folder's weights as float32 parameters, one `blocks_{i}` a block, and a few words
    on where they came from. Arrays that our models do not have keep their names, so that
    `transfer.adapt` refuses them together with all that are of another shape.

    Raises ValueError, one sentence, for files that are damaged, not whole or not a ViT's, and for
    values that are not finite; FileNotFoundError.
    """
    file = epath.Path(path)
    if file.is_dir():
        file = next(file / name for name in FILES if (file / name).exists())
    state, part = read(file)
    try:
        state = {name: _float32(value) for name, value in state.items()}
        flat, unknown, layout = _ours(state, file.parent / "config.json", num_heads, norm_epsilon)
        _check(flat, unknown)
    except ValueError as error:
        raise ValueError(f"{file} does not fit: {' '.join(str(error).split())}") from error
    words = ", ".join(word for word in (part, layout) if word)
    # What is called as a part of ours is called, and is none of it, must not stand for that part.
    unknown = {f"its {n}" if n in OURS else n: value for n, value in unknown.items()}
    return timm.nested(flat) | unknown, f"{file} ({words})" if words else str(file)


def _ours(
    state: dict[str, np.ndarray], config: epath.Path, num_heads: int, norm_epsilon: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], str]:
    """Our flat parameters, the arrays that are none of them, and whose names they had."""
    if big_vision.is_layout(list(state)):
        flat, unknown = big_vision.to_ours(state)
        return _with_class_row(flat), unknown, big_vision.WORDS
    state, layout = _inner(state), ""
    if any(name.endswith(huggingface.MARK) for name in state):
        state = huggingface.to_timm_names(state)
        said = huggingface.check(_config(config), num_heads, norm_epsilon)
        layout = f"Hugging Face's names{said}"
    elif any(re.match(PROJECTION, name) for name in state):
        state = {name: x for name, x in state.items() if not re.match(PROJECTION, name)}
        layout = "its projection head left out"
    elif "fc_norm.weight" in state and "cls_token" in state:
        layout = "where patches are averaged beside a class token, and here one or the other"
    flat, unknown = timm.to_ours(timm.folded(state), num_heads)
    return _with_class_row(flat), unknown, layout


def read(file: epath.Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays by the names that they have in the file, and which part of it they are."""
    with file.open("rb") as opened:
        stream: Any = npz.Bounded(opened)
        beginning = stream.read(64)
        stream.seek(0)
        _refuse_what_is_none(file, beginning)
        try:
            if _is_safetensors(beginning):
                return _safetensors(stream.read()), ""
            if beginning.startswith(b"PK"):
                names = zipfile.ZipFile(stream).namelist()
                stream.seek(0)
                if any(name.endswith(".npy") for name in names):
                    return _npz(stream), ""
            return _torch(stream)
        except torch_file.RefusedError as error:
            command = _CONVERT.format(path=str(file))
            raise ValueError(f"{file} is not read, as {error}; {command}") from error
        except Exception as error:  # whatever a damaged file makes of its reader
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{file} is damaged or not whole ({reason})") from error


def _refuse_what_is_none(file: epath.Path, beginning: bytes) -> None:
    if not beginning:
        raise ValueError(f"{file} is empty")
    if beginning.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise ValueError(f"{file} is a web page, as a download that was refused leaves it")
    if beginning.startswith(b"version https://git-lfs"):
        raise ValueError(f"{file} is a pointer of Git LFS: type git lfs pull")
    if not beginning.startswith((b"PK", b"\x80")) and not _is_safetensors(beginning):
        raise ValueError(f"{file} begins as no .safetensors, .pth or .npz does")


def _is_safetensors(beginning: bytes) -> bool:
    """The length of a header of JSON, at most 100 MB, and that header."""
    return beginning[4:9] == b"\0\0\0\0{"


def _safetensors(content: bytes) -> dict[str, np.ndarray]:
    """As `safetensors.numpy.load`, which does not know bfloat16."""
    return {
        name: np.frombuffer(part["data"], DTYPES[part["dtype"]]).reshape(part["shape"])
        for name, part in safetensors.deserialize(content)
    }


def _npz(stream: Any) -> dict[str, np.ndarray]:
    """All but the optimizer's state; bfloat16 has no name in NumPy's format."""
    most = _SHRUNK * stream.length + 2**24
    arrays = npz.read(stream, lambda name: not name.startswith("opt/state"), most)
    return {n: x.view(ml_dtypes.bfloat16) if x.dtype == "V2" else x for n, x in arrays.items()}


def _torch(stream: Any) -> tuple[dict[str, np.ndarray], str]:
    tree, array = torch_file.read(stream)
    parts = []
    while isinstance(tree, Mapping):
        inside = [key for key in WRAPPERS if isinstance(tree.get(key), Mapping) and tree[key]]
        if not inside:
            break
        parts.append(inside[0])
        tree = tree[inside[0]]
    tensors = tree.items() if isinstance(tree, Mapping) else ()
    state = {k: array(v) for k, v in tensors if isinstance(v, torch_file.Tensor)}
    if not state:
        raise torch_file.RefusedError("it holds no dict of weights")
    return {str(name): value for name, value in state.items()}, ".".join(parts)


def _inner(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The ViT inside what wraps it (`module.`, `_orig_mod.`, `backbone.`), without its prefix.

    Raises ValueError when there are several.
    """
    for wrapper in ("module.", "_orig_mod.") * 2:
        if all(name.startswith(wrapper) for name in state):
            state = {name.removeprefix(wrapper): value for name, value in state.items()}
    found = {name.removesuffix(end) for name in state for end in PATCHES if name.endswith(end)}
    found = {prefix for prefix in found if "momentum" not in prefix}
    if len(found) > 1:
        raise ValueError(f"it holds several ViTs: {', '.join(sorted(found))}")
    prefix = next(iter(found), "")
    if prefix in ("", *huggingface.PREFIXES):
        return state
    return {n.removeprefix(prefix): x for n, x in state.items() if n.startswith(prefix)}


def _with_class_row(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Positions with a row for the class token, where those of DeiT III and big_vision have none.

    A row of zeros adds what they add. k^2 + 1 is no square, so that the number of rows tells.
    """
    positions = state.get("pos_embed")
    if "cls_token" not in state or positions is None or positions.ndim != 3:
        return state
    if math.isqrt(positions.shape[1]) ** 2 != positions.shape[1]:
        return state
    return state | {"pos_embed": np.pad(positions, ((0, 0), (1, 0), (0, 0)))}


def _float32(value: np.ndarray) -> np.ndarray:
    floats = value.dtype.kind == "f" or value.dtype == ml_dtypes.bfloat16
    return value.astype(np.float32) if floats else value


def _check(flat: dict[str, np.ndarray], unknown: dict[str, np.ndarray]) -> None:
    """What has to hold before the shapes are compared with a model's."""
    absent = [name for name in ("pos_embed", "patch_embed/kernel") if name not in flat]
    if absent:
        others = f", but {timm.listed(unknown)[:300]}" if unknown else ""
        raise ValueError(f"it has no {' and no '.join(absent)}{others}")
    positions = flat["pos_embed"].shape
    tokens = positions[1] - ("cls_token" in flat) if len(positions) == 3 else -1
    if tokens < 1 or positions[0] != 1 or math.isqrt(tokens) ** 2 != tokens:
        raise ValueError(f"pos_embed is of shape {positions}, which is no square of patches")
    bad = [name for name, value in flat.items() if value.dtype != np.float32]
    if bad:
        raise ValueError(f"{timm.listed(bad)} is of {flat[bad[0]].dtype}, and weights are floats")
    bad = [name for name, value in flat.items() if not np.isfinite(value).all()]
    if bad:
        raise ValueError(f"not all values are finite in {timm.listed(bad)}")


def _config(file: epath.Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text()) if file.exists() else {}
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error})") from error
    return config if isinstance(config, dict) else {}
