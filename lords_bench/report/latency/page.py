"""Records → the content of a device report. Everything is computed here; the renderers only lay it out."""

from collections.abc import Iterable, Sequence

from lords_bench.records.latency import LatencyRecord
from lords_bench.records.measurement import Regime
from lords_bench.records.store import RejectedLine
from lords_bench.report.latency.comparisons import Format, Match, Section, select_sections
from lords_bench.report.latency.curves import crossings, curves
from lords_bench.report.latency.heatmap import heatmap
from lords_bench.report.latency.provenance import page_notices, provenance, section_notices
from lords_bench.report.latency.roofline import roofline
from lords_bench.report.latency.share import share_plot
from lords_bench.report.latency.summary import Summary, summarise
from lords_bench.report.latency.tables import kernel_table, losses, not_measured, result_table, summary_row
from lords_bench.report.latency.views import LatencyPage, LatencySection, SummaryTable, TextTable
from lords_bench.report.latency.words import counts_words, headline, times, where
from lords_bench.report.views import FigureView
from lords_bench.spec.latency import DENSE, SUBJECT, method_label

GPU_TITLE = "Latency of linear layers: LoRDS against its baselines"
CPU_TITLE = "PyTorch reference timings on a CPU: they say nothing about GPU kernels"
FAKE_TITLE = "Made-up numbers of a fake device: a trial of the software"
# The baselines of the first sentence; all others follow below it.
HEADLINE = (DENSE, "nf-block", "bitsandbytes", "tinygemm", "qlora-fused")
_REGIME_WORDS: dict[Regime, str] = {
    "cold": "With cold caches",
    "hot": "With hot caches",
    "eager": "Called from Python, launch included",
}


def latency_page(records: Iterable[LatencyRecord], rejected: Iterable[RejectedLine] = ()) -> LatencyPage:
    """The page of all latency records.

    Raises:
        RecordError: there is no latency record.
    """
    sections = select_sections(records)
    first = sections[0].newest.run
    title = FAKE_TITLE if first.is_fake else CPU_TITLE if first.environment.device == "cpu" else GPU_TITLE
    return LatencyPage(
        title=title,
        notices=page_notices(sections, rejected),
        sections=tuple(_section(section, index) for index, section in enumerate(sections, start=1)),
    )


def _section(section: Section, index: int) -> LatencySection:
    newest, tables = section.newest, _pairs(section)
    views = {pair: _summaries(section, *pair) for pair in tables}
    figures, no_figures = _figures(section, views, index)
    return LatencySection(
        anchor=f"device-{index}",
        name=f"{newest.run.environment.device_name}, {newest.run.dtype} · {newest.created_utc[:10]}",
        notices=section_notices(section),
        headline=_headlines(section, views),
        verdict=_verdict(section, views),
        provenance=provenance(section),
        summaries=tuple(
            SummaryTable(title=_title(*pair), rows=tuple(map(summary_row, found))) for pair, found in views.items()
        ),
        figures=figures,
        no_figures=no_figures,
        losses=losses(section),
        kernels=tuple(
            table
            for pair in tables
            if (table := _kernels(section, *pair)) is not None
        ),
        results=tuple(result_table(section.of(*pair), title=_title(*pair)) for pair in tables),
        not_measured=not_measured(section.records),
        missing=_missing(section),
        command=newest.run.command,
    )  # fmt: skip


def _pairs(section: Section) -> tuple[tuple[Regime, Format], ...]:
    """(regime, format) that have comparisons: the regime verdicts lead with first."""
    return tuple(
        (regime, format_) for regime in section.regimes for format_ in section.formats if section.of(regime, format_)
    )


def _summaries(section: Section, regime: Regime, format_: Format) -> tuple[Summary, ...]:
    matches = section.of(regime, format_)
    found = (summarise(matches, baseline, SUBJECT) for baseline in section.baselines)
    return tuple(summary for summary in found if summary.judged or summary.failed)


def _headlines(section: Section, views: dict[tuple[Regime, Format], tuple[Summary, ...]]) -> tuple[str, ...]:
    """A sentence for each format in the first regime."""
    sentences = []
    for (regime, format_), summaries in views.items():
        if regime != section.regimes[0]:
            continue
        chosen = [(method_label(s.baseline), s) for s in summaries if s.baseline in HEADLINE]
        sentences.append(headline(chosen, where_words=f"{_REGIME_WORDS[regime]}, {format_.words}"))
    return tuple(sentences)


def _verdict(section: Section, views: dict[tuple[Regime, Format], tuple[Summary, ...]]) -> tuple[str, ...]:
    """A line per baseline for the first regime and format: counts, geometric mean, worst case, crossings."""
    pair, summaries = next(iter(views.items()))
    lines = []
    for summary in summaries:
        geomean, worst = summary.geomean, summary.worst
        if geomean is None or worst is None:
            lines.append(f"{method_label(summary.baseline)}: {counts_words(summary)}.")
            continue
        lines.append(
            f"{method_label(summary.baseline)}: {counts_words(summary)}; geometric mean {times(geomean)} as fast, "
            f"worst {times(worst[1])} ({where(worst[0])})."
        )
    crossed = _crossings(section.of(*pair))
    return (*lines, *((f"LoRDS and the dense product cross at {crossed}.",) if crossed else ()))


def _crossings(matches: Sequence[Match]) -> str:
    layers = dict.fromkeys(f"{match.case.model} {match.case.layer}" for match in matches)
    found = []
    for layer in layers:
        members = [match for match in matches if f"{match.case.model} {match.case.layer}" == layer]
        found += [f"M ≈ {m:.0f} ({layer})" for m in crossings(members)]
    return ", ".join(found)


def _figures(
    section: Section, views: dict[tuple[Regime, Format], tuple[Summary, ...]], index: int
) -> tuple[tuple[FigureView, ...], tuple[str, ...]]:
    """Figures of every regime and format, and in words why one is not there."""
    figures, absent, suffix = [], [], "" if index == 1 else f"-{index}"
    for number, (pair, summaries) in enumerate(views.items(), start=1):
        matches, title = section.of(*pair), _title(*pair)
        baselines = [summary.baseline for summary in summaries]
        svg = heatmap(matches, baselines, name=f"speedup-{number}{suffix}")
        if svg:
            figures.append(
                FigureView(name=f"speedup-{number}{suffix}", title=f"Speed-up · {title}", caption=HEATMAP, svg=svg)
            )
        if number > 1:
            continue
        first_model = [match for match in matches if match.case.model == matches[0].case.model]
        peaks = section.newest.run.peaks
        drawn = (
            ("curves", "Latency against M", CURVES, curves(first_model, name=f"curves{suffix}"), "fewer than two M"),
            ("share", "Share of shapes", SHARE, share_plot(summaries, name=f"share{suffix}"), "nothing was compared"),
            ("roofline", "Roofline", ROOFLINE, roofline(matches, peaks, name=f"roofline{suffix}"), NO_PEAKS),
        )
        for name, heading, caption, svg, why in drawn:
            if svg:
                figures.append(
                    FigureView(name=f"{name}{suffix}", title=f"{heading} · {title}", caption=caption, svg=svg)
                )
            else:
                absent.append(f"No figure “{heading}”: {why}.")
    return tuple(figures), tuple(absent)


NO_PEAKS = "the peaks of the device were not measured"
HEATMAP = (
    "How many times as fast as each baseline LoRDS is, for every layer and M: green is faster, orange is slower, full "
    "colour from a factor of four. A hatched cell is within the noise or not resolved; a dash was not measured."
)
CURVES = (
    "Medians with a band from the lower to the upper quartile, both axes logarithmic, layers of the first model. A "
    "dotted line marks where LoRDS and the dense product cross, interpolated between the M that were timed."
)
SHARE = (
    "On which share of the shapes the speed-up of LoRDS is at most the value below. What stands left of 1 is lost, "
    "whether or not it is resolved; the counts are of resolved losses."
)
ROOFLINE = (
    "Operations of the product alone against bytes that a cold launch must move, so that a format which stores less "
    "stands further to the right. The ceilings were measured on this device in this run, not taken from a data sheet."
)


def _kernels(section: Section, regime: Regime, format_: Format) -> TextTable | None:
    bandwidth = section.newest.run.peaks.memory_gbps
    return kernel_table(section.of(regime, format_), title=_title(regime, format_), bandwidth_gbps=bandwidth)


def _title(regime: Regime, format_: Format) -> str:
    return f"{regime} · {format_.words}"


def _missing(section: Section) -> str:
    parts = []
    if section.missing:
        parts.append(f"{section.missing} planned comparisons have no record: the run ended before them")
    torn = [match for match in section.matches if match.missing]
    parts += [f"{where(match)} {match.regime}: no record of {', '.join(match.missing)}" for match in torn]
    return "; ".join(parts)
