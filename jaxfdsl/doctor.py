"""One page about this machine, and whether its hosts can feed its devices: `jaxfdsl doctor`."""

import importlib.metadata
import importlib.util
import io
import os
import platform
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from PIL import Image

from jaxfdsl import __version__, compile_cache, dryrun, experiment, generators, terminal
from jaxfdsl import config as config_lib
from jaxfdsl.costs import devices, flops, page, reached
from jaxfdsl.data import decode
from jaxfdsl.models import attention, vit

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# What `pip install "jax[cuda12]"` or "jax[cuda13]" brings: the names differ.
CUDA = {
    "CUDA": ("nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime"),
    "cuDNN": ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13"),
}
SPARE = 1.2  # how much faster than the model the host should be


def lines(name: str = "exfractaldb-1k", images: int = 64, data_dir: str = "") -> Iterator[str]:
    """The page, a line at a time as it becomes known; draws `images` of the data set `name`.

    Raises ConfigError for an unknown name; whatever the machine lacks is said, not raised.
    """
    with terminal.as_typed():
        generators.load(name)  # a mistake is told before the page
    yield from _versions()
    yield from _devices()
    yield from _choices()
    yield f"compile cache {compile_cache.enable()}"
    yield _prepared(data_dir)
    rate = dryrun.matmul_rate(jax.devices()[0], seconds=0.5)
    yield f"matrix products {rate / 1e12:,.3g} TFLOP/s reached on one device"
    drawn, decoded = drawing_speed(name, images), decoding_speed()
    yield f"drawing {drawn:,.0f} images/s of {name} on one device"
    yield f"decoding {decoded:,.0f} images/s on {_cores()} cores ({_decoder()}, 500x375 JPEG)"
    yield from verdict(rate, drawn, decoded, name)


def _versions() -> Iterator[str]:
    yield f"python {platform.python_version()} on {platform.platform()}"
    yield f"jaxfdsl {__version__}"
    for package in PACKAGES:
        yield f"{package} {_version(package)}"
    for name, packages in CUDA.items():
        found = [v for p in packages if (v := _version(p)) != "not installed"]
        if found:
            yield f"{name} {found[0]}"


def _devices() -> Iterator[str]:
    device = jax.devices()[0]
    yield f"devices {jax.device_count()} x {device.device_kind} ({device.platform})"
    runtime = str(getattr(getattr(device, "client", None), "platform_version", "")).split("\n")[0]
    if runtime not in ("", device.platform):
        yield f"runtime {runtime}"
    yield f"processes {jax.process_count()}, {jax.local_device_count()} devices each"
    known, limit = devices.find(device.device_kind), _memory_limit(device)
    if limit:
        yield f"memory {page.size(limit)} a device, as much as JAX takes of it"
    if known:
        yield f"peak {known.peak / 1e12:,.4g} TFLOP/s a device (data sheet)"
    yield f"processors {_cores()}"


def _choices() -> Iterator[str]:
    dtype = experiment.compute_dtype("auto")
    yield f'dtype="auto" is {dtype}, attention="auto" is {attention.choose("auto", 64, dtype)}'


def _memory_limit(device: Any) -> float:
    try:
        return float((device.memory_stats() or {}).get("bytes_limit", 0))
    except (RuntimeError, NotImplementedError):  # a backend may not tell
        return 0.0


def _prepared(data_dir: str) -> str:
    folder = epath.Path(config_lib.resolve_data_dir(data_dir))
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return f"tfds data {folder}: {', '.join(found) or 'nothing prepared'}"


def drawing_speed(name: str, count: int) -> float:
    """Images a second, drawn on one device in batches of `count`, compilation left out."""
    data = generators.load(name)
    draw, table = jax.jit(data.fields), jax.device_put(data.table)
    batches = [data.recipes(np.arange(count) + first * count) for first in range(4)]
    jax.block_until_ready(draw(batches[0], table))
    begun = time.perf_counter()
    for recipes in batches[1:]:
        drawn = draw(recipes, table)
    jax.block_until_ready(drawn)
    return 3 * count / (time.perf_counter() - begun)


def decoding_speed(seconds: float = 1.0) -> float:
    """Images a second from JPEGs of 500 x 375 pixels to random crops of 224, on all cores."""
    pictures = [_jpeg(seed) for seed in range(32)]
    places = np.arange(len(pictures), dtype=np.int64)
    view = decode.View(crop="random_resized")
    draws = decode.box_draws(0, places, places)
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < seconds:
        decode.decode_all(pictures, lambda i, data: decode.random_crop(data, view, draws[i]), 224)
        done += len(pictures)
    return done / (time.perf_counter() - begun)


def _jpeg(seed: int) -> bytes:
    """A picture with edges and some noise, of about 50 kB: as large as ImageNet's at that size."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (24, 32, 3), np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC))
    noisy = pixels + rng.normal(0.0, 8.0, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return file.getvalue()


def verdict(rate: float, drawn: float, decoded: float, name: str) -> Iterator[str]:
    """Whether drawing or decoding would limit ViT-B/16 here, in sentences.

    `rate` is a device's FLOP/s in matrix products, used where its peak is not known; `drawn` is
    images/s of a device, `decoded` of this process.
    """
    design = vit.design_of(_model(), 1000, experiment.compute_dtype("auto"))
    device = jax.devices()[0]
    peak = devices.peak(device.device_kind, str(design.dtype)) or rate
    # Virtual devices of a processor share what one of them reaches.
    count = 1 if device.platform == "cpu" else jax.local_device_count()
    share = reached.expected(design, device.platform)
    needed = count * peak * share.value / flops.training(design)
    yield (
        f"ViT-B/16 would learn {needed:,.3g} images/s here, at {share.value:.0%} of "
        f"{peak / 1e12:,.3g} TFLOP/s on {count} device{'s' * (count > 1)} ({share.origin})."
    )
    part = needed / (count * drawn + needed)
    yield f"Drawing gives {count * drawn:,.0f} of {name}: {part:.1%} of a step that draws."
    yield f"Decoding gives {decoded:,.0f}: {_enough(decoded, needed)}."
    if device.platform == "cpu":
        gpu = devices.KINDS["h200"].peak * reached.expected(design, "gpu").value
        needed = gpu / flops.training(design)
        yield f"An H200 would learn {needed:,.0f} (assumed): {_enough(decoded, needed)}."


def _enough(decoded: float, needed: float) -> str:
    if decoded > SPARE * needed:
        return "real images would not limit"
    cores = int(np.ceil(_cores() * SPARE * needed / decoded))
    return f"real images would limit, {cores} such cores would not"


def _model() -> Any:
    config = config_lib.default_config().model
    config.variant = "vit_b"
    return config


def _decoder() -> str:
    return "simplejpeg" if importlib.util.find_spec("simplejpeg") else "Pillow"


def _cores() -> int:
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(allowed(0)) if allowed else os.cpu_count() or 1


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
