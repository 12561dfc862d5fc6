"""Which kernel serves a problem: the winners of all kernels in one comparison, against the formula's kernel.

Resumes as everything else does: the comparison is one row, which holds until another configuration wins for one of its
kernels. Another kernel replaces that of the formula only if the same rounds show it to be faster; of several that do
the fastest, and of those as fast as it the one that the formula prefers.
"""

from collections.abc import Callable, Sequence

from lords_bench.errors import DeviceError
from lords_bench.records.status import created_now
from lords_bench.records.trial import RunOff, TuningRecord, settings_with_kernel
from lords_bench.records.tuned import ROUTE, Choice
from lords_bench.tuning.process import EvaluationProcess
from lords_bench.tuning.rows import Rows
from lords_bench.tuning.tasks import Finished, Options, RouteTask, Task, TuneWatcher
from lords_bench.tuning.winner import Winner, fastest_of, winner


def tune_route(
    task: RouteTask,
    rows_of: Callable[[str], Rows],
    process: EvaluationProcess,
    options: Options,
    watcher: TuneWatcher,
) -> Finished:
    """Compare the winners of the kernels unless a row says how that ends.

    Args:
        task: the problem and its kernels.
        rows_of: a kernel's name, or `ROUTE`, to its rows.
        process: what evaluates.
        options: how precisely, and whether a comparison without a result is made again.
        watcher: is told what happens.

    Raises:
        StoreError: the row cannot be written.
    """
    watcher.begin(task, tries=0, resumed=0)
    rows = rows_of(ROUTE)
    choices, refused = contenders(task.members, [rows_of(m.key.kernel).record(m.key, m.evidence) for m in task.members])
    if refused is None:
        try:
            _compare(task, choices, rows, process, options, watcher)
        except DeviceError as error:
            refused = str(error)
    record = rows.record(task.key, task.evidence)
    found = None if refused else route_winner(record)
    finished = Finished(
        task=task, record=record, winner=found, tried=len(choices), in_time=True, refused=refused or _why(record, found)
    )
    watcher.end(finished)
    return finished


def contenders(members: Sequence[Task], records: Sequence[TuningRecord]) -> tuple[tuple[Choice, ...], str | None]:
    """What each kernel runs with its rows as they are, the formula's kernel first; and why there is no contest.

    An unconfirmed winner goes into no table, so its kernel runs as the formula says.
    """
    choices, without = [], []
    for member, record in zip(members, records, strict=True):
        found = winner(record, member.space.configs)
        if found is None:
            without.append(member.key.kernel)
            continue
        settings = found.config if found.confirmed else found.default
        choices.append(Choice(kernel=member.key.kernel, settings=settings))
    if members[0].key.kernel in without:
        return tuple(choices), f"{members[0].key.kernel}, which the formula takes, has no result to compare with"
    if len(choices) < 2:
        others = "".join(f", not {name}" for name in without)
        return tuple(choices), f"only {members[0].key.kernel} has a result{others}"
    return tuple(choices), None


def route_winner(record: TuningRecord) -> Winner | None:
    """What the rows of a route say; None as long as its baseline has no times."""
    run_off = record.run_off("route")
    return None if run_off is None else fastest_of(run_off)


def _compare(
    task: RouteTask,
    choices: tuple[Choice, ...],
    rows: Rows,
    process: EvaluationProcess,
    options: Options,
    watcher: TuneWatcher,
) -> None:
    configs = tuple(map(settings_with_kernel, choices))
    last = rows.record(task.key, task.evidence).run_off("route")
    if last is not None and last.configs == configs and not (options.retry_failed and None in last.measurements):
        return
    watcher.stage("comparing kernels")
    process.open(ROUTE, task.key.problem)
    duel = process.run_off(configs, quick=options.quick)
    rows.add(
        RunOff(
            key=task.key,
            evidence=task.evidence,
            stage="route",
            configs=configs,
            baseline=configs[0],
            measurements=duel.measurements,
            reasons=duel.reasons,
            noise_floor=duel.noise_floor,
            run_id=options.run_id,
            created_utc=created_now(),
        )
    )


def _why(record: TuningRecord, found: Winner | None) -> str | None:
    run_off = record.run_off("route")
    return None if found is not None or run_off is None else run_off.reasons[run_off.configs.index(run_off.baseline)]
