"""The accuracy layer: records of the head against committed ones of the same cases, inputs, seed and versions.

Differences are paired window by window and layer by layer. A regression is a difference whose 95 % interval excludes 0
and whose size is above the metric's threshold: the interval says that it is real, the threshold that it matters. Text,
model, settings and versions must be those of the baseline, or the numbers answer different questions.
"""

from collections.abc import Collection, Iterator, Sequence

from lords_bench.gate.accuracy_metrics import METRICS, GatedMetric
from lords_bench.gate.finding import Finding, LayerResult, Level, Located, finished
from lords_bench.records.accuracy import AccuracySamples
from lords_bench.records.bench import BenchRecord
from lords_bench.stats.paired import Outcome, PairedDifference

LAYER = "accuracy"
BENCH_COMMAND = "lords-bench bench"
# Stored bytes are counted, not sampled: half of the 0.01 that tables round to.
MORE_BITS = 0.005
# What a case gave, as opposed to what it was measured on; equal results need no interval.
_RESULTS = ("layer_squared_error", "layer_stored_bytes", "window_nll_nats", "window_kl_nats", "choice_correct")


def compare_accuracy(
    baseline: Sequence[Located[BenchRecord]],
    head: Sequence[BenchRecord],
    *,
    unusable: Sequence[Finding] = (),
    selection: Collection[str] | None = None,
    measured_here: bool = False,
) -> LayerResult:
    """Findings of the head's accuracy against the baseline's; of each case the last record of either side counts.

    Args:
        baseline: records of the same selection of cases as the head's.
        head: records of this tree.
        unusable: findings about baseline lines that could not be read; they stay in the result.
        selection: cases that were asked for; None where that is all that the sides planned.
        measured_here: whether the baseline is a commit measured for this comparison, so that a case it does not have
            is new, where committed records would be incomplete.
    """
    base = {item.record.case_id: item for item in baseline}
    found = list(unusable)
    last = {record.case_id: record for record in head}
    for side, command, records in (
        ("baseline", "it is not whole", [item.record for item in baseline]),
        ("head", "it was cut short", head),
    ):
        missing = sorted({case for r in records for case in r.planned_case_ids} - {r.case_id for r in records})
        missing = [case for case in missing if selection is None or case in selection]
        if missing:
            what = (
                f"the {side}'s run planned {', '.join(missing)} and has no record of it: {command}; run it to its end"
            )
            found.append(Finding(benchmark=LAYER, level=Level.INVALID, what=what))
    same = 0
    mismatch: dict[str, Finding] = {}
    for case_id, record in last.items():
        item = base.pop(case_id, None)
        if item is None:
            found.append(_without_baseline(record, is_new=measured_here))
            continue
        problem = not_comparable(record, item.record)
        if problem is not None:
            mismatch.setdefault(problem, _invalid(case_id, problem, item))
            continue
        one = list(_compare(record, item))
        same += not one
        found += one
    found += mismatch.values()
    found += (
        Finding(
            benchmark=case_id,
            level=Level.REGRESSION,
            what="vanished: the baseline has it, this tree did not measure it; a case removed on purpose needs a new "
            + (f"baseline by '{BENCH_COMMAND}'" if not measured_here else "baseline commit"),
            record=item.place,
        )
        for case_id, item in base.items()
    )
    thresholds = ", ".join(
        f"{metric.name} {metric.threshold:.1%}" for metric in METRICS if metric.threshold is not None
    )
    return finished(
        LayerResult(
            layer=LAYER,
            facts=(
                f"regression: a paired 95 % interval without 0, and a loss above {thresholds} or {MORE_BITS:g} bits",
                *_sides(baseline, head),
            ),
            benchmarks=tuple(sorted({*last, *base})),
            same=same,
            findings=tuple(found),
        )
    )


def last_run(file: Sequence[Located[BenchRecord]]) -> tuple[Located[BenchRecord], ...]:
    """The records of a file that belong to the run of its last one, also if that was interrupted and resumed."""
    return tuple(item for item in file if item.record.run_key == file[-1].record.run_key)


def not_comparable(head: BenchRecord, base: BenchRecord) -> str | None:
    """Why two records of a case answer different questions, in words with both values; None if they do not."""
    pairs = {
        "suite": (head.suite, base.suite),
        "model hash": (head.inputs.model_sha256[:12], base.inputs.model_sha256[:12]),
        "tokenizer hash": (head.inputs.tokenizer_sha256[:12], base.inputs.tokenizer_sha256[:12]),
        "corpus hash": (head.inputs.corpus_sha256[:12], base.inputs.corpus_sha256[:12]),
        "seed": (head.seed, base.seed),
        # Another processor rounds differently, and a fit may end in another optimum (docs/log.md, 2026-11-22).
        "processor": (head.environment.device_name, base.environment.device_name),
    }
    settings, others = dict(head.inputs.settings), dict(base.inputs.settings)
    pairs |= {name: (settings.get(name), others.get(name)) for name in sorted({*settings, *others})}
    versions = ("python", "torch", "transformers", "numpy")
    pairs |= {name: (getattr(head.environment, name), getattr(base.environment, name)) for name in versions}
    differing = [f"{name} {ours} here, {theirs} there" for name, (ours, theirs) in pairs.items() if ours != theirs]
    return "; ".join(differing) or None


def _compare(head: BenchRecord, base: Located[BenchRecord]) -> Iterator[Finding]:
    old = base.record

    def finding(level: Level, what: str) -> Finding:
        return Finding(benchmark=head.case_id, level=level, what=what, record=base.place)

    if old.samples is None:
        if head.samples is not None:
            yield finding(Level.IMPROVEMENT, f"was {old.status} ({old.reason}), can be measured now")
        return
    if head.samples is None:
        yield finding(Level.REGRESSION, f"was measured, now {head.status}: {head.reason}")
        return
    if not (old.is_clean and head.complete):
        side = "this tree's record" if old.is_clean else "the baseline's record"
        yield finding(
            Level.INVALID, f"{side} is incomplete or from a changed tree; measure again with '{BENCH_COMMAND}'"
        )
        return
    problem = head.samples.pairing_problem(old.samples)
    if problem is not None:
        yield finding(Level.INVALID, f"cannot be paired with the baseline: {problem}")
        return
    for level, what in _moved(head.samples, old.samples):
        yield finding(level, what)


def _moved(head: AccuracySamples, base: AccuracySamples) -> Iterator[tuple[Level, str]]:
    if all(getattr(head, name) == getattr(base, name) for name in _RESULTS):
        return
    before, after = base.bits_per_weight or 0.0, head.bits_per_weight or 0.0
    if abs(after - before) > MORE_BITS:
        level = Level.REGRESSION if after > before else Level.IMPROVEMENT
        yield level, f"bits per weight {before:.3f} → {after:.3f} ({after - before:+.3f})"
    for metric in METRICS:
        difference = metric.difference(head, base)
        found = None if difference is None else _level(difference, metric)
        if difference is not None and found is not None:
            yield found, _sentence(metric, difference)


def _level(difference: PairedDifference, metric: GatedMetric) -> Level | None:
    outcome, relative = difference.outcome, difference.relative
    if metric.threshold is None:
        return {Outcome.WORSE: Level.WARNING, Outcome.BETTER: Level.IMPROVEMENT}.get(outcome)
    if relative is None:
        # The unquantized model has no KL from itself: any resolved difference is a loss of exactness.
        return Level.REGRESSION if outcome is Outcome.WORSE else None
    size = relative.estimate if difference.lower_is_better else -relative.estimate
    if outcome is Outcome.WORSE:
        return Level.REGRESSION if size > metric.threshold else Level.NOTE
    if outcome is Outcome.BETTER:
        return Level.IMPROVEMENT if size < -metric.threshold else Level.NOTE
    return Level.WARNING if size > metric.threshold else None


def _sentence(metric: GatedMetric, difference: PairedDifference) -> str:
    relative, interval = difference.relative, difference.interval
    after = difference.baseline + interval.estimate
    text = f"{metric.name} {difference.baseline:.5g} → {after:.5g}"
    if relative is not None and metric.threshold is not None:
        text += f", {relative.estimate:+.2%}"
        if relative.low is not None and relative.high is not None:
            text += f" (95 %: {relative.low:+.2%} to {relative.high:+.2%})"
        return f"{text}, threshold {metric.threshold:.1%}"
    if interval.low is not None and interval.high is not None:
        text += f" (95 % of the difference: {interval.low:+.3g} to {interval.high:+.3g})"
    return text


def not_measured(planned: Sequence[str], *, commit: str) -> LayerResult:
    """The result where the code, model and settings of both sides are proven to be the same: nothing was measured."""
    what = (
        f"same without measuring, {len(planned)} cases against {commit[:12]}: the code that fits and measures, the "
        "model and the settings are equal on both sides, as are interpreter, libraries and processor; --measure-anyway "
        "measures both"
    )
    return LayerResult(
        layer=LAYER,
        facts=(),
        benchmarks=tuple(sorted(planned)),
        same=len(planned),
        findings=(Finding(benchmark=LAYER, level=Level.NOTE, what=what),),
    )


def _without_baseline(record: BenchRecord, *, is_new: bool) -> Finding:
    if record.samples is None:
        return Finding(
            benchmark=record.case_id,
            level=Level.REGRESSION,
            what=f"has no baseline and cannot be measured: {record.status}: {record.reason}",
        )
    if is_new:
        return Finding(benchmark=record.case_id, level=Level.NOTE, what="is new: the baseline commit has no such case")
    return Finding(
        benchmark=record.case_id,
        level=Level.NO_BASELINE,
        what=f"has no baseline; measure one on a clean commit with '{BENCH_COMMAND}' and commit its records",
    )


def _invalid(case_id: str, problem: str, base: Located[BenchRecord]) -> Finding:
    return Finding(
        benchmark=case_id,
        level=Level.INVALID,
        what=f"this case, and all that differ alike, cannot be compared: {problem}; use the baseline's versions and "
        f"inputs, or measure a new baseline with '{BENCH_COMMAND}'",
        record=base.place,
    )


def _sides(baseline: Sequence[Located[BenchRecord]], head: Sequence[BenchRecord]) -> Iterator[str]:
    for side, records in (("baseline", [item.record for item in baseline]), ("head", head)):
        if records:
            environment = records[-1].environment
            commit = (environment.git_commit or "no commit")[:12] + (" and changes" if environment.git_dirty else "")
            yield f"{side}: {commit}, {environment.device_name}, Python {environment.python}, torch {environment.torch}"
