"""Runs a suite's cases and keeps one record of each: what is complete survives a kill, and the next run goes on there.

It knows no model: `measure` turns a case into samples. A case that cannot be done (a shape that does not
divide, too little memory) leaves a record with its status and reason, and the run goes on; a defect escapes with its
traceback. Each record is on disk before the next case begins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lords_bench.errors import LordsBenchError, reason_of
from lords_bench.quant import QuantSpec
from lords_bench.records import (
    AccuracySamples,
    BenchRecord,
    Environment,
    EvaluationInputs,
    RecordStore,
    Status,
    completed,
    run_key,
)
from lords_bench.records.status import created_now, status_of_error
from lords_bench.suites.accuracy.cases import Case, Suite

if TYPE_CHECKING:
    from lords_bench.terminal import Watcher

Advance = Callable[[float], None]
Measure = Callable[[Case, Advance], AccuracySamples]


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """What all records of one invocation share.

    Attributes:
        run_id: names the invocation.
        inputs: model, text and settings.
        environment: machine, versions and source.
        command: the command line.
        seed: seed of the run.
    """

    run_id: str
    inputs: EvaluationInputs
    environment: Environment
    command: str
    seed: int


def run_suite(
    suite: Suite, run: Run, *, measure: Measure, store: RecordStore, watcher: "Watcher", resume: bool = True
) -> tuple[BenchRecord, ...]:
    """Measures every case that the store does not hold yet; returns the records of all cases, in the suite's order.

    Args:
        suite: the cases.
        run: what the records share; its key decides which stored cases count as done.
        measure: samples of one case; is given a callback for the fraction done.
        store: open for writing.
        watcher: told of progress.
        resume: whether cases that the store holds complete records of are left out.

    Raises:
        StoreError: a record cannot be written; those before it are on disk.
        LordsBenchError: whatever `measure` raises that is not about the one case.
    """
    key = run_key(suite=suite.name, inputs=run.inputs, seed=run.seed, environment=run.environment)
    done = completed(store.records, key) if resume else {}
    planned = tuple(case.case_id for case in suite.cases)
    for case in suite.cases:
        if case.case_id in done:
            watcher.end(case.case_id, None)
            continue
        watcher.begin(case.case_id)
        status, reason, samples = _attempt(case, measure, watcher.advance)
        record = BenchRecord(
            run_id=run.run_id,
            suite=suite.name,
            case_id=case.case_id,
            method=case.method,
            bits=case.bits,
            spec=case.spec,
            mixed=_mixed(case, samples),
            input_weighted=case.input_weighted,
            status=status,
            reason=reason,
            samples=samples,
            planned_case_ids=planned,
            inputs=run.inputs,
            environment=run.environment,
            created_utc=created_now(),
            command=run.command,
            seed=run.seed,
        )
        store.append(record)
        watcher.end(case.case_id, [] if reason is None else [f"{case.case_id}: {status}: {reason}"])
    latest = {record.case_id: record for record in store.records if record.run_key == key}
    return tuple(latest[case_id] for case_id in planned)


def _attempt(case: Case, measure: Measure, advance: Advance) -> tuple[Status, str | None, AccuracySamples | None]:
    try:
        return Status.OK, None, measure(case, advance)
    except (LordsBenchError, MemoryError) as error:
        status = status_of_error(error)
        if status is None:
            raise
        return status, reason_of(error), None


def _mixed(case: Case, samples: AccuracySamples | None) -> tuple[tuple[str, QuantSpec], ...] | None:
    if len(case.specs) < 2:
        return None
    if samples is None:
        return tuple((f"share {number}", spec) for number, spec in enumerate(case.specs, start=1))
    specs = case.spec_of_layers([n * k for n, k in samples.layer_shapes])
    return tuple(zip(samples.layer_names, specs, strict=True))
