"""The persistent compile cache: a second start of the same run compiles nothing."""

import hashlib
import os
import pathlib

import jax


def enable(folder: str | None = None) -> str:
    """Points JAX's cache at a folder of this JAX version and device kind; returns the folder.

    The default is `~/.cache/jaxfdsl/xla`. `JAX_COMPILATION_CACHE_DIR`, if set, is left as it is.
    Call it once the devices may be touched (after `distributed.initialize`) and before a compile.
    """
    already = jax.config.values["jax_compilation_cache_dir"]
    if already:
        return already
    home = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    root = pathlib.Path(folder) if folder else home / "jaxfdsl" / "xla"
    path = str(root / f"jax-{jax.__version__}" / _device_kind())
    jax.config.update("jax_compilation_cache_dir", path)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return path


def _device_kind() -> str:
    """The kind as a folder name; CPUs that share a home may differ in instructions."""
    kind = jax.devices()[0].device_kind.lower().replace(" ", "-").replace("/", "-")
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if kind != "cpu" or not cpuinfo.is_file():
        return kind
    lines = cpuinfo.read_text(errors="replace").splitlines()
    named = [line for line in lines if line.startswith(("model name", "flags", "Features"))]
    return f"{kind}-{hashlib.sha256(''.join(named[:2]).encode()).hexdigest()[:8]}"
