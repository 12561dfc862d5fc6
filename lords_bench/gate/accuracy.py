"""The accuracy layer: records of the head against committed ones of the same cases, inputs, seed and versions.

Differences are paired window by window and layer by layer. On one machine equal code gives equal numbers, so a mean
that is worse by more than the metric's threshold is a regression, whatever its interval; the interval is shown, and
says how far one text speaks for others. Text, model, settings and versions must be those of the baseline, or the
numbers answer different questions.

Nothing impossible is believed, on either side: a record that contradicts itself or its run
(`records.plausible`), what no quantizer can change, results that moved alone (`accuracy_belief`), fewer stored bits,
and gains beyond what a change of code explains are INVALID.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from lords_bench.gate.accuracy_belief import changed_yardstick, moved_alone, not_comparable
from lords_bench.gate.finding import Finding, LayerResult, Level, Located, finished
from lords_bench.records.accuracy import AccuracySamples
from lords_bench.records.bench import BenchRecord
from lords_bench.records.plausible import contradictions_of_run
from lords_bench.stats.accuracy import BITS_PER_BYTE, CHOICE, KL, WEIGHT_ERROR
from lords_bench.stats.paired import PairedDifference, PairedVerdict

Difference = Callable[[AccuracySamples, AccuracySamples], PairedDifference | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class GatedMetric:
    """A metric that can fail the gate.

    Attributes:
        threshold: a mean that is worse by more is a regression, whatever its interval.
        most_gain: a mean that is better by more is not believed: no change of code under one specification explains it.
        is_relative: whether both are shares of the baseline's value; else they are in the metric's own unit.
        warns: whether a resolved loss below the threshold is a warning; else it is a note.
        difference: of head and baseline, None where a case does not have the metric.
    """

    name: str
    threshold: float
    most_gain: float
    is_relative: bool = True
    warns: bool = False
    difference: Difference

    def loss(self, difference: PairedDifference) -> float | None:
        """How much worse the mean is, in the unit of the threshold; None as a share of a baseline that is 0."""
        moved = difference.relative if self.is_relative else difference.interval
        if moved is None:
            return None
        return moved.estimate if difference.lower_is_better else -moved.estimate

    def limit(self, value: float) -> str:
        """A threshold in words."""
        return f"{value:.1%}" if self.is_relative else f"{value:g}"


# What a change of code under one specification has ever gained here is a few percent; a gain of ten thresholds is more
# often a measurement that broke.
METRICS = (
    GatedMetric(name="KL", threshold=0.02, most_gain=0.2, difference=KL.difference),
    GatedMetric(name="bits per byte", threshold=0.002, most_gain=0.02, difference=BITS_PER_BYTE.difference),
    GatedMetric(name="weight error", threshold=0.01, most_gain=0.1, difference=WEIGHT_ERROR.difference),
    # A tenth of the items: three times what as many near ties as there are (one in ten) scatter by.
    GatedMetric(
        name="choice accuracy",
        threshold=0.1,
        most_gain=0.1,
        is_relative=False,
        warns=True,
        difference=CHOICE.difference,
    ),
)


LAYER = "accuracy"
BENCH_COMMAND = "lords-bench bench"


def compare_accuracy(
    baseline: Sequence[Located[BenchRecord]],
    head: Sequence[BenchRecord],
    *,
    unusable: Sequence[Finding] = (),
    selection: Collection[str] | None = None,
    measured_here: bool = False,
    believed: Collection[str] = (),
) -> LayerResult:
    """Findings of the head's accuracy against the baseline's; of each case the last record of either side counts.

    Args:
        baseline: records of the same selection of cases as the head's.
        head: records of this tree.
        unusable: findings about baseline lines that could not be read; they stay in the result.
        selection: cases that were asked for; None where that is all that the sides planned.
        measured_here: whether the baseline is a commit measured for this comparison, so that a case it does not have
            is new, where committed records would be incomplete.
        believed: cases whose gain was looked into and measured again: it is an improvement, however large.
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
    impossible = list(_impossible(baseline, head))
    found += impossible
    suspect = {finding.benchmark for finding in impossible}
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
        one = list(_compare(record, item, is_believed=case_id in believed))
        same += not one and case_id not in suspect
        # An impossible number is no gain; what is worse beside it is still said.
        found += (finding for finding in one if case_id not in suspect or finding.level is not Level.IMPROVEMENT)
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
    thresholds = ", ".join(f"{metric.name} {metric.limit(metric.threshold)}" for metric in METRICS)
    gains = ", ".join(f"{metric.name} {metric.limit(metric.most_gain)}" for metric in METRICS)
    return finished(
        LayerResult(
            layer=LAYER,
            facts=(
                f"regression: a mean worse by more than {thresholds}, or one byte more stored",
                f"not believed: a mean better by more than {gains}, or one byte less stored",
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


def _impossible(baseline: Sequence[Located[BenchRecord]], head: Sequence[BenchRecord]) -> Iterator[Finding]:
    """One INVALID for each rule that a record of either side breaks, whatever the other side says."""
    for side, places, records in (
        ("the baseline's record", {item.record.case_id: item.place for item in baseline}, [i.record for i in baseline]),
        ("this tree's record", {}, list(head)),
    ):
        runs: dict[str, list[BenchRecord]] = defaultdict(list)
        for record in records:
            runs[record.run_key].append(record)
        for members in runs.values():
            for case_id, reasons in contradictions_of_run(members).items():
                for reason in reasons:
                    what = f"{side} cannot be true: {reason}; mend what measures, or restore the record"
                    yield Finding(benchmark=case_id, level=Level.INVALID, what=what, record=places.get(case_id))


def _compare(head: BenchRecord, base: Located[BenchRecord], *, is_believed: bool) -> Iterator[Finding]:
    old = base.record

    def finding(level: Level, what: str) -> Finding:
        return Finding(benchmark=head.case_id, level=level, what=what, record=base.place)

    if old.samples is None:
        if head.samples is not None:
            yield finding(Level.IMPROVEMENT, f"was {old.status} ({old.reason}), can be measured now")
        elif (head.status, head.reason) != (old.status, old.reason):
            yield finding(Level.NOTE, f"was {old.status} ({old.reason}), is {head.status} ({head.reason})")
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
    problem = changed_yardstick(head, old)
    if problem is not None:
        what = f"cannot be held against the baseline: {problem}; if that is meant, measure a new baseline with"
        yield finding(Level.INVALID, f"{what} '{BENCH_COMMAND}'")
        return
    if head.samples.results == old.samples.results:
        return
    yield from (finding(level, what) for level, what in _moved(head, head.samples, old.samples, is_believed))


def _moved(
    record: BenchRecord, head: AccuracySamples, base: AccuracySamples, is_believed: bool
) -> Iterator[tuple[Level, str]]:
    again = (
        f"look for what broke; if it stays when measured again, say so with --believe {record.case_id}, or measure a "
        f"new baseline on a clean commit with '{BENCH_COMMAND}'"
    )
    for what in moved_alone(head, base) if record.bits is not None else ():
        yield Level.INVALID, f"{what}: these numbers are not of one model; mend what measures"
    stored = _stored(head, base)
    if stored is not None:
        yield stored if stored[0] is Level.REGRESSION else _too_good(stored[1], again, is_believed)
    moved = False
    for metric in METRICS:
        difference = metric.difference(head, base)
        level = None if difference is None else _level(difference, metric)
        if difference is None or level is None:
            continue
        moved, what = True, _sentence(metric, difference)
        if level is Level.INVALID:
            what += f", a gain of more than {metric.limit(metric.most_gain)}"
            yield _too_good(what, again, is_believed)
        else:
            yield level, what
    if not moved and stored is None:
        yield Level.NOTE, "results moved, and no mean of them did"


def _too_good(what: str, remedy: str, is_believed: bool) -> tuple[Level, str]:
    if is_believed:
        return Level.IMPROVEMENT, f"{what}; believed because --believe says that it was measured again"
    return Level.INVALID, f"{what}, is not believed: {remedy}"


def _stored(head: AccuracySamples, base: AccuracySamples) -> tuple[Level, str] | None:
    """Stored bytes are counted, not sampled: one more is a loss, and one less needs another format."""
    if head.layer_stored_bytes == base.layer_stored_bytes:
        return None
    before, after = base.bits_per_weight or 0.0, head.bits_per_weight or 0.0
    total = sum(head.layer_stored_bytes) - sum(base.layer_stored_bytes)
    what = f"bits per weight {before:.3f} → {after:.3f} ({after - before:+.3f}), {total:+} bytes"
    return (Level.REGRESSION if total > 0 else Level.INVALID), what


def _level(difference: PairedDifference, metric: GatedMetric) -> Level | None:
    """What the mean says; None where it did not move. INVALID is a gain that is too good."""
    outcome, loss = difference.outcome, metric.loss(difference)
    if not difference.interval.estimate:
        return None
    if loss is None:
        # The unquantized model has no KL from itself: any resolved difference is a loss of exactness.
        return Level.REGRESSION if outcome is PairedVerdict.WORSE else Level.NOTE
    if loss > metric.threshold:
        return Level.REGRESSION
    if -loss > metric.most_gain:
        return Level.INVALID
    if metric.warns:
        return {PairedVerdict.WORSE: Level.WARNING, PairedVerdict.BETTER: Level.IMPROVEMENT}.get(outcome, Level.NOTE)
    return Level.IMPROVEMENT if outcome is PairedVerdict.BETTER and -loss > metric.threshold else Level.NOTE


def _sentence(metric: GatedMetric, difference: PairedDifference) -> str:
    relative, interval = difference.relative, difference.interval
    after = difference.baseline + interval.estimate
    text = f"{metric.name} {difference.baseline:.5g} → {after:.5g}"
    if relative is not None and metric.is_relative:
        text += f", {relative.estimate:+.2%}"
        if relative.low is not None and relative.high is not None:
            text += f" (95 %: {relative.low:+.2%} to {relative.high:+.2%})"
        return f"{text}, threshold {metric.limit(metric.threshold)}"
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
