"""One tuner of several that share a store: `python tuner_child.py FOLDER M`."""

import sys
from dataclasses import replace
from pathlib import Path

from lords_bench.records.store import RejectedLine
from lords_bench.records.trial import Settings, Trial
from lords_bench.records.tuned import Problem
from lords_bench.tuning import fake
from lords_bench.tuning.bench import Attempt
from lords_bench.tuning.plan import FAKE_MACHINE, make_task
from lords_bench.tuning.process import EvaluationProcess
from lords_bench.tuning.tasks import Finished, Options, RouteTask, Task
from lords_bench.tuning.tuner import tune
from process_tree import PATIENCE_S

PROBLEM = Problem(
    m_bucket=8, n=4096, k=4096, bits=4, rank=16, x_dtype="bfloat16", scale_dtype="float16", decoder="grid7"
)


class Patient(EvaluationProcess):
    """A try that hangs runs into its limit at once, and no other does, however slow the machine is."""

    def __init__(self, device: str) -> None:
        super().__init__(device, start_timeout_s=PATIENCE_S)

    def attempt(self, config: Settings, *, stop_above_ns: float | None) -> Attempt:
        fault = fake.fault_of(config) if self._wanted is not None and self._wanted[0] == fake.FAULTY else None
        hangs = fault is not None and fault.__name__ == "_hang"
        self._timeout_s = 0.5 if hangs else PATIENCE_S
        return super().attempt(config, stop_above_ns=stop_above_ns)


class Silent:
    """A watcher that keeps what was tried."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def begin(self, task: Task | RouteTask, *, tries: int, resumed: int) -> None: ...
    def stage(self, name: str) -> None: ...
    def end(self, finished: Finished) -> None: ...

    def tried(self, trial: Trial) -> None:
        self.trials.append(trial)


def run_tune(
    folder: Path, task: Task, *, strategy: str = "exhaustive", **options: object
) -> tuple[Finished, list[Trial], list[tuple[str, int, str]]]:
    """Tune one problem; gives the result, what was tried now, and which rows were not believed."""
    finished: list[Finished] = []
    rejected: list[tuple[str, int, str]] = []
    watcher = Silent()

    def reject(path: Path, line: RejectedLine) -> None:
        rejected.append((path.name, line.line, line.reason))

    with Patient("fake") as process:
        tune(
            [task],
            folder=folder,
            process=process,
            options=Options(strategy=strategy, run_id="test", **options),  # type: ignore[arg-type]
            watcher=watcher,
            on_finished=finished.append,
            on_rejected=reject,
        )
    return finished[0], watcher.trials, rejected


if __name__ == "__main__":
    run_tune(
        Path(sys.argv[1]),
        make_task(fake.CLEAN, replace(PROBLEM, m_bucket=int(sys.argv[2])), FAKE_MACHINE, "fake"),
    )
