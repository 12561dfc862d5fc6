"""What a lifecycle page holds, as text ready to be laid out. The renderers compute nothing."""

from dataclasses import dataclass

from lords_bench.records import LifecycleRecord
from lords_bench.report.views import Fact, FigureView


@dataclass(frozen=True, kw_only=True, slots=True)
class TextCell:
    """A cell: its text, an interval or note below it, and `better`, `worse` or `open` where it is a verdict."""

    text: str
    detail: str = ""
    tone: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """A table of texts; the first column names the row."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[TextCell, ...], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperAnswer:
    """A question of the paper, its answer in words, and the tone of it."""

    question: str
    answer: str
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleSection:
    """One evaluation: what was asked, then everything behind the answers."""

    anchor: str
    name: str
    answers: tuple[PaperAnswer, ...]
    notices: tuple[str, ...]
    verdict: TextTable | None
    results: tuple[TextTable, ...]
    figures: tuple[FigureView, ...]
    costs: tuple[TextTable, ...]
    grids: tuple[TextTable, ...]
    facts: tuple[Fact, ...]
    failures: tuple[LifecycleRecord, ...]
    missing: tuple[str, ...]
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecyclePage:
    """The whole page; evaluations that cannot be compared have a section each."""

    notices: tuple[str, ...]
    sections: tuple[LifecycleSection, ...]
