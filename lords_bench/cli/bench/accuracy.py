"""`lords-bench bench`: run a suite, keep its records, write and name the report."""

import argparse
import shlex
import uuid
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from lords_bench.cli.bench.cost import COSTS, bench_cost, refuse_cost_options
from lords_bench.cli.bench.latency import LATENCY, bench_latency, refuse_latency_options
from lords_bench.cli.bench.lifecycle import bench_lifecycle
from lords_bench.cli.models import choose_device, load_model, read_calibration
from lords_bench.cli.output import say
from lords_bench.cli.report import print_closing, rebuild, record_path, results_name
from lords_bench.cli.task_results import TaskResults
from lords_bench.errors import UsageError
from lords_bench.progress import ProgressBar
from lords_bench.records import AccuracySamples, RecordStore
from lords_bench.runner import Advance, Run, run_suite
from lords_bench.spec.case import Case, Suite
from lords_bench.suites.accuracy import ACCURACY_FULL, ACCURACY_QUICK, select
from lords_bench.suites.lifecycle.plan import SUITE as LIFECYCLE
from lords_bench.terminal import Console
from lords_bench.timing.probe import probe_environment

# Quick and full cases of each suite.
SUITES: MappingProxyType[str, tuple[Suite, Suite]] = MappingProxyType({"accuracy": (ACCURACY_QUICK, ACCURACY_FULL)})


# Suites with a command of their own.
_COMMANDS: MappingProxyType[str, Callable[[argparse.Namespace], int]] = MappingProxyType(
    {LATENCY: bench_latency, LIFECYCLE: bench_lifecycle, "ptq": bench_cost, "step": bench_cost}
)


def _refuse_foreign_options(arguments: argparse.Namespace) -> None:
    if arguments.suite not in (*SUITES, *_COMMANDS):
        raise UsageError(f"unknown suite {arguments.suite!r}; known: {', '.join((*SUITES, *_COMMANDS))}")
    if arguments.suite not in COSTS:
        refuse_cost_options(arguments)
    if arguments.suite != LATENCY:
        refuse_latency_options(arguments, takes=("minutes",) if arguments.suite in COSTS else ())


def bench(arguments: argparse.Namespace) -> int:
    """Runs the suite and prints its table, the verdict and the report's path."""
    _refuse_foreign_options(arguments)
    if arguments.suite in _COMMANDS:
        return _COMMANDS[arguments.suite](arguments)
    suite = select(SUITES[arguments.suite][arguments.full], methods=arguments.methods, bits=arguments.bits)
    if arguments.list:
        say("\n".join(case.case_id for case in suite.cases))
        return 0
    from lords_bench.suites.evaluate import AccuracyEvaluation, expected_seconds
    from lords_bench.suites.evaluation_text import FULL, QUICK, text_of_testbed

    console = Console(stderr=True)
    environment = probe_environment(choose_device(arguments.device))
    out, name = Path(arguments.out), results_name(arguments.name, environment)
    model = load_model(arguments.model, device=environment.device, dtype=arguments.dtype, console=console)
    text = text_of_testbed(FULL if arguments.full else QUICK, calibration=read_calibration(arguments.calibration))
    evaluation = AccuracyEvaluation(model, text, tasks=arguments.tasks)
    run = Run(
        run_id=uuid.uuid4().hex[:12],
        inputs=evaluation.inputs,
        environment=environment,
        command=shlex.join(["lords-bench", *arguments.command_line]),
        seed=0,
    )
    results = TaskResults(record_path(out, name).with_name("lm-eval.jsonl")) if arguments.tasks else None

    def measure(case: Case, advance: Advance) -> AccuracySamples:
        samples = evaluation.measure(case, advance)
        if results is not None:
            results.append(run, suite, case, evaluation.task_metrics[case.case_id])
        return samples

    with RecordStore(record_path(out, name)) as store:
        for line in store.rejected:
            console.print(f"{store.path}, line {line.line}, is not used: {line.reason}", style="yellow")
        with ProgressBar(suite.cases, cost=expected_seconds, console=console) as watcher:
            records = run_suite(suite, run, measure=measure, store=store, watcher=watcher, resume=not arguments.fresh)
    if results is not None:
        results.print(records)
    print_closing(records, () if arguments.no_page else rebuild(out, name))
    return 0
