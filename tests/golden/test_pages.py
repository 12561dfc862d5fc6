"""Markdown and HTML are two layouts of one document: whatever it says is on both, but for columns of one alone."""

import html
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from lords_bench.markdown import code, escape
from lords_bench.records import BenchRecord, LifecycleRecord
from lords_bench.records.latency import LatencyRecord
from lords_bench.records.store import read_nouns
from lords_bench.report import render
from lords_bench.report.document import (
    Answer,
    Block,
    Bullets,
    Cell,
    Code,
    Document,
    Facts,
    Figure,
    Format,
    Paragraph,
    Table,
    Text,
)
from lords_bench.suites.accuracy.page import accuracy_page
from lords_bench.suites.latency.page import latency_page
from lords_bench.suites.lifecycle.page import lifecycle_page

PAGES: dict[str, tuple[type[Any], Any]] = {
    "accuracy": (BenchRecord, accuracy_page),
    "latency": (LatencyRecord, latency_page),
    "lifecycle": (LifecycleRecord, lifecycle_page),
}
SHOWN = {
    "html": lambda text: f"<code>{html.escape(text)}</code>" if isinstance(text, Code) else html.escape(text),
    "markdown": lambda text: code(text) if isinstance(text, Code) else escape(text),
}


@cache
def golden(suite: str) -> Document:
    noun, page = PAGES[suite]
    found = read_nouns(Path(__file__).parent / suite / "records.jsonl", noun)
    document: Document = page(found.records, found.rejected)
    return document


def parts(text: Text) -> Iterator[str]:
    yield from text if isinstance(text, tuple) else (text,)


def cell_texts(cell: Cell, format_: Format) -> Iterator[str]:
    yield from parts(cell.text)
    yield from (cell.detail, cell.word, cell.note)
    yield from (tag.text for tag in cell.tags if format_ == "html" or tag.kind == "warn")


def block_texts(block: Block, format_: Format) -> Iterator[str]:
    match block:
        case Paragraph():
            yield from parts(block.text) if block.only in (None, format_) else ()
        case Bullets():
            yield block.title
            for item in block.items:
                yield from parts(item)
        case Facts():
            for label, text in block.items.items():
                yield from (label, *parts(text))
        case Answer():
            yield from (block.question, block.text)
        case Figure():
            yield from (block.title, block.caption)
        case Table():
            yield from table_texts(block, format_)


def table_texts(table: Table, format_: Format) -> Iterator[str]:
    yield from (table.title, table.note, *(column.name for column in table.columns_in(format_)))
    for group, rows in table.groups_in(format_):
        if format_ == "html" or group.title or not table.groups:
            shown = rows if format_ == "html" else rows[: table.most_markdown]
            yield from (group.title, group.note)
            yield from (text for cells in shown for cell in cells for text in cell_texts(cell, format_))


def texts(document: Document, format_: Format) -> Iterator[str]:
    yield from (document.title, *document.notices, *block_texts(Facts(items=document.guide), format_))
    for article in document.articles:
        yield article.name
        for section in article.sections:
            yield section.title
            yield from (text for block in section.blocks for text in block_texts(block, format_))


def absent(document: Document, format_: Format, page: str) -> list[str]:
    return [text for text in texts(document, format_) if SHOWN[format_](text).strip() not in page]


@pytest.mark.parametrize("suite", PAGES)
@pytest.mark.parametrize("format_", ["html", "markdown"])
def test_all_that_a_document_says_is_on_its_page(suite: str, format_: Format) -> None:
    document = golden(suite)

    page = getattr(render, format_)(document)

    # Apostrophes and quotation marks have two spellings in HTML.
    assert absent(document, format_, page.replace("&#39;", "&#x27;").replace("&#34;", "&quot;")) == []
    assert len(list(texts(document, format_))) > 400


def test_a_lost_cell_is_found() -> None:
    document = golden("lifecycle")

    page = render.markdown(document)
    lost = next(block for block in document.articles[0].sections[1].blocks if isinstance(block, Table)).note

    assert absent(document, "markdown", page.replace(escape(lost), "")) == [lost] * page.count(escape(lost))
