"""The notebooks are kept as Colab wants them, and run from top to bottom, small and on a CPU."""

import os
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SKIPPED = "skip-execution"  # nbclient's own tag; the install cell has it

nbformat = pytest.importorskip("nbformat")


def read(path: pathlib.Path):
    """A notebook, valid."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def run(name: str, folder: pathlib.Path, monkeypatch, left_out: str = "") -> str:
    """What a notebook prints and shows, without its cells of a tag; the first error is raised."""
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("JAXFDSL_NOTEBOOKS", "small")
    monkeypatch.setenv("PATH", f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{os.environ.get('PYTHONPATH', '')}")
    for variable in ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(folder / "jupyter"))
    notebook = read(ROOT / "notebooks" / name)
    for cell in notebook.cells:
        if left_out in cell.metadata.get("tags", []):
            cell.metadata.tags.append(SKIPPED)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [*(output.get("text", "") for output in outputs)]
    return "".join(shown) + "PNG " * sum("image/png" in o.get("data", {}) for o in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_as_colab_wants_it(path):
    notebook = read(path)
    assert notebook.metadata.kernelspec.name == "python3"
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count is not None]
    install = [cell for cell in code if "pip install" in cell.source]
    assert len(install) == 1 and install[0] is code[0]  # nothing before it needs jaxfdsl
    assert SKIPPED in install[0].metadata.tags
    (repository,) = re.findall(
        r'^REPOSITORY = "https://github\.com/(\S+)"$', install[0].source, re.M
    )
    opened = f"colab.research.google.com/github/{repository}/blob/main/notebooks/{path.name}"
    assert f"](https://{opened})" in notebook.cells[0].source
    # The one place of the name: whoever forks replaces what docs/running.md says, everywhere.
    assert f"git+https://github.com/{repository}\n" in (ROOT / "docs" / "running.md").read_text()
    named = re.findall(r"https://github\.com/([\w-]+/[\w-]+)/blob", path.read_text())
    assert set(named) <= {repository}


def test_images_are_drawn_changed_and_found_by_their_number(tmp_path, monkeypatch):
    said = run("01_formula_images.ipynb", tmp_path, monkeypatch)
    assert "1,000,000 images of 1,000 categories; these are (12, 64, 64, 1)" in said
    assert "image 420007 is instance 420 of category 7" in said
    assert "the same bytes in a batch: True" in said
    assert "rcdb has no option 'backgruond' (did you mean 'background'?)" in said
    assert said.count("PNG ") == 11


def test_pretrained_and_scratch_are_compared(tmp_path, monkeypatch):
    from jaxfdsl import load_config

    said = run("02_pretrain_finetune.ipynb", tmp_path, monkeypatch)
    for name in ("pretrain", "scratch", "finetuned"):
        assert re.search(rf"Finished: 4 steps, 32 images, .*Results are in runs/{name}: ", said)
    assert re.findall(r"Weights from \S*runs/pretrain\S*: (.*)\.", said) == [
        "head new (10 classes)"
    ]
    assert said.count("PNG ") == 4
    # The path of those who bring pictures, which nothing here runs.
    recipe = str(tmp_path / "few_images.py")
    assert load_config(f"{recipe}:cifar10").data.sources.images.name == "cifar10"
    assert load_config(f"{recipe}:/a/folder").data.sources.images.path == "/a/folder"


def test_weights_go_out_and_come_back(tmp_path, monkeypatch):
    said = run("03_use_weights.ipynb", tmp_path, monkeypatch, left_out="torch")
    assert "Step 2 of runs/small for timm" in said
    assert "(8, 20) from" in said
    assert "equal bits: True" in said


def test_torch_weights_give_equal_logits(tmp_path, monkeypatch):
    """In an environment with `.[test,interop]`:

    python -m pytest tests/end_to_end/test_notebooks.py -k torch
    """
    for library in ("torch", "timm", "transformers"):
        pytest.importorskip(library)
    said = run("03_use_weights.ipynb", tmp_path, monkeypatch)
    found = [float(number) for number in re.findall(r" (\d\.\de-\d\d)$", said, re.M)]
    assert len(found) == 5 and max(found) < 1e-5
    assert re.search(r"Weights from \S*timm\.safetensors", said)
