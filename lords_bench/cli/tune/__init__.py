"""`lords-bench tune`: find each kernel's fastest configuration for each problem on this machine, and write it down."""

from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from lords_bench.cli.command import Parser
from lords_bench.cli.tune.asked import TuneSettings, candidates, problems_of, product_of, tokens_of
from lords_bench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lords_bench.records.measurement import Regime
    from lords_bench.records.tuned import Machine, Problem
    from lords_bench.terminal import Console
    from lords_bench.tuning.tasks import Finished, Options, RouteTask, Task

# A CPU's last cache can be larger than any of these weights, and clearing it takes longer than a product.
_REGIME: dict[str, "Regime"] = {"cuda": "cold", "cpu": "hot", "fake": "cold"}


def add_arguments(parser: Parser) -> None:
    parser.serve(run, TuneSettings, resumes=True)


def run(arguments: TuneSettings) -> int:
    """Tune, write the table, print what came out; 0 if every problem has a result, else 1.

    Raises:
        UsageError: arguments that do not fit together, or no such device.
        StoreError: rows or table cannot be written, or another process tunes on the device.
    """
    from lords_bench.products.tables import user_folder
    from lords_bench.terminal import Console
    from lords_bench.tuning.plan import DEFAULT_KERNELS, check_kernel, machine_for

    options = _options(arguments)
    device = arguments.device
    kernels = arguments.kernels or DEFAULT_KERNELS[device]
    for kernel in kernels:
        check_kernel(kernel, device)
    problems = problems_of(arguments, kernels)
    machine = machine_for(device)
    tasks = ordered_tasks(kernels, problems, machine, device, workers=arguments.workers)
    if not tasks:
        raise UsageError(
            f"none of {', '.join(kernels)} serves M = {', '.join(map(str, tokens_of(arguments)))}; widen --m"
        )
    console = Console(stderr=True)
    finished = _tune(tasks, options, arguments, arguments.out or user_folder(), console)
    if len(finished) < len(tasks):
        console.print(f"{len(tasks) - len(finished)} of {len(tasks)} problems were not begun; the same command goes on")
    _report(finished, arguments, Console())
    return 0 if all(item.winner is not None or _is_no_contest(item) for item in finished) else 1


def ordered_tasks(
    kernels: tuple[str, ...],
    problems: "Sequence[Problem]",
    machine: "Machine",
    device: str,
    *,
    workers: int | None = None,
) -> "list[Task | RouteTask]":
    """What is tuned, in order: of every product the formula's kernel of each format, then the second of each, … .

    A budget that ends early then favours no format. The choice between kernels comes last.

    Args:
        kernels: to choose from.
        problems: those of one product together.
        machine: that is tuned on.
        device: its kind.
        workers: compile processes; None is one per core.
    """
    from lords_bench.tuning.plan import make_task

    tasks: list[Task | RouteTask] = []
    for _, of_one_product in groupby(problems, key=product_of):
        made = {
            problem: {
                kernel: make_task(kernel, problem, machine, device, workers=workers)
                for kernel in candidates(kernels, problem, machine)
            }
            for problem in of_one_product
        }
        turns = zip_longest(*(found.values() for found in made.values()))
        tasks += [task for turn in turns for task in turn if task is not None]
        tasks += [route for problem, found in made.items() for route in _routes(problem, found, device)]
    return tasks


def _routes(problem: "Problem", made: "dict[str, Task]", device: str) -> "list[RouteTask]":
    """The choice between the kernels of a problem, with the rows that earlier runs left of those not tuned now."""
    from lords_bench.tuning.plan import STAND_INS, make_route, make_task

    if not made or set(made) <= STAND_INS:
        return []
    from lords_bench.kernels.common.without_memory import any_without_memory
    from lords_bench.products.route import kernels_for
    from lords_bench.products.routes import routed

    kernels = kernels_for(problem.m_bucket, any_without_memory(problem))
    if kernels[0] not in routed("lords" if problem.block is None else "blockwise") or not set(kernels) & set(made):
        return []
    machine = next(iter(made.values())).key.machine
    return [make_route(problem, [made.get(name) or make_task(name, problem, machine, device) for name in kernels])]


def _is_no_contest(item: "Finished") -> bool:
    """A route with nothing to choose from is no failure of its own."""
    from lords_bench.tuning.tasks import RouteTask

    return isinstance(item.task, RouteTask) and not item.record.run_offs


def _tune(
    tasks: "list[Task | RouteTask]", options: "Options", arguments: TuneSettings, out: Path, console: "Console"
) -> "list[Finished]":
    from lords_bench.cli.tune.progress import TuneProgress
    from lords_bench.products.tables import table_path
    from lords_bench.tuning.process import EvaluationProcess
    from lords_bench.tuning.rows import device_lock, lock_path
    from lords_bench.tuning.tuner import tune

    machine = tasks[0].key.machine
    folder = table_path(out, machine.gpu).parent
    finished: list[Finished] = []

    def done(item: "Finished") -> None:
        finished.append(item)
        _write(item, out)

    with (
        device_lock(lock_path(arguments.device, folder)),
        EvaluationProcess(arguments.device, regime=_REGIME[arguments.device], timeout_s=arguments.timeout) as process,
        TuneProgress(len(tasks), budget_s=options.budget_s, console=console) as progress,
    ):
        tune(
            tasks,
            folder=folder,
            process=process,
            options=options,
            watcher=progress,
            on_finished=done,
            on_rejected=lambda path, line: console.print(
                f"{path.name} line {line.line} is not used: {line.reason}", style="yellow", highlight=False
            ),
        )
    return finished


def _write(item: "Finished", out: Path) -> None:
    """The table's line, where there is something proven to write; the same line is not written twice."""
    from dataclasses import replace
    from datetime import UTC, datetime

    from lords_bench.products.tables import read_tables, write_entry
    from lords_bench.tuning.winner import table_entry
    from lords_bench.version import PACKAGE_FOLDER

    if item.task.evidence != "measured" or item.winner is None or not item.winner.confirmed:
        return
    from lords_bench.timing.probe import git_state

    commit, _ = git_state(PACKAGE_FOLDER.parent)
    today = datetime.now(UTC).date().isoformat()
    entry = table_entry(item.record, item.winner, measured_on=today, commit=commit)
    written = [known for table in read_tables((out,)) for known in table.entries]
    if not any(replace(known, measured_on=today, commit=commit) == entry for known in written):
        write_entry(entry, folder=out)


def _report(finished: "list[Finished]", arguments: TuneSettings, console: "Console") -> None:
    from lords_bench.cli.tune.progress import result_table

    title = {
        "fake": "Invented times of a fake device: they show that the tuner works, and go into no table",
        "cpu": "Times of plain PyTorch on this CPU, of no kernel",
        "cuda": "Tuned",
    }[arguments.device]
    console.print(result_table(finished, title=title))
    cut = [item for item in finished if not item.in_time]
    if cut:
        console.print(f"{len(cut)} of {len(finished)} searches ended with the budget; the same command goes on")


def _options(arguments: TuneSettings) -> "Options":
    import secrets

    from lords_bench.tuning.strategies import DEFAULT, STRATEGIES
    from lords_bench.tuning.tasks import Options

    strategy = "exhaustive" if arguments.exhaustive else arguments.strategy or DEFAULT
    if strategy not in STRATEGIES:
        raise UsageError(f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    if arguments.exhaustive and arguments.strategy not in (None, "exhaustive"):
        raise UsageError(f"--exhaustive and --strategy {arguments.strategy} contradict each other; give one")
    return Options(
        strategy=strategy,
        run_id=secrets.token_hex(8),
        budget_s=arguments.budget,
        least_s=arguments.least or 0.0,
        quick=not arguments.full,
        retry_failed=arguments.retry_failed,
        seed=arguments.seed,
    )
