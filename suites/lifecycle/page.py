"""Lifecycle records → the page: what was asked, answered in words, then tables and curves."""

from collections.abc import Iterable
from math import fsum
from statistics import median

from lords_bench.records import LifecycleRecord, RejectedLine
from lords_bench.records.lifecycle import Domain, Stage
from lords_bench.report import format as fmt
from lords_bench.report import provenance as origin
from lords_bench.report.document import (
    Answer,
    Article,
    Cell,
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
from lords_bench.stats import Interval, PairedDifference, PairedVerdict
from lords_bench.suites.lifecycle.figures import SPAN, curves
from lords_bench.suites.lifecycle.judge import (
    BASELINE,
    PAPER_QUESTIONS,
    QUESTIONS,
    TARGET,
    LifecycleEvaluation,
    RunGroup,
    answer,
    bits_per_byte,
    difference,
    paper_answer,
    samples_of,
    select_lifecycle,
    validation_of,
    words,
)

STAGES: tuple[Stage, ...] = ("qat", "peft")
TONE: dict[PairedVerdict, Tone] = {
    PairedVerdict.BETTER: "better",
    PairedVerdict.WORSE: "worse",
    PairedVerdict.UNRESOLVED: "open",
}
NOTHING = Cell(text=fmt.UNKNOWN)
STAGE_TITLE: dict[Stage, str] = {"reference": "Unquantized", "qat": "QAT on the base domain", "peft": "Fine-tuning"}

COST_COLUMNS = ("Method", "Trained numbers", "Learning rate", "CPU ms per step", "By the clock", "Peak MiB")
TITLES: dict[Stage, str] = {"qat": "QAT, step by step", "peft": "Fine-tuning, step by step"}
GUIDE: dict[str, Text] = {
    "Domains": "base: what the model was trained on (Python source); shifted: what it is fine-tuned to (English "
    "prose). Fine-tuning learns on shifted and may forget on base.",
    "Before and after": "before: the model the training starts from, quantized, adapters at their start; after: what "
    "would be stored, codes assigned, scales and adapters rounded.",
    "Bits per weight": "Bytes of every tensor that the layer needs at inference, adapters included, × 8 / weights.",
    "Intervals": "95 %, over documents and seeds together (Satterthwaite); with one seed over documents only. Each "
    "stands alone: of twenty comparisons of equals, one is expected to exclude 0 by chance.",
    "CPU ms per step": "Median CPU time of the process, one thread; what other programs took is not in it.",
}
GRID_WORDS = (
    "Every method gets the same grid, the same steps and the same batches. Chosen by validation text; the test text of "
    "the tables above chooses nothing."
)


def lifecycle_page(records: Iterable[LifecycleRecord], rejected: Iterable[RejectedLine] = ()) -> Document:
    """The page of all lifecycle records.

    Raises:
        RecordError: there is no record.
    """
    evaluations = select_lifecycle(records)
    notices = origin.kept_apart(len(evaluations), "evaluations that differ in model, text, budget or device")
    articles = tuple(_article(evaluation, index) for index, evaluation in enumerate(evaluations, start=1))
    return Document(
        file="lifecycle",
        suite="lifecycle",
        kind="lifecycle report",
        title="From quantization to fine-tuning: LoRDS against its baselines",
        window=f"From quantization to fine-tuning: {articles[0].name}",
        notices=(*notices, *origin.rejected_notices(rejected)),
        articles=articles,
        guide={**GUIDE, **origin.remake(evaluations[0].newest.command)},
    )


def _article(evaluation: LifecycleEvaluation, index: int) -> Article:
    newest = evaluation.newest
    verdict = _verdict_table(evaluation)
    notices = (Paragraph(text=notice, kind="notice") for notice in _notices(evaluation))
    return Article(
        name=f"{newest.inputs.model_name} on {newest.environment.device_name} · {newest.created_utc[:10]}",
        sections=(
            Section(label="Answers", blocks=(*_answers(evaluation), *notices, *([verdict] if verdict else []))),
            Section(title="Results", blocks=_result_tables(evaluation)),
            *figure_sections(_figures(evaluation, index)),
            Section(title="What a step costs", label="Cost", blocks=_cost_tables(evaluation)),
            Section(
                title="How learning rates were chosen",
                label="Learning rates",
                blocks=(Paragraph(text=GRID_WORDS), *_grid_tables(evaluation)),
            ),
            origin.section(_facts(evaluation)),
            origin.left_out(evaluation.failures, evaluation.missing),
        ),
    )


def _answers(evaluation: LifecycleEvaluation) -> tuple[Answer, ...]:
    answers = []
    for asked in PAPER_QUESTIONS:
        outcome, text = paper_answer(evaluation, asked)
        answers.append(Answer(question=asked.words, text=text, tone="open" if outcome is None else TONE[outcome]))
    return tuple(answers)


def _figures(evaluation: LifecycleEvaluation, index: int) -> tuple[Figure, ...]:
    suffix = "" if index == 1 else f"-{index}"
    found = []
    for stage, title in TITLES.items():
        name = f"{stage}{suffix}"
        svg = curves(evaluation, stage, name=name)
        if svg:
            caption = (
                f"Training loss of the runs at the chosen learning rate, running mean over {SPAN} steps: line = mean "
                f"over seeds, band = lowest to highest seed. Below: the same, minus the loss of "
                f"{words(BASELINE[stage])} in the same step with the same batch; under 0 is better."
            )
            found.append(Figure(name=name, title=title, caption=caption, svg=svg))
    return tuple(found)


def _notices(evaluation: LifecycleEvaluation) -> tuple[str, ...]:
    environments = [record.environment for record in evaluation.records]
    runs = len(evaluation.runs)
    notices = origin.weaknesses(environments, what="case", runs=runs, superseded=evaluation.superseded)
    if evaluation.missing:
        notices.append(f"Planned cases without a record, listed below: {len(evaluation.missing)}.")
    if unsearched := _listed(group for group in evaluation.groups if not group.runs):
        notices.append(f"The search of the learning rate did not end, so compared with nothing: {unsearched}.")
    if edge := _listed(group for group in evaluation.groups if group.is_at_edge):
        notices.append(f"Best at the edge of its grid, so a better learning rate may lie outside: {edge}.")
    return tuple(notices)


def _listed(groups: Iterable[RunGroup]) -> str:
    return fmt.listing([f"{words(group.method)} ({group.stage}, {group.bits} bits)" for group in groups])


def _facts(evaluation: LifecycleEvaluation) -> dict[str, Text]:
    newest, records = evaluation.newest, evaluation.records
    inputs, environment = newest.inputs, newest.environment
    return {
        "Machine": origin.machine(environment),
        "Versions": origin.versions(environment),
        "Commit": origin.each_once(origin.commit(record.environment) for record in records or (newest,)),
        "Command": newest.command,
        "Measured": origin.date_span(record.created_utc for record in records + evaluation.failures),
        "Time spent": _time_spent(records),
        "Training text": _tokens(records),
        "Held-out text": _held_out(records),
        "Model": f"{inputs.model_name}, sha256 {origin.short(inputs.model_sha256)}",
        "Text hash": f"sha256 {origin.short(inputs.corpus_sha256)}",
        "Settings": ", ".join(f"{name} = {value}" for name, value in inputs.settings),
    }


def _time_spent(records: Iterable[LifecycleRecord]) -> str:
    samples = [samples_of(record) for record in records]
    training = fsum(fsum(item.step_cpu_ns) for item in samples) / 1e9
    preparing = fsum(item.prepare_seconds for item in samples)
    scoring = fsum(item.evaluate_seconds for item in samples)
    parts = (
        f"training {fmt.seconds(training)}",
        f"quantizing {fmt.seconds(preparing)}",
        f"scoring {fmt.seconds(scoring)}",
    )
    return f"CPU time: {', '.join(parts)}"


def _tokens(records: Iterable[LifecycleRecord]) -> str:
    found = {}
    for record in records:
        samples = samples_of(record)
        if record.is_training:
            found[record.stage] = (
                f"{record.stage}: {len(samples.step_loss_nats)} steps × {samples.step_tokens:,} tokens"
            )
    return "; ".join(found[stage] for stage in sorted(found, reverse=True)) or fmt.UNKNOWN


def _held_out(records: Iterable[LifecycleRecord]) -> str:
    found = {}
    for record in records:
        for scores in samples_of(record).scores:
            found[f"{scores.domain} {scores.split}"] = (
                f"{len(scores.window_bytes)} windows of {len(set(scores.window_documents))} documents, "
                f"{sum(scores.window_bytes):,} bytes"
            )
    return "; ".join(f"{name}: {text}" for name, text in sorted(found.items())) or fmt.UNKNOWN


def _verdict_table(evaluation: LifecycleEvaluation) -> Table | None:
    """Every question at every number of bits; None where no question can be answered."""
    bits = sorted({group.bits for group in evaluation.groups}, reverse=True)
    rows: list[Row] = []
    for question in QUESTIONS:
        cells = [_optional(answer(evaluation, question, number), with_word=True) for number in bits]
        if any(cell is not NOTHING for cell in cells):
            rows.append((question.words, *cells))
    if not rows:
        return None
    title = "Change in bits per byte of held-out text of the stage's own domain"
    return Table(
        title="Every question",
        label=title,
        note=f"{title}. Paired by window and seed; in brackets the 95 % interval over documents and seeds.",
        style="matrix",
        columns=("Question", *(f"{number} bits" for number in bits)),
        rows=tuple(rows),
    )


def _result_tables(evaluation: LifecycleEvaluation) -> tuple[Table, ...]:
    """One table per stage and number of bits: before, learned, forgotten, and what it cost."""
    return tuple(_result_table(evaluation, stage, bits) for stage in STAGES for bits in evaluation.bits_of(stage))


def _grid_tables(evaluation: LifecycleEvaluation) -> tuple[Table, ...]:
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
                Table(
                    title=f"{STAGE_TITLE[stage]}: learning rates",
                    note="Bits per byte of validation text, first seed. Chosen: the lowest.",
                    columns=("Method", *(f"{rate:g}" for rate in rates), "Chosen"),
                    rows=rows,
                )
            )
    return tuple(tables)


def _cost_tables(evaluation: LifecycleEvaluation) -> tuple[Table, ...]:
    """Per stage, what each method trained, at which learning rate, and what a step took."""
    tables = []
    for stage in STAGES:
        rows = tuple(_cost_row(group) for group in evaluation.groups if group.stage == stage and group.runs)
        if rows:
            tables.append(
                Table(
                    title=f"{STAGE_TITLE[stage]}: cost",
                    note="Time is the median over all steps but the first of each run.",
                    columns=(
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


def _result_table(evaluation: LifecycleEvaluation, stage: Stage, bits: int) -> Table:
    groups = [group for group in evaluation.groups if (group.stage, group.bits) == (stage, bits)]
    baseline = next((group for group in groups if group.method == BASELINE[stage]), None)
    target = TARGET[stage]
    other: Domain = "shifted" if target == "base" else "base"
    groups.sort(key=lambda group: _rank(group, target))
    against = f"against {words(BASELINE[stage])}"
    seeds = sorted({len(group.runs) for group in groups})
    counted = " or ".join(map(str, seeds)) + (" seed" if seeds == [1] else " seeds")
    return Table(
        title=f"{STAGE_TITLE[stage]} · {bits} bits",
        note=f"Bits per byte of test text, lower is better, mean of {counted}; best first.{_plain(evaluation)}",
        columns=(
            "Method", "Bits per weight", f"{target} before", f"{target} after", f"{target}: {against}",
            f"{other}: after − before", f"{other}: {against}",
        ),
        rows=tuple(_result_row(group, baseline, target, other) for group in groups),
    )  # fmt: skip


def _plain(evaluation: LifecycleEvaluation) -> str:
    """What the unquantized model has, to judge differences by."""
    domains: tuple[Domain, ...] = ("base", "shifted")
    runs = [evaluation.reference] if evaluation.reference else []
    found = {domain: bits_per_byte(runs, domain) for domain in domains}
    shown = [f"{domain} {fmt.number(value.estimate, 4)}" for domain, value in found.items() if value]
    return f" The unquantized, untrained model: {', '.join(shown)}." if shown else ""


def _result_row(group: RunGroup, baseline: RunGroup | None, target: Domain, other: Domain) -> Row:
    first = group.runs[0] if group.runs else group.start
    start = [group.start] if group.start is not None else []
    against = [NOTHING, NOTHING]
    if baseline is not None and baseline is not group and group.runs and baseline.runs:
        against = [_optional(difference(group.runs, baseline.runs, domain)) for domain in (target, other)]
    forgotten = difference(group.runs, start, other) if group.runs and start else None
    return (
        words(group.method),
        fmt.bits(samples_of(first).bits_per_weight if first is not None else None),
        _interval_cell(bits_per_byte(start, target) if start else None),
        _interval_cell(bits_per_byte(group.runs, target) if group.runs else None),
        against[0],
        _optional(forgotten),
        against[1],
    )


def _cost_row(group: RunGroup) -> Row:
    runs = [samples_of(run) for run in group.runs]
    # The first step of a run allocates.
    cpu = [value for run in runs for value in run.step_cpu_ns[1:]]
    wall = [value for run in runs for value in run.step_wall_ns[1:]]
    peaks = [run.peak_rss_bytes for run in runs if run.peak_rss_bytes is not None]
    return (
        f"{words(group.method)}, {group.bits} bits",
        f"{runs[0].trainable_numbers:,}",
        _rate_cell(group),
        f"{median(cpu) / 1e6:.0f}" if cpu else NOTHING,
        f"{median(wall) / 1e6:.0f}" if wall else NOTHING,
        f"{max(peaks) / origin.MIB:,.0f}" if peaks else NOTHING,
    )


def _rate_cell(group: RunGroup) -> Cell:
    if group.best_rate is None:
        return NOTHING
    return Cell(text=f"{group.best_rate:g}", detail="edge of the grid" if group.is_at_edge else "")


def _grid_row(group: RunGroup, rates: list[float], failed: list[LifecycleRecord]) -> Row:
    values = {record.learning_rate: validation_of(record) for record in group.searched}
    diverged = {record.learning_rate for record in failed if record.group_id == group.group_id}
    cells: list[str | Cell] = [f"{words(group.method)}, {group.bits} bits"]
    for rate in rates:
        scores = values.get(rate)
        if scores is not None:
            is_best = rate == group.best_rate
            cells.append(Cell(text=fmt.number(scores.bits_per_byte, 4), tone="better" if is_best else ""))
        else:
            cells.append(Cell(text="failed", tone="worse") if rate in diverged else NOTHING)
    return (*cells, _rate_cell(group))


def _rank(group: RunGroup, domain: Domain) -> tuple[float, str]:
    found = bits_per_byte(group.runs, domain) if group.runs else None
    return (found.estimate if found else float("inf"), group.method)


def _interval_cell(interval: Interval | None) -> Cell:
    if interval is None:
        return NOTHING
    return Cell(text=fmt.number(interval.estimate, 4), detail=fmt.span(interval, 4))


def _optional(found: PairedDifference | None, *, with_word: bool = False) -> Cell:
    if found is None:
        return NOTHING
    return Cell(
        text=fmt.number(found.interval.estimate, 4, sign=True),
        detail=fmt.span(found.interval, 4, sign=True),
        word=found.outcome.value if with_word else "",
        tone=TONE[found.outcome],
    )
