"""The house rules, read from the source: who imports whom, how files are called, how long."""

import ast
import functools
import pathlib
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = [
    file
    for folder in ("jaxfdsl", "generators", "configs")
    for file in sorted((ROOT / folder).rglob("*.py"))
]
EVERYTHING = PACKAGE + [
    file for folder in ("tests", "benchmarks") for file in sorted((ROOT / folder).rglob("*.py"))
]


def module_name(file: pathlib.Path) -> str:
    """jaxfdsl.generators.dataset for generators/dataset.py."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "jaxfdsl" else ("jaxfdsl", *parts)
    return ".".join(parts)


def imports(file: pathlib.Path, source: str | None = None) -> Iterator[str]:
    """Full names of all that a file imports, in functions too: a.b.c for `from a.b import c`."""
    package = module_name(file).split(".")[:-1]
    for node in statements(file.read_text() if source is None else source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, node.module] if node.module else base
            yield from (".".join([*base, alias.name]) for alias in node.names)


@functools.cache
def statements(source: str) -> list[ast.AST]:
    """Those of a file that import."""
    kinds = (ast.Import, ast.ImportFrom)
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]


def starts(name: str, prefixes: tuple[str, ...]) -> bool:
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def offenders(files: list[pathlib.Path], *forbidden: str) -> list[str]:
    return [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in files
        for name in imports(file)
        if starts(name, forbidden)
    ]


def test_imports_are_seen_in_all_their_forms():
    source = "import a.b\nfrom . import c\nfrom .d import e\ndef f():\n    from ..g import h\n"
    seen = list(imports(ROOT / "jaxfdsl" / "data" / "x.py", source))
    assert seen == ["a.b", "jaxfdsl.data.c", "jaxfdsl.data.d.e", "jaxfdsl.g.h"]
    seen = list(imports(ROOT / "generators" / "__init__.py", "from .dataset import load"))
    assert seen == ["jaxfdsl.generators.dataset.load"]


def test_generators_need_jax_numpy_and_jaxtyping_alone():
    allowed = ("jaxfdsl.generators", "jax", "numpy", "jaxtyping", *sys.stdlib_module_names)
    found = [
        f"{file.relative_to(ROOT)} imports {name}"
        for file in PACKAGE
        if file.is_relative_to(ROOT / "generators")
        for name in imports(file)
        if not starts(name, allowed)
    ]
    assert not found


@pytest.mark.parametrize("part", ["models", "objectives", "data"])
def test_models_objectives_and_data_do_not_know_each_other_or_the_loop(part):
    files = [file for file in PACKAGE if file.is_relative_to(ROOT / "jaxfdsl" / part)]
    others = {"models", "objectives", "data", "train", "step", "state", "checkpoint", "evals"}
    others |= {"main", "cli", "report"}
    assert files
    assert not offenders(files, *(f"jaxfdsl.{other}" for other in sorted(others - {part})))


def outside(*places: str) -> list[pathlib.Path]:
    kept = [ROOT / "jaxfdsl" / place for place in places]
    return [f for f in PACKAGE if not any(f == k or f.is_relative_to(k) for k in kept)]


def test_only_checkpoint_imports_orbax():
    assert not offenders(outside("checkpoint.py"), "orbax")


def test_only_data_imports_grain_and_tfds():
    assert not offenders(outside("data"), "grain", "tensorflow_datasets", "array_record")


def test_only_main_and_cli_read_flags():
    # Grain refuses to start workers before absl's flags count as parsed: prefetch says they are.
    files = outside("main.py", "cli", "data/prefetch.py")
    readers = ("absl.flags", "absl.app", "argparse", "ml_collections.config_flags", "sys.argv")
    assert not offenders(files, *readers)
    assert not [file for file in files if "sys.argv" in file.read_text()]


def test_nobody_imports_tensorflow_torch_or_clu():
    assert not offenders(PACKAGE, "tensorflow", "clu", "flax.metrics.tensorboard")
    # For PyTorch's own scripts, and for the models that make images offline.
    assert not offenders(outside("torch.py", "text_to_image/pipeline.py"), "torch", "diffusers")
    assert not offenders(PACKAGE, "jaxfdsl.torch")


def test_the_package_is_imported_by_its_full_name_only():
    assert not offenders(EVERYTHING, "generators", "configs")


def test_no_drawer_for_odds_and_ends():
    names = {"utils", "util", "common", "misc", "helpers"}
    assert not [file for file in EVERYTHING if names & {file.stem, file.parent.name}]


def test_no_file_over_400_lines():
    long = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in EVERYTHING}
    assert not {name: lines for name, lines in long.items() if lines > 400}
