"""Tunes one problem after another: compile, prune, search, run off, confirm; every finished configuration is one row.

What is on disk is all there is to know: a killed run reads its rows, tells them to the search, and goes on. The row in
flight is lost and tried again; no finished configuration ever is. Times of different runs never meet in a verdict,
because only the samples of one run-off are compared.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from lords_bench.errors import DeviceError
from lords_bench.records.measurement import Measurement
from lords_bench.records.status import Status, created_now
from lords_bench.records.store import RejectedLine
from lords_bench.records.trial import RunOff, Settings, Stage, Trial, TuningRecord
from lords_bench.tuning.process import EvaluationProcess
from lords_bench.tuning.route import tune_route
from lords_bench.tuning.rows import Rows
from lords_bench.tuning.strategies import Tried, make_strategy, search_budget
from lords_bench.tuning.tasks import Finished, Inspected, Options, RouteTask, Task, TuneWatcher
from lords_bench.tuning.winner import canonical, finalists, winner

# One sample this many times the best so far ends a try.
HOPELESS = 3.0
# Of a problem's time, what is kept for the run-offs.
RUN_OFF_SHARE = 0.3


def tune(
    tasks: Sequence[Task | RouteTask],
    *,
    folder: Path,
    process: EvaluationProcess,
    options: Options,
    watcher: TuneWatcher,
    on_finished: Callable[[Finished], None],
    on_rejected: Callable[[Path, RejectedLine], None],
) -> None:
    """Tune every problem; `on_finished` gets each as soon as it is done, so that a run cut short has been of use.

    With `options.least_s` a problem is begun only while there is budget; those behind it are left for the next run.

    Args:
        tasks: the problems, in order; a route behind the kernels that it chooses from.
        folder: where rows are read and written.
        process: what evaluates.
        options: how to search, and for how long.
        watcher: is told what happens.
        on_finished: gets each problem.
        on_rejected: gets every row that is not believed.

    Raises:
        StoreError: a row cannot be written; those before it are on disk.
    """
    started = time.monotonic()
    stores: dict[str, Rows] = {}
    with ExitStack() as open_stores:

        def rows_of(kernel: str) -> Rows:
            if kernel not in stores:
                stores[kernel] = open_stores.enter_context(Rows(folder, kernel))
                for path, line in stores[kernel].rejected:
                    on_rejected(path, line)
            return stores[kernel]

        for number, task in enumerate(tasks):
            limit_s = None
            if options.budget_s is not None:
                left_s = max(0.0, options.budget_s - (time.monotonic() - started))
                if number and options.least_s and left_s < options.least_s:
                    return
                limit_s = max(left_s / (len(tasks) - number), min(options.least_s, left_s))
            if isinstance(task, RouteTask):
                on_finished(tune_route(task, rows_of, process, options, watcher))
            else:
                on_finished(_Tuning(task, rows_of(task.key.kernel), process, options, watcher).run(limit_s))


class _Tuning:
    """One problem under way."""

    def __init__(
        self, task: Task, rows: Rows, process: EvaluationProcess, options: Options, watcher: TuneWatcher
    ) -> None:
        self.task, self.rows, self.process, self.options, self.watcher = task, rows, process, options, watcher
        self.order = task.space.configs
        self.inspected: Sequence[Inspected] = [Inspected()] * len(self.order)

    @property
    def record(self) -> TuningRecord:
        """Every believable row of the problem so far."""
        return self.rows.record(self.task.key, self.task.evidence)

    def run(self, limit_s: float | None) -> Finished:
        begin = time.monotonic()
        until = None if limit_s is None else begin + (1 - RUN_OFF_SHARE) * limit_s
        record = self.record
        done = self._finished(record)
        tries = search_budget(self.options.strategy, len(self.order))
        self.watcher.begin(self.task, tries=tries, resumed=len(done))
        self.process.open(self.task.key.kernel, self.task.key.problem)
        in_time = True
        left = tries - sum(map(_cost_time, done.values()))
        refused = None
        try:
            if left > 0 and len(done) < len(self.order):
                if self.task.inspect is not None:
                    self.watcher.stage("compiling")
                    self.inspected = self.task.inspect(self.order)
                self.watcher.stage("searching")
                in_time = self._search(done, left, until)
            # The run-offs are made whatever the clock says: without them the search was for nothing.
            self._run_offs()
        except DeviceError as error:
            refused = str(error)
        record = self.record
        finished = Finished(
            task=self.task,
            record=record,
            winner=winner(record, self.order),
            tried=len(record.by_config),
            in_time=in_time,
            refused=refused,
        )
        self.watcher.end(finished)
        return finished

    def _finished(self, record: TuningRecord) -> dict[Settings, Trial]:
        known = set(self.order)
        return {
            config: trial
            for config, trial in record.by_config.items()
            if config in known and not (self.options.retry_failed and trial.status is not Status.OK)
        }

    def _search(self, done: dict[Settings, Trial], left: int, until: float | None) -> bool:
        number_of = {config: number for number, config in enumerate(self.order)}
        strategy = make_strategy(
            self.options.strategy, self.task.space, self.task.guesses, seed=self.options.seed, budget=left + len(done)
        )
        for config, trial in done.items():
            strategy.tell(number_of[config], _outcome(trial))
        for number, facts in enumerate(self.inspected):
            if facts.status is not Status.OK and self.order[number] not in done:
                strategy.tell(number, _outcome(self._add(number, facts.status, facts.reason)))
        while left > 0:
            if until is not None and time.monotonic() > until:
                return False
            asked = strategy.ask(1)
            if not asked:
                break
            trial = self._try(asked[0])
            strategy.tell(asked[0], _outcome(trial))
            left -= _cost_time(trial)
        return True

    def _try(self, number: int) -> Trial:
        """Check and time a configuration, or take the samples of one with the same machine code and launch."""
        record = self.record
        twin = self._twin(number, record)
        if twin is not None:
            return self._add(number, Status.OK, None, twin.measurement, same_code_as=twin.config)
        times = [t.measurement.median_ns for t in record.trials if t.measurement is not None]
        stop = HOPELESS * min(times) if times else None
        found = self.process.attempt(self.order[number], stop_above_ns=stop)
        return self._add(number, found.status, found.reason, found.measurement, stopped_early=found.stopped_early)

    def _twin(self, number: int, record: TuningRecord) -> Trial | None:
        launch = self.inspected[number].launch
        if launch is None:
            return None
        same = {self.order[other] for other, facts in enumerate(self.inspected) if facts.launch == launch}
        return next((t for t in record.trials if t.config in same and t.status is Status.OK), None)

    def _add(
        self,
        number: int,
        status: Status,
        reason: str | None,
        measurement: Measurement | None = None,
        *,
        stopped_early: bool = False,
        same_code_as: Settings | None = None,
    ) -> Trial:
        facts = self.inspected[number]
        trial = Trial(
            key=self.task.key,
            evidence=self.task.evidence,
            config=self.order[number],
            status=status,
            reason=reason,
            measurement=measurement,
            code=facts.code,
            same_code_as=same_code_as,
            stopped_early=stopped_early,
            compile_ns=facts.compile_ns,
            run_id=self.options.run_id,
            strategy=self.options.strategy,
            created_utc=created_now(),
        )
        self.rows.add(trial)
        self.watcher.tried(trial)
        return trial

    def _run_offs(self) -> None:
        """The near-ties among themselves, then the winner against the default; what is on disk already holds."""
        record = self.record
        chosen = finalists(record, self.order)
        final = record.run_off("final")
        if not chosen:
            return
        if final is None or set(final.configs) != set(chosen):
            self.watcher.stage("final")
            final = self._run_off("final", chosen)
        found = canonical(self.record, final, self.order)
        if found is None or found[0] == self.order[0]:
            return
        confirm = record.run_off("confirm")
        wanted = (self.order[0], found[0])
        if confirm is None or confirm.configs != wanted:
            self.watcher.stage("confirming")
            self._run_off("confirm", wanted)

    def _run_off(self, stage: Stage, configs: tuple[Settings, ...]) -> RunOff:
        duel = self.process.run_off(configs, quick=self.options.quick)
        row = RunOff(
            key=self.task.key,
            evidence=self.task.evidence,
            stage=stage,
            configs=configs,
            baseline=configs[0],
            measurements=duel.measurements,
            reasons=duel.reasons,
            noise_floor=duel.noise_floor,
            run_id=self.options.run_id,
            created_utc=created_now(),
        )
        self.rows.add(row)
        return row


def _cost_time(trial: Trial) -> bool:
    """Whether a trial was run: one that the compiler ruled out, or that has a twin, is free."""
    return trial.same_code_as is None and trial.status is not Status.UNSUPPORTED


def _outcome(trial: Trial) -> Tried:
    return Tried(status=trial.status, median_ns=None if trial.measurement is None else trial.measurement.median_ns)
