"""Writes the parts of these pages that the code knows: options, names, recipes, fields, verbs.

    python docs/generate.py

A part stands between `<!-- NAME: python docs/generate.py -->` and `<!-- end -->`;
tests/unit/test_docs.py fails where one is out of date.
"""

import argparse
import ast
import dataclasses
import importlib
import inspect
import io
import math
import pathlib
import re
import shlex
import tokenize
import typing
from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from jaxfdsl import cli, config
from jaxfdsl.config import path as config_path
from jaxfdsl.generators import catalog

FOLDER = pathlib.Path(__file__).resolve().parent
PART = re.compile(r"(<!-- (\S+): python docs/generate\.py -->\n).*?(<!-- end -->)", re.S)
NOT_RUN = re.compile(r"not\s+yet\s+run\s+here|none\s+is\s+run\s+here|not\s+measured\s+here")


def names() -> str:
    """What `generators.load` takes."""
    lines = ["| name | sizes | family | canvas | images a category |", "|---|---|---|--:|--:|"]
    for name, entry in catalog.DATASETS.items():
        kind = catalog.FAMILIES[entry.family]
        sizes = ", ".join(entry.sizes) or f"{entry.num_classes:,} categories"
        number = f"{entry.instances:,}" + " scenes" * hasattr(kind, "compose")
        lines.append(f"| `{name}` | {sizes} | `{entry.family}` | {kind.canvas} | {number} |")
    return "\n".join(lines)


def options_of(family: str) -> str:
    """Every option of a family, its default, and what it takes."""
    kind = catalog.FAMILIES[family]
    hints, limits = typing.get_type_hints(kind), getattr(kind, "limits", {})
    lines = ["| option | default | takes |", "|---|---|---|"]
    for field in dataclasses.fields(kind):
        takes = _takes(hints[field.name], limits.get(field.name))
        lines.append(f"| `{field.name}` | `{_shown(field.default)}` | {takes} |")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def _takes(hint: Any, limits: tuple[float, float] | None) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return ", ".join(f'`"{choice}"`' for choice in typing.get_args(hint))
    if hint is bool:
        return "`True`, `False`"
    pair = typing.get_origin(hint) is tuple
    kind = typing.get_args(hint)[0] if pair else hint
    least, most = limits or ((1, math.inf) if kind is int else (-math.inf, math.inf))
    number = "a whole number" if kind is int else "a number"
    if math.isinf(most):
        span = "" if math.isinf(least) else f" of {_plain(least)} or more"
    else:
        span = f" from {_plain(least)} to {_plain(most)}"
    return f"least and greatest, each {number}{span}" if pair else f"{number}{span}"


def _plain(number: float) -> str:
    return f"{int(number) if number == int(number) else number:,}"


def recipes() -> str:
    """The docstring of every recipe, as Markdown, with a table before them."""
    table = ["| recipe | what it is | ours |", "|---|---|---|"]
    sections = []
    for name in config_path.packaged_names():
        stem = pathlib.Path(name).stem
        doc = inspect.getdoc(importlib.import_module(f"jaxfdsl.configs.{stem}")) or ""
        first, _, rest = doc.partition("\n")
        table.append(f"| [{stem}](#{stem}) | {first.rstrip('.')} | {ours(doc, name)} |")
        sections.append(f"## {stem}\n\n[{name}](../{name}): {first}\n\n{_markdown(rest)}")
    return "\n".join(table) + "\n\n" + "\n\n".join(sections)


def ours(doc: str, name: str) -> str:
    """What a recipe's docstring says that this code reached with it."""
    if found := re.search(r"\bMeasured: (.*?)\.\n", doc, re.S):
        return " ".join(found[1].split())
    if NOT_RUN.search(doc):
        return "not yet run"
    raise SystemExit(f"{name}: its docstring says neither `Measured: ...` nor `not yet run here`.")


def _markdown(text: str) -> str:
    """A docstring's paragraphs, with fences round what is indented."""
    made: list[str] = []
    for indented, lines in _runs(text.strip("\n").split("\n"), "    "):
        block = "\n".join(line.removeprefix("    ") for line in lines).strip("\n")
        if indented:
            shell = block.startswith(("python ", "jaxfdsl "))
            block = f"```{'sh' if shell else 'text'}\n{block}\n```"
        made.append(block)
    return "\n\n".join(made)


def _runs(lines: list[str], indent: str) -> Iterator[tuple[bool, list[str]]]:
    """Runs of lines that are all indented, or all not; empty lines stay in the run that they are
    in.
    """
    begun: list[str] = []
    indented = False
    for line in lines:
        if line and line.startswith(indent) != indented:
            if begun:
                yield indented, begun
            begun, indented = [], not indented
        begun.append(line)
    yield indented, begun


def fields() -> str:
    """Every field of a config in the program's order, its default, and the comment beside it."""
    default, notes = config.default_config(), _comments()
    order = {name: place for place, name in enumerate(notes)}
    names = sorted(config_path.dotted(default), key=lambda name: order.get(name, len(order)))
    lines = ["| field | default | what it is |", "|---|---|---|"]
    for name in names:
        value, note = config.field(default, name), notes.get(name, "")
        group = isinstance(value, ConfigDict)
        if note == notes.get(name.rpartition(".")[0]):  # a group on one line with its fields
            note = ""
        shown = "" if group or value == "" else f"`{_shown(value)}`"
        if note or not group:
            lines.append(f"| `{name}` | {shown} | {note} |")
    return "\n".join(lines)


def _comments() -> dict[str, str]:
    """The comments of `jaxfdsl.config` by the dotted name of the field at whose line they stand."""
    source = inspect.getsource(config)
    typed = tokenize.generate_tokens(io.StringIO(source).readline)
    said = {token.start[0]: token for token in typed if token.type == tokenize.COMMENT}
    alone = {line for line, token in said.items() if not token.line[: token.start[1]].strip()}
    found = {}
    for name, line in _lines(ast.parse(source)):
        above = line
        while above - 1 in alone:
            above -= 1
        beside = [said[line]] if line in said else []
        told = [token.string for token in [*(said[n] for n in range(above, line)), *beside]]
        found[name] = " ".join(text.lstrip("# ") for text in told).replace("|", "\\|")
    return found


def _lines(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Where `config.x = ...` and the dictionaries behind it stand, by dotted names."""
    makers = {one.name: one for one in module.body if isinstance(one, ast.FunctionDef)}

    def inside(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for one in ast.walk(node):
            if isinstance(one, ast.Dict):
                for key, value in zip(one.keys, one.values, strict=True):
                    if isinstance(key, ast.Constant):
                        yield f"{prefix}{key.value}", key.lineno
                        yield from inside(value, f"{prefix}{key.value}.")
                return
            if isinstance(one, ast.Call) and getattr(one.func, "id", "") in makers:
                yield from inside(makers[one.func.id], prefix)

    for one in ast.walk(makers["default_config"]):
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Attribute):
            name = one.targets[0].attr
            yield name, one.lineno
            yield from inside(one.value, f"{name}.")


def verbs() -> str:
    """Every verb of `jaxfdsl`: what it does, an example, its options."""
    return "\n\n".join(_verb(name, made) for name, made in verb_parsers().items())


def verb_parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each verb."""
    top = cli.parser()
    (group,) = (a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    return dict(group.choices)


def _verb(name: str, made: argparse.ArgumentParser) -> str:
    text = inspect.cleandoc(made.description or "")
    example = re.sub(r"^examples?:\s*", "", inspect.cleandoc(made.epilog or ""))
    parts = [f"## {name}", _described(text)]
    if example.startswith("jaxfdsl "):
        parts.append(f"```sh\n{inspect.cleandoc(example)}\n```")
    elif example:
        parts.append(example)
    rows = [_option(action) for action in made._actions if action.dest != "help"]
    if rows:
        parts.append("\n".join(["| option | default | what it is |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _described(text: str) -> str:
    """A description with a fence round what is indented."""
    made: list[str] = []
    for indented, lines in _runs(text.split("\n"), "  "):
        block = "\n".join(lines).strip("\n")
        made.append(f"```text\n{block}\n```" if indented else block)
    return "\n\n".join(made)


def _option(action: argparse.Action) -> str:
    typed = ", ".join(action.option_strings) or (action.metavar or action.dest)
    if action.option_strings and action.nargs != 0 and action.metavar:
        typed += f" {action.metavar}"
    silent = action.default in (None, "", [], argparse.SUPPRESS) or action.default is False
    if action.required and action.nargs not in ("*", "?"):
        default = "required"
    else:
        default = "" if silent else f"`{shlex.quote(str(action.default))}`"
    told = (action.help or "").replace("%%", "%").replace("|", "\\|")
    return f"| `{typed}` | {default} | {told} |"


def benchmarks() -> str:
    """Each script's question, and what the scripts share."""
    asked, shared = ["| question | script |", "|---|---|"], []
    for path in sorted((FOLDER.parent / "benchmarks").glob("*.py")):
        text = path.read_text("utf-8")
        first = " ".join((ast.get_docstring(ast.parse(text)) or "").split("\n\n")[0].split())
        if "__main__" in text:
            asked.append(f"| {first} | [`{path.name}`]({path.name}) |")
        else:
            shared.append(f"- [`{path.name}`]({path.name}): {first}")
    return "\n".join([*asked, "", "No scripts, but what scripts share:", "", *shared])


PARTS: dict[str, Callable[[], str]] = {
    "benchmarks": benchmarks,
    "fields": fields,
    "names": names,
    "recipes": recipes,
    "verbs": verbs,
    **{f"options-{name}": lambda name=name: options_of(name) for name in catalog.FAMILIES},
}


def updated(text: str) -> str:
    """A page with its parts as they should be."""
    return PART.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n\n{found[3]}", text)


def pages() -> list[pathlib.Path]:
    """The pages that have such parts."""
    found = [*sorted(FOLDER.glob("*.md")), FOLDER.parent / "benchmarks" / "README.md"]
    return [page for page in found if PART.search(page.read_text("utf-8"))]


if __name__ == "__main__":
    for page in pages():
        page.write_text(updated(page.read_text("utf-8")), "utf-8")
