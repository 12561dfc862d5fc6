"""The tables of a lifecycle page: verdicts, results of each stage at each number of bits, and the grids."""

from statistics import median

from lords_bench.records import LifecycleRecord
from lords_bench.records.lifecycle import Domain, Stage
from lords_bench.report import format as fmt
from lords_bench.report.lifecycle.judge import (
    BASELINE,
    QUESTIONS,
    TrainingQuestion,
    answer,
    bits_per_byte,
    difference,
    words,
)
from lords_bench.report.lifecycle.select import (
    TARGET,
    LifecycleEvaluation,
    RunGroup,
    samples_of,
    validation_of,
)
from lords_bench.report.lifecycle.views import TextCell, TextTable
from lords_bench.stats import Interval, Outcome, PairedDifference

MEBI = 2**20
STAGES: tuple[Stage, ...] = ("qat", "peft")
TONE = {Outcome.BETTER: "better", Outcome.WORSE: "worse", Outcome.UNRESOLVED: "open"}
NOTHING = TextCell(text=fmt.UNKNOWN)
STAGE_TITLE: dict[Stage, str] = {"reference": "Unquantized", "qat": "QAT on the base domain", "peft": "Fine-tuning"}


def verdict_table(evaluation: LifecycleEvaluation) -> TextTable | None:
    """Every question at every number of bits; None where no question can be answered."""
    bits = sorted({group.bits for group in evaluation.groups}, reverse=True)
    rows = []
    for question in QUESTIONS:
        cells = tuple(_verdict(evaluation, question, number) for number in bits)
        if any(cell is not NOTHING for cell in cells):
            rows.append((TextCell(text=question.words), *cells))
    if not rows:
        return None
    return TextTable(
        title="Change in bits per byte of held-out text of the stage's own domain",
        note="Paired by window and seed; in brackets the 95 % interval over documents and seeds.",
        header=("Question", *(f"{number} bits" for number in bits)),
        rows=tuple(rows),
    )


def result_tables(evaluation: LifecycleEvaluation) -> tuple[TextTable, ...]:
    """One table per stage and number of bits: before, learned, forgotten, and what it cost."""
    return tuple(_result_table(evaluation, stage, bits) for stage in STAGES for bits in evaluation.bits_of(stage))


def grid_tables(evaluation: LifecycleEvaluation) -> tuple[TextTable, ...]:
    """Per stage, bits per byte of validation text at every learning rate tried; the best of each row is marked."""
    tables = []
    for stage in STAGES:
        groups = [group for group in evaluation.groups if group.stage == stage]
        failed = [record for record in evaluation.failures if record.stage == stage and record.is_search]
        found = [record for group in groups for record in group.searched] + failed
        rates = sorted({record.learning_rate for record in found if record.learning_rate is not None})
        if rates:
            rows = tuple(_grid_row(group, rates, failed) for group in groups)
            tables.append(
                TextTable(
                    title=f"{STAGE_TITLE[stage]}: learning rates",
                    note="Bits per byte of validation text, first seed. Chosen: the lowest.",
                    header=("Method", *(f"{rate:g}" for rate in rates), "Chosen"),
                    rows=rows,
                )
            )
    return tuple(tables)


def _verdict(evaluation: LifecycleEvaluation, question: TrainingQuestion, bits: int) -> TextCell:
    found = answer(evaluation, question, bits)
    return NOTHING if found is None else _difference_cell(found, with_word=True)


def cost_tables(evaluation: LifecycleEvaluation) -> tuple[TextTable, ...]:
    """Per stage, what each method trained, at which learning rate, and what a step took."""
    tables = []
    for stage in STAGES:
        rows = tuple(_cost_row(group) for group in evaluation.groups if group.stage == stage and group.runs)
        if rows:
            tables.append(
                TextTable(
                    title=f"{STAGE_TITLE[stage]}: cost",
                    note="Time is the median over all steps but the first of each run.",
                    header=(
                        "Method",
                        "Trained numbers",
                        "Learning rate",
                        "CPU ms per step",
                        "By the clock",
                        "Peak MiB",
                    ),
                    rows=rows,
                )
            )
    return tuple(tables)


def _result_table(evaluation: LifecycleEvaluation, stage: Stage, bits: int) -> TextTable:
    groups = [group for group in evaluation.groups if (group.stage, group.bits) == (stage, bits)]
    baseline = next((group for group in groups if group.method == BASELINE[stage]), None)
    target = TARGET[stage]
    other: Domain = "shifted" if target == "base" else "base"
    groups.sort(key=lambda group: _rank(group, target))
    against = f"against {words(BASELINE[stage])}"
    seeds = sorted({len(group.runs) for group in groups})
    counted = " or ".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
    return TextTable(
        title=f"{STAGE_TITLE[stage]} · {bits} bits",
        note=f"Bits per byte of test text, lower is better, mean of {counted}; best first.{_plain(evaluation)}",
        header=(
            "Method",
            "Bits per weight",
            f"{target} before",
            f"{target} after",
            f"{target}: {against}",
            f"{other}: after − before",
            f"{other}: {against}",
        ),
        rows=tuple(_result_row(group, baseline, target, other) for group in groups),
    )


def _plain(evaluation: LifecycleEvaluation) -> str:
    """What the unquantized model has, to judge differences by."""
    domains: tuple[Domain, ...] = ("base", "shifted")
    runs = [evaluation.reference] if evaluation.reference else []
    found = {domain: bits_per_byte(runs, domain) for domain in domains}
    shown = [f"{domain} {fmt.number(value.estimate, 4)}" for domain, value in found.items() if value]
    return f" The unquantized, untrained model: {', '.join(shown)}." if shown else ""


def _result_row(group: RunGroup, baseline: RunGroup | None, target: Domain, other: Domain) -> tuple[TextCell, ...]:
    first = group.runs[0] if group.runs else group.start
    start = [group.start] if group.start is not None else []
    against = [NOTHING, NOTHING]
    if baseline is not None and baseline is not group and group.runs and baseline.runs:
        against = [_optional(difference(group.runs, baseline.runs, domain)) for domain in (target, other)]
    forgotten = difference(group.runs, start, other) if group.runs and start else None
    return (
        TextCell(text=words(group.method)),
        TextCell(text=fmt.bits(samples_of(first).bits_per_weight if first is not None else None)),
        _interval_cell(bits_per_byte(start, target) if start else None),
        _interval_cell(bits_per_byte(group.runs, target) if group.runs else None),
        against[0],
        _optional(forgotten),
        against[1],
    )


def _cost_row(group: RunGroup) -> tuple[TextCell, ...]:
    runs = [samples_of(run) for run in group.runs]
    # The first step of a run allocates.
    cpu = [value for run in runs for value in run.step_cpu_ns[1:]]
    wall = [value for run in runs for value in run.step_wall_ns[1:]]
    peaks = [run.peak_rss_bytes for run in runs if run.peak_rss_bytes is not None]
    return (
        TextCell(text=f"{words(group.method)}, {group.bits} bits"),
        TextCell(text=f"{runs[0].trainable_numbers:,}"),
        _rate_cell(group),
        TextCell(text=f"{median(cpu) / 1e6:.0f}") if cpu else NOTHING,
        TextCell(text=f"{median(wall) / 1e6:.0f}") if wall else NOTHING,
        TextCell(text=f"{max(peaks) / MEBI:,.0f}") if peaks else NOTHING,
    )


def _rate_cell(group: RunGroup) -> TextCell:
    if group.best_rate is None:
        return NOTHING
    return TextCell(text=f"{group.best_rate:g}", detail="edge of the grid" if group.is_at_edge else "")


def _grid_row(group: RunGroup, rates: list[float], failed: list[LifecycleRecord]) -> tuple[TextCell, ...]:
    values = {record.learning_rate: validation_of(record) for record in group.searched}
    diverged = {record.learning_rate for record in failed if record.group_id == group.group_id}
    cells = [TextCell(text=f"{words(group.method)}, {group.bits} bits")]
    for rate in rates:
        scores = values.get(rate)
        if scores is not None:
            is_best = rate == group.best_rate
            cells.append(TextCell(text=fmt.number(scores.bits_per_byte, 4), tone="better" if is_best else ""))
        else:
            cells.append(TextCell(text="failed", tone="worse") if rate in diverged else NOTHING)
    return (*cells, _rate_cell(group))


def _rank(group: RunGroup, domain: Domain) -> tuple[float, str]:
    found = bits_per_byte(group.runs, domain) if group.runs else None
    return (found.estimate if found else float("inf"), group.method)


def _interval_cell(interval: Interval | None) -> TextCell:
    if interval is None:
        return NOTHING
    return TextCell(text=fmt.number(interval.estimate, 4), detail=fmt.span(interval, 4))


def _optional(found: PairedDifference | None) -> TextCell:
    return NOTHING if found is None else _difference_cell(found)


def _difference_cell(found: PairedDifference, *, with_word: bool = False) -> TextCell:
    text = fmt.number(found.interval.estimate, 4, sign=True)
    span = fmt.span(found.interval, 4, sign=True)
    return TextCell(text=f"{found.outcome.value} {text}" if with_word else text, detail=span, tone=TONE[found.outcome])
