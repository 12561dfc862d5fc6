"""Which lifecycle records stand together, and which run of a group is its result.

Records with different inputs or devices are never put together. Within one evaluation the latest complete record of a
case wins. A group (stage, method, bits) is judged at the learning rate with the lowest loss on validation text; the
run of the search at that rate is its first seed, runs of other seeds count where they used that rate.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lords_bench.errors import RecordError
from lords_bench.records import LifecycleRecord, LifecycleSamples, Status, TextScores
from lords_bench.records.lifecycle import Domain, Stage
from lords_bench.report.origin import age

# What a stage is meant to learn; the other domain is what it may forget.
TARGET: dict[Stage, Domain] = {"reference": "base", "qat": "base", "peft": "shifted"}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunGroup:
    """One method at one number of bits.

    Attributes:
        start: the model before the first step, or None where it was not measured.
        searched: one run per learning rate, ascending.
        runs: the runs at the best rate, one per seed, by seed; empty where the search did not end, or not well.
    """

    stage: Stage
    method: str
    bits: int
    start: LifecycleRecord | None
    searched: tuple[LifecycleRecord, ...]
    runs: tuple[LifecycleRecord, ...]

    @property
    def group_id(self) -> str:
        """As of its records."""
        return f"{self.stage}-{self.method}-b{self.bits}"

    @property
    def best_rate(self) -> float | None:
        """Learning rate of the runs."""
        return self.runs[0].learning_rate if self.runs else None

    @property
    def is_at_edge(self) -> bool:
        """Whether the best rate is the lowest or highest tried, so that a better one may lie outside."""
        rates = [record.learning_rate for record in self.searched]
        return len(rates) > 1 and self.best_rate in (rates[0], rates[-1])


@dataclass(frozen=True, kw_only=True, slots=True)
class LifecycleEvaluation:
    """Records that may be compared: one set of inputs, one device.

    Attributes:
        records: the latest complete record of each case, by case id.
        groups: by stage, bits (most first) and method.
        reference: the unquantized model, or None.
        failures: the latest record of a case that ended badly.
        missing: planned cases without a record.
        superseded: how many older records are not shown.
    """

    records: tuple[LifecycleRecord, ...]
    groups: tuple[RunGroup, ...]
    reference: LifecycleRecord | None
    failures: tuple[LifecycleRecord, ...]
    missing: tuple[str, ...]
    superseded: int

    @property
    def newest(self) -> LifecycleRecord:
        """The record made last."""
        return max(self.records + self.failures, key=age)

    def group(self, stage: Stage, method: str, bits: int) -> RunGroup | None:
        """The group, if it was measured."""
        wanted = (stage, method, bits)
        return next((group for group in self.groups if (group.stage, group.method, group.bits) == wanted), None)

    def bits_of(self, stage: Stage) -> tuple[int, ...]:
        """Numbers of bits that the stage was run at, most first."""
        return tuple(sorted({group.bits for group in self.groups if group.stage == stage}, reverse=True))


def select_lifecycle(records: Iterable[LifecycleRecord]) -> tuple[LifecycleEvaluation, ...]:
    """Group the records into evaluations, the one measured last first.

    Raises:
        RecordError: there is no record.
    """
    found: dict[str, list[LifecycleRecord]] = {}
    # A line that is there twice is one record, and no older one.
    for record in dict.fromkeys(records):
        found.setdefault(record.comparison_key, []).append(record)
    if not found:
        raise RecordError("no lifecycle record; run 'lords-bench bench lifecycle' first")
    evaluations = [_evaluation(members) for members in found.values()]
    return tuple(sorted(evaluations, key=lambda evaluation: age(evaluation.newest), reverse=True))


def samples_of(record: LifecycleRecord) -> LifecycleSamples:
    """The samples of a record that is known to have them."""
    assert record.samples is not None
    return record.samples


def validation_of(record: LifecycleRecord) -> TextScores | None:
    """What the learning rate is chosen by."""
    return samples_of(record).of(TARGET[record.stage], "validation")


def _evaluation(members: list[LifecycleRecord]) -> LifecycleEvaluation:
    cases: dict[str, list[LifecycleRecord]] = {}
    for record in members:
        cases.setdefault(record.case_id, []).append(record)
    shown: list[LifecycleRecord] = []
    failures: list[LifecycleRecord] = []
    superseded = 0
    for case_id in sorted(cases):
        attempts = sorted(cases[case_id], key=age)
        complete = [record for record in attempts if record.status is Status.OK and record.complete]
        (shown if complete else failures).append(complete[-1] if complete else attempts[-1])
        superseded += len(attempts) - 1
    planned = {case_id for record in members for case_id in record.planned_case_ids}
    missing = planned - set(cases)
    keys = sorted({(r.stage, -(r.bits or 0), r.method) for r in shown if r.stage != "reference"})
    return LifecycleEvaluation(
        records=tuple(shown),
        groups=tuple(_group(stage, method, -bits, shown, missing) for stage, bits, method in keys),
        reference=next((record for record in shown if record.stage == "reference"), None),
        failures=tuple(failures),
        missing=tuple(sorted(missing)),
        superseded=superseded,
    )


def _group(stage: Stage, method: str, bits: int, shown: list[LifecycleRecord], missing: set[str]) -> RunGroup:
    own = [r for r in shown if (r.stage, r.method, r.bits) == (stage, method, bits)]
    searched = sorted((r for r in own if r.is_search), key=lambda r: r.learning_rate or 0.0)
    # Half a search is no search: the rates that were not tried may be the better ones.
    is_searched = not any(case_id.startswith(f"{stage}-{method}-b{bits}-lr") for case_id in missing)
    scored = [(scores.bits_per_byte, r) for r in searched if (scores := validation_of(r)) is not None]
    best = min(scored, key=lambda pair: (pair[0], pair[1].learning_rate))[1] if scored and is_searched else None
    repeats = [r for r in own if best and r.is_training and not r.is_search and r.learning_rate == best.learning_rate]
    runs = sorted([best, *repeats], key=lambda r: r.training_seed) if best else []
    return RunGroup(
        stage=stage,
        method=method,
        bits=bits,
        start=next((r for r in own if not r.is_training), None),
        searched=tuple(searched),
        runs=tuple(runs),
    )
