"""Accuracy records → the page: the verdict, then provenance, results, figures, paired differences and layers."""

from collections.abc import Iterable, Sequence

from lords_bench.records import BenchRecord, RejectedLine
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
    Group,
    Paragraph,
    Section,
    Table,
    Tag,
    Text,
    Tone,
    figure_sections,
)
from lords_bench.report.select import Evaluation
from lords_bench.stats import PairedVerdict
from lords_bench.stats.bootstrap import RESAMPLES
from lords_bench.suites.accuracy.figures import FIGURES, mark_of
from lords_bench.suites.accuracy.judge import (
    EQUAL_BITS_TOLERANCE,
    QUESTIONS,
    BitsGroup,
    Question,
    Row,
    answer,
    best_of,
    bits_groups,
    compare,
    headline,
    headline_groups,
    select_evaluations,
    unquantized_row,
)
from lords_bench.suites.accuracy.metrics import METRICS, PRIMARY, difference, estimate

SUITE = "accuracy"
TITLE = "Accuracy at equal bits"
BASELINES = (("nf", "NormalFloat blocks by largest magnitude"), ("block-opt", "optimised blocks"))
TONE: dict[PairedVerdict | None, Tone] = {
    PairedVerdict.BETTER: "better", PairedVerdict.WORSE: "worse", PairedVerdict.UNRESOLVED: "open", None: "open",
}  # fmt: skip
RESULTS = (
    "Cases under one heading store equal bits and may be compared; lowest KL first. With each value stands its 95 % "
    "bootstrap interval."
)
DIFFERENCES = (
    "Each difference is taken per window of text, per choice item or per layer, then resampled. An interval that "
    "contains 0 is not resolved."
)
LAYERS = "Relative squared error in %."
GUIDE: dict[str, Text] = {
    **{f"{one.label}{f' ({one.unit})' if one.unit else ''}": one.meaning for one in METRICS.values()},
    "Bits per weight": "Bytes of every stored tensor × 8 / weights of the quantized layers, padding and tables "
    "included.",
    "Intervals": f"95 %, bootstrap of whole documents where known ({RESAMPLES} resamples, fixed seed). Each stands "
    "alone: of twenty comparisons of equals, one is expected to exclude 0 by chance. They cover the choice of text and "
    "items, not that of the model.",
}


def accuracy_page(
    records: Iterable[BenchRecord], rejected: Iterable[RejectedLine] = (), *, has_figures: bool = True
) -> Document:
    """The page of all accuracy records; `has_figures=False` for a reader who cannot see them, as a terminal.

    Raises:
        RecordError: there is no accuracy record.
    """
    evaluations = select_evaluations(records, suite=SUITE)
    notices = origin.kept_apart(len(evaluations), "evaluations that differ in model, corpus, settings or device")
    articles = tuple(_article(one, index, has_figures=has_figures) for index, one in enumerate(evaluations, start=1))
    return Document(
        file=SUITE,
        suite=SUITE,
        kind="accuracy report",
        title=f"{TITLE}: LoRDS against its baselines",
        window=f"{TITLE}: {articles[0].name}",
        notices=(*notices, *origin.rejected_notices(rejected)),
        articles=articles,
        guide={**GUIDE, **origin.remake(evaluations[0].newest.command)},
    )


def _article(evaluation: Evaluation[BenchRecord], index: int, *, has_figures: bool) -> Article:
    groups = bits_groups(evaluation)
    columns = headline_groups(groups)
    pairs = [(group, name, words) for group in groups if group.is_comparable for name, words in BASELINES]
    against = [(group, row, words) for group, name, words in pairs if (row := group.row(name)) is not None]
    differences = [_difference_table(*found, is_first=not index) for index, found in enumerate(against)]
    share, layers = left_share(evaluation)
    named = f" ({', '.join(layers)})" if layers else ""
    return Article(
        name=evaluation_name(evaluation),
        sections=(
            Section(label="Verdict", blocks=_verdict(evaluation, groups)),
            origin.section(_facts(evaluation)),
            Section(title="Results", blocks=_results(evaluation, groups)),
            *(figure_sections(_figures(groups, columns, index)) if has_figures else ()),
            *_folded("Paired differences", DIFFERENCES, differences),
            *_folded("Weight error of every layer", LAYERS, list(map(_layer_table, columns)), label="Layers"),
            origin.left_out(
                evaluation.failures,
                evaluation.missing,
                Paragraph(text=f"Weights of linear-like layers left unquantized: {share}{named}."),
            ),
        ),
    )


def _folded(title: str, words: str, tables: Sequence[Table], *, label: str = "") -> tuple[Section, ...]:
    return (Section(title=title, label=label, blocks=(Paragraph(text=words), *tables)),) if tables else ()


def evaluation_name(evaluation: Evaluation[BenchRecord]) -> str:
    """Model, device, amount of evidence and date: enough to tell two evaluations of one model apart."""
    newest = evaluation.newest
    name = f"{newest.inputs.model_name} on {newest.environment.device_name}"
    samples = next((record.samples for record in evaluation.records if record.complete), None)
    if samples is not None:
        name = f"{name} · {len(samples.window_tokens)} windows, {len(samples.choice_correct)} choice items"
    return f"{name} · {newest.created_utc[:10]}"


def left_share(evaluation: Evaluation[BenchRecord]) -> tuple[str, tuple[str, ...]]:
    """Share of the weights that stayed unquantized, and their layers."""
    samples = next((record.samples for record in evaluation.records if record.bits is not None), None)
    return (f"{100 * samples.unquantized_share:.1f} %", samples.unquantized_layers) if samples else (fmt.UNKNOWN, ())


def _verdict(evaluation: Evaluation[BenchRecord], groups: tuple[BitsGroup, ...]) -> tuple[Block, ...]:
    """The answer, what weakens it, every question that was measured at one number of bits at least, and the best."""
    columns = headline_groups(groups)
    asked = [one for one in QUESTIONS if any(group.row(one.subject) and group.row(one.baseline) for group in columns)]
    table = Table(
        label="Verdict by question and bits",
        note="Paired change in KL to the unquantized model at equal measured bits, with its 95 % interval",
        columns=(
            "Question",
            *(f"{group.bits} bits" for group in columns),
            Column(name="calibration", style="", only="markdown"),
        ),
        rows=tuple(
            (
                Cell(text=one.pair_words, detail=one.fairness),
                *(_answer_cell(one, group) for group in columns),
                one.fairness,
            )
            for one in asked
        ),
        style="matrix",
    )
    best = tuple(_best_line(group) for group in columns if group.rows[0].record.complete)
    return (
        *(Paragraph(text=sentence, kind="lead") for sentence in headline(groups)),
        *(Paragraph(text=notice, kind="notice") for notice in _notices(evaluation)),
        *([table] if asked else []),
        *([Bullets(title="Lowest KL at each number of bits", items=best)] if best else []),
    )


def _answer_cell(question: Question, group: BitsGroup) -> Cell:
    found = answer(question, group)
    tone: Tone = "" if found.outcome is None else TONE[found.outcome]
    return Cell(text=found.change, detail=found.change_interval, word=found.words, note=found.note, tone=tone)


def _best_line(group: BitsGroup) -> str:
    best = best_of(group)
    text, interval = estimate(best.row.intervals[PRIMARY], METRICS[PRIMARY])
    others = f"not resolved from it: {fmt.listing(best.ties)}" if best.ties else "every other is worse"
    if best.uncompared:
        others = f"{others}; not compared with it: {fmt.listing(best.uncompared)}"
    return f"{group.bits} bits: {best.row.record.method}, KL ×1000 {text} ({interval}); {others}"


def _results(evaluation: Evaluation[BenchRecord], groups: tuple[BitsGroup, ...]) -> tuple[Block, ...]:
    plain = unquantized_row(evaluation)
    words = ""
    if plain is not None:
        said = {name: estimate(plain.intervals[name], METRICS[name]) for name in ("bits_per_byte", "choice")}
        shown = {name: f"{text} ({interval})" if interval else text for name, (text, interval) in said.items()}
        words = f"bits per byte {shown['bits_per_byte']}, choice accuracy {shown['choice']} %."
    return (
        Paragraph(text=RESULTS),
        *([Paragraph(text=f"Unquantized model: {words}", only="markdown")] if words else []),
        result_table(evaluation, groups),
    )


def result_table(evaluation: Evaluation[BenchRecord], groups: tuple[BitsGroup, ...]) -> Table:
    """Every case with every metric, those of equal bits together; the unquantized model first."""
    plain = unquantized_row(evaluation)
    return Table(
        label="Results",
        columns=(
            "Method",
            Column(name="Calibration", style="", only="markdown"),
            "Bits per weight",
            *(Column(name=one.label, unit="%" if one.unit == "%" else "") for one in METRICS.values()),
        ),
        groups=(*([Group(rows=(_result_row(plain),))] if plain else []), *map(_result_group, groups)),
    )


def _result_group(group: BitsGroup) -> Group:
    if group.is_comparable:
        title = f"{group.bits} bits · {fmt.bits(group.bits_per_weight)} stored per weight"
        note = f"Compared at equal bits: within {EQUAL_BITS_TOLERANCE} of {fmt.bits(group.bits_per_weight)}."
    else:
        title = f"{group.bits} bits · other storage"
        note = "Not compared: no other case stores equal bits. Read these on the bits–KL curve."
    best = group.rows[0] if group.is_comparable and group.rows[0].record.complete else None
    rows = tuple(_result_row(row, is_best=row is best) for row in group.rows)
    return Group(title=title, note=note, rows=rows, is_comparable=group.is_comparable)


def _result_row(row: Row, *, is_best: bool = False) -> tuple[str | Cell, ...]:
    # The unquantized model is its own reference: both are 0 by definition, not by measurement.
    by_definition = ("kl", "weight_error") if row.record.bits is None else ()
    shown = [
        ("0", "by definition") if name in by_definition else estimate(row.intervals[name], metric)
        for name, metric in METRICS.items()
    ]
    return (
        _name(row, *([Tag(text="lowest KL", kind="best")] if is_best else [])),
        "yes" if row.record.needs_calibration else "no",
        fmt.bits(row.bits_per_weight),
        *(Cell(text=text, detail=interval) for text, interval in shown),
    )


def _name(row: Row, *tags: Tag, refusal: str | None = None) -> Cell:
    """The method, drawn as in the figures, with what is to be known of the case."""
    mark = mark_of(row.record)
    calibrated = [Tag(text="calibrated")] if row.record.needs_calibration else []
    warnings = (*row.marks, *([] if refusal is None else [f"not compared: {refusal}"]))
    return Cell(
        text=row.record.method,
        dot=mark.role,
        is_filled=mark.is_filled,
        tags=(*tags, *calibrated, *(Tag(text=text, kind="warn") for text in warnings)),
    )


def _difference_table(group: BitsGroup, baseline: Row, words: str, *, is_first: bool) -> Table:
    stored = fmt.bits(group.bits_per_weight)
    return Table(
        title=f"{group.bits} bits · {stored} stored · against {baseline.record.method} ({words})",
        columns=("Method", *(Column(name=one.label, unit=one.difference_unit) for one in METRICS.values())),
        rows=tuple(_difference_row(row, baseline) for row in group.rows if row is not baseline),
        fold="open" if is_first else "closed",
    )


def _difference_row(row: Row, baseline: Row) -> tuple[Cell, ...]:
    comparison = compare(row.record, baseline.record)
    cells = []
    for name, metric in METRICS.items():
        text, interval = difference(comparison.differences.get(name), metric)
        outcome = comparison.outcome(name)
        cells.append(Cell(text=text, detail=interval, word=outcome.value if outcome else "", tone=TONE[outcome]))
    return (_name(row, refusal=comparison.refusal), *cells)


def _figures(groups: tuple[BitsGroup, ...], columns: tuple[BitsGroup, ...], index: int) -> tuple[Figure, ...]:
    found = []
    for kind, figure in FIGURES.items():
        name = kind if index == 1 else f"{kind}-{index}"
        svg = figure.draw(groups if figure.shows_all_groups else columns, name=name)
        if svg:
            found.append(Figure(name=name, title=figure.title, caption=figure.caption, svg=svg))
    return tuple(found)


def _layer_table(group: BitsGroup) -> Table:
    """Relative squared error in per cent of every layer under each method that has the same layers."""
    samples = group.rows[0].samples
    members = [row for row in group.rows if row.samples.layer_names == samples.layer_names]
    errors = [row.samples.layer_relative_errors for row in members]
    title = f"{group.bits} bits · {fmt.bits(group.bits_per_weight)} stored"
    return Table(
        title=title,
        label=f"Layers, {title}",
        columns=("Layer", "Shape", *(row.record.method for row in members)),
        rows=tuple(
            (name, f"{n}×{k}", *(fmt.number(100 * error[index], 3) for error in errors))
            for index, (name, (n, k)) in enumerate(zip(samples.layer_names, samples.layer_shapes, strict=True))
        ),
        style="numbers tight",
        fold="closed",
    )


def _facts(evaluation: Evaluation[BenchRecord]) -> dict[str, Text]:
    """Machine, versions, commit, command, seed, hashes, settings and dates of an evaluation."""
    newest = evaluation.newest
    environment, inputs = newest.environment, newest.inputs
    runs = evaluation.runs
    return {
        "Machine": origin.machine(environment),
        "Versions": origin.versions(environment),
        "Commit": origin.each_once(origin.commit(run.environment) for run in runs),
        "Source hash": origin.each_once(origin.short(run.environment.source_sha256) for run in runs),
        "Command": newest.command,
        "Seed": origin.each_once(str(run.seed) for run in runs),
        "Measured": origin.date_span(record.created_utc for record in evaluation.records or evaluation.failures),
        "Time spent": _time_spent(evaluation),
        "Model": f"{inputs.model_name}, sha256 {origin.short(inputs.model_sha256)}",
        "Tokenizer": f"sha256 {origin.short(inputs.tokenizer_sha256)}",
        "Corpus": f"sha256 {origin.short(inputs.corpus_sha256)}",
        "Sample sizes": _sample_sizes(evaluation),
        "Settings": ", ".join(f"{name} = {value}" for name, value in inputs.settings),
        "Settings hash": inputs.settings_sha256,
        "Platform": origin.platform(environment),
    }


def _notices(evaluation: Evaluation[BenchRecord]) -> tuple[str, ...]:
    """What weakens the evaluation: uncommitted code, partial cases, several runs put together."""
    records = evaluation.records
    partial = [record for record in records if not record.complete]
    notices = origin.weaknesses(
        [record.environment for record in records],
        what="case",
        runs=len(evaluation.runs),
        superseded=evaluation.superseded,
    )
    if partial:
        named = ", ".join(record.case_id for record in partial)
        few = origin.counted(len(partial), len(records), "case")
        notices.append(f"{few} partial ({named}): shown, compared with nothing.")
    return tuple(notices)


def _time_spent(evaluation: Evaluation[BenchRecord]) -> str:
    samples = [record.samples for record in evaluation.records if record.samples is not None]
    quantizing = sum(item.quantize_seconds for item in samples)
    evaluating = sum(item.evaluate_seconds for item in samples)
    peaks = [item.peak_rss_bytes for item in samples if item.peak_rss_bytes is not None]
    memory = f"; peak memory {max(peaks) / origin.GIB:.1f} GiB" if peaks else ""
    return f"quantizing {fmt.seconds(quantizing)}, evaluating {fmt.seconds(evaluating)}{memory}"


def _sample_sizes(evaluation: Evaluation[BenchRecord]) -> str:
    samples = next((record.samples for record in evaluation.records if record.complete), None)
    if samples is None:
        return fmt.UNKNOWN
    documents = f" of {len(set(samples.window_documents))} documents" if samples.window_documents else ""
    return (
        f"{len(samples.window_tokens)} windows{documents}, {sum(samples.window_tokens):,} tokens, "
        f"{sum(samples.window_bytes):,} bytes; {len(samples.choice_correct)} choice items; "
        f"{len(samples.layer_names)} quantized layers"
    )
