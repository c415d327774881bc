"""Eight virtual CPU devices, a compile cache, types checked at run time, and where real data is."""

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

import jaxtyping
import pytest
from absl import flags

# Grain reads absl's flags, which pytest does not parse.
if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()

# Every annotated shape and dtype of the package is checked in every test.
jaxtyping.install_import_hook("jaxfdsl", "beartype.beartype")

ROOT = pathlib.Path(__file__).resolve().parent.parent


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
