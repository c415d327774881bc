"""The device mesh, and where every array lies on it: rules as data.

A rule gives a parameter's axes logical names, `MESH_AXES` gives each name a mesh axis. Another
strategy is another mapping. An axis that its mesh axis does not divide stays whole.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AnyMesh = Mesh | AbstractMesh  # of devices, or of devices that are not here

AXES = ("data", "fsdp", "tensor")
BATCH_AXES = ("data", "fsdp")
batch_spec = P(BATCH_AXES)

MESH_AXES = {"embed": "fsdp", "heads": "tensor", "mlp": "tensor", "classes": "tensor"}

# First match wins; paths as in "blocks_3/attn/qkv/kernel".
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"attn/qkv/kernel", ("embed", None, "heads", None)),
    (r"attn/qkv/bias", (None, "heads", None)),
    (r"attn/proj/kernel", ("heads", None, "embed")),
    (r"fc1/kernel", ("embed", "mlp")),
    (r"fc1/bias", ("mlp",)),
    (r"fc2/kernel", ("mlp", "embed")),
    (r"patch_embed/kernel", (None, None, None, "embed")),
    (r"image_projection/kernel", ("embed", None)),
    (r"text/token_embed", (None, "embed")),
    (r"text/projection", ("embed", None)),
    (r"(patch_)?head/kernel", ("embed", "classes")),
    (r"(patch_)?head/bias", ("classes",)),
    (r"(bias|scale|cls_token|pos_embed)", ()),
)

# A parameter that no rule names is cut along its largest axis, if it is worth a collective.
_WORTH_CUTTING = 2**20


def make_mesh(cfg, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of Auto axes ("data", "fsdp", "tensor"); one size may be -1: all that is left."""
    devices = list(devices or jax.devices())
    sizes = [cfg[axis] for axis in AXES]
    if -1 in sizes:
        sizes[sizes.index(-1)] = len(devices) // math.prod(s for s in sizes if s != -1)
    if math.prod(sizes) != len(devices):
        shape = ", ".join(f"{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
        raise ValueError(
            f"the mesh ({shape}) does not use {len(devices)} devices exactly; "
            "set --config.mesh.data=-1 and the other two so that their product divides that."
        )
    # The default axis type differs between JAX versions; only Auto works with cuDNN.
    return Mesh(_placed(sizes, devices), AXES, axis_types=(AxisType.Auto,) * 3)


def _placed(sizes: Sequence[int], devices: Sequence[Any]) -> np.ndarray:
    """The devices in the mesh's shape: on a TPU slice neighbours beside each other, as far as each
    image stays within one process, which alone reads it.
    """
    if devices[0].platform != "tpu":
        return np.asarray(devices).reshape(sizes)
    slices = {d: getattr(d, "slice_index", 0) for d in devices}
    by_process = sorted(devices, key=lambda d: (slices[d], d.process_index, d.id))
    plain = np.asarray(by_process).reshape(sizes)
    if len({*slices.values()}) > 1:
        return plain
    try:
        near = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    except (AssertionError, NotImplementedError, ValueError):  # a part of a slice, say
        return plain
    images = near.reshape(-1, sizes[-1])
    one_process = all(len({d.process_index for d in image}) == 1 for image in images)
    return near if one_process else plain


def replicated(mesh: AnyMesh) -> NamedSharding:
    """The sharding of what every device holds whole."""
    return NamedSharding(mesh, P())


def batched(mesh: AnyMesh) -> NamedSharding:
    """The sharding of arrays whose first axis is the batch."""
    return NamedSharding(mesh, batch_spec)


def activations(mesh: AnyMesh, shape: Sequence[int], heads: int = 0) -> NamedSharding:
    """The sharding of activations (B, ...), with attention's heads on axis `heads` if above 0.

    What the devices do not divide, as captions of groups that span them, lies as XLA has it.
    """
    if shape[0] % batch_parts(mesh):
        return NamedSharding(mesh, P(*[P.UNCONSTRAINED] * len(shape)))
    tensor = MESH_AXES["heads"]
    if not heads or shape[heads] % mesh.shape[tensor]:
        return batched(mesh)
    return NamedSharding(mesh, P(BATCH_AXES, *(None for _ in range(heads - 1)), tensor))


def batch_parts(mesh: AnyMesh) -> int:
    """Into how many parts the batch is cut."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def spec(path: str, shape: Sequence[int], mesh_shape: Mapping[str, int]) -> P:
    """The PartitionSpec of the parameter at `path`."""
    stacked = path.startswith("blocks/")  # a scanned model's leading layer axis is never cut
    shape = tuple(shape[1:] if stacked else shape)
    for pattern, names in RULES:
        if re.search(rf"(^|/){pattern}$", path):
            axes = [MESH_AXES.get(name) if name else None for name in names]
            break
    else:
        axes = _largest_axis(shape, mesh_shape["fsdp"])
    axes += [None] * (len(shape) - len(axes))
    cut = [a if a and n % mesh_shape[a] == 0 else None for a, n in zip(axes, shape, strict=True)]
    cut = [None, *cut] if stacked else cut
    while cut and cut[-1] is None:
        cut.pop()
    return P(*cut)


def _largest_axis(shape: Sequence[int], fsdp: int) -> list[str | None]:
    axes: list[str | None] = [None] * len(shape)
    fitting = [i for i, n in enumerate(shape) if n % fsdp == 0]
    if fitting and 4 * math.prod(shape) >= _WORTH_CUTTING:
        axes[max(fitting, key=lambda i: shape[i])] = "fsdp"
    return axes


def params_shardings(params: Any, mesh: AnyMesh) -> Any:
    """A NamedSharding for each leaf of a nested dict of parameters (arrays or their shapes)."""

    def leaf(path, x):
        name = "/".join(entry.key for entry in path)
        return NamedSharding(mesh, spec(name, x.shape, mesh.shape))

    return jax.tree_util.tree_map_with_path(leaf, params)


def put_rows(mesh: Mesh, rows: Any) -> Any:
    """This process's rows of a batch as global arrays, cut along their first axis.

    They go to this process's devices in the order of the mesh, wherever in it these stand: on a TPU
    they need not be neighbours. A batch then holds the same samples in another order, and no
    device, block of sources or pair of rows gets another process's; keys follow the rows' places.
    """
    sharding = batched(mesh)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), rows
    )
