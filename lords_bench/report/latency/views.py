"""What a device report says, as text in fixed order: the one content behind Markdown, HTML and the terminal."""

from dataclasses import dataclass

from lords_bench.report.views import Fact, FigureView


@dataclass(frozen=True, kw_only=True, slots=True)
class SummaryRow:
    """LoRDS against one baseline over one regime and format."""

    baseline: str
    geomean: str
    counts: tuple[str, str, str, str]
    failures: str
    best: str
    worst: str
    by_m: str
    tone: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SummaryTable:
    """All baselines of one regime and format."""

    title: str
    rows: tuple[SummaryRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loss:
    """A comparison that LoRDS loses."""

    where: str
    regime: str
    format: str
    baseline: str
    speedup: str
    interval: str
    times: str
    kernel: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """Cells as text; the first `left` columns are words, the others numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NotMeasured:
    """Why comparisons of a method have no samples."""

    method: str
    status: str
    reason: str
    cases: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencySection:
    """One device and dtype."""

    anchor: str
    name: str
    notices: tuple[str, ...]
    headline: tuple[str, ...]
    verdict: tuple[str, ...]
    provenance: tuple[Fact, ...]
    summaries: tuple[SummaryTable, ...]
    figures: tuple[FigureView, ...]
    no_figures: tuple[str, ...]
    losses: tuple[Loss, ...]
    kernels: tuple[TextTable, ...]
    results: tuple[TextTable, ...]
    not_measured: tuple[NotMeasured, ...]
    missing: str
    command: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyPage:
    """The whole page: sections that are never mixed, newest first."""

    title: str
    notices: tuple[str, ...]
    sections: tuple[LatencySection, ...]
