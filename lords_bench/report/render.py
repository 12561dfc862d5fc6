"""A `Document` as Markdown for GitHub, as one self-contained HTML page, and as files on disk.

Both lay out what the document says and compute nothing. The HTML page loads nothing: style and figures are in it, and
it has no script. Whatever a text says, it is escaped for the kind of page.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from lords_bench.files import write_whole
from lords_bench.markdown import Markdown, code, escape, line, row
from lords_bench.report.document import (
    Answer,
    Block,
    Bullets,
    Cell,
    Code,
    Column,
    Document,
    Facts,
    Figure,
    Group,
    Paragraph,
    Table,
    Text,
)
from lords_bench.report.svg import css_variables, standalone
from lords_bench.text import visible


def page_files(document: Document) -> dict[str, str]:
    """File name → text: the page in both formats, and its figures. Same document, same text."""
    figures = {f"{document.suite}-{figure.name}.svg": standalone(figure.svg) for figure in document.figures}
    return {f"{document.file}.md": markdown(document), f"{document.file}.html": html(document), **figures}


def write_report(folder: Path, files: Mapping[str, str]) -> tuple[Path, ...]:
    """Write every file, each whole or not at all; returns their paths.

    Raises:
        StoreError: the folder or disk refuses.
    """
    for name, text in files.items():
        write_whole(folder / name, text, remedy="give another --out")
    return tuple(folder / name for name in files)


def terminal_rows(table: Table) -> Iterator[tuple[Group, list[tuple[str, ...]]]]:
    """Each group with its rows as plain text; a star marks the best one."""
    for group, rows in table.groups_in("html"):
        yield group, [tuple(map(_plain, cells)) for cells in rows]


def _plain(cell: Cell) -> str:
    star = " *" if any(tag.kind == "best" for tag in cell.tags) else ""
    details = [tag.text for tag in cell.tags if tag.kind == "warn"] or [cell.detail] * bool(cell.detail)
    return f"{cell.text}{star}" + (f" ({', '.join(details)})" if details else "")


def html(document: Document) -> str:
    """The page as one HTML document that needs nothing else."""
    guide = Facts(items=document.guide, sentences=True)
    themes = {name: css_variables(name) for name in ("light", "dark")}
    return visible(_template().render(page=document, guide=guide, themes=themes))


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("lords_bench.report", "templates"),
        autoescape=True,
        finalize=_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["kind"] = lambda block: type(block).__name__
    return environment.get_template("page.html.j2")


def _html(value: Any) -> Any:
    if isinstance(value, tuple):
        return Markup().join(map(_html, value))
    return Markup("<code>{}</code>").format(str(value)) if isinstance(value, Code) else value


def markdown(document: Document) -> str:
    """The page as GitHub Markdown; figures are files beside it."""
    return visible("\n\n".join(_parts(document)) + "\n")


def _parts(document: Document) -> Iterator[str]:
    yield line("# {}", document.title)
    yield from (line("> ⚠ {}", notice) for notice in document.notices)
    for article in document.articles:
        yield line("## {}", article.name)
        for section in article.sections:
            if section.title:
                yield line("### {}", section.title)
            for block in section.blocks:
                yield from _block(block, document.suite)
    yield "## How to read and rebuild"
    yield from _block(Facts(items=document.guide, sentences=True), document.suite)


def _block(block: Block, suite: str) -> Iterator[str]:
    match block:
        case Paragraph() if block.only != "html":
            yield {"": "{}", "lead": "**{}**", "notice": "> ⚠ {}"}[block.kind].format(_markdown(block.text))
        case Bullets():
            yield from [line("{}:", block.title)] if block.title else []
            yield "\n".join(f"- {_markdown(item)}" for item in block.items)
        case Facts(sentences=True):
            yield "\n".join(line("- **{}**: {}", name, _markdown(text)) for name, text in block.items.items())
        case Facts():
            yield "\n".join(["| | |", "|---|---|", *(row(map(_markdown, pair)) for pair in block.items.items())])
        case Answer():
            yield line("**{}** {}", block.question, block.text)
        case Figure():
            yield line("![{}]({}-{}.svg)", block.title, Markdown(suite), Markdown(block.name))
            yield escape(block.caption)
        case Table():
            yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    if table.fold:
        yield line(f"<details{' open' if table.fold == 'open' else ''}><summary>{{}}</summary>", table.title)
    elif table.title:
        yield line("#### {}", table.title)
    if table.note:
        yield escape(table.note)
    columns = table.columns_in("markdown")
    rule = "|".join("--:" if "num" in column.style else "---" for column in columns)
    for group, rows in table.groups_in("markdown"):
        if table.groups and not group.title:
            continue
        if group.title:
            yield line("#### {}", group.title)
            yield escape(group.note)
        cells = ([_name(cells[0]), *(_cell(cell, leads=table.is_matrix) for cell in cells[1:])] for cells in rows)
        shown = [row(map(_head, columns)), f"|{rule}|", *map(row, cells)]
        yield "\n".join(shown if table.most_markdown is None else shown[: 2 + table.most_markdown])
    if table.fold:
        yield "</details>"


def _head(column: Column) -> str:
    return f"{column.name} {column.unit}".rstrip()


def _name(cell: Cell) -> Markdown:
    """The first cell of a row."""
    kinds = {tag.kind for tag in cell.tags}
    shown = line("**{}**", _markdown(cell.text)) if "best" in kinds else _markdown(cell.text)
    return Markdown("".join([shown, *(line(" ⚠ {}", tag.text) for tag in cell.tags if tag.kind == "warn")]))


def _cell(cell: Cell, *, leads: bool) -> Markdown:
    if cell.word and not cell.text:
        return line("{}: {}", cell.word, cell.note)
    shown = line("{} ({})", _markdown(cell.text), cell.detail) if cell.detail else _markdown(cell.text)
    if cell.word:
        shown = line("**{}** {}", cell.word, shown) if leads else line("{} {}", shown, cell.word)
    elif cell.tone == "better":
        shown = line("**{}**", shown)
    return line("{}; {}", shown, cell.note) if cell.note else shown


def _markdown(text: Text) -> Markdown:
    if isinstance(text, tuple):
        # Escaping strips a text, and the blanks between the parts are part of the sentence.
        parts = (f"{' ' * part.startswith(' ')}{_markdown(part)}{' ' * part.endswith(' ')}" for part in text)
        return Markdown("".join(parts))
    return code(text) if isinstance(text, Code) else escape(text)
