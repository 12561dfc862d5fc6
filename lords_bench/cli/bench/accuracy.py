"""`lords-bench bench accuracy`: quantize a model by every method, keep the records, write and name the report."""

import uuid
from dataclasses import dataclass
from pathlib import Path

from lords_bench.cli.bench.common import ModelGridSettings, opened, pages_of, records_of
from lords_bench.cli.models import CALIBRATION, TASKS, choose_device, load_model, read_calibration
from lords_bench.cli.output import say
from lords_bench.cli.progress import ProgressBar
from lords_bench.cli.report import print_closing
from lords_bench.cli.task_results import TaskResults
from lords_bench.options import names, option
from lords_bench.records import AccuracySamples, RecordStore
from lords_bench.suites.accuracy.cases import ACCURACY_FULL, ACCURACY_QUICK, Case, select
from lords_bench.suites.accuracy.run import Advance, Run, run_suite
from lords_bench.terminal import Console
from lords_bench.timing.probe import probe_environment


@dataclass(frozen=True, kw_only=True, slots=True)
class AccuracySettings(ModelGridSettings):
    """Quantizes a model by every method, measures it, and writes a report.

    Measured are weight error, KL to the unquantized model, bits per byte and choice accuracy. Complete cases are kept:
    an interrupted run goes on where it stopped.
    """

    calibration: Path | None = option(CALIBRATION, default=None)
    tasks: tuple[str, ...] = option(TASKS, names, default=())


def bench_accuracy(settings: AccuracySettings) -> int:
    """Runs the suite and prints its table, the verdict and the report's path."""
    suite = select(ACCURACY_FULL if settings.full else ACCURACY_QUICK, methods=settings.methods, bits=settings.bits)
    if settings.only_list:
        say("\n".join(case.case_id for case in suite.cases))
        return 0
    from lords_bench.suites.accuracy.measure import AccuracyEvaluation, expected_seconds
    from lords_bench.suites.accuracy.text import FULL, QUICK, text_of_testbed

    console = Console(stderr=True)
    environment = probe_environment(choose_device(settings.device))
    path = records_of(settings, environment, suite.name)
    model = load_model(settings.model, device=environment.device, dtype=settings.dtype, console=console)
    text = text_of_testbed(FULL if settings.full else QUICK, calibration=read_calibration(settings.calibration))
    evaluation = AccuracyEvaluation(model, text, tasks=settings.tasks)
    run = Run(
        run_id=uuid.uuid4().hex[:12],
        inputs=evaluation.inputs,
        environment=environment,
        command=settings.command,
        seed=0,
    )
    results = TaskResults(path.with_name("lm-eval.jsonl")) if settings.tasks else None

    def measure(case: Case, advance: Advance) -> AccuracySamples:
        samples = evaluation.measure(case, advance)
        if results is not None:
            results.append(run, suite, case, evaluation.task_metrics[case.case_id])
        return samples

    with (
        opened(RecordStore(path), console) as store,
        ProgressBar({case.case_id: expected_seconds(case) for case in suite.cases}, console=console) as watcher,
    ):
        records = run_suite(suite, run, measure=measure, store=store, watcher=watcher, resume=not settings.fresh)
    if results is not None:
        results.print(records)
    print_closing(records, pages_of(settings, path))
    return 0
