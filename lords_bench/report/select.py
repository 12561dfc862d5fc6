"""Which records stand in one table, and which of several records of a case is shown.

Records with different inputs or devices are never put together: each combination is an `Evaluation` of its own. Within
one, the latest complete record of a case wins; what is older is counted, what failed is listed, and a case that was
planned but left no record is named. Every choice depends on the content of the records, never on their order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lords_bench.errors import RecordError
from lords_bench.records import BenchRecord, Status
from lords_bench.records.plausible import scored_another_model
from lords_bench.report.origin import age


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """Records that may be compared: one suite, one set of inputs, one device.

    Attributes:
        key: the comparison key they share.
        records: one record with samples per case, the latest complete one, sorted by case.
        failures: the latest record of a case that ended badly and has no later complete one.
        missing: case ids that a run planned and that left no record.
        superseded: how many older records of the same cases are not shown.
    """

    key: str
    records: tuple[BenchRecord, ...]
    failures: tuple[BenchRecord, ...]
    missing: tuple[str, ...]
    superseded: int

    @property
    def newest(self) -> BenchRecord:
        """The record made last; its inputs and device are those of all."""
        return max(self.records + self.failures, key=age)

    @property
    def runs(self) -> tuple[BenchRecord, ...]:
        """The newest shown record of each run key, newest first: more than one means that runs are put together."""
        newest: dict[str, BenchRecord] = {}
        for record in sorted(self.records or self.failures, key=age):
            newest[record.run_key] = record
        return tuple(sorted(newest.values(), key=age, reverse=True))


def select_evaluations(records: Iterable[BenchRecord], *, suite: str) -> tuple[Evaluation, ...]:
    """Group the suite's records into evaluations, the one measured last first.

    Raises:
        RecordError: there is no record of the suite.
    """
    groups: dict[str, list[BenchRecord]] = {}
    # A line that is there twice is one record, and no older one.
    for record in dict.fromkeys(records):
        if record.suite == suite:
            groups.setdefault(record.comparison_key, []).append(record)
    if not groups:
        raise RecordError(f"no record of suite {suite!r}; run 'lords-bench bench' first")
    evaluations = [_evaluation(key, members) for key, members in groups.items()]
    return tuple(sorted(evaluations, key=lambda evaluation: age(evaluation.newest), reverse=True))


def comparison_refusal(subject: BenchRecord, baseline: BenchRecord) -> str | None:
    """Why `baseline` cannot serve as the subject's baseline at equal bits, or None if it can.

    A record that is partial is never a baseline; one from a tree with uncommitted changes (or of unknown state) is a
    baseline only within the run that made both.
    """
    if subject.samples is None or baseline.samples is None:
        return "no samples"
    for record in (baseline, subject):
        if not record.complete:
            return f"{record.method} is partial"
    if not baseline.is_clean and baseline.run_key != subject.run_key:
        return f"{baseline.method} comes from an uncommitted tree of another run"
    for record in (baseline, subject):
        if record.bits is not None and record.samples is not None and any(scored_another_model(record.samples)):
            return f"{record.method} has a KL that its weight error cannot give"
    if not equal_bits(subject, baseline):
        return f"bits differ from {baseline.method}"
    return subject.samples.pairing_problem(baseline.samples)


EQUAL_BITS_TOLERANCE = 0.02


def equal_bits(first: BenchRecord, second: BenchRecord) -> bool:
    """Whether both were measured at equal bits per weight, within `EQUAL_BITS_TOLERANCE`."""
    bits = [record.samples.bits_per_weight for record in (first, second) if record.samples is not None]
    if len(bits) < 2 or bits[0] is None or bits[1] is None:
        return False
    # The margin absorbs the rounding of the subtraction: 4.27 against 4.25 counts as equal.
    return abs(bits[0] - bits[1]) <= EQUAL_BITS_TOLERANCE + 1e-9


def _evaluation(key: str, members: list[BenchRecord]) -> Evaluation:
    cases: dict[str, list[BenchRecord]] = {}
    for record in members:
        cases.setdefault(record.case_id, []).append(record)
    shown, failures, superseded = [], [], 0
    for case_id in sorted(cases):
        attempts = sorted(cases[case_id], key=age)
        measured = [record for record in attempts if record.status is Status.OK]
        best = max(measured, key=lambda record: (record.complete, age(record)), default=None)
        if best is not None:
            shown.append(best)
        last_failure = next((record for record in reversed(attempts) if record.status is not Status.OK), None)
        is_open = last_failure is not None and (best is None or age(last_failure) > age(best))
        if last_failure is not None and is_open:
            failures.append(last_failure)
        superseded += len(attempts) - (best is not None) - is_open
    planned = {case_id for record in members for case_id in record.planned_case_ids}
    return Evaluation(
        key=key,
        records=tuple(shown),
        failures=tuple(failures),
        missing=tuple(sorted(planned - set(cases))),
        superseded=superseded,
    )
