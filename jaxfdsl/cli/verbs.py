"""How `jaxfdsl <verb>` is read: help that fits a screen, one-line mistakes with what was meant."""

import argparse
import difflib
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

WIDTH = 80  # columns of the help page
EXIT_CODES = "exit codes: 0 done, 1 the work failed, 2 bad input, 130 stopped by Ctrl-C"
_NAME = "jaxfdsl"
_OWN = ("-h", "--help", "--version", "--print-completion")  # options before a verb

Option = tuple[tuple[str, ...], dict[str, Any]]  # what `add_argument` takes


class Verb(NamedTuple):
    """A function of parsed options whose docstring is its help, and a command that works."""

    run: Callable[[argparse.Namespace], None]
    example: str
    options: Sequence[Option]
    passes_on: bool = False  # what it does not know is for it to read, as `options.rest`
    stopped: str = "nothing half-written is left."  # told after Ctrl-C

    @property
    def told(self) -> str:
        return inspect.getdoc(self.run) or ""

    @property
    def line(self) -> str:
        """The docstring's first line."""
        return self.told.partition("\n")[0]


def registering(verbs: dict[str, Verb]) -> Callable[..., Any]:
    """A decorator that takes an example and options, and makes a function the verb of its name."""

    def verb(example: str, *options: Option, **how: Any) -> Callable[..., Any]:
        def register(function: Callable[[argparse.Namespace], None]) -> Any:
            verbs[function.__name__] = Verb(function, example, options, **how)
            return function

        return register

    return verb


def option(*names: str, **how: Any) -> Option:
    """An option of a verb, as `ArgumentParser.add_argument` takes it."""
    return names, how


def at_least(low: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from `low` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if number < low:
            raise argparse.ArgumentTypeError(f"type a whole number from {low} on, not {text}")
        return number

    return read


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose mistakes are one sentence, and status 2."""

    def error(self, message: str) -> NoReturn:
        message = re.sub(r"^argument (\S+): ", r"\1: ", message)
        self.exit(2, f"{self.prog}: {message}; type {self.prog} --help.\n")


class _Top(Parser):
    """The parser of all verbs; its help is a line a verb."""

    verbs: Mapping[str, Verb]

    def format_help(self) -> str:
        wide = max(map(len, self.verbs))
        lines = [f"  {name:<{wide}}  {verb.line}" for name, verb in self.verbs.items()]
        return "\n".join(
            (
                f"usage: {_NAME} VERB ...     (training itself: python -m jaxfdsl.main --help)\n",
                *lines,
                f"\n{_NAME} VERB --help: its options, and an example; {_NAME} --version",
                f"{_NAME} --print-completion bash|zsh|tcsh: a script for your shell to read",
                EXIT_CODES,
                "",
            )
        )


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, width=WIDTH, max_help_position=26)


def parser(verbs: Mapping[str, Verb], version: str) -> Parser:
    """Every verb with its options."""
    top = _Top(_NAME, allow_abbrev=False, formatter_class=_formatter)
    top.verbs = verbs
    top.add_argument("--version", action="version", version=f"{_NAME} {version}")
    top.add_argument("--print-completion", metavar="SHELL", help="bash, zsh or tcsh")
    made = top.add_subparsers(dest="verb", required=True, metavar="verb", parser_class=Parser)
    for name, verb in verbs.items():
        one = made.add_parser(
            name,
            help=verb.line,
            description=_wrapped(verb.told),
            epilog=f"example:\n  {verb.example}",
            formatter_class=_formatter,
            allow_abbrev=not verb.passes_on,
        )
        for names, how in verb.options:
            one.add_argument(*names, **how)
        one.set_defaults(verb=verb)
    return top


def parse(
    verbs: Mapping[str, Verb], argv: Sequence[str], version: str
) -> tuple[Verb, argparse.Namespace]:
    """The verb that is typed and its options; leaves with status 2 and a sentence otherwise."""
    top = parser(verbs, version)
    _check_first(top, argv, verbs)
    options, rest = top.parse_known_args(argv)
    verb: Verb = options.verb
    if rest and not verb.passes_on:
        known = [name for names, _ in verb.options for name in names if name.startswith("-")]
        flag = rest[0].partition("=")[0]
        what = f"{flag} is no option" if flag.startswith("-") else f"{flag!r} is too much"
        command = f"{_NAME} {verb.run.__name__}"
        top.exit(2, f"{command}: {what}{meant(flag, known)}; type {command} --help.\n")
    options.rest = rest
    for name, value in vars(options).items():
        if isinstance(value, str) and value.startswith("~"):  # shells leave that of --out=~/x
            setattr(options, name, os.path.expanduser(value))
    return verb, options


def _check_first(top: Parser, argv: Sequence[str], verbs: Mapping[str, Verb]) -> None:
    """The first word is a verb, or an option of none; of nothing, the help."""
    if not argv:
        top.exit(2, top.format_help())
    word = argv[0].partition("=")[0]
    if word not in verbs and word not in _OWN:
        what = "option" if word.startswith("-") else "verb"
        top.error(f"{word!r} is no {what}{meant(word, (*verbs, *_OWN))}")
    if word == "--print-completion":
        _print_completion(top, argv)


def _print_completion(top: Parser, argv: Sequence[str]) -> NoReturn:
    from jaxfdsl.cli import completion

    _, _, shell = argv[0].partition("=")
    print(completion.script(top, shell or "".join(argv[1:2])))
    raise SystemExit(0)


def meant(typed: str, known: Iterable[str]) -> str:
    """`, is it X?` where something known looks like what is typed."""
    known = list(known)
    longer = [name for name in known if name.endswith(f"_{typed.lstrip('-')}")]  # --sample_steps
    near = longer or difflib.get_close_matches(typed, known, 1)
    return f", is it {near[0]}?" if near else ""


def _wrapped(told: str) -> str:
    """A docstring for a narrow screen: paragraphs are filled, indented lines stay."""
    parts = told.split("\n\n")
    return "\n\n".join(
        part if "\n " in part or part.startswith(" ") else textwrap.fill(part, WIDTH - 2)
        for part in parts
    )
