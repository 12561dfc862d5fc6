"""Where the numbers come from: the provenance header, and notices of what a reader must know to judge them."""

from collections.abc import Iterable

from lords_bench.records import BenchRecord, RejectedLine
from lords_bench.report import format as fmt
from lords_bench.report.origin import (
    GIB,
    commit,
    date_span,
    each_once,
    machine,
    platform,
    rejected_notices,
    short,
    versions,
)
from lords_bench.report.select import Evaluation
from lords_bench.report.views import Fact


def provenance(evaluation: Evaluation) -> tuple[Fact, ...]:
    """Machine, versions, commit, command, seed, hashes, settings and dates of an evaluation."""
    newest = evaluation.newest
    environment, inputs = newest.environment, newest.inputs
    runs = evaluation.runs
    return (
        Fact(label="Machine", value=machine(environment)),
        Fact(label="Versions", value=versions(environment)),
        Fact(label="Commit", value=each_once(commit(run.environment) for run in runs)),
        Fact(label="Source hash", value=each_once(short(run.environment.source_sha256) for run in runs)),
        Fact(label="Command", value=newest.command),
        Fact(label="Seed", value=each_once(str(run.seed) for run in runs)),
        Fact(
            label="Measured",
            value=date_span(record.created_utc for record in evaluation.records or evaluation.failures),
        ),
        Fact(label="Time spent", value=_time_spent(evaluation)),
        Fact(label="Model", value=f"{inputs.model_name}, sha256 {short(inputs.model_sha256)}"),
        Fact(label="Tokenizer", value=f"sha256 {short(inputs.tokenizer_sha256)}"),
        Fact(label="Corpus", value=f"sha256 {short(inputs.corpus_sha256)}"),
        Fact(label="Sample sizes", value=_sample_sizes(evaluation)),
        Fact(label="Settings", value=", ".join(f"{name} = {value}" for name, value in inputs.settings)),
        Fact(label="Settings hash", value=inputs.settings_sha256),
        Fact(label="Platform", value=platform(environment)),
    )


def evaluation_notices(evaluation: Evaluation) -> tuple[str, ...]:
    """What weakens the evaluation: uncommitted code, partial cases, several runs put together."""
    notices = []
    dirty = [record for record in evaluation.records if record.environment.git_dirty]
    unknown = [record for record in evaluation.records if record.environment.git_dirty is None]
    partial = [record for record in evaluation.records if not record.complete]
    if dirty:
        notices.append(
            f"{_cases(dirty, evaluation)} measured with uncommitted code: "
            "provisional, and never a baseline for another run."
        )
    if unknown:
        notices.append(f"{_cases(unknown, evaluation)} measured outside a git checkout: the commit is not known.")
    if partial:
        notices.append(f"{_cases(partial, evaluation)} partial ({_names(partial)}): shown, compared with nothing.")
    if len(evaluation.runs) > 1:
        notices.append(
            f"The cases come from {len(evaluation.runs)} runs with different source, versions or seed; "
            "the newest complete record of each case is shown."
        )
    if evaluation.superseded:
        count = evaluation.superseded
        notices.append(f"{count} older record{'s are' if count > 1 else ' is'} not shown: the case was measured again.")
    return tuple(notices)


def page_notices(evaluations: tuple[Evaluation, ...], rejected: Iterable[RejectedLine]) -> tuple[str, ...]:
    """What concerns the page as a whole: evaluations that are kept apart, and lines that were not believed."""
    notices = []
    if len(evaluations) > 1:
        notices.append(
            f"The records hold {len(evaluations)} evaluations that differ in model, corpus, settings or device; "
            "each has a section of its own and nothing is compared across them."
        )
    return (*notices, *rejected_notices(rejected))


def _time_spent(evaluation: Evaluation) -> str:
    samples = [record.samples for record in evaluation.records if record.samples is not None]
    quantizing = sum(item.quantize_seconds for item in samples)
    evaluating = sum(item.evaluate_seconds for item in samples)
    peaks = [item.peak_rss_bytes for item in samples if item.peak_rss_bytes is not None]
    memory = f"; peak memory {max(peaks) / GIB:.1f} GiB" if peaks else ""
    return f"quantizing {fmt.seconds(quantizing)}, evaluating {fmt.seconds(evaluating)}{memory}"


def _sample_sizes(evaluation: Evaluation) -> str:
    samples = next((record.samples for record in evaluation.records if record.complete), None)
    if samples is None:
        return fmt.UNKNOWN
    documents = f" of {len(set(samples.window_documents))} documents" if samples.window_documents else ""
    return (
        f"{len(samples.window_tokens)} windows{documents}, {sum(samples.window_tokens):,} tokens, "
        f"{sum(samples.window_bytes):,} bytes; {len(samples.choice_correct)} choice items; "
        f"{len(samples.layer_names)} quantized layers"
    )


def _cases(found: list[BenchRecord], evaluation: Evaluation) -> str:
    if len(found) == len(evaluation.records):
        return "All cases were" if len(found) > 1 else "The only case was"
    return f"{len(found)} of {len(evaluation.records)} cases {'was' if len(found) == 1 else 'were'}"


def _names(records: list[BenchRecord]) -> str:
    return ", ".join(record.case_id for record in records)
