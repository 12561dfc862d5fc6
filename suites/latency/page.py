"""Latency records → the device report: the verdict, then figures, losses, what ran, and all medians."""

from collections.abc import Iterable, Sequence
from statistics import median

from lords_bench.records.latency import DENSE, DENSE_AGAIN, KERNEL_PREFIX, SUBJECT, LatencyRecord, method_label
from lords_bench.records.measurement import Regime
from lords_bench.records.status import Status
from lords_bench.records.store import RejectedLine
from lords_bench.report import format as fmt
from lords_bench.report import provenance as origin
from lords_bench.report.document import (
    Article,
    Block,
    Bullets,
    Cell,
    Column,
    Document,
    Figure,
    Paragraph,
    Row,
    Section,
    Table,
    Text,
    Tone,
    figure_sections,
)
from lords_bench.report.select import grouped
from lords_bench.stats import Interval
from lords_bench.stats.verdict import MARGIN, Verdict
from lords_bench.suites.latency.figures import crossings, curves, heatmap, roofline, share_plot
from lords_bench.suites.latency.judge import (
    DeviceTimes,
    Format,
    Match,
    Summary,
    by_m_words,
    counts_words,
    headline,
    microseconds,
    ranges,
    reached,
    select_devices,
    summarise,
    times,
    where,
)

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
_KERNEL_HEADER = (
    "Layer", "M", "Method", "Kernel", "Configuration", "Origin", "Median", "Quartiles", "GB/s", "of peak", "TFLOP/s",
    "Error ÷ bound",
)  # fmt: skip
# An A/A difference above this is worth a notice.
NOISY = 0.05
# The Markdown page lists so many losses; the HTML page has them all.
MARKDOWN_LOSSES = 40
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
SUMMARY = (
    "Comparisons counted by verdict; the geometric mean holds wins, ties and losses. What was not measured counts as "
    "nothing."
)
KERNELS = (
    "Kernels of this project with their configurations, where those come from, and how much of the measured bandwidth "
    "a cold launch reaches."
)
MEDIANS = (
    "In brackets: how many times as fast as that method LoRDS is; ▲ faster, ▼ slower, = within the noise, ◇ not "
    "resolved."
)
# Every baseline's summary, by regime and format.
Found = dict[tuple[Regime, Format], tuple[Summary, ...]]
GUIDE: dict[str, Text] = {
    "Speed-up": "Median over rounds of the baseline's time ÷ LoRDS' time in the same round, so that what slowed both "
    "down cancels. Above 1 LoRDS is faster.",
    "Faster, slower": "The 95 % interval lies wholly beyond the comparison's noise floor. Within the noise: it lies "
    f"within {100 * MARGIN:g} % or the noise floor, whichever is wider. Not resolved: neither.",
    "Noise floor": "What the dense product differed from itself by in the same rounds (A/A).",
    "Cold, hot, eager": "Operands out of the cache, in the cache, and the wall clock of a call from Python; they are "
    "never compared with each other.",
    "Not measured": "Counts neither as a win nor as a tie. No number is shown of a method whose result was wrong.",
    "Other projects": "bitsandbytes, gemlite, tinygemm and PEFT run as their users call them, with the configurations "
    "that they ship or find. QLoRA as PEFT runs it is eager in the eager regime and a CUDA graph in the others; merged "
    "is another model than the adapter.",
}


def latency_page(records: Iterable[LatencyRecord], rejected: Iterable[RejectedLine] = ()) -> Document:
    """The page of all latency records.

    Raises:
        RecordError: there is no latency record.
    """
    devices = select_devices(records)
    first = devices[0].newest.run
    notices = origin.kept_apart(len(devices), "devices or dtypes", each="are of")
    return Document(
        file="latency",
        suite="latency",
        kind="device report",
        part="device",
        title=FAKE_TITLE if first.is_fake else CPU_TITLE if first.environment.device == "cpu" else GPU_TITLE,
        notices=(*notices, *origin.rejected_notices(rejected)),
        articles=tuple(_article(device, index) for index, device in enumerate(devices, start=1)),
        guide={**GUIDE, **origin.remake(first.command)},
    )


def _article(device: DeviceTimes, index: int) -> Article:
    newest = device.newest
    found = {pair: _summaries(device, *pair) for pair in _pairs(device)}
    figures, absent = _figures(device, found, index)
    opening: tuple[Block, ...] = (
        *(Paragraph(text=notice, kind="notice") for notice in _notices(device)),
        *(Paragraph(text=sentence, kind="lead") for sentence in _headlines(device, found)),
        Bullets(items=_verdict(device, found)),
    )
    summaries = [_summary_table(_title(*pair), rows, is_first=not at) for at, (pair, rows) in enumerate(found.items())]
    kernels = [table for pair in found if (table := _kernel_table(device, *pair)) is not None]
    medians = [_result_table(device.of(*pair), _title(*pair)) for pair in found]
    return Article(
        name=f"{newest.run.environment.device_name}, {newest.run.dtype} · {newest.created_utc[:10]}",
        sections=(
            Section(label="Verdict", blocks=opening),
            origin.section(_facts(device)),
            Section(title="LoRDS against each baseline", label="Summary", blocks=(Paragraph(text=SUMMARY), *summaries)),
            *figure_sections(figures),
            *([Section(label="Figures that are not there", blocks=absent)] if absent else []),
            Section(title="Where LoRDS loses", label="Losses", blocks=loss_blocks(device)),
            Section(title="What ran", label="Kernels", blocks=(Paragraph(text=KERNELS), *kernels)),
            Section(title="All medians", blocks=(Paragraph(text=MEDIANS), *medians)),
            Section(title="Not measured because…", label="Not measured", blocks=_not_measured(device)),
        ),
    )


def _pairs(device: DeviceTimes) -> tuple[tuple[Regime, Format], ...]:
    """(regime, format) that have comparisons: the regime verdicts lead with first."""
    return tuple(
        (regime, format_) for regime in device.regimes for format_ in device.formats if device.of(regime, format_)
    )


def _summaries(device: DeviceTimes, regime: Regime, format_: Format) -> tuple[Summary, ...]:
    matches = device.of(regime, format_)
    found = (summarise(matches, baseline, SUBJECT) for baseline in device.baselines)
    return tuple(summary for summary in found if summary.judged or summary.failed)


def _headlines(device: DeviceTimes, found: Found) -> tuple[str, ...]:
    """A sentence for each format in the first regime."""
    sentences = []
    for (regime, format_), summaries in found.items():
        if regime != device.regimes[0]:
            continue
        chosen = [(method_label(s.baseline), s) for s in summaries if s.baseline in HEADLINE]
        sentences.append(headline(chosen, where_words=f"{_REGIME_WORDS[regime]}, {format_.words}"))
    return tuple(sentences)


def _verdict(device: DeviceTimes, found: Found) -> tuple[str, ...]:
    """A line per baseline for the first regime and format: counts, geometric mean, worst case, crossings."""
    pair, summaries = next(iter(found.items()))
    lines = []
    for summary in summaries:
        geomean, worst = summary.geomean, summary.worst
        line = f"{method_label(summary.baseline)}: {counts_words(summary)}"
        if geomean is not None and worst is not None:
            line += f"; geometric mean {times(geomean)} as fast, worst {times(worst[1])} ({where(worst[0])})"
        lines.append(f"{line}.")
    crossed = _crossings(device.of(*pair))
    return (*lines, *((f"LoRDS and the dense product cross at {crossed}.",) if crossed else ()))


def _crossings(matches: Sequence[Match]) -> str:
    layers = grouped(matches, lambda match: match.layer)
    return ", ".join(f"M ≈ {m:.0f} ({layer})" for layer, members in layers.items() for m in crossings(members))


def _figures(device: DeviceTimes, found: Found, index: int) -> tuple[tuple[Figure, ...], tuple[Paragraph, ...]]:
    """Figures of every regime and format, and in words why one is not there."""
    figures, absent, suffix = [], [], "" if index == 1 else f"-{index}"
    for number, (pair, summaries) in enumerate(found.items(), start=1):
        matches, title = device.of(*pair), _title(*pair)
        baselines = [summary.baseline for summary in summaries]
        svg = heatmap(matches, baselines, name=f"speedup-{number}{suffix}")
        if svg:
            figures.append(
                Figure(name=f"speedup-{number}{suffix}", title=f"Speed-up · {title}", caption=HEATMAP, svg=svg)
            )
        if number > 1:
            continue
        first_model = [match for match in matches if match.case.model == matches[0].case.model]
        peaks = device.newest.run.peaks
        drawn = (
            ("curves", "Latency against M", CURVES, curves(first_model, name=f"curves{suffix}"), "fewer than two M"),
            ("share", "Share of shapes", SHARE, share_plot(summaries, name=f"share{suffix}"), "nothing was compared"),
            ("roofline", "Roofline", ROOFLINE, roofline(matches, peaks, name=f"roofline{suffix}"), NO_PEAKS),
        )
        for name, heading, caption, svg, why in drawn:
            if svg:
                figures.append(Figure(name=f"{name}{suffix}", title=f"{heading} · {title}", caption=caption, svg=svg))
            else:
                absent.append(Paragraph(text=f"No figure “{heading}”: {why}."))
    return tuple(figures), tuple(absent)


def _title(regime: Regime, format_: Format) -> str:
    return f"{regime} · {format_.words}"


def _missing(device: DeviceTimes) -> str:
    parts = []
    if device.missing:
        parts.append(f"{device.missing} planned comparisons have no record: the run ended before them")
    torn = [match for match in device.matches if match.missing]
    parts += [f"{where(match)} {match.regime}: no record of {', '.join(match.missing)}" for match in torn]
    return "; ".join(parts)


def _summary_table(title: str, summaries: Sequence[Summary], *, is_first: bool) -> Table:
    return Table(
        title=title,
        columns=(
            "Baseline",
            "Geometric mean",
            Column(name="By M", style="after words", only="html"),
            *("Faster", "Within noise", "Slower", "Not resolved", "Not measured"),
            Column(name="Worst", style="after"),
            Column(name="Best", style="after", only="markdown"),
            Column(name="By M", style="after", only="markdown"),
        ),
        rows=tuple(map(summary_row, summaries)),
        style="numbers counts",
        fold="open" if is_first else "closed",
    )


def summary_row(summary: Summary) -> Row:
    """A baseline's line in the table of summaries."""
    order = (Verdict.FASTER, Verdict.SAME, Verdict.SLOWER, Verdict.AMBIGUOUS)
    faster, slower, total = summary.count(Verdict.FASTER), summary.count(Verdict.SLOWER), len(summary.valid)
    tone: Tone = "better" if total and faster == total else "worse" if total and slower == total else "open"
    words = by_m_words(summary) or "not compared"
    worst, best = (
        fmt.UNKNOWN if end is None else f"{times(end[1])} ({where(end[0])})" for end in (summary.worst, summary.best)
    )
    return (
        method_label(summary.baseline),
        Cell(text=fmt.UNKNOWN if summary.geomean is None else times(summary.geomean), tone=tone),
        words,
        *(str(summary.count(verdict)) for verdict in order),
        _failures(summary),
        worst,
        best,
        words,
    )


def _failures(summary: Summary) -> str:
    parts = [f"{count} {status}" for status, count in summary.failed.items()]
    invalid = summary.count(Verdict.INVALID)
    return ", ".join([*parts, *([f"{invalid} without a verdict"] if invalid else [])]) or "0"


def loss_blocks(device: DeviceTimes) -> tuple[Block, ...]:
    """Every comparison in which LoRDS is SLOWER, the worst of each regime first."""
    found = [
        (order, judgement.speedup, _loss_row(match, baseline, judgement.speedup))
        for order, regime in enumerate(device.regimes)
        for match in device.matches
        if match.regime == regime
        for baseline, judgement in match.judgements.items()
        if judgement.verdict is Verdict.SLOWER and judgement.speedup is not None
    ]
    if not found:
        return (Paragraph(text="No comparison is resolved as slower."),)
    table = Table(
        label="Losses",
        columns=(
            "Layer and M",
            Column(name="Regime and format", style="", only="html"),
            Column(name="Regime", style="", only="markdown"),
            Column(name="Format", style="", only="markdown"),
            Column(name="Against", style=""),
            Column(name="Speed-up", unit="(95 %)"),
            "LoRDS against baseline",
            Column(name="Kernel", style="after"),
        ),
        rows=tuple(row for _, _, row in sorted(found, key=lambda item: item[:2])),
        style="numbers tight",
        is_tall=True,
        most_markdown=MARKDOWN_LOSSES,
    )
    shown = f"The first {MARKDOWN_LOSSES} are shown, the HTML page has all."
    left = (Paragraph(text=shown, only="markdown"),) if len(found) > MARKDOWN_LOSSES else ()
    return (Paragraph(text=f"{len(found)} comparisons, the worst first."), *left, table)


def _loss_row(match: Match, baseline: str, speedup: float) -> Row:
    subject, other = match.median_ns(SUBJECT), match.median_ns(baseline)
    assert subject is not None
    assert other is not None
    record = match.records[SUBJECT]
    return (
        where(match),
        f"{match.regime}, {match.format.words}",
        match.regime,
        match.format.words,
        method_label(baseline),
        Cell(text=times(speedup), detail=_speedup_interval(match.judgements[baseline].ratio), tone="worse"),
        f"{microseconds(subject)} against {microseconds(other)}",
        f"{record.kernel or fmt.UNKNOWN} ({record.config_origin or 'no configuration'})",
    )


def _speedup_interval(ratio: Interval | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return "no interval"
    return f"{times(1 / ratio.high)} … {times(1 / ratio.low)}"


def _kernel_table(device: DeviceTimes, regime: Regime, format_: Format) -> Table | None:
    """What ran for LoRDS and for this project's own baselines: configuration, its origin, how far from peak."""
    bandwidth = device.newest.run.peaks.memory_gbps
    rows = []
    for match in device.of(regime, format_):
        for method, record in match.records.items():
            is_own = method == SUBJECT or method.startswith(KERNEL_PREFIX) or method in {"nf-block", "int-block"}
            if is_own and record.measurement is not None:
                rows.append(_kernel_row(match, record, bandwidth))
    return _folded(_title(regime, format_), _KERNEL_HEADER, rows, words=6) if rows else None


def _folded(title: str, header: Sequence[str], rows: Sequence[Row], *, words: int) -> Table:
    """A long table, of which the first columns hold words."""
    columns = tuple(Column(name=name, style="" if index < words else "num") for index, name in enumerate(header))
    return Table(title=title, columns=columns, rows=tuple(rows), style="numbers tight", fold="closed")


def _kernel_row(match: Match, record: LatencyRecord, bandwidth_gbps: float | None) -> Row:
    assert record.measurement is not None
    measured, speeds = record.measurement, reached(record)
    of_peak = fmt.UNKNOWN
    if speeds is not None and bandwidth_gbps is not None and match.regime == "cold":
        of_peak = f"{100 * speeds[0] / bandwidth_gbps:.0f} %"
    return (
        match.layer,
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


def _result_table(matches: Sequence[Match], title: str) -> Table:
    """Median of every method and, in brackets, how many times as fast as it LoRDS is."""
    methods = list(dict.fromkeys(name for match in matches for name in match.records if name != DENSE_AGAIN))
    rows = []
    for match in matches:
        cells = (match.layer, f"{match.case.n}×{match.case.k}", str(match.case.m))
        rows.append((*cells, *(_result(match, method) for method in methods)))
    return _folded(title, ("Layer", "N×K", "M", *methods), rows, words=1)


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


def _not_measured(device: DeviceTimes) -> tuple[Block, ...]:
    missing, rows = _missing(device), not_measured(device.records)
    if not missing and not rows:
        return (Paragraph(text="Every planned comparison has samples of every method."),)
    columns = tuple(Column(name=name, style="") for name in ("Method", "Status", "Reason", "Where"))
    table = Table(label="Methods without samples", columns=columns, rows=rows)
    return (*([Paragraph(text=f"{missing}.")] if missing else []), *([table] if rows else []))


def not_measured(records: Sequence[LatencyRecord]) -> tuple[Row, ...]:
    """Methods without samples, by status and reason, with the cases in brief."""
    failed = [record for record in records if record.status is not Status.OK]
    groups = grouped(failed, lambda record: (record.method, record.status, record.reason or ""))
    ladder = sorted({record.case.m for record in records})
    return tuple(
        (method_label(method), Cell(text=status.value, tone="warn"), reason, _brief(members, ladder))
        for (method, status, reason), members in groups.items()
    )


def _brief(members: Sequence[LatencyRecord], ladder: Sequence[int]) -> str:
    layers = {f"{record.case.model} {record.case.layer}" for record in members}
    layer = next(iter(layers)) if len(layers) == 1 else f"{len(layers)} layers"
    plural = "" if len(members) == 1 else "s"
    m = ranges(sorted({record.case.m for record in members}), ladder)
    return f"{len(members)} comparison{plural}: {layer}, M = {m}"


def _facts(device: DeviceTimes) -> dict[str, Text]:
    """Device, clocks, peaks, noise floor, versions, commit, command, dates and amount of evidence."""
    newest = device.newest
    environment, run = newest.run.environment, newest.run
    records = device.records
    return {
        "Device": origin.machine(environment, last=f"activations in {run.dtype}"),
        "SM clock": _clock(records),
        "Measured peaks": _peaks(newest),
        "Noise floor": _noise(device),
        "Said by the machine": _said(newest),
        "Versions": origin.versions(environment, without=("transformers",)),
        "Tuned tables": _tables(records),
        "Baselines' packages": _libraries(newest),
        "Commit": origin.each_once(origin.commit(record.run.environment) for record in records),
        "Source hash": origin.each_once(origin.short(record.run.environment.source_sha256) for record in records),
        "Command": run.command,
        "Sampling": _sampling(records),
        "Measured": origin.date_span(record.created_utc for record in records),
        "Seed": origin.each_once(str(record.run.seed) for record in records),
        "Platform": origin.platform(environment),
    }


def _notices(device: DeviceTimes) -> tuple[str, ...]:
    """What weakens the device: made-up numbers, a CPU, uncommitted code, several runs, a noisy machine."""
    notices = []
    newest = device.newest
    if newest.run.is_fake:
        notices.append("A fake device made these numbers up. They try the software and say nothing about any hardware.")
    elif newest.run.environment.device == "cpu":
        notices.append(
            "PyTorch reference timings on a CPU: they say nothing about GPU kernels. LoRDS and its block formats run "
            "readable reference code here; none of the fused kernels does."
        )
    environments = [next(iter(match.records.values())).run.environment for match in device.matches]
    runs = len({record.run.run_key for record in device.records})
    notices += origin.weaknesses(environments, what="comparison", runs=runs, superseded=device.superseded)
    floors = [match.noise_floor for match in device.matches if match.noise_floor is not None]
    noisy = sum(floor > NOISY for floor in floors)
    if noisy:
        notices.append(
            f"In {noisy} of {len(floors)} comparisons the dense product differed from itself by more than "
            f"{100 * NOISY:.0f} %: the machine was not quiet, and only larger differences are resolved there."
        )
    words = dict.fromkeys(note for record in device.records for note in record.notes)
    return (*notices, *words)


def _clock(records: tuple[LatencyRecord, ...]) -> str:
    clocks = [
        clock
        for record in records
        if record.measurement is not None and (clock := record.measurement.median_clock_mhz) is not None
    ]
    if not clocks:
        return "not known"
    return f"median {median(clocks):.0f} MHz; medians of single measurements {min(clocks):.0f} to {max(clocks):.0f} MHz"


def _peaks(record: LatencyRecord) -> str:
    peaks = record.run.peaks
    shown = (
        ("copy", peaks.copy_gbps, "GB/s"),
        ("read", peaks.read_gbps, "GB/s"),
        ("bf16 matmul", peaks.matmul_tflops, "TFLOP/s"),
    )
    return ", ".join(
        f"{name} {'not measured' if value is None else f'{value:,.0f} {unit}'}" for name, value, unit in shown
    )


def _noise(device: DeviceTimes) -> str:
    floors = [match.noise_floor for match in device.matches if match.noise_floor is not None]
    if not floors:
        return "not measured: no verdict is given"
    unknown = len(device.matches) - len(floors)
    missing = f"; not known in {unknown}" if unknown else ""
    return (
        f"median {100 * median(floors):.2f} %, worst {100 * max(floors):.2f} % over {len(floors)} comparisons"
        f" (A/A: the dense product against itself in the same rounds){missing}"
    )


def _said(record: LatencyRecord) -> str:
    shown = [f"{name}: {_value(value)}" for name, value in record.run.facts]
    return "; ".join(shown) or "nothing"


def _value(value: object) -> str:
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _libraries(record: LatencyRecord) -> str:
    return ", ".join(f"{name} {version or 'not installed'}" for name, version in record.run.libraries)


def _tables(records: tuple[LatencyRecord, ...]) -> str:
    known = origin.each_once(origin.short(record.run.tables_sha256 or "none") for record in records)
    return "none: every configuration is the kernel's own rule" if known == "none" else f"sha256 {known}"


def _sampling(records: tuple[LatencyRecord, ...]) -> str:
    measured = [record.measurement for record in records if record.measurement is not None]
    if not measured:
        return "no samples"
    counts = [item.n for item in measured]
    dropped = sum(len(item.dropped) for item in measured)
    timers = origin.each_once(item.timer for item in measured)
    policies = origin.each_once(record.run.policy for record in records)
    return (
        f"{policies} policy, {len(measured)} measurements of {min(counts)} to {max(counts)} samples by {timers}, "
        f"{sum(counts):,} samples kept, {dropped} dropped for a cause"
    )
