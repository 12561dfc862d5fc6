"""What the documents claim about the tree: their links, commands, files and names, and which of them do not hold."""

import argparse
import ast
import contextlib
import importlib.util
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from architecture.import_map import ROOT
from lords_bench.cli.command import Parser
from lords_bench.cli.parser import build_parser

# What a reader puts in for the names in capitals.
EXAMPLES = {"FILE…": "text.txt", "M": "8", "N": "4096", "K": "4096"}
PROGRAMS = ("lords-bench", "nox", "python", "pytest", "accelerate", "PYTHONPATH=")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_BLOCK_LINE = re.compile(r"^ {4}(\S.*)$", re.MULTILINE)
_INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"(?:lords_bench|reference|kernels|suites|reports|tests|docs|\.github|\.ci)/[\w./-]*")


def written_documents() -> Iterator[Path]:
    """Markdown that people write; pages made from records have tests of their own."""
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))
    for folder in ("docs", "kernels", "reports/tuned", "suites"):
        yield from sorted((ROOT / folder).rglob("*.md"))


def links(text: str) -> list[str]:
    """Targets within the project."""
    return [target for target in _LINK.findall(_FENCE.sub("", text)) if "://" not in target]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path: Path, text: str) -> list[str]:
    """Links to a file or heading that is not there."""
    broken = []
    for target in links(text):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and anchor not in anchors(file.read_text("utf-8") if name else text)):
            broken.append(target)
    return broken


def block_commands(text: str) -> list[str]:
    """Whole lines of code blocks that call a program, without their comments; a backslash continues a line."""
    text = re.sub(r"\\\n\s*", "", text)
    fenced = [line for block in _FENCE.findall(text) for line in block.splitlines()[1:-1]]
    lines = [*fenced, *_BLOCK_LINE.findall(_FENCE.sub("", text))]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\s{2,}#|\s{4,}|>", line)]
    return [part for part in (re.sub(r"\s#.*$", "", part) for part in parts) if part.startswith(PROGRAMS)]


def inline_commands(text: str) -> list[str]:
    """Commands within sentences; they may leave arguments out."""
    found = (" ".join(code.split()) for code in _INLINE.findall(_FENCE.sub("", text)))
    return [code for code in found if code.startswith(PROGRAMS)]


def wrong_command(command: str, *, is_whole: bool) -> str | None:
    """Why the command could not be run as it is written, or None."""
    words = [word for word in shlex.split(command) if not word.startswith("PYTHONPATH=")]
    if "lords_bench" in words:
        words = ["lords-bench", *words[words.index("lords_bench") + 1 :]]
    program, arguments = words[0], words[1:]
    if program == "nox":
        return _wrong_nox(arguments)
    if program == "python" and arguments and arguments[0].endswith(".py"):
        return None if (ROOT / arguments[0]).exists() else f"{arguments[0]} does not exist"
    if program == "python" and len(arguments) > 1 and arguments[1].startswith("lords_bench."):
        return None if importlib.util.find_spec(arguments[1]) else f"{arguments[1]} does not exist"
    if program == "lords-bench":
        return _wrong_call(arguments) if is_whole else _wrong_names(arguments)
    return None


def missing_paths(path: Path, text: str) -> list[str]:
    """Paths in code font that start at a folder of the project, and are not there."""
    paths = (code for code in _INLINE.findall(_FENCE.sub("", text)) if _PATH.fullmatch(code))
    return [code for code in paths if not any((base / code).exists() for base in (ROOT, path.parent))]


def missing_in_tree(text: str) -> list[str]:
    """Names of the README's tree that do not exist."""
    block = text.split("## The tree", 1)[1].split("\n\n", 2)[1]
    missing, folder = [], ""
    for line in block.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if line.startswith("    ") and not line.startswith("      "):
            folder = ""
        missing += [f"{folder}{name}" for name in names if not (ROOT / folder / name).exists()]
        if not folder and names == ["lords_bench/"]:
            folder = "lords_bench/"
    return missing


def unnamed_in_tree(text: str) -> list[str]:
    """Folders of the package that the README's tree leaves out."""
    words = text.split("## The tree", 1)[1].split("\n\n", 2)[1].split()
    folders = (path.name for path in sorted((ROOT / "lords_bench").iterdir()) if path.is_dir())
    return [name for name in folders if not name.startswith(("_", ".")) and not {name, f"{name}/"} & set(words)]


def _wrong_nox(arguments: list[str]) -> str | None:
    own, _, rest = " ".join(arguments).partition(" -- ")
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    known = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    sessions = [word for word in own.split() if not word.startswith("-")]
    unknown = [name for name in sessions if name not in known]
    if unknown:
        return f"no session {unknown[0]}"
    if rest and sessions in (["bench"], ["gpu"], ["gate"]):
        return _wrong_call([*sessions, *shlex.split(rest)])
    return None


def _wrong_call(arguments: list[str]) -> str | None:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            build_parser().parse_args([EXAMPLES.get(word, word) for word in arguments])
        except SystemExit as end:
            return errors.getvalue().strip().splitlines()[-1] if end.code else None
    return None


def _wrong_names(arguments: list[str]) -> str | None:
    parser = build_parser()
    for word in arguments:
        commands = _commands(parser)
        if word.startswith("--"):
            parser = commands.get(parser.otherwise, parser)
            if word.partition("=")[0] not in parser._option_string_actions:  # noqa: SLF001  (argparse lists them nowhere else)
                return f"no option {word} of {parser.prog}"
        elif commands and word.isalpha() and word.islower():
            if word not in commands:
                return f"no command {word} of {parser.prog}"
            parser = commands[word]
    return None


def _commands(parser: Parser) -> dict[str | None, Parser]:
    for action in parser._actions:  # noqa: SLF001  (argparse lists them nowhere else)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


@cache
def known_options() -> frozenset[str]:
    """Every option of every command of `lords-bench`, and those that the latency suite adds to pytest."""
    found = set(re.findall(r'"(--latency-[a-z-]+)"', (ROOT / "suites/conftest.py").read_text("utf-8")))
    waiting = [build_parser()]
    while waiting:
        parser = waiting.pop()
        found |= set(parser._option_string_actions)  # noqa: SLF001  (argparse lists them nowhere else)
        waiting += _commands(parser).values()
    return frozenset(found)


def unknown_options(text: str) -> list[str]:
    """Options in code font, at the start of it, that no command has."""
    codes = (code for code in _INLINE.findall(_FENCE.sub("", text)) if code.startswith("--"))
    names = (re.split(r"[ =…]", code)[0] for code in codes)
    return [name for name in names if name not in known_options() and name != "--"]
