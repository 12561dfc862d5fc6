"""`lords-bench tune`: find each kernel's fastest configuration for each problem on this machine, and write it down."""

import argparse
from itertools import groupby, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from lords_bench.errors import UsageError
from lords_bench.spec.numbers import BIT_COUNTS, COUNT, COUNTS, DURATION, SECONDS, SEED, WORKERS, Wholes
from lords_bench.tuning_cli.asked import DTYPES, candidates, problems_of, product_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lords_bench.records.measurement import Regime
    from lords_bench.records.tuned import Machine, Problem
    from lords_bench.terminal import Console
    from lords_bench.tuning.tasks import Finished, Options, RouteTask, Task

# A CPU's last cache can be larger than any of these weights, and clearing it takes longer than a product.
_RANKS = Wholes(each=COUNT, word="parity")
_REGIME: dict[str, "Regime"] = {"cuda": "cold", "cpu": "hot", "fake": "cold"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command; its `run` default takes the parsed arguments and returns the exit code."""
    parser = subparsers.add_parser(
        "tune",
        help="find the fastest configuration of each kernel on this machine",
        description=(
            "Tries configurations, checks each before it is timed, and writes what is proven faster than the formula "
            "to the table that products are looked up in. Every finished configuration is kept: an interrupted run "
            "goes on where it stopped."
        ),
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="kernels to tune (default: all of the device)")
    parser.add_argument("--shapes", metavar="NAME|NxK,…", help="layers of a model, or sizes such as 4096x4096")
    parser.add_argument(
        "--bits", type=BIT_COUNTS, default="4", metavar="N,…", help="numbers of bits (default: %(default)s)"
    )
    parser.add_argument(
        "--ranks",
        type=_RANKS,
        default="16",
        metavar="R,…",
        help="ranks of the scale, or parity: those of --blocks (default: 16)",
    )
    parser.add_argument(
        "--blocks", type=COUNTS, default="64", metavar="G,…", help="inputs per scale of block-wise baselines (64)"
    )
    parser.add_argument(
        "--m", type=COUNTS, metavar="M,…", help="numbers of tokens (default: the whole ladder on a GPU)"
    )
    parser.add_argument("--dtype", choices=DTYPES, help="of activations (default: bfloat16; float32 on a CPU)")
    parser.add_argument(
        "--budget", type=DURATION, metavar="TIME", help="such as 90s, 5m or 1h; what is found by then counts"
    )
    parser.add_argument(
        "--least", type=DURATION, metavar="TIME", help="what a problem gets of the budget before the next is begun"
    )
    parser.add_argument("--strategy", help="ranked, tpe, random or exhaustive (default: ranked)")
    parser.add_argument("--exhaustive", action="store_true", help="try every configuration")
    parser.add_argument("--full", action="store_true", help="measure run-offs to the full precision, not the quick one")
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed in an earlier run")
    parser.add_argument("--timeout", type=SECONDS, default=30.0, metavar="S", help="limit of one try (default: 30)")
    parser.add_argument("--workers", type=WORKERS, metavar="N", help="compile processes (default: one per core)")
    parser.add_argument("--seed", type=SEED, default=0, help="of the search (default: 0)")
    parser.add_argument("--device", choices=("cuda", "cpu", "fake"), default="cuda", help="(default: cuda)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of tables (default: this user's)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of a refusal")
    parser.set_defaults(run=run, resumes=True)


def run(arguments: argparse.Namespace) -> int:
    """Tune, write the table, print what came out; 0 if every problem has a result, else 1.

    Raises:
        UsageError: arguments that do not fit together, or no such device.
        StoreError: rows or table cannot be written, or another process tunes on the device.
    """
    from lords_bench.terminal import Console
    from lords_bench.tuning.plan import DEFAULT_KERNELS, check_kernel, machine_for
    from lords_bench.tuning.tables import user_folder

    options = _options(arguments)
    device = arguments.device
    kernels = tuple(arguments.kernels) or DEFAULT_KERNELS[device]
    for kernel in kernels:
        check_kernel(kernel, device)
    problems = problems_of(arguments, kernels)
    machine = machine_for(device)
    tasks = ordered_tasks(kernels, problems, machine, device, workers=arguments.workers)
    if not tasks:
        raise UsageError(f"none of {', '.join(kernels)} serves M = {', '.join(map(str, arguments.m))}; widen --m")
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
    from lords_bench.kernel_registry.without_memory import blocks_without_memory, weight_without_memory
    from lords_bench.route import kernels_for
    from lords_bench.tuning.keys import routed

    is_lords = problem.block is None
    weight = weight_without_memory(problem) if is_lords else blocks_without_memory(problem)
    kernels = kernels_for(problem.m_bucket, weight)
    if kernels[0] not in routed("lords" if is_lords else "blockwise") or not set(kernels) & set(made):
        return []
    machine = next(iter(made.values())).key.machine
    return [make_route(problem, [made.get(name) or make_task(name, problem, machine, device) for name in kernels])]


def _is_no_contest(item: "Finished") -> bool:
    """A route with nothing to choose from is no failure of its own."""
    from lords_bench.tuning.tasks import RouteTask

    return isinstance(item.task, RouteTask) and not item.record.run_offs


def _tune(
    tasks: "list[Task | RouteTask]", options: "Options", arguments: argparse.Namespace, out: Path, console: "Console"
) -> "list[Finished]":
    from lords_bench.tuning.process import EvaluationProcess
    from lords_bench.tuning.rows import device_lock, lock_path
    from lords_bench.tuning.tables import table_path
    from lords_bench.tuning.tuner import tune
    from lords_bench.tuning_progress import TuneProgress

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

    from lords_bench.tuning.tables import read_tables, write_entry
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


def _report(finished: "list[Finished]", arguments: argparse.Namespace, console: "Console") -> None:
    from lords_bench.tuning_progress import result_table

    title = {
        "fake": "Invented times of a fake device: they show that the tuner works, and go into no table",
        "cpu": "Times of plain PyTorch on this CPU, of no kernel",
        "cuda": "Tuned",
    }[arguments.device]
    console.print(result_table(finished, title=title))
    cut = [item for item in finished if not item.in_time]
    if cut:
        console.print(f"{len(cut)} of {len(finished)} searches ended with the budget; the same command goes on")


def _options(arguments: argparse.Namespace) -> "Options":
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
