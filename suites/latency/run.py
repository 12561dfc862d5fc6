"""Runs the latency suite: every comparison's records are on disk before the next begins, and a killed run goes on.

A `Workbench` builds methods for a case and times them together; `TorchWorkbench` is a real device, `fake_latency` has
one that makes numbers up. What a method cannot do is a record with its status and reason, and the others go on.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from lords_bench.errors import DeviceError
from lords_bench.products.tables import read_tables
from lords_bench.records.latency import (
    DENSE,
    DENSE_AGAIN,
    METHODS,
    ConfigOrigin,
    Facts,
    LatencyCase,
    LatencyRecord,
    LatencyRun,
    completed_comparisons,
)
from lords_bench.records.measurement import Measurement, Regime
from lords_bench.records.status import Status, created_at
from lords_bench.records.store import NounStore
from lords_bench.suites.latency.cases import LatencySuite
from lords_bench.timing.comparison import Comparison

if TYPE_CHECKING:
    from lords_bench.terminal import Watcher

# What a GPU is timed in; a processor's wall clock is the eager regime.
GPU_REGIMES: tuple[Regime, ...] = ("cold", "hot", "eager")
CPU_REGIMES: tuple[Regime, ...] = ("eager",)


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What is known of a method that was built for a case, besides its samples; fields as in `LatencyRecord`."""

    kernel: str
    bits_per_weight: float
    config: Facts = ()
    config_origin: ConfigOrigin | None = None
    worst_error: float | None = None
    bytes_moved: int | None = None
    flops: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Timed:
    """One comparison as a workbench gives it.

    Attributes:
        built: method to what was built.
        failures: method to why it was not built; every method is in one of the two.
        comparison: of the methods that were built; None where the dense product was not.
        broken: why the device answers nothing any more, None while it does.
    """

    built: Mapping[str, Built]
    failures: Mapping[str, tuple[Status, str]]
    comparison: Comparison | None
    broken: str | None = None


class Workbench(Protocol):
    """Builds and times the methods of a case."""

    def prewarm(self, wanted: Sequence[tuple[LatencyCase, str]]) -> None:
        """Compile what each (case, method) will launch, so that no comparison waits for a compiler."""
        ...

    def time(self, case: LatencyCase, regime: Regime, methods: tuple[str, ...]) -> Timed:
        """All methods of one case in one regime, in the same rounds."""
        ...


def comparison_name(case: LatencyCase, regime: Regime) -> str:
    return f"{case.case_id} {regime}"


def methods_for(case: LatencyCase, *, kernels: Iterable[str] = ()) -> tuple[str, ...]:
    """Methods that exist for the case's number of bits, then LoRDS kernels by themselves (`lords-<kernel>`)."""
    return (*(method.name for method in METHODS if case.bits in method.bits), *(f"lords-{name}" for name in kernels))


def run_latency(  # noqa: PLR0913  (options after the star)
    suite: LatencySuite,
    run: LatencyRun,
    *,
    workbench: Workbench,
    regimes: tuple[Regime, ...],
    store: NounStore[LatencyRecord],
    watcher: "Watcher",
    kernels: tuple[str, ...] = (),
    seconds: float | None = None,
    resume: bool = True,
    now_s: Callable[[], float] = time.monotonic,
) -> int:
    """Make every comparison that the store does not hold yet; returns how many were not reached.

    Args:
        suite: the cases, the most telling first.
        run: what the records share; its key decides which stored comparisons count as done.
        workbench: what builds and times.
        regimes: in this order for every case.
        store: open for writing.
        watcher: told of progress.
        kernels: LoRDS kernels to time by themselves as well.
        seconds: no comparison is begun after so many; None = no limit.
        resume: whether comparisons that the store holds are left out.
        now_s: a clock that only runs forward.

    Raises:
        StoreError: a record cannot be written; those before it are on disk.
        DeviceError: the device answers nothing any more; the comparison that did it is on disk and is not repeated.
    """
    done = completed_comparisons(store.records, run.run_key) if resume else frozenset()
    begin, left_out = now_s(), 0
    open_cases = [case for case in suite.cases if any((case.case_id, regime) not in done for regime in regimes)]
    workbench.prewarm([(case, method) for case in open_cases for method in methods_for(case, kernels=kernels)])
    for case in suite.cases:
        for regime in regimes:
            name = comparison_name(case, regime)
            if (case.case_id, regime) in done:
                watcher.end(name, None)
                continue
            if seconds is not None and now_s() - begin >= seconds:
                left_out += 1
                continue
            watcher.begin(name)
            methods = methods_for(case, kernels=kernels)
            timed = workbench.time(case, regime, methods)
            records = _records(run, case, regime, methods, timed)
            for record in records:
                store.append(record)
            failed = [record for record in records if record.status not in (Status.OK, Status.UNSUPPORTED)]
            watcher.end(name, [f"{name} {record.method}: {record.status}: {record.reason}" for record in failed])
            if timed.broken is not None:
                raise DeviceError(f"{name} brought the device down ({timed.broken}); start again")
    return left_out


def _records(
    run: LatencyRun, case: LatencyCase, regime: Regime, methods: tuple[str, ...], timed: Timed
) -> tuple[LatencyRecord, ...]:
    """One record per method, and one for the second samples of the dense product."""
    created = datetime.now(UTC)
    again = timed.comparison.baseline_again if timed.comparison else None
    planned = (*methods, *((DENSE_AGAIN,) if again else ()))

    def record(method: str, status: Status, reason: str | None, measurement: Measurement | None) -> LatencyRecord:
        if timed.broken is not None and status is Status.LAUNCH_ERROR:
            status = Status.CRASH
        built = timed.built.get(DENSE if method == DENSE_AGAIN else method)
        worst = built.worst_error if built else None
        return LatencyRecord(
            run=run,
            case=case,
            regime=regime,
            comparison_id=f"{run.run_id}/{case.case_id}/{regime}/{created.timestamp():.3f}",
            methods=planned,
            method=method,
            kernel=built.kernel if built else None,
            config=built.config if built else (),
            config_origin=built.config_origin if built else None,
            bits_per_weight=built.bits_per_weight if built else None,
            status=status,
            reason=reason,
            worst_error=worst,
            bytes_moved=built.bytes_moved if built else None,
            flops=built.flops if built else None,
            measurement=measurement,
            notes=timed.comparison.notes if timed.comparison else (),
            created_utc=created_at(created),
        )

    found = []
    for method in methods:
        if method in timed.failures:
            found.append(record(method, *timed.failures[method], None))
        elif timed.comparison is None:
            reason = f"the dense product could not be built: {timed.failures[DENSE][1]}"
            found.append(record(method, Status.INVALID, reason, None))
        else:
            outcome = timed.comparison.outcome(method)
            found.append(record(method, outcome.status, outcome.reason, outcome.measurement))
    if again is not None:
        found.append(record(DENSE_AGAIN, Status.OK, None, again))
    return tuple(found)


def tables_sha256() -> str | None:
    """Hash of the tuned tables in use, so that what was timed before tuning is timed again; None without tables."""
    digest = hashlib.sha256()
    tables = read_tables()
    for table in tables:
        digest.update(table.path.read_bytes())
    return digest.hexdigest() if tables else None
