"""The accelerators that people rent: what their makers say they can do."""

import dataclasses
import difflib
import os
import re

from jaxfdsl.config import ConfigError

GIB = 2.0**30


@dataclasses.dataclass(frozen=True)
class Kind:
    """One device as JAX counts them: peaks in dense FLOP/s, memory in bytes.

    `peak` is that of bfloat16 matrix products (of float16 where `bfloat16` is False), accumulated
    in float32; `single` that of products of float32 arrays as XLA runs them by default (TF32 on
    NVIDIA from sm80 on, bfloat16 on TPUs). `words` all occur in the name that JAX gives the device.
    """

    name: str
    platform: str  # "tpu", "gpu", or "cpu"
    peak: float
    memory: float
    words: tuple[str, ...]
    single: float
    bfloat16: bool = True

    @property
    def dtype(self) -> str:
        """What "auto" computes in on such a device, as `experiment.compute_dtype` decides."""
        return "bfloat16" if self.bfloat16 and self.platform != "cpu" else "float32"

    def peak_of(self, dtype: str) -> float:
        """FLOP/s of matrix products of that type."""
        return self.single if dtype == "float32" else self.peak


def _tpu(name: str, peak: float, memory: float, *kinds: str) -> Kind:
    return Kind(name, "tpu", peak, memory, kinds, peak)


def _gpu(name: str, peak: float, memory: float, words: str, single: float = 0.0) -> Kind:
    return Kind(name, "gpu", peak, memory, tuple(words.split()), single or peak / 2)


def _old(name: str, peak: float, memory: float, words: str, single: float) -> Kind:
    """A GPU before sm80: no bfloat16, no TF32."""
    return dataclasses.replace(_gpu(name, peak, memory, words, single), bfloat16=False)


# Peaks and memory as in the makers' data sheets, without sparsity. A TPU v2, v3 or 7x chip shows
# itself to JAX as two devices, each with half of it; Cloud's "v4-256" are 128 devices.
KINDS = {
    kind.name: kind
    for kind in (
        _tpu("tpu-v2", 23e12, 8 * GIB, "tpu v2"),
        _tpu("tpu-v3", 61.5e12, 16 * GIB, "tpu v3"),
        _tpu("tpu-v4", 275e12, 32 * GIB, "tpu v4"),
        _tpu("tpu-v5e", 197e12, 16 * GIB, "tpu v5 lite", "tpu v5e"),
        _tpu("tpu-v5p", 459e12, 95 * GIB, "tpu v5", "tpu v5p"),
        _tpu("tpu-v6e", 918e12, 32 * GIB, "tpu v6 lite", "tpu v6e"),
        _tpu("tpu-7x", 1153.5e12, 96e9, "tpu7x", "tpu v7x"),
        _old("v100", 125e12, 16e9, "v100", 15.7e12),
        _old("v100-32gb", 125e12, 32e9, "v100 32gb", 15.7e12),
        _old("t4", 65e12, 15 * GIB, "t4", 8.1e12),
        _gpu("l4", 121e12, 24e9, "l4"),
        _gpu("a10", 125e12, 24e9, "a10"),
        _gpu("a10g", 70e12, 24e9, "a10g"),
        _gpu("a100", 312e12, 80e9, "a100"),
        _gpu("a100-40gb", 312e12, 40e9, "a100 40gb"),
        _gpu("l40s", 362e12, 48e9, "l40s"),
        _gpu("h100", 989e12, 80e9, "h100"),
        _gpu("h100-pcie", 756e12, 80e9, "h100 pcie"),
        _gpu("h100-nvl", 835e12, 94e9, "h100 nvl"),
        _gpu("h200", 989e12, 141e9, "h200"),
        _gpu("gh200", 989e12, 96e9, "gh200"),
        _gpu("b200", 2250e12, 180e9, "b200"),
        _gpu("gb200", 2500e12, 186e9, "gb200"),
        _gpu("rtx-3090", 71e12, 24e9, "rtx 3090"),
        _gpu("rtx-4090", 165e12, 24e9, "rtx 4090"),
        _gpu("rtx-5090", 209.5e12, 32e9, "rtx 5090"),
        _gpu("mi300x", 1307e12, 192e9, "mi300x"),
    )
}


def find(device_kind: str) -> Kind | None:
    """The kind that JAX means by `device_kind`; None for one that is not known."""
    name = device_kind.lower()
    for kind in KINDS.values():
        if kind.platform == "tpu" and name in kind.words:
            return kind
    words = set(re.split(r"[^a-z0-9]+", name))
    gpus = [kind for kind in KINDS.values() if kind.platform == "gpu" and words >= {*kind.words}]
    return max(gpus, key=lambda kind: len(kind.words), default=None)


def peak(device_kind: str, dtype: str = "bfloat16") -> float | None:
    """Peak FLOP/s of a device by the name that JAX gives it; None for one that is not known."""
    kind = find(device_kind)
    return kind.peak_of(str(dtype)) if kind else None


def processor(rate: float) -> Kind:
    """This machine's processor as a device whose matrix products reach `rate` FLOP/s."""
    return Kind("cpu", "cpu", rate, _host_memory(), (), rate, bfloat16=False)


def _host_memory() -> float:
    """Bytes of this machine's memory."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 0.0


def read(typed: str) -> tuple[str, int]:
    """The name and number of `--devices=NAME-COUNT`; "local" is ("local", 0).

    Raises ConfigError for what is not known, with the nearest name.
    """
    if typed == "local":
        return "local", 0
    known = [*KINDS, "cpu"]
    name, _, count = typed.lower().rpartition("-")
    if name in known and count.isdigit() and int(count) > 0:
        return name, int(count)
    if typed.lower() in known:
        raise ConfigError(f"--devices={typed} has no number: type --devices={typed.lower()}-8.")
    number = count if name and count.isdigit() and int(count) > 0 else "8"
    asked = name if name and count.isdigit() else typed.lower()
    close = difflib.get_close_matches(asked, known, 1) or [
        kind for kind in known if asked and (kind.endswith(asked) or kind.startswith(asked))
    ]
    hint = f"Did you mean --devices={close[0]}-{number}? " if close else ""
    raise ConfigError(
        f"--devices={typed} is not known. {hint}Type local, or NAME-COUNT with one of: "
        f"{', '.join(known)}."
    )


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Devices of one kind; `here` is True where they are this process's own."""

    kind: Kind
    count: int
    here: bool = False

    @property
    def name(self) -> str:
        return f"{self.count} x {self.kind.name}"

    @property
    def processes(self) -> int:
        """Hosts, one process each: eight GPUs or four TPU chips on one, as clouds rent them."""
        on_a_host = {"gpu": 8, "tpu": 4}.get(self.kind.platform, self.count)
        return 1 if self.here else max(1, self.count // on_a_host)

    @property
    def room(self) -> float:
        """Bytes that a program may use: on a GPU JAX takes three quarters of the memory, unless
        XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise; a TPU keeps a little for itself."""
        return {"gpu": 0.75, "tpu": 0.97}.get(self.kind.platform, 1.0) * self.kind.memory
