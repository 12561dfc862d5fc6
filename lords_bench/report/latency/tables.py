"""The tables of the device report: losses, kernels with their configurations, all medians, and what is not there."""

from collections.abc import Iterable, Sequence

from lords_bench.records.latency import LatencyRecord
from lords_bench.records.status import Status
from lords_bench.report import format as fmt
from lords_bench.report.latency.comparisons import Match, Section
from lords_bench.report.latency.roofline import reached
from lords_bench.report.latency.summary import Summary
from lords_bench.report.latency.views import Loss, NotMeasured, SummaryRow, TextTable
from lords_bench.report.latency.words import by_m_words, microseconds, ranges, times, where
from lords_bench.spec.latency import DENSE_AGAIN, KERNEL_PREFIX, SUBJECT, method_label
from lords_bench.stats import Interval
from lords_bench.stats.verdict import Verdict

_KERNEL_HEADER = (
    "Layer", "M", "Method", "Kernel", "Configuration", "Origin", "Median", "Quartiles", "GB/s", "of peak", "TFLOP/s",
    "Error ÷ bound",
)  # fmt: skip


def summary_row(summary: Summary) -> SummaryRow:
    """A baseline's line in the table of summaries."""
    order = (Verdict.FASTER, Verdict.SAME, Verdict.SLOWER, Verdict.AMBIGUOUS)
    geomean, worst, best = summary.geomean, summary.worst, summary.best
    faster, slower = summary.count(Verdict.FASTER), summary.count(Verdict.SLOWER)
    total = len(summary.valid)
    tone = "better" if total and faster == total else "worse" if total and slower == total else "open"
    return SummaryRow(
        baseline=method_label(summary.baseline),
        geomean=fmt.UNKNOWN if geomean is None else times(geomean),
        counts=tuple(str(summary.count(verdict)) for verdict in order),  # type: ignore[arg-type]
        failures=_failures(summary),
        best=fmt.UNKNOWN if best is None else f"{times(best[1])} ({where(best[0])})",
        worst=fmt.UNKNOWN if worst is None else f"{times(worst[1])} ({where(worst[0])})",
        by_m=by_m_words(summary) or "not compared",
        tone=tone,
    )


def _failures(summary: Summary) -> str:
    parts = [f"{count} {status}" for status, count in summary.failed.items()]
    invalid = summary.count(Verdict.INVALID)
    return ", ".join([*parts, *([f"{invalid} without a verdict"] if invalid else [])]) or "0"


def losses(section: Section) -> tuple[Loss, ...]:
    """Every comparison in which LoRDS is SLOWER, the worst of each regime first."""
    found = []
    for order, regime in enumerate(section.regimes):
        for match in section.matches:
            if match.regime != regime:
                continue
            for baseline, judgement in match.judgements.items():
                if judgement.verdict is Verdict.SLOWER and judgement.speedup is not None:
                    found.append((order, judgement.speedup, _loss(match, baseline, judgement.speedup)))
    return tuple(loss for _, _, loss in sorted(found, key=lambda item: item[:2]))


def _loss(match: Match, baseline: str, speedup: float) -> Loss:
    ratio = match.judgements[baseline].ratio
    subject, other = match.median_ns(SUBJECT), match.median_ns(baseline)
    assert subject is not None
    assert other is not None
    return Loss(
        where=where(match),
        regime=match.regime,
        format=match.format.words,
        baseline=method_label(baseline),
        speedup=times(speedup),
        interval=_speedup_interval(ratio),
        times=f"{microseconds(subject)} against {microseconds(other)}",
        kernel=_kernel(match.records[SUBJECT]),
    )


def _speedup_interval(ratio: Interval | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "no interval"
    return f"{times(1 / ratio.high)} … {times(1 / ratio.low)}"


def _kernel(record: LatencyRecord) -> str:
    return f"{record.kernel or fmt.UNKNOWN} ({record.config_origin or 'no configuration'})"


def kernel_table(matches: Sequence[Match], *, title: str, bandwidth_gbps: float | None) -> TextTable | None:
    """What ran for LoRDS and for this project's own baselines: configuration, its origin, how far from peak."""
    rows = []
    for match in matches:
        for method, record in match.records.items():
            is_own = method == SUBJECT or method.startswith(KERNEL_PREFIX) or method in {"nf-block", "int-block"}
            if is_own and record.measurement is not None:
                rows.append(_kernel_row(match, record, bandwidth_gbps))
    return TextTable(title=title, header=_KERNEL_HEADER, rows=tuple(rows), left=6) if rows else None


def _kernel_row(match: Match, record: LatencyRecord, bandwidth_gbps: float | None) -> tuple[str, ...]:
    assert record.measurement is not None
    measured, speeds = record.measurement, reached(record)
    of_peak = fmt.UNKNOWN
    if speeds is not None and bandwidth_gbps is not None and match.regime == "cold":
        of_peak = f"{100 * speeds[0] / bandwidth_gbps:.0f} %"
    return (
        f"{match.case.model} {match.case.layer}",
        str(match.case.m),
        record.method,
        record.kernel or fmt.UNKNOWN,
        " ".join(f"{name}={value}" for name, value in record.config) or fmt.UNKNOWN,
        record.config_origin or fmt.UNKNOWN,
        microseconds(measured.median_ns),
        f"{microseconds(measured.q1_ns)} … {microseconds(measured.q3_ns)}",
        fmt.UNKNOWN if speeds is None else f"{speeds[0]:,.0f}",
        of_peak,
        fmt.UNKNOWN if speeds is None else fmt.number(speeds[1], 2 if speeds[1] < 10 else 0),
        fmt.UNKNOWN if record.worst_error is None else fmt.number(record.worst_error, 3),
    )


def result_table(matches: Sequence[Match], *, title: str) -> TextTable:
    """Median of every method and, in brackets, how many times as fast as it LoRDS is."""
    methods = list(dict.fromkeys(name for match in matches for name in match.records if name != DENSE_AGAIN))
    rows = []
    for match in matches:
        cells = [f"{match.case.model} {match.case.layer}", f"{match.case.n}×{match.case.k}", str(match.case.m)]
        rows.append((*cells, *(_result(match, method) for method in methods)))
    return TextTable(title=title, header=("Layer", "N×K", "M", *methods), rows=tuple(rows), left=1)


def _result(match: Match, method: str) -> str:
    median_ns = match.median_ns(method)
    record = match.records.get(method)
    if median_ns is None:
        return fmt.UNKNOWN if record is None else str(record.status)
    judgement = match.judgements.get(method)
    if judgement is None or judgement.speedup is None:
        return microseconds(median_ns)
    mark = {Verdict.FASTER: "▲", Verdict.SLOWER: "▼", Verdict.SAME: "="}.get(judgement.verdict, "◇")
    return f"{microseconds(median_ns)} ({mark} {times(judgement.speedup)})"


def not_measured(records: Iterable[LatencyRecord]) -> tuple[NotMeasured, ...]:
    """Methods without samples, by status and reason, with the cases in brief."""
    groups: dict[tuple[str, Status, str], list[LatencyRecord]] = {}
    for record in records:
        if record.status is not Status.OK:
            groups.setdefault((record.method, record.status, record.reason or ""), []).append(record)
    ladder = sorted({record.case.m for record in records})
    return tuple(
        NotMeasured(
            method=method_label(method), status=status.value, reason=reason, cases=_brief(members, ladder)
        )
        for (method, status, reason), members in groups.items()
    )  # fmt: skip


def _brief(members: Sequence[LatencyRecord], ladder: Sequence[int]) -> str:
    layers = {f"{record.case.model} {record.case.layer}" for record in members}
    layer = next(iter(layers)) if len(layers) == 1 else f"{len(layers)} layers"
    plural = "" if len(members) == 1 else "s"
    m = ranges(sorted({record.case.m for record in members}), ladder)
    return f"{len(members)} comparison{plural}: {layer}, M = {m}"
