"""Runs a plan: a group's cases one after the other, groups side by side in processes of one thread each.

Two runs of one thread each finish sooner than one after the other with two threads (small products scale badly), and
the numbers of a run then do not depend on how many cores there are. Every record is on disk before its group goes on;
a killed run starts again where it stopped, and finds the best learning rate of a group from its records.
"""

import multiprocessing
import os
import queue
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import fsum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from lords_bench.errors import LordsBenchError, ModelError, UsageError, reason_of
from lords_bench.isolate import ProcessGroup, join_group
from lords_bench.records import LifecycleSamples, Status
from lords_bench.records.lifecycle import Domain
from lords_bench.records.status import status_of_error
from lords_bench.suites.lifecycle.cases import REFERENCE_ID, Group, Plan

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

VALIDATION_DOMAIN: MappingProxyType[str, Domain] = MappingProxyType({"qat": "base", "peft": "shifted"})
POLL_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class CaseResult:
    """How one case ended; `group` is None for the unquantized model."""

    case_id: str
    group: Group | None
    learning_rate: float | None
    is_search: bool
    seed: int
    status: Status
    reason: str | None
    samples: LifecycleSamples | None


class CaseMeasurement(Protocol):
    """What measures one case; `measure.LifecycleMeasurement`."""

    def reference(self) -> LifecycleSamples:
        """The unquantized model."""

    def start(self, group: Group) -> LifecycleSamples:
        """The model before the first step."""

    def train(self, group: Group, *, learning_rate: float, seed: int) -> LifecycleSamples:
        """One run."""


def run_group(
    measurement: CaseMeasurement, plan: Plan, group: Group, done: Mapping[str, LifecycleSamples]
) -> Iterator[CaseResult]:
    """The group's cases that are not done, in order.

    Args:
        measurement: measures them.
        plan: what to run.
        group: one of the plan's.
        done: samples of cases that an earlier run completed, by case id.
    """
    budget = plan.budget(group)
    first = budget.seeds[0]
    found = dict(done)
    if group.start_id not in found:
        yield _attempt(group.start_id, group, None, first, is_search=False, measure=lambda: measurement.start(group))
    for rate in budget.learning_rates:
        case_id = group.search_id(rate)
        if case_id not in found:
            result = _trained(measurement, case_id, group, rate, first, is_search=True)
            if result.samples is not None:
                found[case_id] = result.samples
            yield result
    best = best_learning_rate(group, {rate: found.get(group.search_id(rate)) for rate in budget.learning_rates})
    for seed in budget.seeds[1:]:
        case_id = group.seed_id(seed)
        if case_id in found:
            continue
        if best is None:
            reason = "no learning rate of the grid gave a finite result"
            yield CaseResult(
                case_id=case_id,
                group=group,
                learning_rate=budget.learning_rates[0],
                is_search=False,
                seed=seed,
                status=Status.INCORRECT,
                reason=reason,
                samples=None,
            )
        else:
            yield _trained(measurement, case_id, group, best, seed, is_search=False)


def best_learning_rate(group: Group, searched: Mapping[float, LifecycleSamples | None]) -> float | None:
    """The rate with the lowest loss on the stage's validation text; None where every run failed."""
    losses = {}
    for rate, samples in searched.items():
        scores = samples.of(VALIDATION_DOMAIN[group.stage], "validation") if samples is not None else None
        if scores is not None:
            losses[rate] = fsum(scores.window_nll_nats)
    return min(losses, key=lambda rate: (losses[rate], rate), default=None)


def run_plan(
    plan: Plan,
    make_measurement: Callable[[], CaseMeasurement],
    *,
    done: Mapping[str, LifecycleSamples],
    processes: int,
) -> Iterator[CaseResult]:
    """Every case of the plan that is not done, as they end.

    Args:
        plan: what to run.
        make_measurement: called once per process; picklable where there is more than one.
        done: samples of cases that an earlier run completed, by case id.
        processes: how many groups run side by side; 1 runs them in this process.

    Raises:
        LordsBenchError: whatever a measurement raises that is not about one case, or a process that died.
    """
    tasks: list[Group | None] = [] if REFERENCE_ID in done else [None]
    tasks += [group for group in plan.groups if not all(case_id in done for case_id in plan.case_ids_of(group))]
    if processes == 1 or len(tasks) < 2:
        measurement = make_measurement() if tasks else None
        for task in tasks:
            assert measurement is not None
            yield from _run_task(measurement, plan, task, done)
        return
    yield from _run_side_by_side(plan, make_measurement, tasks, done, min(processes, len(tasks)))


def _run_side_by_side(
    plan: Plan,
    make_measurement: Callable[[], CaseMeasurement],
    tasks: list[Group | None],
    done: Mapping[str, LifecycleSamples],
    processes: int,
) -> Iterator[CaseResult]:
    context = multiprocessing.get_context("spawn")
    waiting: Any = context.Queue()
    results: Any = context.Queue()
    for task in tasks:
        waiting.put(task)
    for _ in range(processes):
        waiting.put("end")
    with ProcessGroup() as group:
        arguments = ((group.number, os.getpid()), make_measurement, plan, dict(done), waiting, results)
        workers = [context.Process(target=_work, args=arguments, daemon=True) for _ in range(processes)]
        for worker in workers:
            worker.start()
        try:
            yield from _received(workers, results)
        finally:
            for worker in workers:
                worker.kill()
                worker.join()


def _received(workers: "list[SpawnProcess]", results: Any) -> Iterator[CaseResult]:
    running = len(workers)
    while running:
        try:
            kind, value = results.get(timeout=POLL_SECONDS)
        except queue.Empty:
            dead = next((worker for worker in workers if worker.exitcode not in (None, 0)), None)
            if dead is not None:
                raise ModelError(
                    f"a training process ended with code {dead.exitcode}; was it out of memory? "
                    "The same command goes on from the records, --processes 1 needs less"
                ) from None
            continue
        if kind == "end":
            running -= 1
        elif kind == "error":
            raise value
        else:
            yield value


def _work(
    group: tuple[int, int],
    make_measurement: Callable[[], CaseMeasurement],
    plan: Plan,
    done: Mapping[str, LifecycleSamples],
    waiting: Any,
    results: Any,
) -> None:
    join_group(*group)
    try:
        measurement = make_measurement()
        while (task := waiting.get()) != "end":
            for result in _run_task(measurement, plan, task, done):
                results.put(("result", result))
    except LordsBenchError as error:
        results.put(("error", error))
    results.put(("end", None))


def _run_task(
    measurement: CaseMeasurement, plan: Plan, task: Group | None, done: Mapping[str, LifecycleSamples]
) -> Iterator[CaseResult]:
    if task is None:
        yield _attempt(REFERENCE_ID, None, None, 0, is_search=False, measure=measurement.reference)
    else:
        yield from run_group(measurement, plan, task, done)


def _trained(
    measurement: CaseMeasurement, case_id: str, group: Group, learning_rate: float, seed: int, *, is_search: bool
) -> CaseResult:
    def measure() -> LifecycleSamples:
        return measurement.train(group, learning_rate=learning_rate, seed=seed)

    return _attempt(case_id, group, learning_rate, seed, is_search=is_search, measure=measure)


def _attempt(
    case_id: str,
    group: Group | None,
    learning_rate: float | None,
    seed: int,
    *,
    is_search: bool,
    measure: Callable[[], LifecycleSamples],
) -> CaseResult:
    status, reason, samples = Status.OK, None, None
    try:
        samples = measure()
    except (LordsBenchError, MemoryError) as error:
        found = status_of_error(error)
        if found is None or isinstance(error, UsageError):
            raise
        status, reason = found, reason_of(error)
    return CaseResult(
        case_id=case_id,
        group=group,
        learning_rate=learning_rate,
        is_search=is_search,
        seed=seed,
        status=status,
        reason=reason,
        samples=samples,
    )
