"""What a page holds, whatever its suite: a pure function of records makes a `Document`, `render.py` lays it out.

    Document > Article (one device or evaluation, never mixed with another) > Section > blocks

A block is a paragraph, a list, facts, a table, an answer or a figure. Everything is computed before it gets here: the
renderers know neither suites nor records. A text is a string, or a tuple of strings of which some are `Code`;
whatever it says, it stays text.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Format = Literal["html", "markdown"]
Tone = Literal["", "better", "worse", "open", "warn"]


class Code(str):
    """Text to be typed or found as it is."""

    __slots__ = ()


Text = str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tag:
    """A short mark behind a row's name; `best` is bold in Markdown, `warn` is shown there, others are not."""

    text: str
    kind: Literal["", "best", "warn"] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A cell; a plain string is one without more.

    Attributes:
        detail: an interval or remark in small print, in brackets in Markdown.
        word: what it says as a verdict, such as `better`.
        note: why there is no verdict, or what speaks against it.
        tone: colours it; `warn` makes a tag of the text.
        tags: behind the name of a row.
        dot: role of the colour in which figures draw the row; empty without one.
        is_filled: whether they fill the mark.
    """

    text: Text = ""
    detail: str = ""
    word: str = ""
    note: str = ""
    tone: Tone = ""
    tags: tuple[Tag, ...] = ()
    dot: str = ""
    is_filled: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is its text and nothing else."""
        return not (self.detail or self.word or self.note or self.tone)


Row = tuple[str | Cell, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """Head of a column; `style` is empty, or classes of `page.css`; one format alone may show it."""

    name: str
    unit: str = ""
    style: str = "num"
    only: Format | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows under a heading of their own: part of the table in HTML, a table of its own in Markdown.

    Without a title they lead the table, and only the HTML page has them.
    """

    rows: tuple[Row, ...]
    title: str = ""
    note: str = ""
    is_comparable: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A table whose first column names the row. It has `rows`, or `groups` of them.

    Attributes:
        columns: a string is a column of numbers, the first one of words.
        title: heading above it, or summary of what is folded.
        label: what it is called for who does not see it; the title unless given.
        style: classes of `page.css`; in a `matrix` verdicts lead their cells.
        fold: whether it can be folded, and is at first.
        most_markdown: so many rows are shown in Markdown.
    """

    columns: tuple[str | Column, ...]
    rows: tuple[Row, ...] = ()
    groups: tuple[Group, ...] = ()
    title: str = ""
    label: str = ""
    note: str = ""
    style: str = "numbers"
    fold: Literal["", "open", "closed"] = ""
    is_tall: bool = False
    most_markdown: int | None = None

    @property
    def is_matrix(self) -> bool:
        """Whether its cells are verdicts."""
        return self.style == "matrix"

    def columns_in(self, format_: Format) -> tuple[Column, ...]:
        return tuple(column for column in self._heads() if column.only in (None, format_))

    def groups_in(self, format_: Format) -> Iterator[tuple[Group, tuple[tuple[Cell, ...], ...]]]:
        """Each group with its rows as cells, one for each column that the format shows."""
        shown = [index for index, column in enumerate(self._heads()) if column.only in (None, format_)]
        for group in self.groups or (Group(rows=self.rows),):
            cells = [[one if isinstance(one, Cell) else Cell(text=one) for one in row] for row in group.rows]
            yield group, tuple(tuple(row[index] for index in shown) for row in cells)

    def _heads(self) -> tuple[Column, ...]:
        usual = "" if self.is_matrix else "num"
        return tuple(
            one if isinstance(one, Column) else Column(name=one, style=usual if index else "")
            for index, one in enumerate(self.columns)
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Paragraph:
    """Some sentences: `lead` gives an answer, `notice` warns; one format alone may show them."""

    text: Text
    kind: Literal["", "lead", "notice"] = ""
    only: Format | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Bullets:
    """A list, below its title where it has one."""

    items: tuple[Text, ...]
    title: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """Names and what is to be said of them: a table in Markdown, or a list where they are `sentences`."""

    items: Mapping[str, Text]
    sentences: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A question and what the records say to it."""

    question: str
    text: str
    tone: Tone


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """A drawing with what it shows and how to read it; the name is that of the ids in it, and of its file."""

    name: str
    title: str
    caption: str
    svg: str


Block = Paragraph | Bullets | Facts | Table | Answer | Figure


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """Blocks that belong together; `label` is for who does not see it, the title unless given."""

    blocks: tuple[Block, ...]
    title: str = ""
    label: str = ""
    anchor: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Article:
    """All of one device or evaluation."""

    name: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A page.

    Attributes:
        file: name of its files, without the ending.
        suite: what the names of its figures' files begin with.
        kind: what the reader holds, such as `accuracy report`.
        part: what an article is of.
        window: what a browser calls it; the title unless given.
        notices: of the page as a whole.
        guide: how to read it, and how to make it anew.
    """

    file: str
    suite: str
    kind: str
    title: str
    articles: tuple[Article, ...]
    guide: Mapping[str, Text]
    part: str = "evaluation"
    window: str = ""
    notices: tuple[str, ...] = ()

    @property
    def figures(self) -> Iterator[Figure]:
        for article in self.articles:
            for section in article.sections:
                yield from (block for block in section.blocks if isinstance(block, Figure))


def figure_sections(figures: tuple[Figure, ...]) -> tuple[Section, ...]:
    """A section for each figure, which its title names."""
    return tuple(Section(title=one.title, anchor=f"{one.name}-title", blocks=(one,)) for one in figures)
