"""Markdown that foreign text cannot get out of: the one place where text becomes Markdown.

    line("- Device: {}; command {}", machine, code(command))

A pattern is the program's own Markdown; what is put into it is text, and is escaped, unless it is `Markdown` already.
Whatever a record says, it stays on its line, in its cell and in its emphasis, and shows as what it is.
"""

import re
from collections.abc import Iterable, Sequence

from lords_bench.text import one_line

_MEANT = re.compile(r"[\\`*_\[\]|#~$]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# At the beginning of a line: a list, a heading of the line above, a rule.
_LIST = re.compile(r"^(?=[-+](\s|$)|--|=)")
_NUMBERED = re.compile(r"^(\d{1,9})(?=[.)](\s|$))")
# A cell's own bars; those of escaped text are escaped already.
_BAR = re.compile(r"(?<!\\)\|")


class Markdown(str):
    """Text that is Markdown already: the program's own words, or what was escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        """For templates: it is not escaped again."""
        return str(self)


def escape(value: object) -> Markdown:
    """Text whose characters mean nothing to Markdown, tables included, on one line; `Markdown` as it is."""
    if isinstance(value, Markdown):
        return value
    text = _MEANT.sub(r"\\\g<0>", one_line(str(value)))
    text = re.sub("[&<>]", lambda match: _ENTITIES[match[0]], text)
    return Markdown(_NUMBERED.sub(r"\1\\", _LIST.sub(r"\\", text)))


def code(value: object) -> Markdown:
    """Text as a code span; as many backticks around it as it needs."""
    text = one_line(str(value))
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    gap = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return Markdown(f"{ticks}{gap}{text}{gap}{ticks}")


def line(pattern: str, *values: object) -> Markdown:
    """The pattern with every value in place of a `{}`, escaped."""
    return Markdown(pattern.format(*map(escape, values)))


def link(label: object, target: str) -> Markdown:
    """A link; the target is made of the program's own words and of paths."""
    address = re.sub(r"[\s()<>\\|]", lambda match: f"%{ord(match[0]):02X}", one_line(target))
    return Markdown(f"[{escape(label)}]({address})")


def row(cells: Iterable[object]) -> str:
    """A row of a table; a bar inside a cell is one of its characters."""
    shown = " | ".join(_BAR.sub(r"\\|", escape(cell)) for cell in cells)
    return f"| {shown} |"


def table(columns: Sequence[object], rows: Iterable[Sequence[object]], *, left: int = 1) -> list[str]:
    """A table; the first `left` columns are text, the others stand to the right."""
    rule = "|".join("---" if index < left else "--:" for index in range(len(columns)))
    return [row(columns), f"|{rule}|", *map(row, rows)]
