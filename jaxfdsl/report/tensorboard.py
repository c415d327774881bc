"""A TensorBoard event file without TensorFlow: scalars, images and text.

The file is a sequence of records (TensorFlow's TFRecord framing) of `Event` protocol buffers
(tensorflow/core/util/event.proto, tensorflow/core/framework/summary.proto), packed by hand.
"""

import io
import os
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
from etils import epath
from jaxtyping import UInt8
from PIL import Image

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed


def _crc_table() -> Iterator[int]:
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        yield byte


_TABLE = tuple(_crc_table())


class EventWriter:
    """Writes one event file in `folder`.

    Events of earlier files of the folder at `first_step` and beyond are void: TensorBoard drops
    them when it sees this file begin there, as happens on resume.
    """

    def __init__(self, folder: epath.PathLike, first_step: int = 0):
        name = f"events.out.tfevents.{time.time_ns() / 1e9:017.6f}.{socket.gethostname()}"
        self._file = (epath.Path(folder) / f"{name}.{os.getpid()}").open("wb")
        self._write(_data(3, b"brain.Event:2"))
        start = _number(1, 1)  # SessionLog.START
        self._write(_number(2, first_step) + _data(7, start))

    def scalar(self, step: int, name: str, value: float) -> None:
        """One number."""
        self._summary(step, name, _float(2, value))

    def image(self, step: int, name: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        """One picture, as PNG."""
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        height, width, channels = pixels.shape
        numbers = zip((1, 2, 3), (height, width, channels), strict=True)
        image = b"".join(_number(tag, number) for tag, number in numbers)
        self._summary(step, name, _data(4, image + _data(4, file.getvalue())))

    def text(self, step: int, name: str, text: str) -> None:
        """One piece of Markdown."""
        plugin = _data(1, _data(1, b"text"))
        shape = _data(2, _data(2, _number(1, 1)))
        tensor = _number(1, 7) + shape + _data(8, text.encode())  # DT_STRING
        self._summary(step, name, _data(9, plugin) + _data(8, tensor))

    def flush(self) -> None:
        """Hands what was written to the file system."""
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _summary(self, step: int, name: str, value: bytes) -> None:
        value = _data(1, name.encode()) + value
        self._write(_number(2, step) + _data(5, _data(1, value)))

    def _write(self, event: bytes) -> None:
        event = _double(1, time.time()) + event
        length = struct.pack("<Q", len(event))
        self._file.write(length + _masked_crc(length) + event + _masked_crc(event))


def _number(tag: int, value: int) -> bytes:
    """A field of a protocol buffer that holds a whole number, an enumeration or a truth value."""
    return _varint(tag << 3) + _varint(value)


def _data(tag: int, value: bytes) -> bytes:
    """A field with a text, bytes or a message of its own; repeated ones are written one by one."""
    return _varint(tag << 3 | 2) + _varint(len(value)) + value


def _float(tag: int, value: float) -> bytes:
    return _varint(tag << 3 | 5) + struct.pack("<f", value)


def _double(tag: int, value: float) -> bytes:
    return _varint(tag << 3 | 1) + struct.pack("<d", value)


def _varint(number: int) -> bytes:
    """Seven bits a byte, least significant first."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _masked_crc(data: bytes) -> bytes:
    crc = crc32c(data)
    masked = (crc >> 15 | crc << 17) + 0xA282EAD8
    return struct.pack("<I", masked & 0xFFFFFFFF)
