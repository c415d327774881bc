"""The pages build without a warning, their links lead somewhere, and what they say to type is known
to the programs; cheap commands and blocks of Python are run.

docs/recipes.md holds the docstrings of all recipes, so that their commands are checked with it.
"""

import ast
import functools
import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

import pytest
from absl import flags

from jaxfdsl import cli, config, main
from jaxfdsl.data import materialise
from jaxfdsl.distributed import launchers
from tests import page_code

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "RESULTS.md")),
    ROOT / "configs" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]
PAGES = [page for page in PAGES if "_build" not in page.parts]
READ = [page for page in PAGES if page.name not in ("CHANGELOG.md", "RESULTS.md")]
each_page = pytest.mark.parametrize("page", READ, ids=lambda page: str(page.relative_to(ROOT)))

# Commands of the pages that are run, with what is added to make them small. Others are run
# elsewhere: dryrun in test_dryrun.py, doctor and evaluate in test_cli.py, materialise, prepare and
# export in the tests of their names.
RUN = {
    "jaxfdsl gallery exfractaldb-1k --rows 3 --columns 5 --out fractals.png": ["--size=64"],
    "jaxfdsl search exfractaldb --classes 10 --seed 7 --out mine.npz": ["--classes=2"],
    "python -m jaxfdsl.main --help": [],
}
NOT_HERE = r"^(?:from|import) (?:torch|timm|google)"  # blocks that need these are only read
NO_FILE = "csv_rate0.2_category1000"  # statements that name it are left out
ELSEWHERE = {"jax[k8s]", "mpi4py"}  # packages that pages install and that are no extra of ours


def script(path: pathlib.Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = script(DOCS / "generate.py")
verbs = functools.cache(generate.verb_parsers)


@functools.cache
def trains(*words):
    """`python -m jaxfdsl.main` with these words is a run that can begin."""
    if "--help" not in words:
        command = main.parse(["main.py", *words], flags.FlagValues())
        config.validate(command.config, num_devices=16, num_processes=2)
        assert launchers.find({}, command.given).count in (1, 2)


def does(*words):
    """`jaxfdsl` takes these words; what `dryrun` passes on, a run does."""
    if words[-1] == "--help":
        assert len(words) == 1 or words[0] in {*verbs(), "VERB"}
        return
    _, rest = cli.parser().parse_known_args(words)
    if rest:
        assert words[0] == "dryrun"
        trains(*rest)


def python(*words):
    if words[:2] == ("-m", "jaxfdsl.main"):
        trains(*words[2:])
    elif words[0] == "-m":
        assert words[1] in ("venv", "pytest", "sphinx"), words
        assert words[1] != "pytest" or all((ROOT / w).exists() for w in words if "/" in w)
    else:
        text = (ROOT / words[0]).read_text("utf-8")
        for word in words[1:]:
            name = word.partition("=")[0]
            assert not name.startswith("--") or f'"{name}"' in text, f"{words[0]} has no {name}"


def pip(*words):
    assert words[0] == "install"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = extras["optional-dependencies"]
    words = list(words[1:])
    while words:
        word = words.pop(0)
        if word == "-c":
            assert (ROOT / words.pop(0)).is_file()
        elif word == "--python":
            words.pop(0)
        elif not word.startswith("-") and not word.startswith("git+") and word not in ELSEWHERE:
            found = re.fullmatch(r"(?:\.|jaxfdsl)(?:\[([\w,]+)\])?(?: @ git\+.*)?", word)
            assert found, f"pip install {word}"
            assert set(filter(None, (found[1] or "").split(","))) <= extras.keys(), word


def file_of(program, suffix):
    """A program that is handed a file of ours, among its own words."""

    def rule(*words):
        named = [word for word in words if word.startswith("scripts/")]
        assert all(word.endswith(suffix) and (ROOT / word).is_file() for word in named), words
        if program == "sbatch":
            trains(*words[words.index(named[0]) + 1 :])
        elif program == "srun":
            assert words[words.index("python") + 1 :][:2] == ("-m", "jaxfdsl.main")
            python(*words[words.index("python") + 1 :])

    return rule


def anything(*words):
    """A program of others."""


RULES = {
    "jaxfdsl": does,
    "python": python,
    "python3": python,
    "pip": pip,
    "uv": lambda *words: pip(*words[1:]) if words[0] == "pip" else None,
    "sbatch": file_of("sbatch", ".sh"),
    "srun": file_of("srun", ".sh"),
    "kubectl": file_of("kubectl", ".yaml"),
    "tpu_pod.sh": lambda *words: trains(*words[3:]),
    **dict.fromkeys((".", "curl", "export", "gcloud", "pre-commit", "ruff", "sh"), anything),
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No run of the developer's answers to a page's --workdir."""
    monkeypatch.chdir(tmp_path)


@each_page
def test_every_command_is_known(page):
    for words in page_code.commands(page_code.shell(page.read_text("utf-8"))):
        program = words[0] if words[0] == "." else words[0].rsplit("/", 1)[-1]
        assert program in RULES, f"no rule of this test knows {shlex.join(words)}"
        try:
            RULES[program](*words[1:])
        except SystemExit as error:  # argparse has told the reason
            pytest.fail(f"{shlex.join(words)}: status {error.code}")


@each_page
def test_what_the_text_names_exists(page):
    """Verbs and their options, scripts and theirs, and fields of the config, in inline code."""
    for code in page_code.inline(page.read_text("utf-8")):
        for name in re.findall(
            r"(?<![\w./])(?:--)?config\.(?!(?:py|json|field)\b)([a-z][\w.]*)", code
        ):
            assert is_field(name), code
        if code.startswith("jaxfdsl ") and (words := code.split()[1:])[0] not in (
            "VERB",
            "--help",
            "--print-completion",
        ):
            made = verbs()[words[0]]
            known = {name for action in made._actions for name in action.option_strings}
            asked = {w.partition("=")[0] for w in words if w.startswith("--")}
            assert words[0] == "dryrun" or asked <= known, code
        elif code.startswith("pip install "):
            pip(*shlex.split(code)[1:])
        elif found := re.match(r"(?:taskset -c \d )?python ((?:benchmarks|docs)/.*)", code):
            python(*shlex.split(found[1]))


def is_field(name):
    """A dotted name of the config; of a source or an evaluation, a field of some kind of them."""
    parts = name.rstrip(".").split(".")
    if parts[:2] == ["data", "sources"] or parts[0] == "evals":
        kinds = config.SOURCES if parts[0] == "data" else config.EVALS
        own = parts[3 if parts[0] == "data" else 2 :]
        if not own or parts[0] == "evals":
            return True
        return any(own[0] in make() for make in kinds.values())
    try:
        config.field(config.default_config(), ".".join(parts))
    except (AttributeError, KeyError, TypeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in page_code.links(page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), link
        assert not anchor or anchor in page_code.anchors(file), link


@each_page
def test_python_runs(page, tmp_path, monkeypatch):
    """Statements are run one after the other, but for those that need what is not here."""
    monkeypatch.chdir(tmp_path)
    for block in page_code.python(page.read_text("utf-8")):
        names: dict = {}
        tree = ast.parse(block)
        check_imports(tree)
        if re.search(NOT_HERE, block, re.M):
            continue
        for statement in tree.body:
            if NO_FILE not in ast.unparse(statement):
                code = ast.Module([statement], [])
                exec(compile(code, str(page), "exec"), names)


def check_imports(tree):
    """What is imported of ours is there, in `jaxfdsl.torch` as far as its text tells."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("jaxfdsl"):
            continue
        for name in node.names:
            if node.module == "jaxfdsl.torch":
                assert f"class {name.name}(" in (ROOT / "jaxfdsl" / "torch.py").read_text()
            elif not hasattr(importlib.import_module(node.module), name.name):
                importlib.import_module(f"{node.module}.{name.name}")


@pytest.mark.parametrize("command", RUN)
def test_cheap_commands_run(command, monkeypatch, capsys):
    typed = [
        " ".join(words)
        for page in READ
        for words in page_code.commands(page_code.shell(page.read_text("utf-8")))
    ]
    assert command in typed, "no page has this command any more: take it out of RUN"
    words = [*command.split(), *RUN[command]]
    if words[0] == "jaxfdsl":
        cli.run(words[1:])
    else:
        monkeypatch.setattr(sys, "argv", ["main.py", *words[3:]])
        main.run()
    assert capsys.readouterr().out
    for word in words:
        assert not word.endswith((".png", ".npz")) or pathlib.Path(word).stat().st_size > 500


def test_parts_that_are_made_from_the_code_are_up_to_date():
    assert len(generate.pages()) == 5
    for page in generate.pages():
        text = page.read_text("utf-8")
        assert generate.updated(text) == text, "type python docs/generate.py"


def test_every_verb_and_every_recipe_has_a_command():
    shown = page_code.commands(page_code.shell((DOCS / "cli.md").read_text("utf-8")))
    assert {words[1] for words in shown if words[0] == "jaxfdsl"} == verbs().keys()
    shown = page_code.shell((DOCS / "recipes.md").read_text("utf-8"))
    recipes = {path.name for path in (ROOT / "configs").glob("*.py")} - {"__init__.py", "deit.py"}
    assert set(re.findall(r"configs/(\w+\.py)", shown)) | {"demo.py"} == recipes


def test_pages_name_every_kind_there_is():
    named = {
        "concepts.md": [f"- `{name}`:" for name in config.default_config().objective],
        "data.md": [f"c.{kind}_source(" for kind in config.SOURCES],
        "evaluation.md": [f"`{kind}_eval`" for kind in config.EVALS],
        "index.md": [f"]({page.name})" for page in DOCS.glob("*.md") if page.name != "index.md"],
    }
    named["data.md"] += [f"| `{target}` |" for target in materialise.TARGETS]
    for page, texts in named.items():
        text = (DOCS / page).read_text("utf-8")
        assert [one for one in texts if one not in text] == [], f"docs/{page} is to name these too"


def test_every_family_has_its_picture_and_its_options():
    text = (DOCS / "families.md").read_text("utf-8")
    for picture in (DOCS / "gallery").glob("*.png"):
        assert f"](gallery/{picture.name})" in text
    assert {part for part in generate.PARTS if part.startswith("options-")} == set(
        re.findall(r"<!-- (options-\w+):", text)
    )


def test_the_pages_build_without_a_warning_and_fetch_nothing(tmp_path):
    """All of them, API included: 14 s of CPU time."""
    for needed in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(needed)
    sphinx = "import gc, runpy; gc.disable(); runpy.run_module('sphinx', run_name='__main__')"
    command = [sys.executable, "-c", sphinx, "-q", "-W", "--keep-going", "-b", "html"]
    command += ["-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "html").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        loaded = re.findall(
            r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"(\w+:)?//", page.read_text("utf-8")
        )
        assert not loaded, page
    families = (tmp_path / "html" / "families.html").read_text("utf-8")
    assert families.count("<math") > 20 and "$$" not in families
    api = (tmp_path / "html" / "api" / "generators.html").read_text("utf-8")
    assert "jaxfdsl.generators.load" in api and "jaxlib._jax" not in api
