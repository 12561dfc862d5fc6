"""Records → the content of an accuracy page. Everything is computed here; the renderers only lay it out."""

from collections.abc import Iterable

from lords_bench.records import BenchRecord, RejectedLine
from lords_bench.report import format as fmt
from lords_bench.report.figures import FIGURES
from lords_bench.report.metrics import METRICS, PRIMARY
from lords_bench.report.provenance import evaluation_notices, page_notices, provenance
from lords_bench.report.select import EQUAL_BITS_TOLERANCE, Evaluation, select_evaluations
from lords_bench.report.style import mark_of
from lords_bench.report.tables import BitsGroup, Row, bits_groups, compare, unquantized_row
from lords_bench.report.verdict import QUESTIONS, answer, best_of, headline, headline_groups
from lords_bench.report.views import (
    AccuracyPage,
    Cell,
    DifferenceTable,
    FigureView,
    LayerTable,
    MethodRow,
    ResultTable,
    Section,
    VerdictRow,
)

SUITE = "accuracy"
BASELINES = (("nf", "NormalFloat blocks by largest magnitude"), ("block-opt", "optimised blocks"))


def accuracy_page(
    records: Iterable[BenchRecord], rejected: Iterable[RejectedLine] = (), *, has_figures: bool = True
) -> AccuracyPage:
    """The page of all accuracy records; `has_figures=False` for a reader who cannot see them, as a terminal.

    Raises:
        RecordError: there is no accuracy record.
    """
    evaluations = select_evaluations(records, suite=SUITE)
    sections = tuple(
        _section(evaluation, index, has_figures=has_figures) for index, evaluation in enumerate(evaluations, start=1)
    )
    return AccuracyPage(notices=page_notices(evaluations, rejected), sections=sections)


def _section(evaluation: Evaluation, index: int, *, has_figures: bool) -> Section:
    groups = bits_groups(evaluation)
    columns = headline_groups(groups)
    plain = unquantized_row(evaluation)
    newest = evaluation.newest
    samples = next((record.samples for record in evaluation.records if record.bits is not None), None)
    return Section(
        anchor=f"evaluation-{index}",
        name=_section_name(evaluation),
        headline=headline(groups),
        best=tuple(_best_line(group) for group in columns if group.rows[0].record.complete),
        columns=tuple(f"{group.bits} bits" for group in columns),
        verdict=_verdict_rows(columns),
        notices=evaluation_notices(evaluation),
        provenance=provenance(evaluation),
        unquantized=_method_row(plain) if plain else None,
        results=tuple(_result_table(group) for group in groups),
        differences=_difference_tables(groups),
        figures=_figures(groups, columns, index) if has_figures else (),
        layers=tuple(_layer_table(group) for group in columns),
        left_share=f"{100 * samples.unquantized_share:.1f} %" if samples else fmt.UNKNOWN,
        left_layers=samples.unquantized_layers if samples else (),
        failures=evaluation.failures,
        missing=evaluation.missing,
        command=newest.command,
    )


def _section_name(evaluation: Evaluation) -> str:
    """Model, device, amount of evidence and date: enough to tell two evaluations of one model apart."""
    newest = evaluation.newest
    name = f"{newest.inputs.model_name} on {newest.environment.device_name}"
    samples = next((record.samples for record in evaluation.records if record.complete), None)
    if samples is not None:
        name = f"{name} · {len(samples.window_tokens)} windows, {len(samples.choice_correct)} choice items"
    return f"{name} · {newest.created_utc[:10]}"


def _verdict_rows(columns: tuple[BitsGroup, ...]) -> tuple[VerdictRow, ...]:
    """The questions whose two methods were both measured at one number of bits at least."""
    return tuple(
        VerdictRow(question=question, answers=tuple(answer(question, group) for group in columns))
        for question in QUESTIONS
        if any(group.row(question.subject) and group.row(question.baseline) for group in columns)
    )


def _best_line(group: BitsGroup) -> str:
    best = best_of(group)
    text, interval = fmt.estimate(best.row.intervals[PRIMARY], METRICS[PRIMARY])
    others = f"not resolved from it: {fmt.listing(best.ties)}" if best.ties else "every other is worse"
    if best.uncompared:
        others = f"{others}; not compared with it: {fmt.listing(best.uncompared)}"
    return f"{group.bits} bits: {best.row.record.method}, KL ×1000 {text} ({interval}); {others}"


def _result_table(group: BitsGroup) -> ResultTable:
    if group.is_comparable:
        title = f"{group.bits} bits · {fmt.bits(group.bits_per_weight)} stored per weight"
        note = f"Compared at equal bits: within {EQUAL_BITS_TOLERANCE} of {fmt.bits(group.bits_per_weight)}."
    else:
        title = f"{group.bits} bits · other storage"
        note = "Not compared: no other case stores equal bits. Read these on the bits–KL curve."
    best = group.rows[0] if group.is_comparable and group.rows[0].record.complete else None
    rows = tuple(_method_row(row, is_best=row is best) for row in group.rows)
    return ResultTable(title=title, note=note, rows=rows, is_comparable=group.is_comparable)


def _method_row(row: Row, *, is_best: bool = False) -> MethodRow:
    is_plain = row.record.bits is None
    # The unquantized model is its own reference: both are 0 by definition, not by measurement.
    by_definition = ("kl", "weight_error") if is_plain else ()
    shown = [
        ("0", "by definition") if name in by_definition else fmt.estimate(row.intervals[name], metric)
        for name, metric in METRICS.items()
    ]
    cells = tuple(Cell(text=text, interval=interval) for text, interval in shown)
    return _named(row, cells, row.marks, is_best=is_best)


def _named(row: Row, cells: tuple[Cell, ...], marks: tuple[str, ...], *, is_best: bool = False) -> MethodRow:
    return MethodRow(
        method=row.record.method,
        role=mark_of(row.record).role,
        uses_calibration=row.record.needs_calibration,
        bits_per_weight=fmt.bits(row.bits_per_weight),
        cells=cells,
        marks=marks,
        is_best=is_best,
    )


def _difference_tables(groups: tuple[BitsGroup, ...]) -> tuple[DifferenceTable, ...]:
    tables = []
    for group in groups:
        for name, words in BASELINES:
            baseline = group.row(name)
            if baseline is None or not group.is_comparable:
                continue
            stored = fmt.bits(group.bits_per_weight)
            title = f"{group.bits} bits · {stored} stored · against {baseline.record.method} ({words})"
            rows = tuple(_difference_row(row, baseline) for row in group.rows if row is not baseline)
            tables.append(DifferenceTable(title=title, rows=rows))
    return tuple(tables)


def _difference_row(row: Row, baseline: Row) -> MethodRow:
    comparison = compare(row.record, baseline.record)
    if comparison.refusal is not None:
        unknown = tuple(Cell(text=fmt.UNKNOWN, interval="") for _ in METRICS)
        return _named(row, unknown, (*row.marks, f"not compared: {comparison.refusal}"))
    cells = []
    for name, metric in METRICS.items():
        text, interval = fmt.difference(comparison.differences.get(name), metric)
        cells.append(Cell(text=text, interval=interval, outcome=comparison.outcome(name)))
    return _named(row, tuple(cells), row.marks)


def _figures(groups: tuple[BitsGroup, ...], columns: tuple[BitsGroup, ...], index: int) -> tuple[FigureView, ...]:
    views = []
    for kind, figure in FIGURES.items():
        name = kind if index == 1 else f"{kind}-{index}"
        svg = figure.draw(groups if figure.shows_all_groups else columns, name=name)
        if svg:
            views.append(FigureView(name=name, title=figure.title, caption=figure.caption, svg=svg))
    return tuple(views)


def _layer_table(group: BitsGroup) -> LayerTable:
    samples = group.rows[0].samples
    members = [row for row in group.rows if row.samples.layer_names == samples.layer_names]
    errors = [row.samples.layer_relative_errors for row in members]
    rows = []
    for index, (name, (n, k)) in enumerate(zip(samples.layer_names, samples.layer_shapes, strict=True)):
        rows.append((name, f"{n}×{k}", tuple(fmt.number(100 * error[index], 3) for error in errors)))
    return LayerTable(
        title=f"{group.bits} bits · {fmt.bits(group.bits_per_weight)} stored",
        methods=tuple(row.record.method for row in members),
        rows=tuple(rows),
    )
