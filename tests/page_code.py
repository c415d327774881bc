"""What pages of Markdown tell a reader to type: shell commands, Python, links, headings."""

import pathlib
import re
import shlex
from collections.abc import Iterator

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.S | re.M)
ASSIGNMENT = re.compile(r"[A-Z_]+=")


def fences(text: str, kind: str) -> list[str]:
    """The blocks of one language."""
    return [body for language, body in FENCE.findall(text) if language.strip() == kind]


def prose(text: str) -> str:
    """What is around the fences."""
    return FENCE.sub("", text)


def inline(text: str) -> list[str]:
    """Code in single backticks, lines joined."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(text))]


def shell(text: str) -> str:
    """All that is typed into a shell, notebooks' `!` and `%` lines included."""
    magic = re.findall(r"^[!%](.*)$", "\n".join(fences(text, "python")), re.M)
    return "\n".join([*fences(text, "sh"), *magic])


def python(text: str) -> list[str]:
    """The blocks of Python, without notebooks' `!` and `%` lines."""
    return [re.sub(r"^[!%].*$", "", block, flags=re.M) for block in fences(text, "python")]


def commands(script: str) -> Iterator[list[str]]:
    """Each simple command of a script, as words; after it, those of a script that it quotes."""
    waiting = ""
    for line in script.replace("\\\n", " ").split("\n"):
        waiting += line + "\n"
        try:
            reader = shlex.shlex(waiting, posix=True, punctuation_chars=";&|<>")
            reader.whitespace_split = True
            words = list(reader)
        except ValueError:  # a quotation that goes on in the next line
            continue
        waiting = ""
        yield from _simple(words)
    assert not waiting.strip(), f"an open quotation: {waiting}"


def _simple(words: list[str]) -> Iterator[list[str]]:
    begun: list[str] = []
    for word in [*words, ";"]:
        if not set(word) <= set(";&|<>"):
            begun.append(word)
            continue
        while begun and ASSIGNMENT.match(begun[0]):
            begun = begun[1:]
        if begun:
            yield begun
        for one in begun:
            if one.startswith("--command="):
                yield from commands(one.partition("=")[2])
        begun = []


def links(text: str) -> list[str]:
    """Where the links and pictures of a page lead, but for those outside the repository."""
    plain = re.sub(r"`[^`]*`", "", prose(text))
    found = re.findall(r"\]\(([^)\s]+)\)", plain) + re.findall(r'(?:src|href)="([^"]+)"', plain)
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    made: dict[str, int] = {}
    found = set()
    for heading in re.findall(r"^#+ +(.*)$", prose(page.read_text("utf-8")), re.M):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        count = made[slug] = made.get(slug, -1) + 1
        found.add(f"{slug}-{count}" if count else slug)
    return found
