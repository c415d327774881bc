"""Drawn images in a PyTorch script: a map-style data set and an endless stream.

    from jaxfdsl.torch import FormulaImages

    images = FormulaImages("exfractaldb-1k", transform=transform)   # in place of ImageFolder(path)
    loader = torch.utils.data.DataLoader(images, 256, shuffle=True, num_workers=8)

Image i is `generators.load(name).draw([i])`, bit for bit, in any process. JAX draws on the CPU and
takes no memory on PyTorch's accelerator. No data set starts JAX before its first image, so workers
may be forked; after an image was drawn in the main process, pass the loader
`multiprocessing_context="forkserver"`. Needs PyTorch: `pip install "jaxfdsl[interop]"`.
"""

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax._src import xla_bridge  # whether JAX has started; no public function says it
from jaxtyping import Shaped, UInt8, UInt32
from PIL import Image

from jaxfdsl import compile_cache, generators
from jaxfdsl.data import formula
from jaxfdsl.generators import catalog
from jaxfdsl.generators.dataset import draw_recipes

try:
    import torch
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        'jaxfdsl.torch needs PyTorch: pip install "jaxfdsl[interop]"'
    ) from error

OUTPUTS = ("pil", "tensor")
DEVICES = ("cpu", "gpu", "tpu")
FOUND = {"table", "num_classes", "search_seed", "cache_dir"}  # how categories of one's own are had
GROUP = 16  # images a call draws: at 1 an image costs a quarter more, at 64 little less than at 16

_draw = jax.jit(draw_recipes, static_argnums=(0, 1, 4))
_fork = {"started": False, "inherited": False}  # JAX, at the last fork and in what was forked


class _Drawn:
    """What both kinds of data set share: loading, drawing, and travelling to workers by name."""

    def __init__(
        self,
        name: str,
        *,
        size: int | None = None,
        instances: int | Literal["published"] | None = "published",
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        output: str = "pil",
        rgb: bool = True,
        device: str = "cpu",
        **options: Any,
    ):
        for field, value, known in (("output", output, OUTPUTS), ("device", device, DEVICES)):
            if value not in known:
                raise ValueError(f"{field}={value!r}: give {' or '.join(map(repr, known))}")
        self.transform, self.target_transform = transform, target_transform
        self.output, self.rgb, self.device = output, rgb, device
        self.db = generators.load(name, size=size, instances=instances, **options)
        self._table: Any = None
        if options.keys() & FOUND and name.rpartition("-")[2] not in catalog.SIZES:
            # A search, or a file: workers are given what it found.
            options = {k: v for k, v in options.items() if k not in FOUND}
            options["table"] = self.db.categories
        self._arguments = {"name": name, "size": size, "instances": instances, **options}

    @property
    def num_classes(self) -> int:
        return self.db.num_classes

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("db", "_table")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _table=None)
        self.db = generators.load(**self._arguments)

    def _samples(self, recipes: UInt32[np.ndarray, "N 2"]) -> list[tuple[Any, Any]]:
        whole = len(recipes) - len(recipes) % GROUP
        # Two programs at most, of GROUP images and of one, whatever the lengths of batches.
        cuts = [*range(0, whole, GROUP), *range(whole, len(recipes) + 1)]
        groups = [self._group(recipes[a:b]) for a, b in itertools.pairwise(cuts)]
        return [sample for group in groups for sample in group]

    def _group(self, recipes: UInt32[np.ndarray, "N 2"]) -> list[tuple[Any, Any]]:
        device = _device(self.device)
        if self._table is None:
            self._table = jax.device_put(self.db.table, device)
        drawn = _draw(self.db.family, self.db.size, recipes, self._table, device.platform)
        fields = {name: np.asarray(value) for name, value in drawn.items()}
        return [self._sample({k: v[i] for k, v in fields.items()}) for i in range(len(recipes))]

    def _sample(self, fields: dict[str, Shaped[np.ndarray, "..."]]) -> tuple[Any, Any]:
        picture, target = self._picture(fields["image"]), _target(fields)
        if self.transform is not None:
            picture = self.transform(picture)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return picture, target

    def _picture(self, image: UInt8[np.ndarray, "S S C"]) -> Any:
        if self.rgb and image.shape[-1] == 1:
            image = np.repeat(image, 3, axis=-1)
        if self.output == "tensor":
            return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
        return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


class FormulaImages(_Drawn, torch.utils.data.Dataset):
    """A data set by name, as `generators.load` knows it: `images[i]` is (image, target).

    size: canvas in pixels (default: the published one). instances: images a category (default: as
    published). transform: gets a PIL image, or with output="tensor" a tensor uint8[C, S, S].
    rgb: grey images have three equal channels, as a folder of PNGs read by torchvision; False
    leaves them one. target: the category, an int; for scenes the categories, int64[k] padded with
    -1; for sets with masks the mask, int64[S, S], 0 background. options: as for `generators.load`.

    device: "cpu", or "gpu" or "tpu" to draw on what JAX has there, in the main process alone. With
    "cpu" a JAX that has not started is kept off accelerators in this process: a script that wants
    them calls `jax.devices()` first. ValueError for what cannot be loaded, IndexError past the end.
    """

    def __len__(self) -> int:
        return len(self.db)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, Any]]:
        """The images of a batch, drawn together; what a DataLoader calls."""
        return self._samples(self.db.recipes(indices))


class FormulaStream(_Drawn, torch.utils.data.IterableDataset):
    """Images without end, in the order of `seed`, divided over ranks and workers.

    batch_size: the DataLoader's. Batch b of rank r then holds images start + (b * world_size + r) *
    batch_size and on of the stream, whatever the number of workers, and no image goes to two ranks.
    start: images that all ranks together have seen before, to resume; every `iter` begins there.
    rank, world_size: by default those of torch.distributed once it is initialised, else 0 and 1.

    instances=None (the default) never repeats an image: each round shows a new instance of every
    category. With a number of instances each epoch is a new permutation of the finite set, as in
    jaxfdsl's own training. The rest is as in `FormulaImages`.
    """

    def __init__(
        self,
        name: str,
        *,
        batch_size: int,
        seed: int = 0,
        start: int = 0,
        rank: int | None = None,
        world_size: int | None = None,
        instances: int | None = None,
        **options: Any,
    ):
        if batch_size < 1 or start < 0:
            raise ValueError(
                f"batch_size={batch_size}, start={start}: give 1 or more, and 0 or more"
            )
        if (rank is None) != (world_size is None) or not 0 <= (rank or 0) < (world_size or 1):
            raise ValueError(
                f"rank={rank}, world_size={world_size}: give both, rank from 0 to world_size - 1"
            )
        super().__init__(name, instances=instances, **options)
        self.batch_size, self.seed, self.start = batch_size, seed, start
        self._place = None if rank is None or world_size is None else (rank, world_size)

    @property
    def place(self) -> tuple[int, int]:
        """(rank, world_size)."""
        if self._place is not None:
            return self._place
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        return 0, 1

    def __getstate__(self) -> dict[str, Any]:
        # A worker that was spawned has no torch.distributed to ask.
        return {**super().__getstate__(), "_place": self.place}

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        rank, world_size = self.place
        worker = torch.utils.data.get_worker_info()
        first, every = (0, 1) if worker is None else (worker.id, worker.num_workers)
        source = formula.from_dataset(self.db, seed=self.seed)
        for batch in itertools.count(first, every):  # a loader takes batches from workers in turn
            begin = self.start + (batch * world_size + rank) * self.batch_size
            rows = source.rows(np.arange(begin, begin + self.batch_size))
            yield from self._samples(rows["recipe"])


def _target(fields: dict[str, Shaped[np.ndarray, "..."]]) -> Any:
    target = fields.get("mask", fields["label"])
    return int(target) if target.ndim == 0 else torch.from_numpy(target.astype(np.int64))


def _device(kind: str) -> jax.Device:
    """Where this process draws. Starts JAX, in workers always on the CPU alone."""
    if _fork["inherited"]:
        raise RuntimeError(
            "this worker was forked after JAX had started, and JAX's threads do not survive a "
            'fork: give the DataLoader multiprocessing_context="forkserver" (or "spawn")'
        )
    worker = torch.utils.data.get_worker_info() is not None
    if worker and kind != "cpu":
        raise RuntimeError(
            f"device={kind!r} draws in the main process alone: give the DataLoader num_workers=0, "
            'or the data set device="cpu"'
        )
    if not xla_bridge.backends_are_initialized():
        if worker or (kind == "cpu" and not jax.config.values["jax_platforms"]):
            jax.config.update("jax_platforms", "cpu")
            compile_cache.enable()
        elif kind != "cpu":  # PyTorch wants the rest of the accelerator's memory
            os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        return jax.local_devices(backend=kind)[0]
    except (RuntimeError, AssertionError) as error:
        platforms = jax.config.values["jax_platforms"] or "not set"
        raise RuntimeError(
            f"device={kind!r}: JAX has none here (JAX_PLATFORMS is {platforms}); give another "
            "device, or platforms that include it"
        ) from error


def _before_fork() -> None:
    _fork["started"] = xla_bridge.backends_are_initialized()


def _in_fork() -> None:
    _fork["inherited"] = _fork["started"]


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(before=_before_fork, after_in_child=_in_fork)
