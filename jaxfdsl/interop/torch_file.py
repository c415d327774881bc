"""PyTorch's files (`.pth`, `.pth.tar`, `.bin`) read without PyTorch and without running them.

A pickle is a program: it may import any function and call it. Here it reaches nothing but the few
names of `_Reader.find_class`, none of which is imported; each other name is refused before it can
be called. Formats: `torch/serialization.py` of https://github.com/pytorch/pytorch, the zip archive
(since 1.6) and the stream before it.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how the stream begins
LONGEST_PICKLE = 2**28  # bytes; the numbers lie outside it, so that weights take kilobytes

DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

# What published checkpoints hold beside weights; stands for nothing here.
_IGNORED = {
    "argparse.Namespace",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "collections.Counter",
    "collections.defaultdict",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "_codecs.encode",
    "torch.Size",
    "torch.device",
    *(f"torch.{name}" for name in ("float16", "float32", "float64", "bfloat16", "int64", "bool")),
}

# Those that torch.save never writes and that name classes by registry, or memo places by text.
_REFUSED_INSTRUCTIONS = ("EXT1", "EXT2", "EXT4", "INST", "OBJ", "PUT", "PERSID", "NEXT_BUFFER")


class RefusedError(ValueError):
    """A file that names something other than weights; the sentence says what."""


class Tensor(NamedTuple):
    """A tensor whose numbers are still in the file; `storage` is its key there."""

    storage: "_Storage"
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Storage(NamedTuple):
    kind: str
    key: str
    numel: int


class _Dict(dict):
    """An OrderedDict without the attributes that a pickle may give it."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Nothing:
    """Stands for an object that is no weight: takes whatever it is given and keeps none of it."""

    def __init__(self, *args: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        pass


class _Call:
    """A function that a pickle can call, and not change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a function has no state")


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Tensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or len(shape) != len(strides):
        raise pickle.UnpicklingError("a tensor without numbers")
    if any(type(n) is not int or n < 0 for n in numbers):
        raise pickle.UnpicklingError("a tensor without a shape")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if math.prod(shape) > storage.numel or (math.prod(shape) and last >= storage.numel):
        raise pickle.UnpicklingError("a tensor larger than its storage")
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _first(data: Any, *_: Any) -> Any:
    return data


_KNOWN: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _Dict,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "builtins.set": set,
    "__builtin__.set": set,
}


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any):
        super().__init__(stream)
        self.widths: dict[str, int] = {}  # bytes of a number, by the key of its storage

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _KNOWN:
            return _Call(_KNOWN[full])
        if module == "torch" and name in DTYPES:
            return name
        if full in _IGNORED:
            return _Nothing
        full = " ".join(full.split())[:100]  # it may be any text
        raise RefusedError(f"its pickle asks for {full}, which is no part of a state dict")

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, numel = pid[:5]
        if tag != "storage" or kind not in DTYPES or type(numel) is not int:
            raise pickle.UnpicklingError("a storage of no known type")
        self.widths[str(key)] = DTYPES[kind].itemsize
        return _Storage(kind, str(key), numel)


def _unpickle(stream: Any) -> tuple[Any, dict[str, int]]:
    """The next pickle of a stream, which is left behind it, and the widths of its storages."""
    start = stream.tell()
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name in _REFUSED_INSTRUCTIONS:
            raise pickle.UnpicklingError(f"the instruction {instruction.name}")
        # An array as long as this number would be made, whatever is in the file.
        if instruction.name == "LONG_BINPUT" and argument > stream.tell():
            raise pickle.UnpicklingError("a memo beyond the file")
    length = stream.tell() - start
    stream.seek(start)
    reader = _Reader(io.BytesIO(stream.read(length)))
    return reader.load(), reader.widths


def read(stream: Any) -> tuple[Any, Callable[[Tensor], np.ndarray]]:
    """What `torch.save` wrote, with a `Tensor` for each tensor, and the function that reads one.

    Raises RefusedError for a file that asks for code; all sorts of errors for a damaged one.
    """
    beginning = stream.read(len(MAGIC))
    stream.seek(0)
    return _read_stream(stream) if beginning == MAGIC else _read_zip(zipfile.ZipFile(stream))


def _read_zip(archive: zipfile.ZipFile) -> tuple[Any, Callable[[Tensor], np.ndarray]]:
    name = next((n for n in archive.namelist() if n.endswith("/data.pkl")), "")
    if not name:
        raise ValueError("an archive without data.pkl or arrays")
    folder = name.removesuffix("data.pkl")
    order = folder + "byteorder"
    if order in archive.namelist() and archive.read(order) != b"little":
        raise RefusedError("it was written on a big-endian machine")
    if archive.getinfo(name).file_size > LONGEST_PICKLE:
        raise RefusedError("its pickle is too long for that of weights")
    tree, _ = _unpickle(io.BytesIO(archive.read(name)))

    def array(tensor: Tensor) -> np.ndarray:
        kind, key, numel = tensor.storage
        member = archive.getinfo(f"{folder}data/{key}")
        # As torch.save writes them; a compressed one could be far longer than the file.
        if member.compress_type != zipfile.ZIP_STORED:
            raise RefusedError("its numbers are compressed, which torch.save never does")
        return _view(archive.read(member), numel, tensor, DTYPES[kind])

    return tree, array


def _read_stream(stream: Any) -> tuple[Any, Callable[[Tensor], np.ndarray]]:
    _, version, system = (_unpickle(stream)[0] for _ in range(3))
    if version != 1001 or not system["little_endian"]:
        raise RefusedError("it is of another version of PyTorch's format")
    tree, widths = _unpickle(stream)
    keys = [str(key) for key in _unpickle(stream)[0]]
    start = stream.tell()
    places = {}
    for key in keys:
        stream.seek(start)
        numel = int(np.frombuffer(stream.read(8), "<i8")[0])
        places[key] = start + 8
        start += 8 + numel * widths[key]

    def array(tensor: Tensor) -> np.ndarray:
        kind, key, numel = tensor.storage
        stream.seek(places[key])
        length = numel * DTYPES[kind].itemsize
        return _view(stream.read(length), numel, tensor, DTYPES[kind])

    return tree, array


def _view(data: bytes, numel: int, tensor: Tensor, dtype: np.dtype) -> np.ndarray:
    if not math.prod(tensor.shape):
        return np.empty(tensor.shape, dtype)
    flat = np.frombuffer(data, dtype, numel)  # refuses what is too short
    strides = [stride * dtype.itemsize for stride in tensor.strides]
    return np.array(np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides))
