"""Files as `torch.save` writes them, made without PyTorch: the zip archive and the older stream."""

import io
import pickle
import struct
import zipfile
from typing import NamedTuple

import numpy as np

from jaxfdsl.interop.torch_file import MAGIC

KINDS = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}


class Made(NamedTuple):
    """An object that the pickle makes by calling `module.name`, or as `new` of that class, and then
    gives a state."""

    module: str
    name: str
    args: tuple = ()
    state: dict | None = None
    new: bool = False


def namespace(**values) -> Made:
    """What argparse gives, and training scripts save beside the weights."""
    return Made("argparse", "Namespace", (), values, new=True)


def save(path, tree, *, zipped: bool = True) -> None:
    """Writes dicts, lists, numbers, strings, arrays and `Made` objects."""
    arrays: list[np.ndarray] = []
    program = b"\x80\x02" + _dump(tree, arrays, zipped) + b"."
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", program)
            archive.writestr("archive/byteorder", "little")
            for i, array in enumerate(arrays):
                archive.writestr(f"archive/data/{i}", array.tobytes())
            archive.writestr("archive/version", "3\n")
        return
    stream = io.BytesIO()
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    stream.write(MAGIC + pickle.dumps(1001, 2) + pickle.dumps(system, 2) + program)
    stream.write(pickle.dumps([str(i) for i in range(len(arrays))], 2))
    for array in arrays:
        stream.write(struct.pack("<q", array.size) + array.tobytes())
    path.write_bytes(stream.getvalue())


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _dump(value, arrays: list[np.ndarray], zipped: bool) -> bytes:
    def dump(inner) -> bytes:
        return _dump(inner, arrays, zipped)

    if isinstance(value, np.ndarray):
        arrays.append(value)
        kind, key = KINDS[str(value.dtype)], str(len(arrays) - 1)
        storage = dump("storage"), _global("torch", kind), dump(key), dump("cpu"), dump(value.size)
        storage = _tuple(*storage, *([] if zipped else [b"N"])) + b"Q"
        strides = [s // value.itemsize for s in value.strides]
        shape = _tuple(*map(dump, value.shape))
        hooks = _global("collections", "OrderedDict") + b")R"
        parts = storage, dump(0), shape, _tuple(*map(dump, strides)), dump(False), hooks
        return _global("torch._utils", "_rebuild_tensor_v2") + _tuple(*parts) + b"R"
    if isinstance(value, Made):
        made = _global(value.module, value.name) + _tuple(*map(dump, value.args))
        made += b"\x81" if value.new else b"R"
        return made if value.state is None else made + dump(value.state) + b"b"
    if isinstance(value, dict):
        return b"}(" + b"".join(dump(k) + dump(v) for k, v in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(dump, value)) + b"e"
    if isinstance(value, str):
        return b"X" + struct.pack("<i", len(value.encode())) + value.encode()
    return pickle.dumps(value, 2)[2:-1]  # None, bool, int, float


def _tuple(*parts: bytes) -> bytes:
    return b"(" + b"".join(parts) + b"t"
