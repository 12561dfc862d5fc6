"""What an accuracy page says, as text in fixed order: the one content behind Markdown, HTML and the terminal."""

from dataclasses import dataclass

from lords_bench.records import BenchRecord
from lords_bench.report.verdict import Answer, Question
from lords_bench.stats import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A value, its interval and what it says, as shown."""

    text: str
    interval: str
    outcome: Outcome | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRow:
    """A method's line in a table."""

    method: str
    role: str
    uses_calibration: bool
    bits_per_weight: str
    cells: tuple[Cell, ...]
    marks: tuple[str, ...]
    is_best: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultTable:
    """One group of cases; `is_comparable` says that all of them store equal bits."""

    title: str
    note: str
    rows: tuple[MethodRow, ...]
    is_comparable: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class DifferenceTable:
    """Paired differences of a group's cases to one baseline."""

    title: str
    rows: tuple[MethodRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """One line of the provenance header."""

    label: str
    value: str


@dataclass(frozen=True, kw_only=True, slots=True)
class VerdictRow:
    """A question and its answers, one per column."""

    question: Question
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FigureView:
    """An SVG with what it shows and how to read it."""

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerTable:
    """Relative squared error in per cent of every layer under some methods."""

    title: str
    methods: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """One evaluation: a model, a corpus, settings and a device."""

    anchor: str
    name: str
    headline: tuple[str, ...]
    best: tuple[str, ...]
    columns: tuple[str, ...]
    verdict: tuple[VerdictRow, ...]
    notices: tuple[str, ...]
    provenance: tuple[Fact, ...]
    unquantized: MethodRow | None
    results: tuple[ResultTable, ...]
    differences: tuple[DifferenceTable, ...]
    figures: tuple[FigureView, ...]
    layers: tuple[LayerTable, ...]
    left_share: str
    left_layers: tuple[str, ...]
    failures: tuple[BenchRecord, ...]
    missing: tuple[str, ...]
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracyPage:
    """The whole page: sections that are never mixed, newest first."""

    notices: tuple[str, ...]
    sections: tuple[Section, ...]
