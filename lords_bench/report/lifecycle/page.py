"""Lifecycle records → the content of the page. Everything is computed here; the renderers only lay it out."""

from collections.abc import Iterable
from math import fsum

from lords_bench.records import LifecycleRecord, RejectedLine
from lords_bench.records.lifecycle import Stage
from lords_bench.report import format as fmt
from lords_bench.report.lifecycle.curves import SPAN, curves
from lords_bench.report.lifecycle.judge import BASELINE, PAPER_QUESTIONS, paper_answer, words
from lords_bench.report.lifecycle.select import LifecycleEvaluation, samples_of, select_lifecycle
from lords_bench.report.lifecycle.tables import TONE, cost_tables, grid_tables, result_tables, verdict_table
from lords_bench.report.lifecycle.views import LifecyclePage, LifecycleSection, PaperAnswer
from lords_bench.report.origin import commit, date_span, each_once, machine, rejected_notices, short, versions
from lords_bench.report.views import Fact, FigureView

TITLES: dict[Stage, str] = {"qat": "QAT, step by step", "peft": "Fine-tuning, step by step"}


def lifecycle_page(records: Iterable[LifecycleRecord], rejected: Iterable[RejectedLine] = ()) -> LifecyclePage:
    """The page of all lifecycle records.

    Raises:
        RecordError: there is no record.
    """
    evaluations = select_lifecycle(records)
    notices = []
    if len(evaluations) > 1:
        notices.append(
            f"The records hold {len(evaluations)} evaluations that differ in model, text, budget or device; "
            "each has a section of its own and nothing is compared across them."
        )
    notices += rejected_notices(rejected)
    sections = tuple(_section(evaluation, index) for index, evaluation in enumerate(evaluations, start=1))
    return LifecyclePage(notices=tuple(notices), sections=sections)


def _section(evaluation: LifecycleEvaluation, index: int) -> LifecycleSection:
    newest = evaluation.newest
    return LifecycleSection(
        anchor=f"evaluation-{index}",
        name=f"{newest.inputs.model_name} on {newest.environment.device_name} · {newest.created_utc[:10]}",
        answers=_answers(evaluation),
        notices=_notices(evaluation),
        verdict=verdict_table(evaluation),
        results=result_tables(evaluation),
        figures=_figures(evaluation, index),
        costs=cost_tables(evaluation),
        grids=grid_tables(evaluation),
        facts=_facts(evaluation),
        failures=evaluation.failures,
        missing=evaluation.missing,
        command=newest.command,
    )


def _answers(evaluation: LifecycleEvaluation) -> tuple[PaperAnswer, ...]:
    answers = []
    for asked in PAPER_QUESTIONS:
        outcome, text = paper_answer(evaluation, asked)
        tone = "open" if outcome is None else TONE[outcome]
        answers.append(PaperAnswer(question=asked.words, answer=text, tone=tone))
    return tuple(answers)


def _figures(evaluation: LifecycleEvaluation, index: int) -> tuple[FigureView, ...]:
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
            found.append(FigureView(name=name, title=title, caption=caption, svg=svg))
    return tuple(found)


def _notices(evaluation: LifecycleEvaluation) -> tuple[str, ...]:
    notices = []
    records = evaluation.records
    dirty = sum(record.environment.git_dirty is not False for record in records)
    if dirty:
        notices.append(f"{dirty} of {len(records)} cases were measured with uncommitted or unknown code: provisional.")
    runs = len({record.run_key for record in records})
    if runs > 1:
        notices.append(f"The cases come from {runs} runs with different source, versions or threads.")
    if evaluation.superseded:
        notices.append(f"Older records of the same cases that are not shown: {evaluation.superseded}.")
    if evaluation.missing:
        notices.append(f"Planned cases without a record, listed below: {len(evaluation.missing)}.")
    unsearched = [group for group in evaluation.groups if not group.runs]
    if unsearched:
        listed = fmt.listing([f"{words(group.method)} ({group.stage}, {group.bits} bits)" for group in unsearched])
        notices.append(f"The search of the learning rate did not end, so compared with nothing: {listed}.")
    edge = [group for group in evaluation.groups if group.is_at_edge]
    if edge:
        listed = fmt.listing([f"{words(group.method)} ({group.stage}, {group.bits} bits)" for group in edge])
        notices.append(f"Best at the edge of its grid, so a better learning rate may lie outside: {listed}.")
    return tuple(notices)


def _facts(evaluation: LifecycleEvaluation) -> tuple[Fact, ...]:
    newest, records = evaluation.newest, evaluation.records
    inputs, environment = newest.inputs, newest.environment
    return (
        Fact(label="Machine", value=machine(environment)),
        Fact(label="Versions", value=versions(environment)),
        Fact(label="Commit", value=each_once(commit(record.environment) for record in records or (newest,))),
        Fact(label="Command", value=newest.command),
        Fact(label="Measured", value=date_span(record.created_utc for record in records + evaluation.failures)),
        Fact(label="Time spent", value=_time_spent(records)),
        Fact(label="Training text", value=_tokens(records)),
        Fact(label="Held-out text", value=_held_out(records)),
        Fact(label="Model", value=f"{inputs.model_name}, sha256 {short(inputs.model_sha256)}"),
        Fact(label="Text hash", value=f"sha256 {short(inputs.corpus_sha256)}"),
        Fact(label="Settings", value=", ".join(f"{name} = {value}" for name, value in inputs.settings)),
    )


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
