"""Eight virtual CPU devices, programs that compile in a third of the time, a compile cache, types
checked at run time, and where real data is.
"""

import gc
import importlib
import os
import pathlib

# Test programs that start others hand these down.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "jaxfdsl" / "xla-tests")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

import jax

if os.environ["JAX_PLATFORMS"] == "cpu":
    jax.config.update("jax_num_cpu_devices", 8)
    # Tests compile for longer than they run. tests/golden draws every family, and test_imports.py
    # trains, as users do. Later versions do not know the third flag, and refuse to start with it.
    quickly = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
    if jax.__version_info__ < (0, 11):
        quickly += " --xla_cpu_use_fusion_emitters=false"
    os.environ.setdefault("XLA_FLAGS", quickly)

import jaxtyping
import pytest
from absl import flags

# Grain reads absl's flags, which pytest does not parse.
if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()

# Every annotated shape and dtype of the package is checked in every test.
jaxtyping.install_import_hook("jaxfdsl", "beartype.beartype")


gc.disable()  # nothing imported is garbage: a quarter of the time of collecting went into looking


def pytest_collection_finish():
    gc.freeze()  # what was imported; and what programs make is looked through less often
    gc.enable()
    gc.set_threshold(20_000, 10, 10)


ROOT = pathlib.Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def small_searches():
    """Fewer candidates at once than the thousand of users: what is found does not hang on it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importlib.import_module("jaxfdsl.generators.search"), "CHUNK", 32)
        yield


@pytest.fixture(scope="session")
def root() -> pathlib.Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Published category files and small real images; tests that need them are skipped without."""
    folder = pathlib.Path(os.environ.get("JAXFDSL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real data: set JAXFDSL_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def tfds_dir(shared_data: pathlib.Path) -> str:
    """A folder of prepared TFDS data sets."""
    return str(shared_data / "tfds")
