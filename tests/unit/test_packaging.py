"""A wheel holds one top-level name, all recipes and tables, and imports nothing it should not."""

import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDERS = ("jaxfdsl", "generators", "configs")


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory) -> pathlib.Path:
    """The wheel of this checkout, unpacked into a folder of its own."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def tracked(folder: str) -> set[str]:
    """Files of a top-level folder, as a wheel names them; caches left out."""
    files = (ROOT / folder).rglob("*")
    prefix = "" if folder == "jaxfdsl" else "jaxfdsl/"
    return {
        prefix + str(file.relative_to(ROOT))
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_a_wheel_has_one_top_level_name(unpacked):
    names = sorted(path.name for path in unpacked.iterdir())
    assert len(names) == 2
    assert names[0] == "jaxfdsl"
    assert names[1].startswith("jaxfdsl-") and names[1].endswith(".dist-info")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_wheel_holds_every_file(unpacked, folder):
    packed = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()}
    assert tracked(folder) <= packed


IMPORT_ALL = """
import importlib, sys
sys.path.insert(0, {place!r})
for name in {modules!r}:
    importlib.import_module(name)
print(*sorted(name for name in {unwanted!r} if name in sys.modules))
"""


def modules() -> list[str]:
    """Every module by the name that it is imported by, but those for PyTorch's and Beam's users."""
    files = [name for folder in FOLDERS for name in tracked(folder) if name.endswith(".py")]
    for file in ("torch.py", "data/materialise/beam.py", "data/materialise/tfds_builder.py"):
        files.remove(f"jaxfdsl/{file}")
    names = (name.removesuffix(".py").replace("/", ".") for name in files)
    return sorted(name.removesuffix(".__init__") for name in names)


@pytest.mark.parametrize("kind", ["checkout", "wheel"])
def test_importing_everything_leaves_out_doubles_and_other_frameworks(kind, unpacked, tmp_path):
    place = str(ROOT if kind == "checkout" else unpacked)
    assert {"jaxfdsl.generators.dataset", "jaxfdsl.configs.demo"} <= set(modules())
    unwanted = ("generators", "configs", "tensorflow", "torch", "clu", "matplotlib.pyplot")
    code = IMPORT_ALL.format(place=place, modules=modules(), unwanted=unwanted)
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_a_wheel_finds_its_recipes_from_an_empty_folder(unpacked, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(unpacked)!r})\n"
        "from jaxfdsl import load_config\n"
        "from jaxfdsl.config import path\n"
        "print(path.resolve('configs/vitb_exfractal.py'))\n"
        "print(load_config('vitb_exfractal').model.variant)"
    )
    command = [sys.executable, "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    recipe = unpacked / "jaxfdsl" / "configs" / "vitb_exfractal.py"
    assert done.stdout.split() == [str(recipe), "vit_b"]


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-colab.txt"])
def test_constraints_are_names_and_versions_alone(file):
    lines = (ROOT / file).read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 5
    assert not [pin for pin in pins if "==" not in pin or "/" in pin or "@" in pin]
