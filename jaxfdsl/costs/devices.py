"""The accelerators that people rent: what their makers say they can do."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Kind:
    """One device: its peak in dense bfloat16 FLOP/s (float16 where it has none), and its memory."""

    name: str
    peak: float
    memory: float  # bytes


GIB = 2**30

# Peaks and memory as in the makers' data sheets, without sparsity.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("tpu-v4", 275e12, 32 * GIB),
        Kind("tpu-v5e", 197e12, 16 * GIB),
        Kind("tpu-v5p", 459e12, 95 * GIB),
        Kind("tpu-v6e", 918e12, 32 * GIB),
        Kind("t4", 65e12, 15 * GIB),
        Kind("l4", 121e12, 24e9),
        Kind("a100-40gb", 312e12, 40e9),
        Kind("a100", 312e12, 80e9),
        Kind("h100", 989e12, 80e9),
        Kind("h200", 989e12, 141e9),
        Kind("b200", 2250e12, 180e9),
    )
}


def peak(device_kind: str) -> float | None:
    """Peak FLOP/s of a device by the name that JAX gives it; None for one that is not known."""
    known = {
        "tpu v4": "tpu-v4",
        "tpu v5 lite": "tpu-v5e",
        "tpu v5e": "tpu-v5e",
        "tpu v5": "tpu-v5p",
        "tpu v5p": "tpu-v5p",
        "tpu v6 lite": "tpu-v6e",
        "tpu v6e": "tpu-v6e",
    }
    name = device_kind.lower()
    if name in known:
        return KINDS[known[name]].peak
    words = name.replace("-", " ").split()
    found = [kind for kind in ("t4", "l4", "a100", "h100", "h200", "b200") if kind in words]
    return KINDS[found[0]].peak if found else None
