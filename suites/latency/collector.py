"""The latency suite one case at a time, for pytest-benchmark: what `pytest suites/ --benchmark-only` collects from.

A case is timed once, all its methods in the same rounds, when the first of its tests asks; the others replay their
share. One session is one fresh process of the gate: its records share a run id.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lords_bench.records.environment import Device
from lords_bench.records.latency import LatencyCase, LatencyRecord
from lords_bench.records.measurement import Regime
from lords_bench.records.store import NounStore
from lords_bench.suites.latency.cases import LATENCY_CPU, LATENCY_QUICK, LatencySuite
from lords_bench.suites.latency.prepare import Prepared, prepare
from lords_bench.suites.latency.run import CPU_REGIMES, GPU_REGIMES, methods_for, run_latency
from lords_bench.terminal import Watcher

if TYPE_CHECKING:
    from collections.abc import Iterator


class ReplayTimer:
    """A clock for pytest-benchmark that replays samples: each pair of its calls is one sample apart."""

    def __init__(self) -> None:
        self._ticks: Iterator[float] = iter(())
        self.__name__ = "samples of lords_bench"

    def load(self, samples_ns: tuple[float, ...]) -> None:
        """The samples of the next rounds, ns; pytest-benchmark counts in seconds."""
        self._ticks = (tick for sample in samples_ns for tick in (0.0, sample * 1e-9))

    def __call__(self) -> float:
        """The next start or end of a round, in seconds."""
        return next(self._ticks)


class LatencySession:
    """Cases and what was timed so far in this process.

    Args:
        fake: made-up numbers of a fake GPU.
        device: `cpu` or `cuda`; what `fake` makes up is a GPU's.
        folder: where records are kept while the process runs.
        command: the command line, for the records.
    """

    def __init__(self, *, fake: bool, device: Device, folder: Path, command: str) -> None:
        self.suite: LatencySuite = LATENCY_QUICK if fake or device == "cuda" else LATENCY_CPU
        self.regimes: tuple[Regime, ...] = GPU_REGIMES if fake or device == "cuda" else CPU_REGIMES
        self._kind, self._folder, self._command = None if fake else device, folder, command
        self._prepared: Prepared | None = None
        self._found: dict[tuple[str, Regime], tuple[LatencyRecord, ...]] = {}

    @property
    def records(self) -> tuple[LatencyRecord, ...]:
        """Everything timed so far, failures included."""
        return tuple(record for records in self._found.values() for record in records)

    def benchmarks(self, case_ids: tuple[str, ...] = ()) -> tuple[tuple[LatencyCase, Regime, str], ...]:
        """(case, regime, method) of the whole suite, or of the cases named."""
        return tuple(
            (case, regime, method)
            for case in self.suite.cases
            if not case_ids or case.case_id in case_ids
            for regime in self.regimes
            for method in methods_for(case)
        )

    def record(self, case: LatencyCase, regime: Regime, method: str) -> LatencyRecord:
        """The method's record, timed now if its comparison has not been yet."""
        key = (case.case_id, regime)
        if key not in self._found:
            self._found[key] = self._time(case, regime)
        return next(record for record in self._found[key] if record.method == method)

    def _time(self, case: LatencyCase, regime: Regime) -> tuple[LatencyRecord, ...]:
        if self._prepared is None:
            # Every process has noise of its own, as every process of a real device has.
            self._prepared = prepare(self.suite, self._kind, command=self._command, has_own_noise=True)
        run, workbench = self._prepared.run, self._prepared.workbench
        with NounStore(self._folder / "latency.jsonl", LatencyRecord) as store:
            before = len(store.records)
            one = LatencySuite(size=self.suite.size, title=self.suite.title, cases=(case,))
            run_latency(one, run, workbench=workbench, regimes=(regime,), store=store, watcher=Watcher(), resume=False)
            return store.records[before:]


# Where pytest's configuration keeps the session.
SESSION = pytest.StashKey[LatencySession]()
